"""Surrogates of a kind of their own: two-sided, periodic, passed through, drawn, and counted."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import MANY, check_probability, check_window
from ..fields import Value, option, value
from ..internals import readable
from .core import Surrogate

__all__ = ["S2NN", "DeterministicPass", "MultiLevelSpikeCount", "PoissonPass", "SquarewaveFourierSeries"]


class S2NN(Surrogate):
    r"""A sigmoid below the threshold, a logarithm above: $g(x) = \alpha\,\sigma(\alpha x)(1 - \sigma(\alpha x))$ for
    $x < 0$ and $\frac{\beta}{x + 1}$ for $x \ge 0$, primitive $\sigma(\alpha x)$ and
    $\beta\ln(x + 1 + 10^{-5}) + \frac{1}{2}$. Its slope is given as $g$, without the $10^{-5}$.

    Suetake et al., *S2NN: time step reduction of spiking surrogate gradients* (Neural Networks 2023).

    >>> x = torch.tensor([-math.log(3) / 4, 1.0], requires_grad=True)  # 4 * 1/4 * 3/4 and 1/2
    >>> S2NN(alpha=4.0, beta=1.0)(x).sum().backward()
    >>> x.grad
    tensor([0.7500, 0.5000])
    """

    alpha: Value = value(default=4.0, above=0.0)
    beta: Value = value(default=1.0, above=0.0)

    @staticmethod
    def gradient(p: S2NN, x: Tensor) -> Tensor:
        s = torch.sigmoid(p.alpha * x)
        return torch.where(x < 0, p.alpha * s * (1 - s), p.beta / (torch.clamp_min(x, 0) + 1))

    @staticmethod
    def primitive(p: S2NN, x: Tensor) -> Tensor:
        rest = torch.where(x < 0, torch.zeros_like(x), x)  # clamp_min has the slope 0 at 0 from PyTorch 2.15 on
        shift = torch.log(1 + 1e-5 / (rest.detach() + 1))
        above = p.beta * (torch.log(rest + 1) + shift) + 0.5
        return torch.where(x < 0, torch.sigmoid(p.alpha * x), above)


class SquarewaveFourierSeries(Surrogate):
    r"""The first terms of the Fourier series of a square wave.

    $$g(x) = \frac{4}{T}\sum_{i=1}^{n-1}\cos\frac{2\pi(2i-1)x}{T} \qquad
      G(x) = \frac{1}{2} + \frac{2}{\pi}\sum_{i=1}^{n-1}\frac{1}{2i-1}\sin\frac{2\pi(2i-1)x}{T}$$

    - `n`: one more than the number of terms, at least 2.
    - `T_period`: the period $T$; half of it should cover the values of $x$ that occur.

    Fang et al., *SpikingJelly* (Science Advances 2023).

    >>> x = torch.tensor([0.0, 4 / 3], requires_grad=True)  # cos(0) / 2 and cos(pi / 3) / 2
    >>> SquarewaveFourierSeries(n=2, T_period=8.0)(x).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.2500])
    """

    n: int = option(default=2, kind=int, at_least=2, at_most=MANY)
    T_period: Value = value(default=8.0, above=0.0)

    @staticmethod
    def gradient(p: SquarewaveFourierSeries, x: Tensor) -> Tensor:
        u = 2 * math.pi / p.T_period * x
        return 4 / p.T_period * sum((torch.cos(k * u) for k in range(3, 2 * p.n - 1, 2)), torch.cos(u))

    @staticmethod
    def primitive(p: SquarewaveFourierSeries, x: Tensor) -> Tensor:
        u = 2 * math.pi / p.T_period * x
        return 0.5 + 2 / math.pi * sum((torch.sin(k * u) / k for k in range(3, 2 * p.n - 1, 2)), torch.sin(u))


class DeterministicPass(Surrogate):
    r"""The straight-through estimator: forwards the step $\Theta(x)$, backwards $g(x) = 1$.

    `spiking=False` passes $x$ itself, to see a network without spikes. Bengio, Léonard and Courville, *Estimating or
    propagating gradients through stochastic neurons* (2013).

    >>> DeterministicPass()(torch.tensor([-0.5, 2.0]))
    tensor([0., 1.])
    >>> DeterministicPass(spiking=False)(torch.tensor([-0.5, 2.0]))
    tensor([-0.5000,  2.0000])
    """

    @staticmethod
    def gradient(p: Any, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    @staticmethod
    def primitive(p: Any, x: Tensor) -> Tensor:
        return x.clone()


class PoissonPass(Surrogate):
    r"""A random spike: forwards $\text{Bernoulli}(x)$, backwards $g(x) = 1$, which is the slope of the mean.

    $x$ is a probability. Outside 0 to 1 it is a ValueError, raised where values can be looked at; code made by
    `torch.compile` cannot, nor can `torch.func.vmap` (which needs `randomness="different"`), and keep to what
    `torch.bernoulli` does there. `spiking=False` gives the mean, $x$ itself, and takes any value.

    Bengio, Léonard and Courville, *Estimating or propagating gradients through stochastic neurons* (2013).

    >>> PoissonPass()(torch.tensor([0.0, 1.0, 0.0]))
    tensor([0., 1., 0.])
    """

    pointwise: ClassVar[bool] = False

    @staticmethod
    def spike(p: Any, x: Tensor) -> Tensor:
        if readable(x):
            check_probability("PoissonPass", x)
        return torch.bernoulli(x)

    @staticmethod
    def gradient(p: Any, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    @staticmethod
    def primitive(p: Any, x: Tensor) -> Tensor:
        return x.clone()


class MultiLevelSpikeCount(Surrogate):
    r"""Whole numbers of spikes: forwards $\text{round}(\min(\max(x, 0), D))$, backwards $g(x) = 1$ for
    $0 \le x \le D$ and 0 outside; the primitive is $\min(\max(x, 0), D)$.

    - `max_spike_count`: $D$, a whole number. A half is rounded to the even neighbour, as `torch.round` does.
    - `grad_window`: first and last $x$ with the slope 1, kept as `grad_min` and `grad_max`; None takes 0 and $D$. The
      primitive keeps its own slope.

    Luo et al., *Integer-valued training and spike-driven inference spiking neural network for high-performance and
    energy-efficient object detection* (ECCV 2024).

    >>> x = torch.tensor([-1.0, 1.25, 2.5, 7.0], requires_grad=True)
    >>> y = MultiLevelSpikeCount(4)(x)
    >>> y.sum().backward()
    >>> y.detach(), x.grad
    (tensor([0., 1., 2., 4.]), tensor([0., 1., 1., 0.]))
    """

    max_spike_count: int = option(kind=int, at_least=1)
    grad_min: float | None = option(default=None, init=False)
    grad_max: float | None = option(default=None, init=False)

    example: ClassVar[dict[str, Any]] = {"max_spike_count": 4}

    def __init__(
        self, max_spike_count: int, spiking: bool = True, grad_window: tuple[float, float] | None = None
    ) -> None:
        given: dict[str, Any] = {"max_spike_count": max_spike_count, "spiking": spiking}
        super().__init__(**given)
        if grad_window is not None:
            self.grad_min, self.grad_max = check_window("MultiLevelSpikeCount", grad_window)

    @staticmethod
    def spike(p: MultiLevelSpikeCount, x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, p.max_spike_count))

    @staticmethod
    def gradient(p: MultiLevelSpikeCount, x: Tensor) -> Tensor:
        first = 0 if p.grad_min is None else p.grad_min
        last = p.max_spike_count if p.grad_max is None else p.grad_max
        return ((x >= first) & (x <= last)).to(x)

    @staticmethod
    def primitive(p: MultiLevelSpikeCount, x: Tensor) -> Tensor:
        inside = (x >= 0) & (x <= p.max_spike_count)  # clamp has the slope 0 at its bounds from PyTorch 2.15 on
        return torch.where(inside, x, torch.clamp(x, 0, p.max_spike_count))
