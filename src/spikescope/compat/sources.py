"""Where the names of each alias come from."""

from __future__ import annotations

__all__ = ["ROOT", "SOURCES", "home"]

ROOT = "spikingjelly"

_ROOMS = ("base", "neuron", "surrogate", "layer", "functional", "monitor", "encoding", "rnn", "quantize")
_ONLINE = ("fptt_online_training", "fptt_online_training_init_w_ra", "ottt_online_training")
_ANN2SNN = ("spikescope.ann2snn",)
_MULTI_STEP_LAYERS = (
    "spikescope.layer:SynapseFilter=LowPassSynapse",
    "spikescope.layer:TemporalWiseAttention=MultiStepTemporalWiseAttention",
    "spikescope.layer:MultiDimensionalAttention=MultiStepMultiDimensionalAttention",
    "spikescope.compat.multi_step_layer",
)

SOURCES: dict[str, tuple[str, ...]] = {
    **{f"activation_based.{room}": (f"spikescope.{room}",) for room in _ROOMS},
    "activation_based.base": ("spikescope.base", "spikescope.compat.memories"),
    "activation_based.functional": ("spikescope.functional", "spikescope.compat.steps"),
    "activation_based.neuron": ("spikescope.neuron", "spikescope.compat.multi_step"),
    "activation_based.learning": ("spikescope.learning", *(f"spikescope.functional:{name}" for name in _ONLINE)),
    "activation_based.ann2snn": _ANN2SNN,
    "activation_based.ann2snn.modules": _ANN2SNN,
    "activation_based.nir_exchange": ("spikescope.exchange:to_nir=export_to_nir", "spikescope.exchange"),
    "activation_based.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "activation_based.cuda_kernel.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    **{
        f"clock_driven.{room}": (f"spikescope.{room}",)
        for room in ("base", "functional", "surrogate", "monitor", "encoding", "rnn")
    },
    "clock_driven.neuron": ("spikescope.neuron", "spikescope.compat.multi_step"),
    "clock_driven.layer": ("spikescope.layer", *_MULTI_STEP_LAYERS),
    "clock_driven.ann2snn": _ANN2SNN,
    "clock_driven.ann2snn.modules": _ANN2SNN,
    "clock_driven.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "cext.neuron": ("spikescope.compat.extension",),
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
