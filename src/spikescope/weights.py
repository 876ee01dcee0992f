"""Files of weights: read without running what is in them, and put into a network whole or not at all."""

from __future__ import annotations

import copy
import pickle
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # PyTorch is loaded when a file is, not with the names of another library
    from torch import Tensor, nn

__all__ = ["check_sum", "checksum", "listed", "load_whole", "read_weights", "state_of", "without_prefixes"]

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel, DataParallel and `torch.compile` put before the names of the network inside."""

_SHOWN = 8


def read_weights(path: Path) -> Any:
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
    except OSError:
        raise
    except Exception as error:  # what a damaged file makes PyTorch raise is no closed list
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


def state_of(held: Any, path: str, key: str | None, own: Iterable[str]) -> tuple[str | None, dict[str, Tensor]]:
    """The entry with the `state_dict`, and that."""
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} holds a {type(held).__name__}, not the numbers of a network by name.")
    if key is not None:
        if key not in held or not _is_state(held[key]):
            raise ValueError(f"{path} has no state_dict named {key!r}; its entries are {listed(map(str, held))}.")
        return key, dict(held[key])
    if _is_state(held):
        return None, dict(held)
    found = [name for name, value in held.items() if _is_state(value)]
    if len(found) > 1:  # such as the weights and their average
        names = set(own)
        fitting = [
            name for name in found if names & (set(held[name]) | set(without_prefixes(held[name], names).values()))
        ]
        found = fitting if len(fitting) == 1 else found
    if len(found) == 1:
        return found[0], dict(held[found[0]])
    entries = f"several that may be the network: {listed(found)}" if found else "none that is a state_dict"
    raise ValueError(
        f"{path} has the entries {listed(map(str, held))}, {entries}. "
        + ("Say which by key='...'." if found else "Save net.state_dict() into it.")
    )


def without_prefixes(state: Mapping[str, Any], own: Mapping[str, Any] | set[str]) -> dict[str, str]:
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


def load_whole(net: nn.Module, given: dict[str, Any], own: Mapping[str, Any], path: str) -> None:
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
    told = "; ".join(f"{what} {listed(names)}" for what, names in faults if names) or words
    if told:
        raise ValueError(f"{path} does not fit this network: {told}. Nothing was loaded.")
    net.load_state_dict(given)


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """What tells a flipped bit in numbers by name, and in a text that goes with them.

    >>> checksum({"a": torch.ones(2)}) == checksum({"a": torch.ones(2)}) != checksum({"b": torch.ones(2)})
    True
    """
    import torch

    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        held = tensors[name]
        found = zlib.crc32(f"{name} {held.dtype} {tuple(held.shape)}".encode(), found)
        found = zlib.crc32(held.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def check_sum(tensors: Mapping[str, Tensor], notes: Mapping[str, str], text: str = "") -> None:
    """Refuse what is not as it was when the `checksum` in its notes was made; files of others have none."""
    if notes.get("checksum", found := checksum(tensors, text)) != found:
        raise ValueError(f"its checksum is {found}, and was {notes['checksum']}")


def listed(names: Any) -> str:
    held = list(names)
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    return ", ".join(held[:_SHOWN]) + more
