"""Surrogates whose slope is made of pieces: lines, steps, and the tail of a logarithm."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import Value, value
from .core import Surrogate, SurrogateFunctionBase

__all__ = ["FakeNumericalGradient", "LeakyKReLU", "LogTailedReLU", "PiecewiseLeakyReLU", "PiecewiseQuadratic", "Rect"]


def constant(held: Value, x: Tensor) -> Tensor:
    """A field as a tensor of the shape and dtype of `x`: `torch.where` of two numbers would give float32.

    >>> constant(0.25, torch.zeros(2, dtype=torch.float64))
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    return held * torch.ones_like(x)


class PiecewiseQuadratic(SurrogateFunctionBase):
    r"""The triangle: $g(x) = \max(0, \alpha - \alpha^2|x|)$, primitive
    $\frac{1}{2} + \alpha x - \frac{\alpha^2}{2} x|x|$ for $|x| < 1/\alpha$, 0 below that and 1 above.

    Esser et al., *Convolutional networks for fast, energy-efficient neuromorphic computing* (PNAS 2016); Bellec et
    al., *Long short-term memory and learning-to-learn in networks of spiking neurons* (NeurIPS 2018).

    >>> x = torch.tensor([-0.25, 0.5, 3.0], requires_grad=True)
    >>> PiecewiseQuadratic(alpha=1.0)(x).sum().backward()
    >>> x.grad
    tensor([0.7500, 0.5000, 0.0000])
    """

    alpha: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: PiecewiseQuadratic, x: Tensor) -> Tensor:
        return p.alpha * torch.clamp_min(1 - torch.abs(p.alpha * x), 0)

    @staticmethod
    def primitive(p: PiecewiseQuadratic, x: Tensor) -> Tensor:
        u = torch.clamp(p.alpha * x, -1, 1)
        return 0.5 + u - u * torch.abs(u) / 2


class PiecewiseLeakyReLU(Surrogate):
    r"""The window with a leak: $g(x) = \frac{1}{2w}$ for $|x| < w$ and $c$ elsewhere.

    The primitive is the continuous line with these slopes through $\frac{1}{2}$ at 0: $c(x + w)$, then
    $\frac{x}{2w} + \frac{1}{2}$, then $c(x - w) + 1$.

    - `w`: half the width of the window.
    - `c`: the slope outside.

    Kaiser, Mostafa and Neftci, *Synaptic plasticity dynamics for deep continuous local learning* (Frontiers in
    Neuroscience 2020).

    >>> x = torch.tensor([-2.0, 0.5], requires_grad=True)
    >>> PiecewiseLeakyReLU(w=1.0, c=0.01)(x).sum().backward()
    >>> x.grad
    tensor([0.0100, 0.5000])
    """

    w: Value = value(default=1.0, above=0.0)
    c: Value = value(default=0.01)

    @staticmethod
    def gradient(p: PiecewiseLeakyReLU, x: Tensor) -> Tensor:
        return torch.where(torch.abs(x) < p.w, constant(1 / (2 * p.w), x), p.c)

    @staticmethod
    def primitive(p: PiecewiseLeakyReLU, x: Tensor) -> Tensor:
        outside = torch.where(x < 0, p.c * (x + p.w), p.c * (x - p.w) + 1)
        return torch.where(torch.abs(x) < p.w, x / (2 * p.w) + 0.5, outside)


class LeakyKReLU(Surrogate):
    r"""Two slopes: $g(x) = \text{leak}$ for $x < 0$ and $k$ for $x \ge 0$; the primitive is $g(x)\,x$.

    - `leak`: the slope below the threshold.
    - `k`: the slope at and above the threshold.

    Maas, Hannun and Ng, *Rectifier nonlinearities improve neural network acoustic models* (ICML 2013).

    >>> x = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
    >>> LeakyKReLU(leak=0.1, k=3.0)(x).sum().backward()
    >>> x.grad
    tensor([0.1000, 3.0000, 3.0000])
    """

    leak: Value = value(default=0.0)
    k: Value = value(default=1.0)

    @staticmethod
    def gradient(p: LeakyKReLU, x: Tensor) -> Tensor:
        return torch.where(x < 0, constant(p.leak, x), p.k)

    @staticmethod
    def primitive(p: LeakyKReLU, x: Tensor) -> Tensor:
        return torch.where(x < 0, p.leak * x, p.k * x)


class FakeNumericalGradient(SurrogateFunctionBase):
    r"""The height of the step over the distance to it, cut at $\alpha$: $g(x) = \min(1/|x|, \alpha)$; no primitive.

    Fang et al., *SpikingJelly* (Science Advances 2023).

    >>> x = torch.tensor([-5.0, 0.0, 2.0, 10.0], requires_grad=True)  # 1/5, the cut twice, 1/10
    >>> FakeNumericalGradient(alpha=0.3)(x).sum().backward()
    >>> x.grad
    tensor([0.2000, 0.3000, 0.3000, 0.1000])
    """

    alpha: Value = value(default=0.3, above=0.0)

    @staticmethod
    def gradient(p: FakeNumericalGradient, x: Tensor) -> Tensor:
        distance = torch.abs(x)
        far = distance * p.alpha > 1
        divisor = torch.where(far, distance, torch.ones_like(x))  # no division by 0, not even an unused one
        return torch.where(far, 1 / divisor, p.alpha)


class LogTailedReLU(SurrogateFunctionBase):
    r"""A leaky rectifier that flattens out: $g(x) = \alpha$ for $x \le 0$, 1 for $0 < x \le 1$, and $1/x$ above; the
    primitive is $\alpha x$, $x$ and $1 + \ln x$.

    - `alpha`: the slope below the threshold.

    Cai et al., *Deep learning with low precision by half-wave Gaussian quantization* (CVPR 2017).

    >>> x = torch.tensor([-2.0, 0.5, 4.0], requires_grad=True)
    >>> LogTailedReLU(alpha=0.1)(x).sum().backward()
    >>> x.grad
    tensor([0.1000, 1.0000, 0.2500])
    """

    alpha: Value = value(default=0.0)

    @staticmethod
    def gradient(p: LogTailedReLU, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1 / torch.clamp_min(x, 1), p.alpha)

    @staticmethod
    def primitive(p: LogTailedReLU, x: Tensor) -> Tensor:
        tail = torch.log(torch.clamp_min(x, 1)) + 1
        return torch.where(x > 1, tail, torch.where(x > 0, x, p.alpha * x))


class Rect(SurrogateFunctionBase):
    r"""The window: $g(x) = \alpha$ for $|x| < \frac{1}{2\alpha}$ and 0 elsewhere, primitive
    $\min(\max(\alpha x + \frac{1}{2}, 0), 1)$.

    Wu et al., *Spatio-temporal backpropagation for training high-performance spiking neural networks* (Frontiers in
    Neuroscience 2018).

    >>> x = torch.tensor([-0.25, 0.125, 0.5], requires_grad=True)
    >>> Rect(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([0., 2., 0.])
    """

    alpha: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: Rect, x: Tensor) -> Tensor:
        return p.alpha * (torch.abs(x) < 0.5 / p.alpha).to(x)

    @staticmethod
    def primitive(p: Rect, x: Tensor) -> Tensor:
        return torch.clamp(p.alpha * x + 0.5, 0, 1)
