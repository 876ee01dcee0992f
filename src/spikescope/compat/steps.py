"""The steps of neurons as functions of input and state, as SpikingJelly 2.0 names them: each is the step of our neuron.

`if_step(x, v, v_threshold, v_reset, surrogate_function, detach_reset=False)` gives `(spike, v)`; the others have the
states and fields of their neuron. What is given is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..dynamics import eager
from ..errors import check_whole
from ..neuron import (
    ComplementaryLIFNode,
    CUBALIFNode,
    EIFNode,
    IFNode,
    ILIFNode,
    IzhikevichNode,
    KLIFNode,
    LIAFNode,
    LIFNode,
    ParametricLIFNode,
    PointwiseNeuron,
    QIFNode,
    ResonateAndFireNode,
    TernaryIFNode,
    TernaryLIFNode,
)
from ..neuron.integrate import leak, reset_to

__all__ = [
    "clif_step",
    "cuba_lif_step",
    "delay_step",
    "eif_step",
    "if_step",
    "ilif_step",
    "izhikevich_step",
    "klif_step",
    "liaf_step",
    "lif_charge",
    "lif_step",
    "neunorm_step",
    "plif_step",
    "qif_step",
    "raf_step",
    "synapse_filter_step",
    "ternary_if_step",
    "ternary_lif_step",
    "voltage_reset",
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


_GRADIENT = "surrogate_function detach_reset"
_FIRE = f"v_threshold v_reset {_GRADIENT}"

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
ilif_step = step_of("ilif_step", ILIFNode, "v", f"tau v_threshold {_GRADIENT}")
liaf_step = step_of(
    "liaf_step", LIAFNode, "v", f"tau decay_input v_threshold v_reset act threshold_related {_GRADIENT}"
)
clif_step = step_of(
    "clif_step", ComplementaryLIFNode, "v m", "tau v_threshold spike_function", {"surrogate_function": "spike_function"}
)


class _Fields(NamedTuple):
    """What the parts of a step ask of a neuron's fields."""

    tau: float = 2.0
    decay_input: bool = True
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    detach_reset: bool = False


def lif_charge(x: Tensor, v: Tensor, tau: float, decay_input: bool, v_reset: float | None) -> Tensor:
    """The potential of `neuron.LIFNode` before it fires."""
    return leak(_Fields(tau, decay_input, v_reset=v_reset), v, x)


def voltage_reset(
    v: Tensor, spike: Tensor, v_threshold: float, v_reset: float | None, detach_reset: bool = False
) -> Tensor:
    """The potential after the reset: to `v_reset`, or by `v_threshold` where that is None."""
    return reset_to(_Fields(v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset), v, spike)


def delay_step(x: Tensor, queue: tuple[Tensor, ...], delay_steps: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The input of `delay_steps` ago, zeros before there is one, and the inputs that wait.

    >>> delay_step(torch.ones(2), (), 1)
    (tensor([0., 0.]), (tensor([1., 1.]),))
    """
    delay_steps = check_whole("delay_step", "delay_steps", delay_steps, least=0)
    waiting = (*queue, x)
    return (waiting[0], waiting[1:]) if len(waiting) > delay_steps else (torch.zeros_like(x), waiting)


def synapse_filter_step(x: Tensor, out_i: Tensor, reciprocal_tau: float | Tensor) -> Tensor:
    """The current of `layer.SynapseFilter` after one step."""
    return out_i - reciprocal_tau * (1 - x) * out_i + x


def neunorm_step(
    in_spikes: Tensor, state: Tensor, weight: Tensor, momentum: float, input_scale: float
) -> tuple[Tensor, Tensor]:
    """The output of `layer.NeuNorm` for one step, and its state: the running sum over the channels."""
    state = momentum * state + input_scale * in_spikes.sum(1, keepdim=True)
    return in_spikes - weight * state, state
