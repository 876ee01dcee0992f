"""Surrogates whose numbers or arguments another age had otherwise, under the paths of that age."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from ... import surrogate
from ...surrogate.functions import SpikeFunction
from .made import aged, say_once, signature_of

__all__ = ["LeakyKReLU", "PiecewiseLeakyReLU", "Sigmoid", "piecewise_leaky_relu"]


def _steep(p: Any, x: Tensor) -> Tensor:
    slope = surrogate.PiecewiseLeakyReLU.gradient(p, x)
    return torch.where(torch.abs(x) < p.w, 2 * slope, slope)


PiecewiseLeakyReLU = aged(
    surrogate.PiecewiseLeakyReLU,
    "PiecewiseLeakyReLU",
    signature_of(surrogate.PiecewiseLeakyReLU, "w c spiking"),
    module=__name__,
    about="`surrogate.PiecewiseLeakyReLU` with the slope $1/w$ in its window, as up to 0.0.0.0.14.",
    members={"gradient": staticmethod(_steep)},
)

LeakyKReLU = aged(
    surrogate.LeakyKReLU,
    "LeakyKReLU",
    signature_of(surrogate.LeakyKReLU, "spiking leak k"),
    module=__name__,
    about="`surrogate.LeakyKReLU` with `spiking` as its first argument.",
    optional={"spiking": bool},
)


def _say_alpha(made: Any, given: dict[str, Any], stated: Collection[str]) -> dict[str, Any]:
    if "alpha" not in stated:
        say_once(
            "alpha",
            "Sigmoid() of clock_driven has alpha=4.0, as in 0.0.0.0.12; in 0.0.0.0.4 it was 1.0. Code of that age "
            "should give it.",
        )
    return given


Sigmoid = aged(
    surrogate.Sigmoid,
    "Sigmoid",
    signature_of(surrogate.Sigmoid, "alpha spiking"),
    module=__name__,
    about="`surrogate.Sigmoid`, which says once that its default was another in the first age.",
    read=_say_alpha,
)


class piecewise_leaky_relu(SpikeFunction):  # the name that callers know
    """The spike of `PiecewiseLeakyReLU` of this file as a function: `piecewise_leaky_relu.apply(x, w, c)`."""

    of = PiecewiseLeakyReLU
