"""Surrogates whose slope is smooth, or smooth on either side of the threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..fields import Value, value
from .core import SurrogateFunctionBase

__all__ = ["ATan", "Erf", "NonzeroSignLogAbs", "PiecewiseExp", "QPseudoSpike", "Sigmoid", "SoftSign", "SuperSpike"]


def magnitude(x: Tensor) -> Tensor:
    """The absolute value, with the slope 1 at 0 where `abs` has 0: so a primitive keeps its slope there.

    >>> magnitude(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([2., 0., 3.])
    """
    return torch.where(x < 0, -x, x)


class Sigmoid(SurrogateFunctionBase):
    r"""The logistic function: $g(x) = \alpha\,\sigma(\alpha x)(1 - \sigma(\alpha x))$, primitive $\sigma(\alpha x)$.

    Neftci, Mostafa and Zenke, *Surrogate gradient learning in spiking neural networks* (IEEE SPM 2019).

    >>> x = torch.tensor([-1.0, 0.0], requires_grad=True)
    >>> y = Sigmoid(alpha=4.0)(x)
    >>> y.sum().backward()
    >>> y.detach(), x.grad
    (tensor([0., 1.]), tensor([0.0707, 1.0000]))
    """

    alpha: Value = value(default=4.0, above=0.0)

    @staticmethod
    def gradient(p: Sigmoid, x: Tensor) -> Tensor:
        s = torch.sigmoid(p.alpha * x)
        return p.alpha * s * (1 - s)

    @staticmethod
    def primitive(p: Sigmoid, x: Tensor) -> Tensor:
        return torch.sigmoid(p.alpha * x)


class ATan(SurrogateFunctionBase):
    r"""The arc tangent: $g(x) = \frac{\alpha/2}{1 + (\pi\alpha x/2)^2}$, primitive
    $\frac{1}{\pi}\arctan(\pi\alpha x/2) + \frac{1}{2}$.

    Fang et al., *Incorporating learnable membrane time constant* (ICCV 2021).

    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> ATan(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([1.0000, 0.0920])
    """

    alpha: Value = value(default=2.0, above=0.0)

    @staticmethod
    def gradient(p: ATan, x: Tensor) -> Tensor:
        u = math.pi / 2 * p.alpha * x
        return p.alpha / 2 / (1 + u * u)

    @staticmethod
    def primitive(p: ATan, x: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * p.alpha * x) / math.pi + 0.5


class PiecewiseExp(SurrogateFunctionBase):
    r"""The two-sided exponential: $g(x) = \frac{\alpha}{2} e^{-\alpha|x|}$, primitive $\frac{1}{2}e^{\alpha x}$ below 0
    and $1 - \frac{1}{2}e^{-\alpha x}$ above.

    Shrestha and Orchard, *SLAYER: spike layer error reassignment in time* (NeurIPS 2018).

    >>> x = torch.tensor([-math.log(2), 0.0], requires_grad=True)  # exp(-|x|) = 1/2 and 1
    >>> PiecewiseExp(alpha=1.0)(x).sum().backward()
    >>> x.grad
    tensor([0.2500, 0.5000])
    """

    alpha: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: PiecewiseExp, x: Tensor) -> Tensor:
        return p.alpha / 2 * torch.exp(-p.alpha * magnitude(x))

    @staticmethod
    def primitive(p: PiecewiseExp, x: Tensor) -> Tensor:
        tail = torch.exp(-p.alpha * magnitude(x)) / 2
        return torch.where(x < 0, tail, 1 - tail)


class SoftSign(SurrogateFunctionBase):
    r"""The soft sign: $g(x) = \frac{1}{2\alpha(1/\alpha + |x|)^2}$, primitive
    $\frac{1}{2}\left(\frac{\alpha x}{1 + \alpha|x|} + 1\right)$.

    Zenke and Ganguli, *SuperSpike: supervised learning in multilayer spiking neural networks* (Neural Computation
    2018), scaled so that the primitive goes from 0 to 1.

    >>> x = torch.tensor([0.0, 0.5], requires_grad=True)  # 1 / (4 * 0.5^2) and 1 / (4 * 1^2)
    >>> SoftSign(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([1.0000, 0.2500])
    """

    alpha: Value = value(default=2.0, above=0.0)

    @staticmethod
    def gradient(p: SoftSign, x: Tensor) -> Tensor:
        distance = 1 / p.alpha + magnitude(x)
        return 1 / (2 * p.alpha * distance * distance)

    @staticmethod
    def primitive(p: SoftSign, x: Tensor) -> Tensor:
        return (x / (1 / p.alpha + magnitude(x)) + 1) / 2


class SuperSpike(SurrogateFunctionBase):
    r"""The slope of a fast sigmoid: $g(x) = \frac{\alpha}{(1 + |x|)^2}$, used without a primitive.

    Zenke and Ganguli, *SuperSpike: supervised learning in multilayer spiking neural networks* (Neural Computation
    2018).

    >>> x = torch.tensor([-3.0, 0.0, 1.0], requires_grad=True)  # 1/16, 1, 1/4
    >>> SuperSpike(alpha=1.0)(x).sum().backward()
    >>> x.grad
    tensor([0.0625, 1.0000, 0.2500])
    """

    alpha: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: SuperSpike, x: Tensor) -> Tensor:
        distance = 1 + magnitude(x)
        return p.alpha / (distance * distance)


class Erf(SurrogateFunctionBase):
    r"""The Gaussian: $g(x) = \frac{\alpha}{\sqrt{\pi}} e^{-\alpha^2 x^2}$, primitive
    $\frac{1}{2}\operatorname{erfc}(-\alpha x)$.

    Wu et al., *Spatio-temporal backpropagation for training high-performance spiking neural networks* (Frontiers in
    Neuroscience 2018).

    >>> x = torch.tensor([0.0, 0.5], requires_grad=True)  # 2/sqrt(pi), and that over e
    >>> Erf(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([1.1284, 0.4151])
    """

    alpha: Value = value(default=2.0, above=0.0)

    @staticmethod
    def gradient(p: Erf, x: Tensor) -> Tensor:
        u = p.alpha * x
        return p.alpha / math.sqrt(math.pi) * torch.exp(-u * u)

    @staticmethod
    def primitive(p: Erf, x: Tensor) -> Tensor:
        return torch.erfc(-p.alpha * x) / 2


class NonzeroSignLogAbs(SurrogateFunctionBase):
    r"""The signed logarithm: $g(x) = \frac{1}{1/\alpha + |x|}$, primitive $\operatorname{sign}(x)\ln(\alpha|x| + 1)$.

    Its primitive is 0 at the threshold and has no bounds, so with `spiking=False` it is no rate between 0 and 1.
    Fang et al., *SpikingJelly* (Science Advances 2023).

    >>> x = torch.tensor([-3.0, 1.0], requires_grad=True)  # 1/4 and 1/2
    >>> NonzeroSignLogAbs(alpha=1.0)(x).sum().backward()
    >>> x.grad
    tensor([0.2500, 0.5000])
    """

    alpha: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: NonzeroSignLogAbs, x: Tensor) -> Tensor:
        return 1 / (1 / p.alpha + magnitude(x))

    @staticmethod
    def primitive(p: NonzeroSignLogAbs, x: Tensor) -> Tensor:
        size = torch.log(p.alpha * magnitude(x) + 1)
        return torch.where(x < 0, -size, size)


class QPseudoSpike(SurrogateFunctionBase):
    r"""The heavy tail of adjustable weight: $g(x) = \left(1 + \frac{2|x|}{\alpha - 1}\right)^{-\alpha}$, primitive
    $\frac{1}{2}\left(1 + \frac{2|x|}{\alpha - 1}\right)^{1-\alpha}$ below 0 and one minus this above.

    - `alpha`: the exponent, above 1; the larger, the lighter the tail.

    Herranz-Celotti and Rouat, *Surrogate gradients design* (2022).

    >>> x = torch.tensor([-1.5, 0.5], requires_grad=True)  # (1 + 3)^-2 and (1 + 1)^-2
    >>> QPseudoSpike(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([0.0625, 0.2500])
    """

    alpha: Value = value(default=2.0, above=1.0)

    @staticmethod
    def gradient(p: QPseudoSpike, x: Tensor) -> Tensor:
        return torch.pow(1 + 2 / (p.alpha - 1) * magnitude(x), -p.alpha)

    @staticmethod
    def primitive(p: QPseudoSpike, x: Tensor) -> Tensor:
        tail = torch.pow(1 + 2 / (p.alpha - 1) * magnitude(x), 1 - p.alpha) / 2
        return torch.where(x < 0, tail, 1 - tail)
