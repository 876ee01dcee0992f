"""Where the names of each alias come from."""

from __future__ import annotations

import importlib.util

__all__ = ["ROOT", "SOURCES", "home"]

ROOT = "spikingjelly"

_ROOMS = ("base", "neuron", "surrogate", "layer", "functional", "monitor", "encoding", "rnn", "quantize")
_ONLINE = ("fptt_online_training", "fptt_online_training_init_w_ra", "ottt_online_training")
_ANN2SNN = ("spikescope.ann2snn", "spikescope.compat.ages.functions:download_url")
_BOTH_WAYS = "spikescope.compat.ages.functions:bidirectional_rnn_cell_forward"
_MULTI_STEP_NEURONS = tuple(
    f"spikescope.compat.ages.neurons:MultiStep{name}Node"
    for name in ("IF", "LIF", "ParametricLIF", "QIF", "EIF", "Izhikevich", "LIAF")
)
_UP_TO_14 = tuple(
    f"spikescope.compat.ages.surrogates:{name}" for name in ("LeakyKReLU", "PiecewiseLeakyReLU", "piecewise_leaky_relu")
)


def _room(alias: str, room: str) -> dict[str, tuple[str, ...]]:
    """The entry of a room that an installation may lack."""
    return {alias: (f"spikescope.{room}",)} if importlib.util.find_spec(f"spikescope.{room}") else {}


SOURCES: dict[str, tuple[str, ...]] = {
    **{f"activation_based.{room}": (f"spikescope.{room}",) for room in _ROOMS},
    "activation_based.base": ("spikescope.base", "spikescope.compat.memories"),
    "activation_based.functional": ("spikescope.functional", "spikescope.compat.steps"),
    "activation_based.neuron": ("spikescope.neuron", *_MULTI_STEP_NEURONS),
    "activation_based.surrogate": ("spikescope.surrogate", *_UP_TO_14),
    "activation_based.rnn": ("spikescope.rnn", _BOTH_WAYS),
    "activation_based.learning": ("spikescope.learning", *(f"spikescope.functional:{name}" for name in _ONLINE)),
    "activation_based.ann2snn": _ANN2SNN,
    "activation_based.ann2snn.modules": _ANN2SNN,
    "activation_based.nir_exchange": ("spikescope.exchange:to_nir=export_to_nir", "spikescope.exchange"),
    "activation_based.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "activation_based.cuda_kernel.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    **{f"clock_driven.{room}": (f"spikescope.{room}",) for room in ("base", "monitor", "encoding")},
    "clock_driven.neuron": ("spikescope.neuron", "spikescope.compat.ages.neurons"),
    "clock_driven.functional": ("spikescope.functional", "spikescope.compat.ages.functions"),
    "clock_driven.rnn": ("spikescope.rnn", _BOTH_WAYS, "spikescope.compat.ages.recurrent"),
    "clock_driven.surrogate": ("spikescope.surrogate", "spikescope.compat.ages.surrogates"),
    "clock_driven.layer": ("spikescope.layer", "spikescope.compat.ages.layers"),
    "clock_driven.ann2snn": _ANN2SNN,
    "clock_driven.ann2snn.modules": _ANN2SNN,
    "clock_driven.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "cext.neuron": ("spikescope.compat.ages.extension",),
    **_room("datasets", "datasets"),
    **_room("activation_based.model", "models"),
    **_room("clock_driven.model", "models"),
    "visualizing": ("spikescope.compat.visualizing",),
    "configure": ("spikescope.compat.configure",),
}
"""To each alias the sources of its names, what stands later taking precedence.

A source is a module, or `module:name`, or `module:name=alias`. The modules inside an alias, as `neuron.lif`, have the
names of the alias.
"""


def home(name: str) -> str | None:
    """The alias in `SOURCES` that gives a module its names: itself, or the one that it lies in.

    >>> home("activation_based.neuron.lif"), home("activation_based.model")
    ('activation_based.neuron', None)
    """
    parts = name.split(".")
    return next((known for n in range(len(parts), 0, -1) if (known := ".".join(parts[:n])) in SOURCES), None)
