"""Spikes of weighted sums over time and their gradients, as one node of the graph that keeps the inputs alone."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import OF_LAYER
from ...internals import LeanFunction, in_forward_mode, is_plain, materialized, takes_operations_alone
from ...surrogate import Surrogate
from ...toolchain.compiler import CompileError, trouble
from ..cpp.borrowed import load
from ..cpp.caches import streamed_from
from ..cpp.entry import address, given, packed
from ..cpp.native import threads_for
from ..graphs.firing import firing
from ..loop import leaf
from ..saved import save, saved
from .equations import Slope, refusal, slope
from .kernel import backward_source, forward_source, parts

__all__ = ["fired", "refused", "weighted", "what_sums"]

MOST = 64
"""Steps up to which a block of neurons stays in the caches; of more the products of PyTorch take less time."""

FEW = 16
"""Neurons under which the library of PyTorch's products takes ways of its own, which differ from size to size."""

TRIED = 1 << 12
"""Sums of which each has to have PyTorch's bits before the kernel's are taken."""

Entry = Callable[[bytes, bytes], None]

_REALS = torch.float32, torch.float64


def weighted(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """The sums `[steps, N, *]` of inputs `[inputs, N, *]` by weights `[steps, inputs]`, with a bias, one or one a step.

    In one pass, and out of the reach of autocast, which would narrow it to half precision and knows no device 'meta'.
    """
    with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
        flat = x.flatten(1) if x.ndim > 1 else x.unsqueeze(1)
        h = torch.addmm(bias.reshape(-1, 1), weight, flat)
        return h.reshape(len(weight), *x.shape[1:])


class _Made(NamedTuple):
    """A surrogate with its numbers, and the kernels."""

    of: Slope
    numbers: tuple[float, ...]
    owner: str
    forward: Entry
    backward: Entry
    constants: list[float]


def refused(surrogate: Any, weight: Tensor, bias: Tensor, x: Tensor) -> str | None:
    """Why no kernel takes these, of the shapes and in the order of `weighted`; None if one does."""
    found = _told(surrogate, weight, bias, x)
    return found if isinstance(found, str) else None


def _told(surrogate: Any, weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Slope, tuple[float, ...]] | str:
    """What the surrogate is, and its numbers; or why no kernel takes these."""
    if torch.compiler.is_compiling() or not is_plain(weight, bias, x) or in_forward_mode() or takes_operations_alone():
        return "compiled code, transforms and modes of PyTorch take its own operations"
    if x.dtype not in _REALS or not all(
        held.dtype is x.dtype and held.device.type == "cpu" for held in (weight, bias, x)
    ):
        return "the kernels run on the CPU, over values of float32 or float64"
    if weight.ndim != 2 or not weight.numel():
        return "the weights are no matrix, which PyTorch's operations say"
    if max(weight.shape) > MOST or not x.numel():
        return f"the kernels take up to {MOST} steps, and at least one neuron"
    if not isinstance(surrogate, Surrogate) or not surrogate.gives_spikes or surrogate.form is None:
        return "the kernels give spikes, with the slope of a surrogate as its class says"
    slope_of, numbers = _numbers(surrogate)
    if numbers is None:
        return "a number of the surrogate is a tensor, which may learn"
    return trouble() or refusal(slope_of, x.dtype) or (slope_of, numbers)


def _fit(weight: Tensor, bias: Tensor, x: Tensor) -> bool:
    """Whether there is a sum for each step; where not, PyTorch says so. Kernels would read past the ends."""
    return weight.shape[1] == len(x) and bias.numel() in (1, len(weight))


def _numbers(surrogate: Surrogate) -> tuple[Slope, tuple[float, ...] | None]:
    """What a surrogate is, and its numbers; None in the place of these where one is a tensor."""
    assert surrogate.form is not None
    held = surrogate.values(surrogate.params())
    slope_of = Slope(surrogate.form, "n" * len(held))
    return slope_of, tuple(number for _, number in held) if all(kind == "n" for kind, _ in held) else None


def fired(owner: str, surrogate: Any, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor | None:
    """The spikes of `weighted`; None where no kernel takes these."""
    found = _told(surrogate, weight, bias, x)
    made = None if isinstance(found, str) or not _fit(weight, bias, x) else _kernels(*found, x.dtype, owner)
    if made is None:
        return None
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        out: Tensor = _Fired.apply(made, weight, bias, x)
        return out
    return _forward(made, weight, bias, x)


@lru_cache(maxsize=256)
def _kernels(of: Slope, numbers: tuple[float, ...], real: torch.dtype, owner: str) -> _Made | None:
    body = slope(of, real)
    try:
        forward, backward = _forward_kernel(real), _entry(load(backward_source(body, real)).enter_backward)
    except CompileError as error:
        _tell(owner, str(error))
        return None
    constants = [float(held) for held in body.prologue(numbers)(())]
    return _Made(of, numbers, owner, forward, backward, constants)


@cache
def _forward_kernel(real: torch.dtype) -> Entry:
    return _entry(load(forward_source(real)).enter_forward)


def _entry(found: Any) -> Entry:
    found.argtypes, found.restype = (ctypes.c_char_p, ctypes.c_char_p), None
    entry: Entry = found
    return entry


@cache
def _tell(owner: str, reason: str) -> None:
    warnings.warn(
        f"The kernels of {owner} could not be compiled, so it runs by PyTorch's operations, slower: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _bias_of(bias: Tensor, rows: int) -> Tensor:
    """A number for each step, in memory."""
    return bias.contiguous() if bias.numel() == rows else bias.reshape(1).expand(rows).contiguous()


def _past(x: Tensor, tensors: int) -> bool:
    """Whether so many tensors as large as the input exceed the caches."""
    return tensors * x.numel() * x.itemsize >= streamed_from()


def _forward(made: _Made, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """The spikes: by the kernel where its sums are PyTorch's bits, else by PyTorch's sums."""
    if _has_the_bits(weight, x):
        return _by_the_kernel(made.forward, weight, bias, x)
    with torch.no_grad():
        return weighted(weight, bias, x).ge_(0).detach()  # of a view, given out of a function, no part may be changed


def _has_the_bits(weight: Tensor, x: Tensor) -> bool:
    in_order = x.is_contiguous() and weight.stride(-1) == 1
    ways = torch.get_num_threads(), torch.get_float32_matmul_precision()
    return in_order and _alike(*weight.shape, math.prod(x.shape[1:]), x.dtype, ways)


def what_sums(weight: Tensor, x: Tensor) -> str:
    """What a run by the kernels takes from them."""
    if _has_the_bits(weight, x):
        return "the kernels of sums over time give the same spikes"
    return "the gradients are the kernel's, the sums PyTorch's: for these sizes the kernel rounds them otherwise"


def _by_the_kernel(forward: Entry, weight: Tensor, bias: Tensor, x: Tensor, sums: bool = False) -> Tensor:
    rows, columns = weight.shape
    weight, bias, y = weight.contiguous(), _bias_of(bias, rows), x.new_empty(rows, *x.shape[1:])
    fixed = packed([rows, columns, x.numel() // columns, _past(x, 2), sums], ())
    forward(fixed, given(5)(threads_for(x.numel()), *[address(held) for held in (weight, bias, x, y)]))
    return y


@lru_cache(maxsize=1024)
def _alike(rows: int, columns: int, neurons: int, real: torch.dtype, ways: tuple[int, str]) -> bool:
    """Whether the kernel's sums are PyTorch's bits for these sizes, on random numbers.

    In which order a product is summed depends on the library, the processor, sizes, threads and how precise it may be
    (the `ways` now set), but not on values.
    """
    if neurons < FEW:
        return False
    own = torch.Generator("cpu").manual_seed(0)
    for _ in range(-(-TRIED // (rows * neurons))):
        weight, bias, x = (
            torch.randn(shape, generator=own, dtype=real, device="cpu")
            for shape in ((rows, columns), (rows, 1), (columns, neurons))
        )
        with torch.no_grad():
            if not torch.equal(_by_the_kernel(_forward_kernel(real), weight, bias, x, True), weighted(weight, bias, x)):
                return False
    return True


class _Fired(LeanFunction):
    """The spikes and their gradients."""

    @staticmethod
    def forward(ctx: Any, made: _Made, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        ctx.made = made
        save(ctx, weight, bias, x)
        return _forward(made, weight, bias, x)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        made: _Made = ctx.made
        weight, bias, x = saved(ctx, made.owner, OF_LAYER)
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or not is_plain(weight, bias, x, gy):
            return None, *_by_operations(made, [weight, bias, x], materialized(gy), wanted)
        return None, *_backward(made, weight, bias, x, gy, wanted)


def _backward(
    made: _Made, weight: Tensor, bias: Tensor, x: Tensor, gy: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of weights, bias and inputs that are wanted, by the kernel."""
    rows, columns = weight.shape
    weight, x, gy = weight.contiguous(), x.contiguous(), gy.contiguous()
    gweight, gx = (torch.empty_like(held) if want else None for held, want in ((weight, wanted[0]), (x, wanted[2])))
    gbias = weight.new_empty(rows) if wanted[1] else None
    fixed = packed([rows, columns, x.numel() // columns, _past(x, 3)], made.constants)
    sums = torch.empty(parts(x.numel() // columns), rows * (columns + 1), dtype=torch.float64, device="cpu")
    places = weight, _bias_of(bias, rows), x, gy, gx, gweight, gbias, sums
    made.backward(fixed, given(9)(threads_for(x.numel()), *[address(held) for held in places]))
    if gbias is not None:
        gbias = (gbias.sum() if bias.numel() == 1 else gbias).reshape(bias.shape)
    return [gweight, gbias, gx]


def _by_operations(
    made: _Made, inputs: Sequence[Tensor], gy: Tensor | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by PyTorch's operations: where they are to have gradients, or are many at once."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        held = [leaf(each, again) if want else each for each, want in zip(inputs, wanted, strict=True)]
        y = firing(made.of.form, iter(made.numbers))(weighted(*held))
        leaves = [each for each, want in zip(held, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(y, leaves, gy, create_graph=again))
    return [next(found) if want else None for want in wanted]
