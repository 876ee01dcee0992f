"""The backward pass of a convolution by slices: spikes are never whole as floats, nor are reordered copies.

PyTorch takes both gradients of a convolution in one call, with its input, and on a CPU with copies of input and
gradients in an order of their own. The gradient of the weight is also to be had for some input channels at a time, that
of the input for some samples: no sum goes over these, so that each is what it was, bit for bit, where the library under
PyTorch takes them in the order that it takes for the whole. That is tried before it is relied on. For the gradient of a
large weight that library takes several times its size beside it: there slices of channels alone take less. Slices take
time, and so there are as few as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ...internals import is_plain
from .stand_ins import Format, Packed, through_views
from .workspace import Room

__all__ = [
    "CONVOLUTIONS",
    "LEAST_SLICED",
    "convolved_by_slices",
    "flags",
    "in_shape",
    "learns",
    "lies_in_order",
    "may_be_replaced",
    "ranges",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LEAST_SLICED = 1 << 19  # elements of the input under which slices take longer than they are worth
LEAST_WEIGHT = 1 << 21  # elements of a weight from which they are worth it for its gradient alone
_SLICES = (1, 1), (1, 2), (2, 2), (4, 4)  # of channels and of samples, the least time first
_OF_WEIGHT = (1, 1), (2, 1), (4, 1), (8, 1), (16, 1)  # where the input is small
_SCRATCH = 4  # times a weight that are taken beside its gradient, for each thread
_CASTS = ("ToCopyBackward0",)

Three = tuple[Tensor, Tensor, Tensor | None]
"""The gradients of input, weight and bias."""


@dataclass(frozen=True)
class Form:
    """A convolution of `[B, C, *]` as its backward pass is told of it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    bias: bool

    def gradients(self, gy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
        """PyTorch's gradients of input, weight and bias, of all or of a slice."""
        still = [0] * len(self.stride)
        sizes = [len(weight)] if self.bias else None
        found: tuple[Any, ...] = torch.ops.aten.convolution_backward(
            gy, x, weight, sizes, self.stride, self.padding, self.dilation, False, still, 1, wanted
        )
        return found

    def fits(self, slices: tuple[int, int]) -> bool:
        """Whether slices of the channels are alike and, of bits, whole bytes."""
        each = self.shape[1] // slices[0] * math.prod(self.shape[2:])
        return self.shape[1] % slices[0] == 0 and each % 8 == 0 and slices[1] <= self.shape[0]

    @property
    def slices(self) -> tuple[tuple[int, int], ...]:
        """How it may be sliced, the least time first and the least memory last."""
        return tuple(filter(self.fits, _SLICES if math.prod(self.shape) >= LEAST_SLICED else _OF_WEIGHT))

    def takes(self, gy: Tensor, weight: Tensor, slices: tuple[int, int]) -> int:
        """Bytes that the gradients take at most by such slices, with that of the output and copies in other orders."""
        x, g, w = math.prod(self.shape) * self.dtype.itemsize, gy.nbytes, weight.nbytes
        of_weight = 2 * g + 2 * x // slices[0] + w + _SCRATCH * torch.get_num_threads() * w // slices[0]
        of_input = g + x + (x + max(g, x)) // slices[1] + 2 * w
        return max(of_weight, of_input)

    def some(self, given: Tensor, form: Format | None, part: range) -> Tensor:
        """Some channels of the input, which is given as it is or packed."""
        batch, channels, *size = self.shape
        if form is None:
            return given.view(batch, channels, *size)[:, part.start : part.stop].contiguous()
        each = math.prod(size) * form.width
        first, width = part.start * each // 8, len(part) * each // 8
        packed = given.view(batch, -1)[:, first : first + width].contiguous()
        return form.numbers(packed, self.dtype).view(batch, len(part), *size)

    def by_slices(
        self, gy: Tensor, given: Tensor, form: Format | None, weight: Tensor, slices: tuple[int, int]
    ) -> Three:
        """The same three from the input, as it is or packed, of which some channels are taken at a time."""
        batch, channels = self.shape[:2]
        gweight, gbias = torch.empty_like(weight), None
        for part in ranges(channels, slices[0]):
            x, some = self.some(given, form, part), weight[:, part.start : part.stop].contiguous()
            whole = self.bias and not part.start
            _, held, g = self.gradients(gy, x, some, (False, True, whole))
            gweight[:, part.start : part.stop] = held
            gbias = g if whole else gbias
            del held
            if slices == (1, 1):  # of `x` the shape is read
                return self.gradients(gy, x, weight, (True, False, False))[0], gweight, gbias
            del x
        gx = torch.empty(self.shape, dtype=self.dtype, device=gy.device)
        for part in ranges(batch, slices[1]):
            here = slice(part.start, part.stop)
            gx[here] = self.gradients(gy[here], gx[here], weight, (True, False, False))[0]  # here too
        return gx, gweight, gbias


def ranges(length: int, slices: int) -> Iterator[range]:
    """`length` in equal parts, the last of which may be smaller."""
    at_once = -(-length // slices)
    for first in range(0, length, at_once):
        yield range(first, min(length, first + at_once))


def may_be_replaced(x: Tensor, y: Tensor, weight: int = 0) -> bool:
    """Whether `y`, made of `x`, may be given on with another backward pass: nobody has asked for its gradient yet.

    - `weight`: how many elements a weight has whose gradient comes about in it.
    """
    return (
        x.device.type == "cpu"
        and (x.numel() >= LEAST_SLICED or weight >= LEAST_WEIGHT)
        and is_plain(x, y)
        and x.dtype == y.dtype
        and lies_in_order(x)
        and lies_in_order(y)
        and not y._backward_hooks
        and not y.retains_grad
        and forward_ad._current_level < 0
    )


def in_shape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x` as it is if it has the shape: a view of it may have other strides for axes of one entry."""
    return x if x.shape == shape else x.reshape(shape)


def lies_in_order(x: Tensor) -> bool:
    """Whether `x` is contiguous by the strides of its axes of one entry too, from which PyTorch guesses a layout.

    For another layout it takes other sums, in the gradients of a normalisation too.
    """
    expected = 1
    for length, stride in zip(reversed(x.shape), reversed(x.stride()), strict=True):
        if stride != expected:
            return False
        expected *= length
    return True


def convolved_by_slices(module: Any, x: Tensor, y: Tensor, packed: Packed | None, room: Room) -> Tensor | None:
    """What `module` made of `x`, with a backward pass by slices; None where it stays PyTorch's.

    - `y`: the result with PyTorch's node behind it, which is kept for gradients of gradients. It has to be a
      convolution of all of `x`, by one group, on the CPU.
    - `packed`: what `x` is kept as, if it is spikes or sums of them.
    - `room`: of the call, from which follows in how many slices.
    """
    of = through_views(y.grad_fn)
    if type(of).__name__ != "ConvolutionBackward0" or not may_be_replaced(x, y, module.weight.numel()):
        return None
    weight, bias = module.weight, module.bias
    if weight is not None and weight.dtype != y.dtype:  # autocast's copies, in whose dtype gradients of all uses add up
        weight = of._saved_weight
        if bias is not None:
            bias = _copy_within_autocast(bias, of.next_functions[2][0], y.dtype)
            if bias is None:
                return None
    shape = (math.prod(x.shape[: x.ndim - len(of._saved_stride) - 1]), *x.shape[-len(of._saved_stride) - 1 :])
    if of._saved_groups != 1 or of._saved_transposed or weight is None:
        return None
    if (packed is not None and packed.count != x.numel()) or not _is_of(of, x, module):
        return None
    settings = (tuple(map(int, held)) for held in (of._saved_stride, of._saved_padding, of._saved_dilation))
    stride, padding, dilation = settings
    form = Form(shape, x.dtype, stride, padding, dilation, bias=bias is not None)
    if not form.slices:
        return None
    folded = (shape[0], *y.shape[y.ndim - len(shape) + 1 :])
    number = room.layer(x, x.nbytes + y.nbytes + weight.nbytes, weight.nbytes)
    made: Tensor = _Sliced.apply(_Held(y.detach(), of, packed, form, folded, room, number), x, weight, bias)
    return made


def _copy_within_autocast(x: Tensor, node: Any, dtype: torch.dtype) -> Tensor | None:
    """The copy of a parameter that autocast keeps on the CPU, if it is the one that `node` has made; else None.

    A convolution saves no bias, so another operation is asked for it: it is given the same copy, and saves that.
    """
    if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") is not dtype:
        return None
    with torch.enable_grad():
        other = torch.ones_like(x, dtype=dtype).requires_grad_()  # for the sake of its gradient `x` is saved
        of: Any = torch.matmul(x, other).grad_fn
    copy: Tensor = of._saved_self
    return copy if copy.grad_fn is node else None


def _is_of(node: Any, x: Tensor, module: nn.Module) -> bool:
    """Whether the node of a convolution was given `x`, as it is or folded, and the parameters of `module`."""
    given = node.next_functions[0][0]
    if not x.requires_grad or through_views(given) is not through_views(x.grad_fn) or given is None:
        return False
    return learns(node, module)


def learns(node: Any, module: Any) -> bool:
    """Whether the node of a convolution gives its gradients to the parameters of `module`."""
    learned = [edge[0] for edge in node.next_functions[1:]]
    for edge, held in zip(learned, (module.weight, module.bias), strict=True):
        below = edge.next_functions[0][0] if edge is not None and type(edge).__name__ in _CASTS else edge
        if (None if below is None else getattr(below, "variable", None)) is not held:
            return False
    return True


@dataclass
class _Held:
    """What a result by slices comes with."""

    y: Tensor | None
    node: Any
    packed: Packed | None
    form: Form
    folded: tuple[int, ...]
    room: Room
    number: int

    def given(self) -> tuple[Tensor, Format | None]:
        """The input as it is packed, or as the node has saved it."""
        return (self.node._saved_input, None) if self.packed is None else (self.packed.bytes, self.packed.format)

    def slices(self, gy: Tensor, weight: Tensor) -> tuple[int, int] | None:
        """The fewest slices for which there is room, or fewer if these give other bits than the whole does."""
        left, offered = self.room.left(self.number), self.form.slices
        fits = (i for i, slices in enumerate(offered) if self.form.takes(gy, weight, slices) <= left)
        shapes = tuple(gy.shape), tuple(weight.shape)
        packed = None if self.packed is None else self.packed.format
        for slices in offered[next(fits, len(offered) - 1) :: -1]:
            if _same_bits(self.form, *shapes, packed, flags(), slices):
                return slices
        return None


class _Sliced(torch.autograd.Function):
    """Gives the result that is there; its gradients are those of PyTorch's node, by slices."""

    @staticmethod
    def forward(ctx: Any, held: _Held, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert held.y is not None
        y, held.y = held.y, None
        ctx.held, ctx.shape = held, x.shape
        ctx.save_for_backward(weight)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Any, ...]:
        held: _Held = ctx.held
        (weight,) = ctx.saved_tensors
        gy, wanted = in_shape(gy, held.folded), tuple(ctx.needs_input_grad[1:])
        plain = all(wanted[:2]) and not torch.is_grad_enabled() and is_plain(gy) and lies_in_order(gy)
        slices = held.slices(gy, weight) if plain else None
        if slices is None:  # the node's own gradients are of those inputs alone that a backward pass was asked for
            gx, gweight, gbias = held.form.gradients(gy, held.node._saved_input, held.node._saved_weight, wanted)
        else:
            gx, gweight, gbias = held.form.by_slices(gy, *held.given(), weight, slices)
        return None, None if gx is None else gx.view(ctx.shape), gweight, gbias


def flags() -> tuple[Any, ...]:
    """What PyTorch goes by in the choice of an algorithm."""
    return torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()


@lru_cache(maxsize=256)
def _same_bits(
    form: Form,
    gy: tuple[int, ...],
    weight: tuple[int, ...],
    packed: Format | None,
    flags: tuple[Any, ...],
    slices: tuple[int, int],
) -> bool:
    """Whether slices give the bits of the whole, on random numbers: of a silent layer both are zeros."""
    own, number = torch.Generator("cpu").manual_seed(0), math.prod(form.shape)
    some, other = (torch.randn(shape, generator=own, device="cpu").to(form.dtype) for shape in (gy, weight))
    if packed is None:
        given = x = torch.randn(form.shape, generator=own, device="cpu").to(form.dtype)
    else:
        size = (number * packed.width // 8,)
        given = torch.randint(0, 256, size, dtype=torch.uint8, generator=own, device="cpu")
        x = packed.numbers(given, form.dtype).view(form.shape)
    whole = form.gradients(some, x, other, (True, True, form.bias))
    del x
    found = form.by_slices(some, given, packed, other, slices)
    return all(torch.equal(a, b) for a, b in zip(whole, found, strict=True) if b is not None)
