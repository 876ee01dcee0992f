"""The neurons of the clock-driven interface that take whole sequences: ours, in `step_mode='m'` from the start."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from ..neuron import (
    EIFNode,
    IFNode,
    IzhikevichNode,
    LIAFNode,
    LIFNode,
    ParametricLIFNode,
    PointwiseNeuron,
    QIFNode,
    registry,
)

__all__ = [
    "MultiStepEIFNode",
    "MultiStepIFNode",
    "MultiStepIzhikevichNode",
    "MultiStepLIAFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "MultiStepQIFNode",
]

DEFAULTS: dict[str, Any] = {"step_mode": "m", "store_v_seq": True}
"""A multi-step node of that interface keeps `v_seq` at every call."""


def multi_step(base: type[PointwiseNeuron], module: str = __name__) -> type[Any]:
    """`base` under the name `MultiStep...`, with sequences and `v_seq` as the default.

    It is no neuron of its own: it has the equations of `base`, is an instance of it, and is not in its registry.

    >>> node = multi_step(IFNode)(v_reset=None)
    >>> node(torch.full((3, 1), 0.75)).flatten(), node.v_seq.flatten()
    (tensor([0., 1., 1.]), tensor([0.7500, 0.5000, 0.2500]))
    """

    known = base.arguments.parameters.values()
    own = [p.replace(default=DEFAULTS.get(p.name, p.default)) for p in known if p.name != "step_mode"]
    mode = Parameter("step_mode", Parameter.KEYWORD_ONLY, default=DEFAULTS["step_mode"])
    order = Signature([*own, mode])  # a node that had no step mode took its backend in that place

    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = order.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{order}: {error}.") from None
        base.__init__(self, **(DEFAULTS | given))
        self.v_seq = None  # before the first run, as there

    name = f"MultiStep{base.__name__}"
    about = f"`neuron.{base.__name__}` with sequences `[T, N, *]` as the default, and `v_seq` kept."
    made: Any = type(name, (base,), {"__doc__": about, "__module__": module, "__init__": initialize})
    del registry[name]
    made.__signature__ = order
    return made


MultiStepIFNode = multi_step(IFNode)
MultiStepLIFNode = multi_step(LIFNode)
MultiStepParametricLIFNode = multi_step(ParametricLIFNode)
MultiStepQIFNode = multi_step(QIFNode)
MultiStepEIFNode = multi_step(EIFNode)
MultiStepIzhikevichNode = multi_step(IzhikevichNode)
MultiStepLIAFNode = multi_step(LIAFNode)
