"""Activation checkpointing of stateful modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from ..base import MemoryModule, recomputing
from ..errors import StateError, check_module
from ..internals import checkpoint_may_keep_state
from .network import has_own, label, memories_of, set_state

__all__ = ["checkpoint"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def checkpoint(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """`module(*args, **kwargs)` that keeps no activations: the backward pass computes them again.

    Outputs, gradients (of the inputs, the parameters and through the state) and the states left behind are those of
    the plain call. The second computation starts from the state, the buffers and the random generators of the first
    and leaves no trace: the state is not taken further, running statistics are not updated twice. What is kept in
    between are the arguments and the state at the start. Calls may follow each other, be nested, and be cut by
    `detach_net`.

    StateError if a module inside has a `reset()` without being a `MemoryModule`: its state could not be put back.
    Compiled code needs `torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True`; a compiled segment
    in eager code, `checkpoint(torch.compile(segment), x)`, needs nothing.

    Chen et al., *Training deep nets with sublinear memory cost* (2016).

    >>> node = spikescope.neuron.IFNode(v_reset=None, step_mode="m")
    >>> x = torch.full((3, 1), 0.75, requires_grad=True)
    >>> y = checkpoint(node, x)
    >>> y.sum().backward()
    >>> y.flatten().tolist(), node.v.item()
    ([0.0, 1.0, 1.0], 0.25)
    """
    check_module("checkpoint", module)
    check_state_known(module)
    if not torch.is_grad_enabled():
        return module(*args, **kwargs)
    if torch.compiler.is_compiling():
        _check_compiler()
        return torch_checkpoint(module, *args, use_reentrant=False, **kwargs)
    segment = Segment(module, args, kwargs)
    return torch_checkpoint(segment.run, *segment.leaves, use_reentrant=False)


def _check_compiler() -> None:
    """The compiler computes a graph again, not the module: the state is right by itself, once it may be written."""
    if not checkpoint_may_keep_state():
        raise RuntimeError(
            "functional.checkpoint in compiled code needs "
            "torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True, set before compiling: PyTorch "
            "refuses a state in a compiled checkpoint otherwise. Or compile the segment alone and checkpoint it in "
            "eager code: checkpoint(torch.compile(segment), x)."
        )


def check_state_known(module: nn.Module) -> None:
    for path, inner in module.named_modules():
        if has_own(inner, "reset") and not isinstance(inner, MemoryModule):
            raise StateError(
                f"checkpoint: {label(path, inner)} has a reset() but is not a MemoryModule, so that its state cannot "
                "be put back for the second computation. Derive it from spikescope.base.MemoryModule."
            )


class Segment:
    """A call as a function of its tensors, `leaves`: the state at the start, and the arguments."""

    def __init__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._module, self._begun = module, False
        self.leaves, self._structure = pytree.tree_flatten((memories_of(module), args, kwargs))
        self._buffers = {name: held.detach().clone() for name, held in module.named_buffers()}
        self._drawn = {held: held.get_state() for held in _generators(module)}

    def run(self, *leaves: Any) -> Any:
        """The call; from the second time on without a trace."""
        if self._begun:
            return self.again(*leaves)
        self._begun = True
        _, args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        return self._module(*args, **kwargs)

    def again(self, *leaves: Any) -> Any:
        """The call from where the first began, without a trace."""
        state, args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        with recomputing(), _traceless(self._module, self._buffers, self._drawn):
            set_state(self._module, state)
            return self._module(*args, **kwargs)


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Let calls of `net` leave no trace: on its state and buffers, what its modules hold, and random numbers."""
    buffers = dict(net.named_buffers())
    with torch.random.fork_rng(), _traceless(net, buffers, {held: held.get_state() for held in _generators(net)}):
        yield


@contextmanager
def _traceless(module: nn.Module, buffers: dict[str, Tensor], drawn: dict[Generator, Tensor]) -> Iterator[None]:
    """Run with copies of `buffers` and of what the modules hold; afterwards they have their own back, unchanged.

    Generators of the modules are set to the states `drawn` for the run, so that it draws the same numbers again.

    The buffers themselves are not written to: autograd may have saved them.
    """
    own = [(vars(inner), vars(inner).copy()) for inner in module.modules()]
    later = {generator: generator.get_state() for generator in drawn}
    try:
        for generator, state in drawn.items():
            generator.set_state(state)
        for present, before in own:
            present.update({name: held.copy() for name, held in before.items() if _may_change(name, held)})
        for path, held in buffers.items():
            parent, _, name = path.rpartition(".")
            module.get_submodule(parent)._buffers[name] = held.clone()
        yield
    finally:
        for present, before in own:
            for name in present.keys() - before.keys():
                del present[name]
            present.update(before)
        for generator, state in later.items():
            generator.set_state(state)


def _generators(module: nn.Module) -> set[Generator]:
    """The generators that modules hold for themselves; PyTorch puts back the global ones."""
    return {held for inner in module.modules() for held in vars(inner).values() if isinstance(held, Generator)}


def _may_change(name: str, held: Any) -> bool:
    """Whether an attribute is a collection that a forward pass may write to; hooks and parameters are not."""
    return isinstance(held, (list, dict, set)) and (name == "_buffers" or name not in _OF_EVERY_MODULE)
