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

_RESETS = {MemoryModule.reset, PointwiseNeuron.reset}
"""What puts the memories back and does nothing else that a sample could notice."""


def reset_samples(net: nn.Module, where: Any) -> None:
    """Put the state of some samples of the batch back to rest; the others go on as if nothing had happened.

    - `where`: `[N]` of bools, True for each sample that begins anew: a tensor, an array or a list, as the `done` of
      vectorised environments is.

    The next step gives these samples, bit for bit, what it gives after `reset_net`, and no gradient flows into their
    past. StateError, and a network left as it was, where a module keeps something for the whole batch, such as a count
    of steps; ShapeError where the state has another number of samples; TypeError for what is no list of bools.

    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> _ = net(torch.tensor([[0.25], [0.5]]))
    >>> reset_samples(net, [True, False])
    >>> net[0].v.flatten()
    tensor([0.0000, 0.5000])
    """
    check_module("reset_samples", net)
    mask = _mask(where)
    shared: list[str] = []
    made: list[tuple[MemoryModule, str, Any]] = []
    for path, module in net.named_modules():
        if not has_own(module, "reset"):
            continue
        if not isinstance(module, MemoryModule) or type(module).reset not in _RESETS:
            shared.append(f"{label(path, module)}, which has a reset() of its own")
            continue
        for name, held in module.named_memories():
            rest = module._reset_values[name]
            if held is rest or _is_number(held, rest):
                continue
            rest = 0 if name in module.zero_at_rest else rest
            if _is_of_batch(held, rest):
                shared.append(f"{name!r} of {label(path, module)}")
                continue
            made.append((module, name, _begun(held, rest, mask, f"{name!r} of {label(path, module)}")))
    if shared:
        raise StateError(
            f"reset_samples: samples cannot begin anew by themselves, for this is kept for the whole batch: "
            f"{listed(shared)}. Call functional.reset_net(net), which begins anew with all of them; dropout keeps no "
            "mask after net.eval()."
        )
    for module, name, value in made:
        setattr(module, name, value)


def _mask(where: Any) -> Tensor:
    try:
        mask = torch.as_tensor(where)
    except (TypeError, ValueError, RuntimeError):
        mask = None
    if mask is None or mask.dtype is not torch.bool or mask.ndim != 1:
        kind = type(where).__name__ if mask is None else f"{dims(mask.shape)} of {mask.dtype}"
        raise TypeError(
            f"reset_samples: where must be [N] of bools, True for a sample that begins anew, but got {kind}."
        )
    return mask


def _is_number(held: Any, rest: Any) -> bool:
    """Whether a memory is still the number of its reset, or as empty."""
    return not isinstance(held, Tensor) and not isinstance(rest, Tensor) and type(held) is type(rest) and held == rest


def _is_of_batch(held: Any, rest: Any) -> bool:
    """Whether a memory has no values of samples, or nothing that they could begin with."""
    leaves = pytree.tree_leaves(held)
    values = all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves)
    return not (values and isinstance(rest, (int, float, Tensor)))


def _begun(held: Any, rest: Any, mask: Tensor, what: str) -> Any:
    """A memory with the samples of the mask at rest."""

    def begun(value: Tensor) -> Tensor:
        if len(value) != len(mask):
            raise ShapeError(
                f"reset_samples: where has {len(mask)} entries, one a sample, but {what} is {dims(value.shape, 'N')}."
            )
        chosen = mask.to(value.device).view(-1, *(1,) * (value.ndim - 1))
        first = (
            rest.to(value) if isinstance(rest, Tensor) else torch.full((), rest, dtype=value.dtype, device=value.device)
        )
        return torch.where(chosen, first, value)

    return pytree.tree_map(begun, held)
