"""Files of trained networks, read without running what is in them, and put into a network of ours."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # PyTorch is loaded when a file is, not with the aliases
    from torch import Tensor, nn

__all__ = ["LoadedCheckpoint", "load_checkpoint"]

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel, DataParallel and `torch.compile` put before the names of the network inside."""

_SHOWN = 8


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What `load_checkpoint` did: printed, it is a line for each thing that was not as in the file.

    - `key`: the entry of the file that was loaded, None where the file was it.
    - `renamed`: names of the file to those of the network.
    - `converted`: names that a layer or neuron of ours reads, though it has none like it: the masks of a `MaskedPSN`,
      the slope of a surrogate.
    - `filled`: names of the network that the file has not, and that stay as they are: counters of batches.
    """

    path: str
    key: str | None
    count: int
    renamed: dict[str, str]
    converted: tuple[str, ...]
    filled: tuple[str, ...]

    def __str__(self) -> str:
        entry = f", entry {self.key!r}" if self.key is not None else ""
        lines = [f"{self.path}{entry}: {self.count} tensors loaded"]
        lines += [f"renamed {theirs} to {ours}" for theirs, ours in self.renamed.items()]
        lines += [f"read {name}, which has another form here" for name in self.converted]
        lines += [f"left {name} as it is: the file has none" for name in self.filled]
        return "\n".join(lines)


def load_checkpoint(net: nn.Module, path: str | Path, key: str | None = None) -> LoadedCheckpoint:
    """Load a `.pth` file of this or an older age into `net`, all of it or nothing, and say what was renamed.

    The file is read with `weights_only`: nothing in it is run. It holds a `state_dict`, or a dictionary with one.

    - `key`: the name of the entry with the `state_dict`; not needed where one entry alone can be it.

    >>> import tempfile
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), spikescope.neuron.IFNode())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     held = {f"module.{name}": value for name, value in net.state_dict().items()}
    ...     torch.save({"net": held, "epoch": 3}, f"{folder}/last.pth")
    ...     print(str(load_checkpoint(net, f"{folder}/last.pth")).splitlines()[1])
    renamed module.0.weight to 0.weight
    """
    held = _read(Path(path))
    found, state = _state_of(held, str(path), key, net)
    own = net.state_dict()
    renamed = _renamed(state, own)
    given = {renamed.get(name, name): value for name, value in state.items()}
    if len(given) < len(state):
        twice = sorted(name for name in given if list(renamed.values()).count(name) + (name in state) > 1)
        raise ValueError(f"{path} has two tensors each for {_listed(twice)}, once with and once without a prefix.")
    filled = tuple(name for name in own if name not in given and name.endswith("num_batches_tracked"))
    _load(net, given | {name: own[name] for name in filled}, own, str(path))
    return LoadedCheckpoint(
        path=str(path),
        key=found,
        count=len(state),
        renamed=renamed,
        converted=tuple(name for name in given if name not in own),
        filled=filled,
    )


def _read(path: Path) -> Any:
    """What a file holds: tensors, numbers, texts, lists and dictionaries."""
    import torch

    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f", among it {named.group(1)}" if named else ""
        raise ValueError(
            f"{path} holds more than numbers{what}: a network, or another object, that was saved as a whole. Reading "
            "it would run code, and of classes that are not here. Where it was made, save its numbers alone: "
            "torch.save(net.state_dict(), path)."
        ) from None
    except (RuntimeError, EOFError) as error:
        words = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise ValueError(f"{path} cannot be read as a file of torch.save: {words}") from None


def _harmless() -> list[Any]:
    """What training scripts save beside the numbers, and that runs nothing: options, and numbers of NumPy."""
    import argparse

    import numpy as np

    scalar = getattr(np, "_core", None) or np.core
    kinds = {type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "?")}
    return [
        argparse.Namespace,
        np.dtype,
        *kinds,
        scalar.multiarray.scalar,
        (scalar.multiarray.scalar, "numpy.core.multiarray.scalar"),
    ]


def _is_state(held: Any) -> bool:
    """Whether this is a `state_dict`: names to tensors."""
    import torch

    return isinstance(held, Mapping) and bool(held) and all(isinstance(value, torch.Tensor) for value in held.values())


def _state_of(held: Any, path: str, key: str | None, net: nn.Module) -> tuple[str | None, dict[str, Tensor]]:
    """The entry with the `state_dict`, and that."""
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} holds a {type(held).__name__}, not the numbers of a network by name.")
    if key is not None:
        if key not in held or not _is_state(held[key]):
            raise ValueError(f"{path} has no state_dict named {key!r}; its entries are {_listed(map(str, held))}.")
        return key, dict(held[key])
    if _is_state(held):
        return None, dict(held)
    found = [name for name, value in held.items() if _is_state(value)]
    if len(found) > 1:  # such as the weights and their average
        own = set(net.state_dict())
        fitting = [name for name in found if own & (set(held[name]) | set(_renamed(held[name], own).values()))]
        found = fitting if len(fitting) == 1 else found
    if len(found) == 1:
        return found[0], dict(held[found[0]])
    entries = f"several that may be the network: {_listed(found)}" if found else "none that is a state_dict"
    raise ValueError(
        f"{path} has the entries {_listed(map(str, held))}, {entries}. "
        + ("Say which by key='...'." if found else "Save net.state_dict() into it.")
    )


def _renamed(state: Mapping[str, Any], own: Mapping[str, Any] | set[str]) -> dict[str, str]:
    """Names of a file that the network has under another: without prefixes, and without `module` on the way."""
    renamed = {}
    for name in state:
        short = name
        while short not in own and short.startswith(PREFIXES):
            short = short.partition(".")[2]
        if short not in own:
            inside = ".".join(part for part in short.split(".") if part not in ("module", "_orig_mod"))
            short = inside if inside in own else short
        if short != name:
            renamed[name] = short
    return renamed


def _load(net: nn.Module, given: dict[str, Any], own: Mapping[str, Any], path: str) -> None:
    """Load everything, or leave the network as it was."""
    shapes, words = [], ""
    try:
        missing, unknown = copy.deepcopy(net).load_state_dict(given, strict=False)
    except (RuntimeError, ValueError) as error:
        missing, unknown, words = [], [], str(error)
        shapes = [
            f"{name}, {list(given[name].shape)} in the file and {list(own[name].shape)} here"
            for name in own
            if name in given and given[name].shape != own[name].shape
        ]
        if shapes:
            missing, unknown = ([name for name in a if name not in b] for a, b in ((own, given), (given, own)))
    faults = [("it lacks", missing), ("it has what the network has not:", unknown), ("other shapes:", shapes)]
    told = "; ".join(f"{what} {_listed(names)}" for what, names in faults if names) or words
    if told:
        raise ValueError(f"{path} does not fit this network: {told}. Nothing was loaded.")
    net.load_state_dict(given)


def _listed(names: Any) -> str:
    held = list(names)
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    return ", ".join(held[:_SHOWN]) + more
