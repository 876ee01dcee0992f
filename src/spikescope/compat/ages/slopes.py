"""The slopes of the surrogates as functions: `sigmoid_backward(grad_output, x, alpha)` gives the gradient of `x`, and
None for each number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ... import surrogate
from ...surrogate.functions import SpikeFunction
from . import surrogates

__all__ = [
    "atan_backward",
    "erf_backward",
    "fake_numerical_gradient_backward",
    "leaky_k_relu_backward",
    "log_tailed_relu_backward",
    "nonzero_sign_log_abs_backward",
    "piecewise_exp_backward",
    "piecewise_leaky_relu_backward",
    "piecewise_quadratic_backward",
    "rect_backward",
    "sigmoid_backward",
    "soft_sign_backward",
    "super_spike_backward",
]


def backward_of(function: type[SpikeFunction]) -> Callable[..., tuple[Tensor | None, ...]]:
    """The gradient of a function of `spikescope.surrogate`.

    >>> backward_of(surrogate.rect)(torch.ones(2), torch.tensor([0.25, 1.0]), 1.0)
    (tensor([1., 0.]), None)
    """
    name = f"{function.__name__}_backward"

    def backward(grad_output: Tensor, x: Tensor, *values: Any, **named: Any) -> tuple[Tensor | None, ...]:
        return function.of.backward(grad_output, x, *values, **named), *(None for _ in (*values, *named))

    backward.__name__ = backward.__qualname__ = name
    backward.__doc__ = f"The gradients of the arguments of `surrogate.{function.__name__}.apply`: of `x` alone."
    return backward


atan_backward = backward_of(surrogate.atan)
erf_backward = backward_of(surrogate.erf)
fake_numerical_gradient_backward = backward_of(surrogate.fake_numerical_gradient)
leaky_k_relu_backward = backward_of(surrogate.leaky_k_relu)
log_tailed_relu_backward = backward_of(surrogate.log_tailed_relu)
nonzero_sign_log_abs_backward = backward_of(surrogate.nonzero_sign_log_abs)
piecewise_exp_backward = backward_of(surrogate.piecewise_exp)
piecewise_leaky_relu_backward = backward_of(surrogates.piecewise_leaky_relu)
piecewise_quadratic_backward = backward_of(surrogate.piecewise_quadratic)
rect_backward = backward_of(surrogate.rect)
sigmoid_backward = backward_of(surrogate.sigmoid)
soft_sign_backward = backward_of(surrogate.soft_sign)
super_spike_backward = backward_of(surrogate.super_spike)
