r"""Neurons of ours and of NIR: one step of the differential equation by Euler's method is one step of the neuron.

With the time step $dt$, the gain $s$ and the shift $b$ of the input (`x_scale`, `x_shift`; else 1 and 0), and $v_0$ for
`v_reset`, or 0 with the soft reset:

| ours | NIR | by |
|---|---|---|
| IF, $H = V + sX$ | $\dot v = RI$ | $R = s/dt$ |
| LIF with decay_input | $\tau_n\dot v = v_{leak} - v + RI$ | $\tau_n = \tau dt,\ R = s,\ v_{leak} = v_0 + b$ |
| LIF without | the same | $\tau_n = \tau dt,\ R = \tau s,\ v_{leak} = v_0 + \tau b$ |
| CUBA | $\tau_s\dot I = w_{in}S - I$, then as LIF, of the new $I$ | $\tau_s = dt/(1 - d_c),\ \tau_n = dt/(1 - d_v)$ |
| | | $w_{in} = s\tau_s/dt,\ R = \tau_n/dt,\ v_{leak} = 0$ |
| read-outs | I and LI | as IF and LIF, without the threshold |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..base import kind_of
from ..neuron import CUBALIFNode, IFNode, LIFNode, NonSpikingIFNode, NonSpikingLIFNode, ParametricLIFNode
from ..surrogate import Surrogate
from .package import Array, Unrepresentable, field, filled, in_steps, nir_package, plain, wide, without_rounding

__all__ = ["Reading", "neuron_from_nir", "neuron_to_nir"]

CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (CUBALIFNode, IFNode, LIFNode, NonSpikingIFNode, NonSpikingLIFNode, ParametricLIFNode)
}
KEY = "spikescope"
_FREE = ("surrogate_function", "step_mode", "backend", "store_v_seq")  # what has no part in the equations, or is given


class Reading(NamedTuple):
    """How a graph is read."""

    dt: float
    reset: str
    surrogate_function: Callable[[], Surrogate]


def _input_map(node: Any) -> tuple[Array, Array]:
    """The gain and the shift of the input."""
    return (1.0, 0.0) if node.x_scale is None else (wide(node.x_scale), wide(node.x_shift))


def _no_shift(node: Any) -> Array:
    gain, shift = _input_map(node)
    if np.any(shift != 0):
        raise Unrepresentable(
            f"NIR has no constant input to a {type(node).__name__}. Fuse the normalisation into the convolution before "
            "it instead, with functional.fuse_convbn2d"
        )
    return gain


def _threshold_and_reset(node: Any) -> dict[str, Array]:
    return {"v_threshold": wide(node.v_threshold), "v_reset": 0.0 if node.v_reset is None else wide(node.v_reset)}


def _integrate(node: Any, dt: float) -> tuple[str, dict[str, Array]]:
    return "IF", {"r": _no_shift(node) / dt, **_threshold_and_reset(node)}


def _leaky(node: Any, dt: float) -> tuple[str, dict[str, Array]]:
    tau = 1 / wide(torch.sigmoid(node.w)) if isinstance(node, ParametricLIFNode) else wide(node.tau)
    ends = _threshold_and_reset(node)
    gain, shift = (held if node.decay_input else tau * held for held in _input_map(node))
    return "LIF", {"tau": tau * dt, "r": gain, "v_leak": ends["v_reset"] + shift, **ends}


def _current_based(node: Any, dt: float) -> tuple[str, dict[str, Array]]:
    left = {name: 1 - wide(getattr(node, name)) for name in ("c_decay", "v_decay")}
    for name, held in left.items():
        if np.any(held == 0):
            raise Unrepresentable(f"a {name} of 1 is not a finite time constant. Choose one below 1")
    tau_syn, tau_mem = dt / left["c_decay"], dt / left["v_decay"]
    weights = {"r": tau_mem / dt, "v_leak": 0.0, "w_in": _no_shift(node) * tau_syn / dt}
    return "CubaLIF", {"tau_syn": tau_syn, "tau_mem": tau_mem, **weights, **_threshold_and_reset(node)}


def _check_readable(node: Any) -> None:
    if node.decode != "last-mem":
        raise Unrepresentable(
            f"NIR gives the membrane potential of each step, but this read-out has decode={node.decode!r}. Set it to "
            "'last-mem', and decode the potentials where they are read"
        )


def _sum(node: Any, dt: float) -> tuple[str, dict[str, Array]]:
    _check_readable(node)
    return "I", {"r": _no_shift(node) / dt}


def _leaky_sum(node: Any, dt: float) -> tuple[str, dict[str, Array]]:
    _check_readable(node)
    gain, shift = _input_map(node)
    return "LI", {"tau": wide(node.tau) * dt, "r": gain, "v_leak": shift}


_TO_NIR: dict[str, Callable[[Any, float], tuple[str, dict[str, Array]]]] = {
    "IFNode": _integrate,
    "LIFNode": _leaky,
    "ParametricLIFNode": _leaky,
    "CUBALIFNode": _current_based,
    "NonSpikingIFNode": _sum,
    "NonSpikingLIFNode": _leaky_sum,
}


def neuron_to_nir(node: Any, shape: tuple[int, ...], dt: float, soft_reset: str) -> Any:
    """The node of NIR for a neuron whose steps are `[N, *shape]`, with our own fields in its metadata."""
    if getattr(node, "v_reset", 0.0) is None and soft_reset == "refuse":
        raise Unrepresentable(
            "its reset is soft (v_reset=None), and all neurons of NIR reset hard. With soft_reset='metadata' the soft "
            "reset is written into the metadata, where spikescope will find it; other programs may reset hard"
        )
    kind, values = _TO_NIR[kind_of(node).__name__](node, dt)
    made = getattr(nir_package(), kind)(**{name: filled(held, shape) for name, held in values.items()})
    made.metadata = _fields_of(node)
    return made


def _fields_of(node: Any) -> dict[str, Any]:
    """All that makes this neuron what it is, as numbers, texts and arrays; None is left out."""
    held = {name: getattr(node, name) for name in type(node).fields if name not in _FREE}
    written = {name: wide(value) if isinstance(value, Tensor) else value for name, value in held.items()}
    return {KEY: kind_of(node).__name__, **{name: value for name, value in written.items() if value is not None}}


def neuron_from_nir(node: Any, reading: Reading) -> nn.Module:
    """The neuron for a node of NIR: by our metadata if these give the very arrays of the node, else by the arrays.

    What the arrays cannot say, how it resets, is that of our metadata all the same.
    """
    own = _from_metadata(node, reading)
    if own is not None:
        return own
    return _FROM_NIR[type(node).__name__](node, reading)


def _from_metadata(node: Any, reading: Reading) -> nn.Module | None:
    cls, given = _written(node)
    if cls is None:
        return None
    made = _made(cls, {"v_reset": None} | given if "v_reset" in cls.fields else given, reading)
    kind, values = _TO_NIR[cls.__name__](made, reading.dt)
    changed = kind != type(node).__name__ or any(
        not np.array_equal(filled(value, np.shape(getattr(node, name))), getattr(node, name))
        for name, value in values.items()
    )
    return None if changed else made


def _written(node: Any) -> tuple[Any, dict[str, Any]]:
    """The class and the fields that `to_nir` wrote into the metadata; None if it wrote none."""
    held = dict(node.metadata or {})
    cls = CLASSES.get(str(held.pop(KEY, "")))
    if cls is None or not set(held) <= set(cls.fields):
        return None, {}
    return cls, {name: _plain_value(value) for name, value in held.items()}


def _plain_value(value: Any) -> Any:
    """A value as HDF5 gives it back, as a field."""
    if isinstance(value, np.ndarray) and value.ndim:
        return field(value)
    held = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return held.decode() if isinstance(held, bytes) else held


def _made(cls: Any, fields: dict[str, Any], reading: Reading) -> nn.Module:
    """A neuron with fields that the constructor takes, and those that it does not take assigned."""
    known = cls.arguments.parameters
    more = {"surrogate_function": reading.surrogate_function()} if "surrogate_function" in known else {}
    made: nn.Module = cls(**{name: value for name, value in fields.items() if name in known}, **more)
    for name, value in fields.items():
        if name not in known:
            held = getattr(made, name)
            setattr(made, name, nn.Parameter(torch.as_tensor(value)) if isinstance(held, nn.Parameter) else value)
    return made


def _mapped(cls: Any, fields: dict[str, Array], gain: Array, shift: Array, reading: Reading) -> nn.Module:
    """A neuron whose input is multiplied and shifted where NIR says so."""
    held = {name: value if value is None or isinstance(value, bool) else field(value) for name, value in fields.items()}
    if np.any(gain != 1) or np.any(shift != 0):
        held["x_scale"], held["x_shift"] = (torch.as_tensor(value, dtype=torch.float32) for value in (gain, shift))
    return _made(cls, held, reading)


def _ends(node: Any, reading: Reading) -> dict[str, Any]:
    cls, given = _written(node)
    soft = reading.reset == "soft" if cls is None else given.get("v_reset") is None
    v_reset = plain(node.v_reset)
    if soft and np.any(v_reset != 0):
        raise Unrepresentable("it has a v_reset other than 0, which the soft reset has no use for. Read it with 'hard'")
    ends = {"v_threshold": plain(node.v_threshold), "v_reset": None if soft else v_reset}
    return ends | {name: held for name, held in given.items() if name == "detach_reset"}


def _steps_of(node: Any, name: str, reading: Reading) -> Array:
    """A time constant in steps."""
    held = getattr(node, name)
    if not np.all(held > 0):
        raise Unrepresentable(f"its {name} must be above 0 s, but is {np.min(held):g}")
    return in_steps(held, reading.dt)


def _if_node(node: Any, reading: Reading) -> nn.Module:
    gain = plain(node.r) * reading.dt
    return _mapped(IFNode, _ends(node, reading), without_rounding(gain), 0.0, reading)


def _lif_node(node: Any, reading: Reading) -> nn.Module:
    ends = _ends(node, reading)
    tau, gain, shift = _steps_of(node, "tau", reading), plain(node.r), plain(node.v_leak) - plain(node.v_reset)
    whole = bool(np.all(without_rounding(gain / tau) == 1) and np.all(shift == 0) and np.any(gain != 1))
    fields = {"tau": tau, "decay_input": not whole, **ends}
    return _mapped(LIFNode, fields, 1.0 if whole else gain, shift, reading)


def _cuba_node(node: Any, reading: Reading) -> nn.Module:
    if np.any(node.v_leak != 0):
        raise Unrepresentable("its v_leak is not 0, but the potential of a CUBALIFNode decays towards 0")
    syn, mem = (1 / _steps_of(node, name, reading) for name in ("tau_syn", "tau_mem"))
    gain = syn * plain(node.w_in) * mem * plain(node.r)
    fields = {"c_decay": 1 - syn, "v_decay": 1 - mem, **_ends(node, reading)}
    return _mapped(CUBALIFNode, fields, without_rounding(gain), 0.0, reading)


def _integrator(node: Any, reading: Reading) -> nn.Module:
    gain = plain(node.r) * reading.dt
    return _mapped(NonSpikingIFNode, {}, without_rounding(gain), 0.0, reading)


def _leaky_integrator(node: Any, reading: Reading) -> nn.Module:
    fields = {"tau": _steps_of(node, "tau", reading)}
    return _mapped(NonSpikingLIFNode, fields, plain(node.r), plain(node.v_leak), reading)


_FROM_NIR: dict[str, Callable[[Any, Reading], nn.Module]] = {
    "IF": _if_node,
    "LIF": _lif_node,
    "CubaLIF": _cuba_node,
    "I": _integrator,
    "LI": _leaky_integrator,
}
