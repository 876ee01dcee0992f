"""Everything that a training needs to go on, in one file: tensors by safetensors, the rest as JSON in its head.

A file is written whole or not at all, so a training that is killed at any moment finds its last one. No pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from ..errors import missing_extra
from ..files import open_regular, write_whole
from ..weights import check_sum, checksum, load_whole

__all__ = [
    "Checkpoint",
    "generator_states",
    "newest_checkpoint",
    "parts_of_file",
    "read_checkpoint",
    "write_checkpoint",
]

_FORMAT = 1
_HEAD = "training"
_PATTERN = "checkpoint-*.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What is in a file: `tensors` by the part they belong to and their name, and `head`, plain values."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    head: Mapping[str, Any]

    def load_module(self, part: str, module: nn.Module) -> None:
        """Put weights and buffers back into a module that has the same; else a ValueError, and it stays as it was."""
        load_whole(module, dict(self.tensors.get(part, {})), module.state_dict(), "The checkpoint")

    def load_optimizer(self, optimizer: Optimizer) -> None:
        """Put the state of an optimizer back, tensor by tensor, on the devices of the parameters."""
        state: dict[int, dict[str, Any]] = {int(i): dict(held) for i, held in self.head["optimizer"]["state"].items()}
        for name, held in self.tensors.get("optimizer", {}).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = held
        groups = [
            {**group, **({"betas": tuple(group["betas"])} if "betas" in group else {})}
            for group in self.head["optimizer"]["groups"]
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})

    def load_generators(self, net: nn.Module, rank: int = 0) -> None:
        """Put the generators that modules of `net` hold for themselves back to where they were in the process `rank`.

        ValueError if the checkpoint is of fewer processes: what a further one would draw, nobody knows.
        """
        held = self.tensors.get(_of_rank(rank), {})
        for name, generator in _generators(net):
            if name not in held:
                raise ValueError(
                    f"The checkpoint has no state of the generator {name} for the process {rank}: it was written by "
                    "fewer processes. Go on with as many as there were."
                )
            generator.set_state(held[name].cpu())


def generator_states(net: nn.Module) -> dict[str, Tensor]:
    """Where the generators stand that modules of `net` hold for themselves, by their names."""
    return {name: generator.get_state() for name, generator in _generators(net)}


def _of_rank(rank: int) -> str:
    """The part of a file with the generators of a process."""
    return f"generators of {rank}" if rank else "generators"


def parts_of_file(tensors: Mapping[str, Tensor], notes: Mapping[str, str], text: str) -> list[bytes | memoryview]:
    """A file of safetensors with notes, and a checksum of the tensors and of a text: the same bytes for the same."""
    try:
        from safetensors.torch import save
    except ImportError:
        raise missing_extra("safetensors", "train", "Checkpoints") from None
    copies = {name: held.detach().cpu().contiguous().clone() for name, held in tensors.items()}
    whole = save(copies, metadata={**notes, "checksum": checksum(copies, text)})
    end = 8 + int.from_bytes(whole[:8], "little")
    head = json.dumps(json.loads(whole[8:end]), sort_keys=True).encode()  # `save` gives notes in any order
    head += b" " * (-len(head) % 8)
    return [len(head).to_bytes(8, "little"), head, memoryview(whole)[end:]]


def write_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    generators: Sequence[Mapping[str, Tensor]],
    head: Mapping[str, Any],
) -> None:
    """Write the `modules` by name, the optimizer, the generators of each process, and the plain values of `head`."""
    held = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    tensors = {f"{part}/{name}": held for part, module in modules.items() for name, held in module.state_dict().items()}
    for index, values in held["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    for rank, states in enumerate(generators):
        tensors |= {f"{_of_rank(rank)}/{name}": state for name, state in states.items()}
    ours = {"format": _FORMAT, "optimizer": {"state": plain, "groups": held["param_groups"]}, **head}
    text = json.dumps(ours)
    write_whole(path, parts_of_file(tensors, {_HEAD: text}, text))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; a file that is damaged, or another kind of file, is a ValueError that names it."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise missing_extra("safetensors", "train", "Checkpoints") from None
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with open_regular(path), safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        check_sum(tensors, notes, notes[_HEAD])
        head = json.loads(notes[_HEAD])
        made = head["format"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint of a training, or is damaged: {error}.") from error
    if made != _FORMAT:
        raise ValueError(f"{path} has the format {made}; this version of spikescope reads {_FORMAT}.")
    for name, held in tensors.items():
        part, _, inner = name.partition("/")
        parts.setdefault(part, {})[inner] = held
    return Checkpoint(parts, head)


def newest_checkpoint(folder: Path) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint of a folder that can be read; damaged newer ones are passed over, with a warning each."""
    import warnings

    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return path, read_checkpoint(path)
        except (ValueError, OSError) as error:
            warnings.warn(f"{error} The one before it is taken.", RuntimeWarning, stacklevel=2)
    return None


def checkpoint_path(folder: Path, update: int) -> Path:
    """Where the checkpoint after `update` updates stands; names sort by their age."""
    return folder / f"checkpoint-{update:09d}.safetensors"


def drop_old(folder: Path, update: int, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints up to an update; a later one is of a run that was taken up before
    it, because it could not be read, and is no substitute for one that can.
    """
    last = checkpoint_path(folder, update).name
    for path in [path for path in sorted(folder.glob(_PATTERN)) if path.name <= last][:-keep]:
        path.unlink(missing_ok=True)


def _generators(net: nn.Module) -> Iterator[tuple[str, Generator]]:
    seen: set[Generator] = set()
    for path, module in net.named_modules():
        for name, held in vars(module).items():
            if isinstance(held, torch.Generator) and held not in seen:
                seen.add(held)
                yield f"{path}.{name}" if path else name, held
