"""Where the names of each alias come from."""

from __future__ import annotations

from collections.abc import Container

__all__ = ["ROOT", "SOURCES", "home", "innermost"]

ROOT = "spikingjelly"

_ROOMS = ("base", "neuron", "surrogate", "layer", "functional", "monitor", "encoding", "rnn", "quantize")
_ONLINE = ("fptt_online_training", "fptt_online_training_init_w_ra", "ottt_online_training")
_LEARNED_STEPS = (
    *("stdp_linear_step", "stdp_conv1d_step", "stdp_conv2d_step"),
    *("mstdp_linear_step", "mstdpet_linear_step", "mstdpet_reward_step"),
)
_LEARNED_STEPS_OF_LAYERS = (
    *("stdp_linear_single_step", "stdp_conv1d_single_step", "stdp_conv2d_single_step", "stdp_multi_step"),
    *("mstdp_linear_single_step", "mstdpet_linear_single_step"),
)
_ANN2SNN = (
    "spikescope.ann2snn",
    *(
        f"spikescope.compat.recipes:{name}"
        for name in (
            *("Converter", "FXConverter", "ModuleConverter"),
            *("ConversionRecipe", "FXConversionRecipe", "ModuleConversionRecipe", "replace_submodule"),
            *("ChannelVoltageHook", "ChannelVoltageScaler", "LocalThresholdBalancingHook", "Scaler"),
            *("LocalThresholdBalancingRecipe", "RateCodingRecipe", "validate_rate_coding_mode"),
        )
    ),
)
_CLOCK_ANN2SNN = ("spikescope.ann2snn", "spikescope.compat.ages.clock_conversion:Converter")
_BOTH_WAYS = "spikescope.compat.ages.functions:bidirectional_rnn_cell_forward"
_ONE_WAY = "spikescope.compat.ages.functions:directional_rnn_cell_forward"


def _later(names: str) -> tuple[str, ...]:
    return tuple(f"spikescope.compat.ages.later:{name}" for name in names.split())


_MULTI_STEP_NEURONS = tuple(
    f"spikescope.compat.ages.neurons:MultiStep{name}Node"
    for name in ("IF", "LIF", "ParametricLIF", "QIF", "EIF", "Izhikevich", "LIAF")
)
_UP_TO_14 = tuple(
    f"spikescope.compat.ages.surrogates:{name}" for name in ("LeakyKReLU", "PiecewiseLeakyReLU", "piecewise_leaky_relu")
)


_TABLES = "spikescope.compat.ages.tables"
_FAMILIES = (
    "masnn",
    "maxformer",
    "ms_resnet",
    "parametric_lif_net",
    "qkformer",
    "spike_driven_transformer",
)
_OF_SPIKFORMER = tuple(
    f"spikescope.models.spikformer:Spikformer{part}"
    for part in ("Block", "Conv2dBN", "Conv2dBNLIF", "MLP", "PatchStem")
)


def _with_blocks(family: str) -> tuple[str, ...]:
    """A family of residual networks and the blocks that networks of one's own are built of."""
    blocks = (f"spikescope.models.{family}:{name}" for name in ("BasicBlock", "Bottleneck", "conv1x1", "conv3x3"))
    join = ("spikescope.models.sew_resnet:sew_function",) if family == "sew_resnet" else ()
    return (f"spikescope.models.{family}", *blocks, *join, f"{_TABLES}:RESNET_FILES=model_urls")


def _with_constants(room: str, names: str) -> tuple[str, ...]:
    """The module of a data set and constants that published code reads from it."""
    return (f"spikescope.datasets.{room}", *(f"spikescope.datasets.{room}:{name}" for name in names.split()))


_CLASSES_OF_SHD = "SHD_N_CLASSES SSC_N_CLASSES"


SOURCES: dict[str, tuple[str, ...]] = {
    **{f"activation_based.{room}": (f"spikescope.{room}",) for room in _ROOMS},
    "activation_based.encoding": (
        "spikescope.encoding",
        "spikescope.compat.ages.encoders",
        *_later("PopEncoder"),
    ),
    "activation_based.base": (
        "spikescope.base",
        "spikescope.compat.memories",
        "spikescope.compat.ages.memory:MemoryModule",
    ),
    "activation_based.functional": (
        "spikescope.functional",
        "spikescope.compat.steps",
        "spikescope.compat.sequences",
        "spikescope.compat.more_steps",
        "spikescope.compat.bit_spikes",
        *(f"spikescope.compat.learned_steps:{name}" for name in _LEARNED_STEPS),
        "spikescope.neuron.mixing.signed:stbif_step",
        "spikescope.neuron.mixing.signed:stbif_multi_step",
        *_later(
            "t_last_multi_step_forward t_last_seq_to_ann_forward collect_reset_modules reset_collected_modules "
            "invalidate_reset_cache fuse_conv_bn_eval_modules"
        ),
    ),
    "activation_based.neuron": (
        "spikescope.neuron",
        *_MULTI_STEP_NEURONS,
        *_later("SimpleIFNode SimpleLIFNode"),
        "spikescope.compat.ages.readout",
        "spikescope.compat.ages.complementary",
        "spikescope.neuron.mixing",
    ),
    "activation_based.surrogate": ("spikescope.surrogate", *_UP_TO_14, "spikescope.compat.ages.slopes"),
    "activation_based.rnn": ("spikescope.rnn", _BOTH_WAYS, _ONE_WAY, "spikescope.compat.ages.late"),
    "activation_based.layer": (
        "spikescope.layer",
        *_later("TLastMultiStepContainer TLastSeqToANNContainer"),
        "spikescope.compat.ages.dropped",
        "spikescope.compat.ages.slots",
    ),
    "activation_based.quantize": ("spikescope.quantize", "spikescope.compat.ages.straight"),
    "activation_based.monitor": ("spikescope.monitor", "spikescope.compat.ages.straight:unpack_len1_tuple"),
    "activation_based.learning": (
        "spikescope.learning",
        "spikescope.compat.ages.rewards",
        *(f"spikescope.compat.learned_steps:{name}" for name in _LEARNED_STEPS_OF_LAYERS),
        *(f"spikescope.functional:{name}" for name in _ONLINE),
    ),
    "activation_based.ann2snn": _ANN2SNN,
    "activation_based.ann2snn.modules": _ANN2SNN,
    "activation_based.nir_exchange": ("spikescope.exchange", *_later("export_to_nir import_from_nir")),
    "activation_based.op_counter": ("spikescope.compat.op_counter",),
    "activation_based.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "activation_based.cuda_kernel.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    **{f"clock_driven.{room}": (f"spikescope.{room}",) for room in ("base", "monitor")},
    "clock_driven.encoding": (
        "spikescope.encoding",
        "spikescope.compat.ages.clock_encoders",
        "spikescope.encoding:StatelessEncoder=BaseEncoder",
    ),
    "clock_driven.neuron": ("spikescope.neuron", "spikescope.compat.ages.neurons"),
    "clock_driven.functional": ("spikescope.functional", "spikescope.compat.ages.functions"),
    "clock_driven.rnn": ("spikescope.rnn", _BOTH_WAYS, "spikescope.compat.ages.recurrent"),
    "clock_driven.surrogate": ("spikescope.surrogate", "spikescope.compat.ages.surrogates"),
    "clock_driven.layer": ("spikescope.layer", "spikescope.compat.ages.layers"),
    "clock_driven.ann2snn": _CLOCK_ANN2SNN,
    "clock_driven.ann2snn.modules": (*_CLOCK_ANN2SNN, "spikescope.compat.ages.gates"),
    "clock_driven.tensor_cache": ("spikescope.spikes", "spikescope.compat.tensor_cache"),
    "cext.neuron": ("spikescope.compat.ages.extension",),
    "datasets": ("spikescope.datasets", *(f"spikescope.datasets.shd:{name}" for name in _CLASSES_OF_SHD.split())),
    "datasets.cifar10_dvs": (
        *(f"spikescope.datasets:{name}" for name in ("CIFAR10DVS", "CIFAR10DVSTEBNSplit", "CIFAR10DVS_CLASS_NAMES")),
        "spikescope.compat.addresses",
    ),
    "datasets.es_imagenet": ("spikescope.datasets:ESImageNet", "spikescope.compat.es_imagenet"),
    "datasets.shd": _with_constants("shd", _CLASSES_OF_SHD),
    "datasets.speechcommands": _with_constants(
        "speechcommands", "EXCEPT_FOLDER FOLDER_IN_ARCHIVE HASH_DIVIDER TEST_RECORD TRAIN_RECORD URL VAL_RECORD"
    ),
    "datasets.to_x_rep": ("spikescope.datasets.to_x_rep",),
    "activation_based.model": ("spikescope.models",),
    **{f"activation_based.model.{family}": (f"spikescope.models.{family}",) for family in _FAMILIES},
    **{f"activation_based.model.{family}": _with_blocks(family) for family in ("sew_resnet", "spiking_resnet")},
    "activation_based.model.spiking_vgg": (
        "spikescope.models.spiking_vgg",
        f"{_TABLES}:VGG=cfgs",
        f"{_TABLES}:VGG_FILES=model_urls",
    ),
    "activation_based.model.spiking_vggws_ottt": (
        "spikescope.models.spiking_vggws_ottt",
        "spikescope.models.spiking_vggws_ottt:Scale",
        f"{_TABLES}:VGG_OF_OTTT=cfgs",
    ),
    "activation_based.model.snas_net": (
        "spikescope.models.snas_net",
        "spikescope.models.snas_net:ScaleLayer",
        "spikescope.models.snas_net:Cell=Neuronal_Cell",
        "spikescope.models.snas_net:FeedbackCell=Neuronal_Cell_backward",
    ),
    "activation_based.model.spikformer": ("spikescope.models.spikformer", *_OF_SPIKFORMER),
    "activation_based.model.tv_ref_classify.utils": ("spikescope.compat.accuracy",),
    "clock_driven.model": ("spikescope.compat.ages.models",),
    "visualizing": ("spikescope.compat.visualizing",),
    "configure": ("spikescope.compat.configure",),
}
"""To each alias the sources of its names, what stands later taking precedence.

A source is a module, or `module:name`, or `module:name=alias`. The modules inside an alias, as `neuron.lif`, have the
names of the alias.
"""


def home(name: str) -> str | None:
    """The alias in `SOURCES` that gives a module its names: itself, or the one that it lies in.

    >>> home("activation_based.neuron.lif"), home("activation_based.memopt")
    ('activation_based.neuron', None)
    """
    return innermost(name, SOURCES)


def innermost(name: str, known: Container[str]) -> str | None:
    """The last of the modules on the path to `name`, itself among them, that is `known`.

    >>> innermost("a.b.c", {"a", "a.b"})
    'a.b'
    """
    parts = name.split(".")
    return next((path for n in range(len(parts), 0, -1) if (path := ".".join(parts[:n])) in known), None)
