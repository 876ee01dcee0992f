"""Samples of a batch that begin anew while the others go on, as the environments of a vectorised simulation do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..base import MemoryModule
from ..errors import ShapeError, StateError, check_module, dims
from ..neuron import PointwiseNeuron
from .network import has_own, label, listed

__all__ = ["reset_samples"]


def _puts_back_memories(cls: type[MemoryModule]) -> bool:
    """Whether its `reset()` puts the memories back and does nothing else that a sample could notice."""
    owner = next(held for held in cls.__mro__ if "reset" in vars(held))
    return owner in (MemoryModule, PointwiseNeuron) or "rests_of_samples" in vars(owner)


def reset_samples(net: nn.Module, where: Any) -> None:
    """Put the state of some samples of the batch back to rest; the others go on as if nothing had happened.

    - `where`: `[N]` of bools, True for each sample that begins anew: a tensor, an array or a list, as the `done` of
      vectorised environments is. The state is `[N, *]`, as a step leaves it.

    The next step gives these samples, bit for bit, what it gives after `reset_net`; their past has a gradient of zero.
    A dropout that keeps a mask draws a new one for them.
    StateError, and a network left as it was, where a module keeps what has no place for a sample, such as a count of
    steps, or has a reset of its own; ShapeError where the state has another number of samples; TypeError for what is no
    list of bools.

    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> _ = net(torch.tensor([[0.25], [0.5]]))
    >>> reset_samples(net, [True, False])
    >>> net[0].v.flatten()
    tensor([0.0000, 0.5000])
    """
    check_module("reset_samples", net)
    mask = _mask(where)
    refused: list[str] = []
    begin: list[tuple[MemoryModule, str, Any]] = []
    parts = [module for module in net.modules() if isinstance(module, MemoryModule)]
    told = {(held, name): rest for module in parts for held, name, rest in module.rests_of_samples()}
    for path, module in net.named_modules():
        if not has_own(module, "reset"):
            continue
        if not isinstance(module, MemoryModule) or not _puts_back_memories(type(module)):
            refused.append(f"{label(path, module)}, which has a reset() of its own")
            continue
        for name, held in module.named_memories():
            if name not in module._reset_values:
                continue  # a reset leaves it as it is
            rest = module._reset_values[name]
            if held is rest or _is_at_rest(held, rest):
                continue
            rest = told[module, name] if (module, name) in told else _rest(module, name)
            what = f"{name!r} of {label(path, module)}"
            if _is_of_samples(held) and (callable(rest) or isinstance(rest, (int, float, Tensor))):
                _check_samples(held, mask, what)
                begin.append((module, name, rest))
            else:
                refused.append(what)
    if refused:
        raise StateError(
            f"reset_samples: these cannot begin anew for some samples alone: {listed(refused)}. Call "
            "functional.reset_net(net), which begins anew with all of them."
        )
    if mask.is_cpu and not mask.any():
        return
    made = [(module, name, _begun(module._memories[name], rest, mask)) for module, name, rest in begin]
    for module, name, value in made:
        given = name in module._assigned
        setattr(module, name, value)
        if not given:  # it is still what a step left, and no step of another batch may go on from it
            module._assigned.pop(name, None)


def _mask(where: Any) -> Tensor:
    try:
        given = where.tolist() if hasattr(where, "tolist") and not isinstance(where, Tensor) else where
        mask = given if isinstance(given, Tensor) else torch.tensor(list(given), device="cpu")
    except (TypeError, ValueError, RuntimeError):
        mask = None
    if mask is None or mask.dtype is not torch.bool or mask.ndim != 1 or mask.is_meta:
        kind = type(where).__name__ if mask is None else f"{dims(mask.shape)} of {mask.dtype} on {mask.device}"
        raise TypeError(
            f"reset_samples: where must be [N] of bools, True for a sample that begins anew, but got {kind}."
        )
    return mask


def _is_at_rest(held: Any, rest: Any) -> bool:
    """Whether a memory is still the number of its reset, or as empty."""
    tensors = any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves((held, rest)))
    return not tensors and bool(held == rest)


def _is_of_samples(held: Any) -> bool:
    return all(isinstance(leaf, Tensor) and leaf.ndim for leaf in pytree.tree_leaves(held))


def _rest(module: MemoryModule, name: str) -> Any:
    """Where a memory begins; None where that is no number and no tensor."""
    if name in module.zero_at_rest:
        return 0
    rest = module._reset_values[name]
    if rest is None and isinstance(module, PointwiseNeuron) and name in type(module).State._fields:
        return getattr(type(module).rest(module.params()), name)  # it is that of a field
    return rest


def _check_samples(held: Any, mask: Tensor, what: str) -> None:
    """Refuse a mask of another number of samples than a memory has."""
    for value in pytree.tree_leaves(held):
        if len(value) != len(mask):
            raise ShapeError(
                f"reset_samples: where has {len(mask)} entries, one a sample, but {what} is {dims(value.shape, 'N')}."
            )


def _begun(held: Any, rest: Any, mask: Tensor) -> Any:
    """A memory with the samples of the mask at rest; what draws the rest is called here, where all is known to go."""
    beginning = rest() if callable(rest) else rest

    def begun(value: Tensor) -> Tensor:
        chosen = mask.to(value.device).view(-1, *(1,) * (value.ndim - 1))
        first = torch.as_tensor(beginning, dtype=value.dtype, device=value.device)
        return torch.where(chosen, first, value)

    return pytree.tree_map(begun, held)
