"""The neurons of the former C++ extension: multi-step nodes that take the name and the slope of their surrogate."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from ..errors import check_choice
from ..neuron import IFNode, LIFNode, ParametricLIFNode, PointwiseNeuron
from ..surrogate import ATan, Sigmoid
from .multi_step import multi_step

__all__ = ["MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode"]

SURROGATES = {"ATan": ATan, "Sigmoid": Sigmoid}


def with_slope(base: type[PointwiseNeuron]) -> type[Any]:
    """The multi-step form of `base` with `surrogate_function` by name and its `alpha` as further arguments.

    >>> with_slope(IFNode)(alpha=3.0).surrogate_function
    ATan(alpha=3.0, spiking=True)
    """
    made: Any = multi_step(base, module=__name__)
    whole = made.__init__

    def initialize(self: Any, *args: Any, surrogate_function: str = "ATan", alpha: float = 2.0, **kwargs: Any) -> None:
        check_choice(type(self).__name__, "surrogate_function", surrogate_function, SURROGATES)
        whole(self, *args, surrogate_function=SURROGATES[surrogate_function](alpha), **kwargs)

    made.__init__ = initialize
    known = made.__signature__.parameters.values()
    own = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=held)
        for name, held in (initialize.__kwdefaults__ or {}).items()
    ]
    made.__signature__ = Signature([*(p for p in known if p.name != "surrogate_function"), *own])
    return made


MultiStepIFNode = with_slope(IFNode)
MultiStepLIFNode = with_slope(LIFNode)
MultiStepParametricLIFNode = with_slope(ParametricLIFNode)
