"""Running a sequence through modules: step by step, in chunks, or all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..base import StepModule
from ..errors import ShapeError, check_sequence, check_tensor, check_whole, dims
from ..layer.container import as_single_steps, check_folded
from ..layer.fold import apply_folded
from ..layer.stateless import Stateless

__all__ = ["chunk_multi_step_forward", "multi_step_forward", "seq_to_ann_forward"]

Modules = Callable[..., Any] | Sequence[Callable[..., Any]] | nn.ModuleList
"""A module or any other callable, or a list or tuple of these, applied one after another."""


def multi_step_forward(x_seq: Tensor, single_step_module: Modules) -> Any:
    """Apply `single_step_module` to every step of `x_seq` `[T, N, *]` and stack what it returns.

    - `single_step_module`: a module in `step_mode='s'`, a list or tuple of them, or any callable.

    ShapeError if there is no step at all: what the modules return is not known then.

    >>> node = spikescope.neuron.IFNode(v_reset=None)
    >>> multi_step_forward(torch.full((3, 1), 0.75), [node, lambda spike: 2 * spike]).flatten()
    tensor([0., 2., 2.])
    """
    function = _composed("multi_step_forward", single_step_module)
    _check_modes("multi_step_forward", single_step_module, "s")
    _check(x_seq, "multi_step_forward")
    if not len(x_seq):
        raise ShapeError(
            f"multi_step_forward needs at least one step, but got {dims(x_seq.shape, 'TN')}: the shape of an output "
            "that no step has made is not known."
        )
    steps = [function(x) for x in x_seq.unbind(0)]
    return pytree.tree_map(lambda *held: torch.stack(held), *steps)


def chunk_multi_step_forward(split_size: int, x_seq: Tensor, multi_step_module: Modules) -> Any:
    """Run a long sequence `[T, N, *]` in chunks of `split_size` steps and concatenate what they return.

    The state goes on from chunk to chunk, so the result is that of one run. Without gradient (`torch.no_grad()`) the
    memory in between is that of one chunk.

    - `multi_step_module`: a module in `step_mode='m'`, a list or tuple of them, or any callable. Layers that treat
      all leading axes alike, as `layer.Linear`, may be in single steps: a chunk `[T, F]` is a batch to them.

    >>> node = spikescope.neuron.IFNode(v_reset=None, step_mode="m")
    >>> chunk_multi_step_forward(2, torch.full((5, 1), 0.75), node).flatten()
    tensor([0., 1., 1., 1., 0.])
    """
    split_size = check_whole("chunk_multi_step_forward", "split_size", split_size)
    function = _composed("chunk_multi_step_forward", multi_step_module)
    _check_modes("chunk_multi_step_forward", multi_step_module, "m")
    _check(x_seq, "chunk_multi_step_forward")
    first, *others = x_seq.split(split_size)
    out = function(first)
    keeps_time = all(len(y) == len(first) for y in pytree.tree_leaves(out))
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not keeps_time:
        return pytree.tree_map(lambda *held: torch.cat(held), out, *map(function, others))
    return _filled(function, out, others, len(x_seq))


def _filled(function: Callable[[Any], Any], out: Any, chunks: Sequence[Tensor], steps: int) -> Any:
    """The output `out` of the first chunk and those of the others, each written to its place at once.

    Small outputs kept one by one would lie between the freed memory of the chunks, so that the heap would grow with T.
    """
    wholes, structure = pytree.tree_flatten(pytree.tree_map(lambda y: y.new_empty((steps, *y.shape[1:])), out))
    begin = 0
    for chunk in (None, *chunks):
        parts = pytree.tree_leaves(out if chunk is None else function(chunk))
        for whole, part in zip(wholes, parts, strict=True):
            whole[begin : begin + len(part)] = part
        begin += len(parts[0])
        del parts
    return pytree.tree_unflatten(wholes, structure)


def seq_to_ann_forward(x_seq: Tensor | tuple[Tensor, ...], stateless_module: Modules) -> Any:
    """Apply stateless modules once to all steps of `x_seq` `[T, N, *]`, folded into one batch `[T*N, *]`.

    - `x_seq`: a sequence, or a tuple of sequences of the same T and N, which are the arguments of the first module.
    - `stateless_module`: a module, a list or tuple of them, or any callable. A layer of ours takes that batch for one
      step, whatever its `step_mode`. A module that keeps a state takes it for one step (with `step_mode='m'`, for T*N
      steps), with a warning.

    >>> seq_to_ann_forward(torch.ones(4, 2, 3, 8, 8), nn.Conv2d(3, 5, 3)).shape
    torch.Size([4, 2, 5, 6, 6])
    """
    function = _composed("seq_to_ann_forward", stateless_module)
    sequences: tuple[Any, ...] = x_seq if isinstance(x_seq, tuple) and x_seq else (x_seq,)
    for given in sequences:
        _check(given, "seq_to_ann_forward", 2)
    if len({given.shape[:2] for given in sequences}) > 1:
        shapes = ", ".join(str(list(given.shape)) for given in sequences)
        raise ShapeError(f"seq_to_ann_forward takes sequences [T, N, *] of the same T and N, but got {shapes}.")
    held = [module for module in _elements(stateless_module) if isinstance(module, nn.Module)]
    return as_single_steps(check_folded("seq_to_ann_forward", held), apply_folded, function, *sequences)


def _check(x_seq: Tensor, owner: str, least: int = 1) -> None:
    check_tensor(owner, "x_seq", x_seq)
    check_sequence(owner, x_seq, least)


def _elements(modules: Any) -> list[Any]:
    return list(modules) if isinstance(modules, (list, tuple, nn.ModuleList)) else [modules]


def _check_modes(owner: str, modules: Modules, step_mode: str) -> None:
    """Refuse modules that cannot take what this step mode passes them.

    A layer in single steps that takes one sample without the batch axis takes a sequence of samples for the batch.
    """
    for function in _elements(modules):
        for held in function if type(function) is nn.Sequential else [function]:
            takes_both = step_mode == "m" and isinstance(held, Stateless) and held.one_sample
            if isinstance(held, StepModule) and held.step_mode != step_mode and not takes_both:
                raise ValueError(
                    f"{owner} takes modules in step_mode={step_mode!r}, but {type(held).__name__} is in "
                    f"step_mode={held.step_mode!r}. functional.set_step_mode(net, {step_mode!r}) switches a network."
                )


def _composed(owner: str, modules: Modules) -> Callable[..., Any]:
    """One function of `modules`; the first of them may take several arguments."""
    functions = _elements(modules)
    for function in functions:
        if not callable(function):
            raise TypeError(
                f"{owner} takes a module, a list or tuple of modules, or a callable, but got {type(function).__name__}."
            )

    def run(*args: Any) -> Any:
        for function in functions:
            args = (function(*args),)
        return args[0]

    return run
