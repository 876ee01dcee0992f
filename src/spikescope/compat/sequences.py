"""Neurons over whole sequences as functions of input and state, as SpikingJelly 2.0 names them.

`if_multi_step(x_seq, v)` gives `(spike_seq, v, v_seq)`: the run of our neuron by its fused kernel, where there is one.
`v_seq` is None unless `store_v_seq` asks for it. What is given is not changed. `neuron_storage`, `neuron_fwd` and
`neuron_bwd` may say that states are float32, as they are here.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeError, check_choice, check_sequence, dims
from ..neuron import EIFNode, IFNode, ILIFNode, LIFNode, PointwiseNeuron, QIFNode
from ..surrogate import Sigmoid, Surrogate
from .steps import izhikevich_step, plif_step

__all__ = [
    "eif_multi_step",
    "if_multi_step",
    "ilif_multi_step",
    "izhikevich_multi_step",
    "lif_multi_step",
    "plif_multi_step",
    "qif_multi_step",
]

_UNLESS_GIVEN = frozenset(("surrogate_function", "detach_reset"))  # None and False leave the neuron its default


_PRECISION = {"neuron_storage": None, "neuron_fwd": "fp32", "neuron_bwd": "fp32"}


def check_precision(owner: str, neuron_storage: Any, neuron_fwd: Any, neuron_bwd: Any) -> None:
    """Refuse a precision of the states other than float32; where no `neuron_storage` is given, nothing is asked for."""
    if neuron_storage is not None:
        for name, held in (("neuron_storage", neuron_storage), ("neuron_fwd", neuron_fwd), ("neuron_bwd", neuron_bwd)):
            check_choice(owner, name, held, ("fp32", torch.float32))


def sequence_of(
    name: str, cls: type[PointwiseNeuron], fields: dict[str, Any], by_name: dict[str, Any] | None = None
) -> Callable[..., tuple[Tensor, Tensor, Tensor | None]]:
    """The run of `cls` as a function of `x_seq`, `v` and `fields`, which have these defaults and come in this order.

    `by_name` may be the arguments of `check_precision`.
    """
    kind = Parameter.POSITIONAL_OR_KEYWORD
    given = [Parameter(key, kind, default=held) for key, held in fields.items()]
    given += [Parameter(key, Parameter.KEYWORD_ONLY, default=held) for key, held in (by_name or {}).items()]
    signature = Signature([Parameter("x_seq", kind), Parameter("v", kind), *given])

    def run(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        held = {_OURS.get(key, key): value for key, value in bound.arguments.items()}
        x_seq, v = held.pop("x_seq"), held.pop("v")
        if by_name:
            check_precision(name, *(held.pop(key) for key in by_name))
        node: Any = cls(
            step_mode="m", **{key: value for key, value in held.items() if key not in _UNLESS_GIVEN or value}
        )
        node.v = v
        spikes = node(x_seq)
        return spikes, node.v, node.v_seq if node.store_v_seq else None

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"A run of `neuron.{cls.__name__}`: `{name}{signature}` gives spikes, `v`, and `v_seq` or None."
    run.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` reads
    return run


_OURS = {"delta_t": "delta_T"}
_FIRE = {"v_threshold": 1.0, "v_reset": 0.0}
_REST = {"surrogate_function": None, "detach_reset": False, "store_v_seq": False}
_LATE = {"detach_reset": False, "surrogate_function": None, "store_v_seq": False}
_QIF = {"tau": 2.0, **_FIRE, "v_rest": 0.0, "v_c": 0.8, "a0": 1.0, **_LATE}
_EIF = {"tau": 2.0, **_FIRE, "v_rest": 0.0, "theta_rh": 1.0, "delta_t": 1.0, **_LATE}

if_multi_step = sequence_of("if_multi_step", IFNode, _FIRE | _REST, _PRECISION)
lif_multi_step = sequence_of("lif_multi_step", LIFNode, {"tau": 2.0, "decay_input": True, **_FIRE, **_REST}, _PRECISION)
ilif_multi_step = sequence_of("ilif_multi_step", ILIFNode, {"tau": 2.0, "v_threshold": 1.0, **_REST})
qif_multi_step = sequence_of("qif_multi_step", QIFNode, _QIF)
eif_multi_step = sequence_of("eif_multi_step", EIFNode, _EIF)


def plif_multi_step(
    x_seq: Tensor,
    v: Tensor,
    w: Tensor,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    surrogate_function: Surrogate | None = None,
    detach_reset: bool = False,
    store_v_seq: bool = False,
    *,
    neuron_storage: torch.dtype | str | None = None,
    neuron_fwd: str = "fp32",
    neuron_bwd: str = "fp32",
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A run of `neuron.ParametricLIFNode` with the parameter `w`, step by step: spikes, `v`, and `v_seq` or None."""
    check_precision("plif_multi_step", neuron_storage, neuron_fwd, neuron_bwd)
    fields = (w, decay_input, v_threshold, v_reset, surrogate_function or Sigmoid(), detach_reset)
    spikes, (potentials,) = _stepped(plif_step, x_seq, (v,), fields)
    return spikes, potentials[-1], potentials if store_v_seq else None


def izhikevich_multi_step(
    x_seq: Tensor,
    v: Tensor,
    w: Tensor,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float = 0.0,
    a: float = 0.1,
    b: float = 0.2,
    tau_w: float = 2.0,
    v_c: float = 0.8,
    a0: float = 1.0,
    detach_reset: bool = False,
    surrogate_function: Surrogate | None = None,
    store_state_seq: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """A run of `neuron.IzhikevichNode`, step by step: spikes, `v`, `w`, and their courses or None."""
    fire = (v_threshold, v_reset, surrogate_function or Sigmoid(), detach_reset)
    spikes, (vs, ws) = _stepped(izhikevich_step, x_seq, (v, w), (tau, a0, v_rest, v_c, tau_w, a, b, *fire))
    return spikes, vs[-1], ws[-1], vs if store_state_seq else None, ws if store_state_seq else None


def _stepped(
    step: Callable[..., tuple[Tensor, ...]], x_seq: Tensor, state: tuple[Tensor, ...], fields: tuple[Any, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Outputs and states of all steps."""
    name = step.__name__.replace("_step", "_multi_step")
    check_sequence(name, x_seq)
    if not len(x_seq):
        raise ShapeError(f"{name}: there is no step in the sequence {dims(x_seq.shape)}. Give it at least one.")
    given = []
    for x in x_seq:
        given.append(step(x, *state, *fields))
        state = given[-1][1:]
    output, *states = map(torch.stack, zip(*given, strict=True))
    return output, states
