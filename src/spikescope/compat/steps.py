"""The steps of neurons as functions of input and state, as SpikingJelly 2.0 names them: each is the step of our neuron.

`if_step(x, v, v_threshold, v_reset, surrogate_function, detach_reset=False)` gives `(spike, v)`; the others have the
states and fields of their neuron. What is given is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from torch import Tensor

from ..dynamics import eager
from ..neuron import (
    ComplementaryLIFNode,
    CUBALIFNode,
    EIFNode,
    IFNode,
    IzhikevichNode,
    KLIFNode,
    LIFNode,
    ParametricLIFNode,
    PointwiseNeuron,
    QIFNode,
    ResonateAndFireNode,
    TernaryIFNode,
    TernaryLIFNode,
)

__all__ = [
    "clif_step",
    "cuba_lif_step",
    "eif_step",
    "if_step",
    "izhikevich_step",
    "klif_step",
    "lif_step",
    "plif_step",
    "qif_step",
    "raf_step",
    "ternary_if_step",
    "ternary_lif_step",
]

_DEFAULTS = {"detach_reset": False}


def step_of(
    name: str, cls: type[PointwiseNeuron], states: str, fields: str, renamed: dict[str, str] | None = None
) -> Callable[..., tuple[Tensor, ...]]:
    """The step of `cls` as a function of the input, its `states` and its `fields`, in this order.

    `renamed` says what a name of ours is called there. The result is the output and the next states, in their order.
    """
    ours = {theirs: mine for mine, theirs in (renamed or {}).items()}
    order = states.split()
    places = [cls.State._fields.index(ours.get(state, state)) for state in order]
    signature = Signature(
        [
            Parameter(given, Parameter.POSITIONAL_OR_KEYWORD, default=_DEFAULTS.get(given, Parameter.empty))
            for given in ("x", *order, *fields.split())
        ]
    )

    def step(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = {ours.get(key, key): held for key, held in bound.arguments.items()}
        x = given.pop("x")
        held = {place: given.pop(cls.State._fields[place]) for place in places}
        learned = {key: given.pop(key) for key in ("w", "k") if key in given and key in cls.fields}
        node = cls(**given)
        p = node.params()._replace(**learned)
        state = eager.start(cls.State(*(held[place] for place in range(len(places)))), x)
        out = eager.single(cls.step, p, state, x)
        return out.output, *(out.state[place] for place in places)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = f"One step of `neuron.{cls.__name__}`: `{name}{signature}` gives the output, {', '.join(order)}."
    step.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` reads
    return step


_FIRE = "v_threshold v_reset surrogate_function detach_reset"

if_step = step_of("if_step", IFNode, "v", _FIRE)
lif_step = step_of("lif_step", LIFNode, "v", f"tau decay_input {_FIRE}")
plif_step = step_of("plif_step", ParametricLIFNode, "v", f"w decay_input {_FIRE}")
klif_step = step_of("klif_step", KLIFNode, "v", f"k tau decay_input scale_reset {_FIRE}")
qif_step = step_of("qif_step", QIFNode, "v", f"tau a0 v_rest v_c {_FIRE}")
eif_step = step_of("eif_step", EIFNode, "v", f"tau delta_t theta_rh v_rest {_FIRE}", {"delta_T": "delta_t"})
ternary_if_step = step_of("ternary_if_step", TernaryIFNode, "v", _FIRE)
ternary_lif_step = step_of("ternary_lif_step", TernaryLIFNode, "v", f"tau decay_input {_FIRE}")
izhikevich_step = step_of("izhikevich_step", IzhikevichNode, "v w", f"tau a0 v_rest v_c tau_w a b {_FIRE}")
raf_step = step_of("raf_step", ResonateAndFireNode, "u v", f"b omega dt {_FIRE}")
cuba_lif_step = step_of(
    "cuba_lif_step",
    CUBALIFNode,
    "current v",
    f"current_decay voltage_decay {_FIRE}",
    {"c": "current", "c_decay": "current_decay", "v_decay": "voltage_decay"},
)
clif_step = step_of(
    "clif_step", ComplementaryLIFNode, "v m", "tau v_threshold spike_function", {"surrogate_function": "spike_function"}
)
