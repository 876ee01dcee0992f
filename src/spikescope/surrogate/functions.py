"""Surrogates as functions of the input and their numbers, `sigmoid.apply(x, alpha)`, for surrogates made of them."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .core import Surrogate
from .piecewise import (
    FakeNumericalGradient,
    LeakyKReLU,
    LogTailedReLU,
    PiecewiseLeakyReLU,
    PiecewiseQuadratic,
    Rect,
)
from .smooth import ATan, Erf, NonzeroSignLogAbs, PiecewiseExp, QPseudoSpike, Sigmoid, SoftSign, SuperSpike
from .special import S2NN, DeterministicPass, PoissonPass, SquarewaveFourierSeries

__all__ = [
    "atan",
    "deterministic_pass",
    "erf",
    "fake_numerical_gradient",
    "leaky_k_relu",
    "log_tailed_relu",
    "nonzero_sign_log_abs",
    "piecewise_exp",
    "piecewise_leaky_relu",
    "piecewise_quadratic",
    "poisson_pass",
    "q_pseudo_spike",
    "rect",
    "s2nn",
    "sigmoid",
    "soft_sign",
    "squarewave_fourier_series",
    "super_spike",
]


class SpikeFunction:
    """The spike of one surrogate, with the gradient of that, as a function.

    >>> x = torch.tensor([-0.25, 0.5], requires_grad=True)
    >>> piecewise_quadratic.apply(x, 1.0).sum().backward()
    >>> x.grad
    tensor([0.7500, 0.5000])
    """

    of: ClassVar[type[Surrogate]]

    @classmethod
    def apply(cls, x: Tensor, *values: Any) -> Tensor:
        """The spike of `x`, with the numbers of the surrogate in the order of its constructor."""
        return cls.of.spiking_function(x, *values)


def _function(name: str, surrogate: type[Surrogate]) -> type[SpikeFunction]:
    about = f"The spike of `{surrogate.__name__}` as a function: `{name}.apply(x, ...)`."
    return type(name, (SpikeFunction,), {"of": surrogate, "__doc__": about, "__module__": __name__})


atan = _function("atan", ATan)
deterministic_pass = _function("deterministic_pass", DeterministicPass)
erf = _function("erf", Erf)
fake_numerical_gradient = _function("fake_numerical_gradient", FakeNumericalGradient)
leaky_k_relu = _function("leaky_k_relu", LeakyKReLU)
log_tailed_relu = _function("log_tailed_relu", LogTailedReLU)
nonzero_sign_log_abs = _function("nonzero_sign_log_abs", NonzeroSignLogAbs)
piecewise_exp = _function("piecewise_exp", PiecewiseExp)
piecewise_leaky_relu = _function("piecewise_leaky_relu", PiecewiseLeakyReLU)
piecewise_quadratic = _function("piecewise_quadratic", PiecewiseQuadratic)
poisson_pass = _function("poisson_pass", PoissonPass)
q_pseudo_spike = _function("q_pseudo_spike", QPseudoSpike)
rect = _function("rect", Rect)
s2nn = _function("s2nn", S2NN)
sigmoid = _function("sigmoid", Sigmoid)
soft_sign = _function("soft_sign", SoftSign)
squarewave_fourier_series = _function("squarewave_fourier_series", SquarewaveFourierSeries)
super_spike = _function("super_spike", SuperSpike)
