"""Folding time into the batch, and not computing the same frame twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ShapeError, check_sequence, dims
from ..internals import gradient_is_watched, in_transform

__all__ = [
    "apply_folded",
    "fold_time",
    "frame_of",
    "is_expanded",
    "loop_over_time",
    "over_time",
    "repeat_in_time",
    "unfold_time",
]


def is_expanded(x_seq: Tensor, *modules: nn.Module) -> bool:
    """Whether a sequence is one frame shown T > 1 times, so that one frame is all there is to compute.

    Such a sequence has stride 0 in time, `x.unsqueeze(0).expand(T, ...)`, the usual direct encoding; or it is what
    `repeat_in_time` gave, and nobody has changed it since. A computation on the one frame hands the sum of the
    gradients of all steps to that frame, which is what the frame is due; but the share of each step is lost. Therefore
    a sequence that is watched is not taken as expanded: a leaf that wants a gradient, one with `retain_grad` or a
    hook, or one that enters any of `modules` that has a backward hook.

    >>> frame = torch.zeros(2, 3)
    >>> is_expanded(frame.expand(4, 2, 3)), is_expanded(frame.repeat(4, 1, 1)), is_expanded(frame.expand(1, 2, 3))
    (True, False, False)
    """
    if not x_seq.ndim or x_seq.shape[0] <= 1 or (x_seq.stride(0) and _known_frame(x_seq) is None):
        return False
    return not gradient_is_watched(x_seq, *modules)


class _Repeat(torch.autograd.Function):
    """A frame repeated over time, in memory of its own for each step; its node in the graph keeps the frame."""

    generate_vmap_rule = True

    @staticmethod
    def forward(frame: Tensor, T: int) -> Tensor:
        return _copies(frame, T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.frame, ctx.T = inputs
        ctx.versions = ctx.frame._version, output._version

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].sum(0), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _copies(tangents[0], ctx.T)


def _copies(frame: Tensor, T: int) -> Tensor:
    return torch.stack([frame] * T)


def _known_frame(x_seq: Tensor) -> Tensor | None:
    """The frame of what `repeat_in_time` gave, if neither has been changed in place since.

    A change in place puts another node into the graph, or, where no graph is recorded, counts up the version.
    """
    if torch.compiler.is_compiling() or (node := x_seq.grad_fn) is None:
        return None
    frame: Tensor | None = getattr(node, "frame", None)
    if frame is None or in_transform() or node.versions != (frame._version, x_seq._version):  # type: ignore[attr-defined]
        return None
    return frame


def repeat_in_time(frame: Tensor, T: int) -> Tensor:
    """One frame `[N, *]` as the sequence `[T, N, *]` that repeats it: a tensor like any other, to be changed at will.

    The next layer of ours still computes one frame where the sequence is part of a graph: see `is_expanded`.

    >>> frame = torch.ones(1, requires_grad=True)
    >>> y = repeat_in_time(frame * 2, 3)
    >>> is_expanded(y)
    True
    >>> y[0] = 0
    >>> y.flatten().tolist(), is_expanded(y)
    ([0.0, 2.0, 2.0], False)
    """
    if not frame.requires_grad or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _copies(frame, T)
    y: Tensor = _Repeat.apply(frame, T)
    return y


class _Frame(torch.autograd.Function):
    """The frame that an expanded sequence repeats. Its gradient goes back in equal shares, as one repeated frame.

    Indexing would give it all to the first step, in a sequence of zeros that has to be written and summed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x_seq: Tensor) -> Tensor:
        return x_seq[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.T = inputs[0].shape[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        share = grads[0] / ctx.T
        return share.unsqueeze(0).expand(ctx.T, *share.shape)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0][0]


def frame_of(x_seq: Tensor) -> Tensor:
    """The one frame `[N, *]` of a sequence for which `is_expanded` holds.

    >>> x = torch.ones(1, requires_grad=True)
    >>> frame_of(x.expand(3, 1)).backward()
    >>> x.grad
    tensor([1.])
    """
    known = _known_frame(x_seq)
    if known is not None:
        return known
    if torch.compiler.is_compiling() or not x_seq.requires_grad:
        return x_seq[0]  # the compiler does not write the zeros either
    frame: Tensor = _Frame.apply(x_seq)
    return frame


def fold_time(x_seq: Tensor) -> Tensor:
    """A sequence `[T, N, *]` as one large batch `[T*N, *]`; a view where the strides allow it.

    >>> fold_time(torch.zeros(4, 2, 3)).shape
    torch.Size([8, 3])
    """
    check_sequence("fold_time", x_seq, least=2)
    return x_seq.flatten(0, 1)


def unfold_time(y: Tensor, T: int, N: int = 0) -> Tensor:
    """The inverse of `fold_time`: `[T*N, *]` as `[T, N, *]`. `N` is used only where T = 0 leaves it open.

    >>> unfold_time(torch.zeros(8, 3), T=4).shape
    torch.Size([4, 2, 3])
    """
    if T and y.shape[0] % T:
        raise ShapeError(
            f"The batch of {dims(y.shape, 'B')} cannot be unfolded into T={T} steps: {y.shape[0]} is not a multiple of "
            f"{T}. A function that is applied to the folded batch [T*N, *] must keep the number of samples."
        )
    return y.unflatten(0, (T, y.shape[0] // T if T else N))


def apply_folded(function: Callable[..., Any], x_seq: Tensor, *others: Tensor) -> Any:
    """`function` once on `[T*N, *]`; its output, a tensor or a tuple of tensors, as `[T, N, *]`.

    It may take `others` beside, with the same T and N.

    >>> apply_folded(lambda x: x.sum(1), torch.ones(4, 2, 3)).shape
    torch.Size([4, 2])
    """
    return _unfolded(function(*map(fold_time, (x_seq, *others))), x_seq)


def over_time(
    owner: nn.Module,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    batched: bool = True,
    whole: Callable[..., Any] | None = None,
) -> Any:
    """`function`, which treats samples independently, on sequences: once on `[T*N, *]`, or once on a repeated frame.

    Every tensor among the arguments is a sequence `[T, N, *]`, or `[T, *]` where one step is one sample: then the
    steps are the batch. `owner` is the module that computes. `whole` does the same to a sequence without a fold.
    """
    x_seq, *others = (given for given in (*args, *kwargs.values()) if isinstance(given, Tensor))
    shared = all(is_expanded(given, owner) for given in (x_seq, *others))

    def enter(given: Any) -> Any:
        if not isinstance(given, Tensor):
            return given
        return frame_of(given) if shared else fold_time(given)

    if not shared and whole is not None:
        return whole(*args, **kwargs)
    if not shared and not batched:
        return function(*args, **kwargs)
    out = function(*(enter(given) for given in args), **{name: enter(given) for name, given in kwargs.items()})
    return _each(lambda y: repeat_in_time(y, x_seq.shape[0]), out) if shared else _unfolded(out, x_seq)


def loop_over_time(function: Callable[[Tensor], Tensor], x_seq: Tensor) -> Tensor:
    """`function` on one step after the other, stacked.

    >>> loop_over_time(lambda x: x.sum(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([3., 7.])
    """
    check_sequence("loop_over_time", x_seq)
    if not len(x_seq):
        raise ShapeError(f"A loop over time needs at least one step, but got {dims(x_seq.shape, 'TN')}.")
    return torch.stack([function(x) for x in x_seq.unbind(0)])


def _each(change: Callable[[Tensor], Tensor], out: Any) -> Any:
    return change(out) if isinstance(out, Tensor) else tuple(change(y) for y in out)


def _unfolded(out: Any, x_seq: Tensor) -> Any:
    T, N = x_seq.shape[:2]
    return _each(lambda y: unfold_time(y, T, N), out)
