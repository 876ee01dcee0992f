"""A file of weights put into a network by the layout of the code that wrote it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import check_module
from ...weights import listed, load_whole, read_weights, state_of
from .layouts import LAYOUTS, Layout

__all__ = ["LoadedWeights", "load_published"]

_WRAPPERS = ("module", "_orig_mod")


@dataclass(frozen=True)
class LoadedWeights:
    """What `load_published` did; printed, it is a line for each thing that is not as in the file.

    - `layout`: the name of the layout in `LAYOUTS`. `key`: the entry of the file that was loaded, None where the file
      was it.
    - `names`: names of the file to those of the network, where they differ.
    - `zeros`: biases that the code does not have. `folded`: those that no layer here has, and that went into the
      running mean of the norm behind. `unused`: names of the file with which its code never computes.
    - `arranged`: what was set in the network besides its weights. `note`: what stays different.
    """

    path: str
    layout: str
    key: str | None
    names: dict[str, str]
    zeros: tuple[str, ...]
    folded: tuple[str, ...]
    unused: tuple[str, ...]
    arranged: tuple[str, ...]
    note: str

    def __str__(self) -> str:
        entry = f", entry {self.key!r}" if self.key is not None else ""
        lines = [f"{self.path}{entry}: {self.layout} ({LAYOUTS[self.layout].code})"]
        lines += [f"renamed {theirs} to {ours}" for theirs, ours in self.names.items()]
        lines += [f"set {name} to zero: the code has none" for name in self.zeros]
        lines += [f"moved {name} into the running mean of the norm behind it" for name in self.folded]
        lines += [f"left out {name}, with which the code never computes" for name in self.unused]
        lines += [f"arranged: {words}" for words in self.arranged]
        return "\n".join([*lines, *([f"note: {self.note}"] if self.note else [])])


def load_published(net: nn.Module, path: str | Path, key: str | None = None) -> LoadedWeights:
    """Load weights that a paper published with its own code, all of them or none, and say what became of each.

    The file is read with `weights_only`: nothing in it is run. Where the code computes otherwise than the network was
    made to, and no weight says so, the network is arranged like it; `LAYOUTS` has the code that is known.

    - `net`: a network of this room in the size of the file, such as `create("spikformer_8_512")`.
    - `key`: the name of the entry with the weights; not needed where one entry alone can be it.

    >>> import tempfile
    >>> net = spikescope.models.create("ms_resnet18", base_channels=8, num_classes=10)
    >>> state = {"fc.weight": torch.zeros(10, 64), "conv2_x.0.residual_function.1.weight": torch.zeros(8, 8, 3, 3)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(state, f"{folder}/file.pth")
    ...     load_published(net, f"{folder}/file.pth")
    Traceback (most recent call last):
    ValueError: ... does not fit this network: it lacks stem.0.weight, ... and ... more. Nothing was loaded...
    """
    check_module("load_published", net)
    own = net.state_dict()
    found, state = state_of(read_weights(Path(path)), str(path), key, own)
    bare = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in state}
    layout = _layout_of(net, bare.values(), str(path))
    row = LAYOUTS[layout]
    names, unused = _named_here(row, bare, str(path))
    given = _joined(names, state, own, str(path))
    folded = _fold_biases(given, own)
    zeros = [name for name in own if name not in given and _is_bias_of(name, net) and f"{name[:-4]}weight" in given]
    given |= {name: torch.zeros_like(own[name]) for name in zeros}
    given |= {name: own[name] for name in own if name not in given and name.endswith("num_batches_tracked")}
    try:
        load_whole(net, given, own, str(path))
    except ValueError as error:
        raise ValueError(f"{error} The file is by {row.code}. Look at what differs: {row.hint}.") from None
    arranged = row.arrange(net) if row.arrange else []
    moved = {name: ours.partition("#")[0] for name, ours in names.items() if name != ours}
    return LoadedWeights(
        str(path), layout, found, moved, tuple(zeros), tuple(folded), tuple(unused), tuple(arranged), row.note
    )


def _layout_of(net: nn.Module, names: Iterable[str], path: str) -> str:
    """The layout of these names, for a network of this class."""
    modules = {name.rpartition(".")[0] or name for name in names}
    seen = [label for label, row in LAYOUTS.items() if any(re.fullmatch(row.mark, module) for module in modules)]
    fitting = [label for label in seen if isinstance(net, LAYOUTS[label].network)]
    if fitting:
        return fitting[0]
    owner = type(net).__name__
    known = [label for label, row in LAYOUTS.items() if isinstance(net, row.network)]
    if seen:
        makers = " or ".join(dict.fromkeys(LAYOUTS[label].network.__name__ for label in seen))
        raise ValueError(f"{path} has the names of {' or '.join(seen)}, which is for a {makers}, not a {owner}.")
    wanted = f"The layouts known for a {owner} are {'; '.join(known)}" if known else f"No layout is known for a {owner}"
    raise ValueError(
        f"{path} has the names {listed(sorted(modules))}, which no layout has. {wanted}. Files of SpikingJelly's own "
        "models are for net.load_state_dict, or compat.load_checkpoint, which takes older ages."
    )


def _named_here(row: Layout, bare: Mapping[str, str], path: str) -> tuple[dict[str, str], list[str]]:
    """To each name of the file the one here, with its part; and the names that its code does not use."""
    names, unused, unknown = {}, [], []
    for name, short in bare.items():
        module, _, leaf = short.rpartition(".")
        if re.fullmatch(row.unused, module or short):
            unused.append(name)
            continue
        ours = next((made for rule in row.rules if (made := _by_rule(rule, module)) is not None), None)
        if ours is None:
            unknown.append(name)
        else:
            target, mark, part = ours.partition("#")
            names[name] = f"{target}.{leaf}{mark}{part}"
    if unknown:
        raise ValueError(
            f"{path} looks like a file by {row.code}, but has names that this code does not: {listed(unknown)}. "
            "Nothing was loaded. Remove what was added, or give the network layers of these names and load both parts."
        )
    return names, unused


def _by_rule(rule: tuple[str, str], module: str) -> str | None:
    """The module here, or None where the rule is for another one."""
    found = re.fullmatch(rule[0], module)
    if found is None:
        return None
    return re.sub(r"\{(\d)\+(\d+)\}", lambda of: str(int(found[int(of[1])]) + int(of[2])), found.expand(rule[1]))


def _joined(
    names: Mapping[str, str], state: Mapping[str, Tensor], own: Mapping[str, Any], path: str
) -> dict[str, Tensor]:
    """The tensors under the names here: parts joined, and axes of one element left out or added at the end."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, ours in names.items():
        target, _, part = ours.partition("#")
        if part in parts[target]:
            raise ValueError(f"{path} has two tensors for {target}, once with and once without a prefix.")
        parts[target][part] = state[name]
    given = {}
    for target, held in parts.items():
        place = next(iter(held))
        count = int(place.partition("/")[2] or 1)
        if len(held) < count:
            raise ValueError(f"{path} has {len(held)} of the {count} parts of {target}. Nothing was loaded.")
        whole = [held[part] for part in sorted(held)]
        joined = torch.cat(whole) if whole[0].ndim else whole[0]
        wanted = own[target].shape if target in own else joined.shape
        same = [size for size in joined.shape if size != 1] == [size for size in wanted if size != 1]
        given[target] = joined.view(wanted) if same else joined
    return given


def _fold_biases(given: dict[str, Tensor], own: Mapping[str, Any]) -> list[str]:
    """Take biases that no layer here has out of what is given, and from the mean that the norm behind subtracts."""
    folded = []
    for name in [name for name in given if name.endswith(".0.bias") and name not in own]:
        mean = f"{name.removesuffix('0.bias')}1.running_mean"
        if mean in given and given[mean].shape == given[name].shape:
            given[mean] = given[mean] - given.pop(name)
            folded.append(name)
    return folded


def _is_bias_of(name: str, net: nn.Module) -> bool:
    """Whether this is the bias of a convolution or a linear layer."""
    module, _, leaf = name.rpartition(".")
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return leaf == "bias" and isinstance(net.get_submodule(module), kinds)
