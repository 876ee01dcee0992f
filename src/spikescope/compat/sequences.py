"""Neurons over whole sequences as functions of input and state, as SpikingJelly 2.0 names them.

`if_multi_step(x_seq, v)` gives `(spike_seq, v, v_seq)`: the run of our neuron by its fused kernel, where there is one.
`v_seq` is None unless `store_v_seq` asks for it. What is given is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from torch import Tensor

from ..neuron import EIFNode, IFNode, ILIFNode, LIFNode, PointwiseNeuron, QIFNode

__all__ = ["eif_multi_step", "if_multi_step", "ilif_multi_step", "lif_multi_step", "qif_multi_step"]

_UNLESS_GIVEN = frozenset(("surrogate_function", "detach_reset"))  # None and False leave the neuron its default


def sequence_of(
    name: str, cls: type[PointwiseNeuron], fields: dict[str, Any]
) -> Callable[..., tuple[Tensor, Tensor, Tensor | None]]:
    """The run of `cls` as a function of `x_seq`, `v` and `fields`, which have these defaults and come in this order."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    given = [Parameter(key, kind, default=held) for key, held in fields.items()]
    signature = Signature([Parameter("x_seq", kind), Parameter("v", kind), *given])

    def run(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        held = {_OURS.get(key, key): value for key, value in bound.arguments.items()}
        x_seq, v = held.pop("x_seq"), held.pop("v")
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

if_multi_step = sequence_of("if_multi_step", IFNode, _FIRE | _REST)
lif_multi_step = sequence_of("lif_multi_step", LIFNode, {"tau": 2.0, "decay_input": True, **_FIRE, **_REST})
ilif_multi_step = sequence_of("ilif_multi_step", ILIFNode, {"tau": 2.0, "v_threshold": 1.0, **_REST})
qif_multi_step = sequence_of("qif_multi_step", QIFNode, _QIF)
eif_multi_step = sequence_of("eif_multi_step", EIFNode, _EIF)
