"""Surrogates whose primitive is a smooth sigmoid-like curve."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..fields import Value, value
from .core import Surrogate

__all__ = ["ATan", "Sigmoid"]


class Sigmoid(Surrogate):
    r"""The logistic function: $g(x) = \alpha\,\sigma(\alpha x)(1 - \sigma(\alpha x))$, primitive $\sigma(\alpha x)$.

    >>> x = torch.tensor([-1.0, 0.0], requires_grad=True)
    >>> y = Sigmoid(alpha=4.0)(x)
    >>> y.sum().backward()
    >>> y.detach(), x.grad
    (tensor([0., 1.]), tensor([0.0707, 1.0000]))
    """

    alpha: Value = value(4.0, above=0.0)

    @staticmethod
    def gradient(p: Sigmoid, x: Tensor) -> Tensor:
        s = torch.sigmoid(p.alpha * x)
        return p.alpha * s * (1 - s)

    @staticmethod
    def primitive(p: Sigmoid, x: Tensor) -> Tensor:
        return torch.sigmoid(p.alpha * x)


class ATan(Surrogate):
    r"""The arc tangent: $g(x) = \frac{\alpha/2}{1 + (\pi\alpha x/2)^2}$, primitive
    $\frac{1}{\pi}\arctan(\pi\alpha x/2) + \frac{1}{2}$.

    Fang et al., *Incorporating learnable membrane time constant* (ICCV 2021).

    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> ATan(alpha=2.0)(x).sum().backward()
    >>> x.grad
    tensor([1.0000, 0.0920])
    """

    alpha: Value = value(2.0, above=0.0)

    @staticmethod
    def gradient(p: ATan, x: Tensor) -> Tensor:
        u = math.pi / 2 * p.alpha * x
        return p.alpha / 2 / (1 + u * u)

    @staticmethod
    def primitive(p: ATan, x: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * p.alpha * x) / math.pi + 0.5
