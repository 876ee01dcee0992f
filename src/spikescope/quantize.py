"""Quantisers whose gradient goes straight through: steps forwards, a line backwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .errors import check_tensor, check_window
from .errors import explain_absent as _explain_absent

__all__ = [
    "affine_k_bit_quantize",
    "ceil",
    "clamp",
    "clamp_by_linear",
    "floor",
    "k_bit_quantize",
    "multi_level_spike_count",
    "power_of_two_quantize",
    "right_shift_to_zero",
    "round",
    "step_quantize",
]

_MOST_BITS = 32


def _check_floating(owner: str, x: object) -> None:
    check_tensor(f"quantize.{owner}", "x", x)
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise TypeError(
            f"quantize.{owner}: x must be a floating point tensor, but got dtype {x.dtype}. Convert it with x.float()."
        )


def _check_count(owner: str, name: str, value: object, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        wanted = "of at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"quantize.{owner}: {name} must be an int {wanted}, but got {value!r}.")


def _check_number(owner: str, name: str, value: object) -> None:
    # math.isnan would break the graph of torch.compile, where a number that changes is a symbol
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        raise TypeError(f"quantize.{owner}: {name} must be a number, but got {value!r}; it has no gradient.")


def _wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: a product with $2^k - 1$ would leave the range of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _StraightThrough(torch.autograd.Function):
    """A formula of `x` with the gradient 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
        y = formula(x)
        # no to() that changes nothing: behind it compiled code of PyTorch 2.11 forgets that there is a gradient
        return y if y.dtype == x.dtype else y.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is needed backwards."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class _Window(torch.autograd.Function):
    """`x` clamped to `low` and `high`, with the gradient 1 from `first` to `last` and 0 outside."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float, first: float, last: float) -> Tensor:
        return torch.clamp(x, low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.first, ctx.last = inputs[3:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return grads[0] * ((x >= ctx.first) & (x <= ctx.last)), None, None, None, None


def _nearest_step(x: Tensor, step: float) -> Tensor:
    return torch.round(_wide(x) / step) * step


def _nearest_level(x: Tensor, levels: float) -> Tensor:
    return torch.round(_wide(x) * levels) / levels


def _nearest_power(x: Tensor) -> Tensor:
    wide = _wide(x)
    fraction, _ = torch.frexp(wide)  # from 1/2 to 1, so that wide / fraction is a power of two, without rounding
    below = wide / (2 * fraction)
    power = torch.sign(wide) * torch.where(fraction.abs() < math.sqrt(0.5), below, 2 * below)
    return torch.where((wide == 0) | wide.isinf(), wide, power)


def round(x: Tensor) -> Tensor:
    r"""The nearest whole number, a half to the even one, with $\partial y / \partial x = 1$.

    Bengio, Léonard and Courville, *Estimating or propagating gradients through stochastic neurons* (2013).

    >>> x = torch.tensor([-1.5, 0.5, 1.25], requires_grad=True)
    >>> y = round(x)
    >>> (y * y).sum().backward()  # the slope is 2 y
    >>> y.detach(), x.grad
    (tensor([-2.,  0.,  1.]), tensor([-4.,  0.,  2.]))
    """
    _check_floating("round", x)
    return _StraightThrough.apply(x, torch.round)


def ceil(x: Tensor) -> Tensor:
    r"""The next whole number above, with $\partial y / \partial x = 1$; see `round`.

    >>> ceil(torch.tensor([-1.5, 0.5, 2.0]))
    tensor([-1.,  1.,  2.])
    """
    _check_floating("ceil", x)
    return _StraightThrough.apply(x, torch.ceil)


def floor(x: Tensor) -> Tensor:
    r"""The next whole number below, with $\partial y / \partial x = 1$; see `round`.

    >>> floor(torch.tensor([-1.5, 0.5, 2.0]))
    tensor([-2.,  0.,  2.])
    """
    _check_floating("floor", x)
    return _StraightThrough.apply(x, torch.floor)


def clamp(x: Tensor, min_value: float, max_value: float) -> Tensor:
    r"""$y = \min(\max(x, a), b)$, with the gradient 1 for $a \le x \le b$, the bounds included, and 0 outside.

    >>> x = torch.tensor([-2.0, 0.5, 1.0, 3.0], requires_grad=True)
    >>> y = clamp(x, -1.0, 1.0)
    >>> y.sum().backward()
    >>> y.detach(), x.grad
    (tensor([-1.0000,  0.5000,  1.0000,  1.0000]), tensor([0., 1., 1., 0.]))
    """
    _check_floating("clamp", x)
    _check_number("clamp", "min_value", min_value)
    _check_number("clamp", "max_value", max_value)
    if not min_value <= max_value:
        raise ValueError(f"quantize.clamp: min_value must not be above max_value, but got {min_value} and {max_value}.")
    return _Window.apply(x, min_value, max_value, min_value, max_value)


def step_quantize(x: Tensor, step: float = 1.0) -> Tensor:
    r"""The nearest multiple of `step`, $y = s \cdot \text{round}(x / s)$, with $\partial y / \partial x = 1$.

    >>> step_quantize(torch.tensor([0.3, 0.4, -1.1]), 0.25)
    tensor([ 0.2500,  0.5000, -1.0000])
    """
    _check_floating("step_quantize", x)
    _check_number("step_quantize", "step", step)
    if not 0 < step < math.inf:
        raise ValueError(f"quantize.step_quantize: step must be above 0 and finite, but got {step!r}.")
    return _StraightThrough.apply(x, partial(_nearest_step, step=step))


def k_bit_quantize(x: Tensor, k: int) -> Tensor:
    r"""The nearest of $2^k$ levels from 0 to 1, with $\partial y / \partial x = 1$.

    $$y = \frac{\text{round}\left((2^k - 1)\,x\right)}{2^k - 1}$$

    - `x`: from 0 to 1; `clamp`, `clamp_by_linear` or a sigmoid brings it there. `k`: bits, 1 to 32.

    Zhou et al., *DoReFa-Net: training low bitwidth convolutional neural networks with low bitwidth gradients* (2016).

    >>> k_bit_quantize(torch.tensor([0.0, 0.25, 0.4, 1.0]), 2) * 3  # 3 x = 0, 0.75, 1.2, 3
    tensor([0., 1., 1., 3.])
    """
    _check_floating("k_bit_quantize", x)
    _check_count("k_bit_quantize", "k", k, _MOST_BITS)
    return _StraightThrough.apply(x, partial(_nearest_level, levels=float((1 << k) - 1)))


def affine_k_bit_quantize(x: Tensor, k: int, w: Tensor, b: Tensor) -> Tensor:
    r"""`k_bit_quantize` on a scale of its own, $y = w \, q_k(x) + b$; `w` and `b` broadcast to `x` and can be learned.

    >>> affine_k_bit_quantize(torch.tensor([0.2, 0.9]), 1, torch.tensor(4.0), torch.tensor(-2.0))
    tensor([-2.,  2.])
    """
    for name, held in (("w", w), ("b", b)):
        check_tensor("quantize.affine_k_bit_quantize", name, held)
    return w * k_bit_quantize(x, k) + b


def clamp_by_linear(x: Tensor, eps: float = 1e-5) -> Tensor:
    r"""All elements of `x` onto 0 to 1 along a line, $y = (x - \min x) / (\max x - \min x + \epsilon)$.

    >>> clamp_by_linear(torch.tensor([-1.0, 0.0, 3.0]), eps=0.0)
    tensor([0.0000, 0.2500, 1.0000])
    """
    _check_floating("clamp_by_linear", x)
    if not x.numel():
        raise ValueError(f"quantize.clamp_by_linear: a tensor of shape {list(x.shape)} has no smallest element.")
    wide = _wide(x)
    least = wide.min()
    return ((wide - least) / (wide.max() - least + eps)).to(x.dtype)


def multi_level_spike_count(x: Tensor, max_spike_count: int, grad_window: tuple[float, float] | None = None) -> Tensor:
    r"""Whole numbers of spikes, $y = \text{round}(\min(\max(x, 0), D))$, with the gradient 1 in a window, 0 outside.

    - `max_spike_count`: $D$. `grad_window`: first and last $x$ with a gradient; None takes 0 and $D$.

    Luo et al., *Integer-valued training and spike-driven inference spiking neural network* (ECCV 2024).

    >>> x = torch.tensor([-0.5, 1.25, 5.0], requires_grad=True)
    >>> y = multi_level_spike_count(x, 4, grad_window=(-1.0, 4.0))
    >>> y.sum().backward()
    >>> y.detach(), x.grad
    (tensor([0., 1., 4.]), tensor([1., 1., 0.]))
    """
    _check_floating("multi_level_spike_count", x)
    _check_count("multi_level_spike_count", "max_spike_count", max_spike_count)
    window = (0.0, float(max_spike_count)) if grad_window is None else grad_window
    first, last = check_window("quantize.multi_level_spike_count", window)
    return _StraightThrough.apply(_Window.apply(x, 0.0, float(max_spike_count), first, last), torch.round)


def power_of_two_quantize(x: Tensor) -> Tensor:
    r"""The power of two that is nearest on a logarithmic scale, with $\partial y / \partial x = 1$; 0 stays 0.

    $$y = \text{sign}(x)\, 2^{\text{round}(\log_2 |x|)}$$

    A weight that is a power of two is a shift of bits in integer hardware.

    Miyashita, Lee and Murmann, *Convolutional neural networks using logarithmic data representation* (2016).

    >>> power_of_two_quantize(torch.tensor([3.0, -0.7, 2.8, 0.0]))  # log2 = 1.58, -0.51, 1.49
    tensor([ 4.0000, -0.5000,  2.0000,  0.0000])
    """
    _check_floating("power_of_two_quantize", x)
    return _StraightThrough.apply(x, _nearest_power)


def right_shift_to_zero(x: Tensor, bits: int) -> Tensor:
    r"""Integers divided by a power of two and rounded towards zero, $y = \text{sign}(x) \lfloor |x| / 2^b \rfloor$.

    It is what fixed-point neuromorphic chips do to a decaying state; a plain `>>` rounds down, and so never lets a
    negative number decay to 0. Integers have no gradient.

    >>> right_shift_to_zero(torch.tensor([7, -7, -1]), 1), torch.tensor([7, -7, -1]) >> 1
    (tensor([ 3, -3,  0]), tensor([ 3, -4, -1]))
    """
    check_tensor("quantize.right_shift_to_zero", "x", x)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"quantize.right_shift_to_zero: x must be a tensor of integers, but got dtype {x.dtype}.")
    size = torch.iinfo(x.dtype).bits
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 <= bits < size:
        raise ValueError(f"quantize.right_shift_to_zero: bits must be an int from 0 to {size - 1}, but got {bits!r}.")
    upwards = (x < 0).to(x.dtype) * ((1 << bits) - 1)
    return (x + upwards) >> bits


_explain_absent(__name__)
