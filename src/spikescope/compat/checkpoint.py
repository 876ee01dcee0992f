"""Files of trained networks, read without running what is in them, and put into a network of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..weights import listed, load_whole, read_weights, state_of, without_prefixes

if TYPE_CHECKING:  # PyTorch is loaded when a file is, not with the aliases
    from torch import nn

__all__ = ["LoadedCheckpoint", "load_checkpoint"]


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
    own = net.state_dict()
    found, state = state_of(read_weights(Path(path)), str(path), key, own)
    renamed = without_prefixes(state, own)
    given = {renamed.get(name, name): value for name, value in state.items()}
    if len(given) < len(state):
        twice = sorted(name for name in given if list(renamed.values()).count(name) + (name in state) > 1)
        raise ValueError(f"{path} has two tensors each for {listed(twice)}, once with and once without a prefix.")
    filled = tuple(name for name in own if name not in given and name.endswith("num_batches_tracked"))
    load_whole(net, given | {name: own[name] for name in filled}, own, str(path))
    return LoadedCheckpoint(
        path=str(path),
        key=found,
        count=len(state),
        renamed=renamed,
        converted=tuple(name for name in given if name not in own),
        filled=filled,
    )
