"""What published code imports and this library has not: it can be imported, and is refused in words when it is used.

A script often imports more than it uses; it should not stop at its first lines for that.
"""

from __future__ import annotations

from abc import ABCMeta
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from .sources import innermost

__all__ = ["AREAS", "UNRELEASED", "absent", "area_of", "reason"]

_KERNELS = (
    "kernels are not written by hand here: each is derived from the step of a neuron. Write charge(p, s, x) or "
    "step(p, s, x), as CONTRIBUTING.md shows, and backend='auto' has the kernel"
)

_TIMES = "neurons of precise spike times (Tempotron, SRM) are not here; spikescope.neuron is for networks in steps"

_TRAINING = (
    "trainings are run by `spikescope train` here, with the option names of that program (spikescope.train.Trainer in "
    "code); networks come from spikescope.models.create(name)"
)

_PROFILING = (
    "profiling.profile(net, x) tells time, memory and spikes by layer; the operations of PyTorch are those of "
    "torch.profiler, and monitor.GPUMonitor tells the load of a GPU"
)

_CHIPS = (
    "no chip is simulated here; op_counter.estimate_simple_energy(net, x) and monitor.energy(net, x) price what a "
    "network does"
)

_SEARCH = (
    "this network was found by a search over surrogates, and keeps each layer three times for it; the width of a "
    "surrogate is learned here by surrogate.ATan(alpha=nn.Parameter(torch.tensor(2.0))) and its like, and networks "
    "come from spikescope.models.create(name)"
)

AREAS: dict[str, str] = {
    "activation_based.auto_cuda": _KERNELS,
    "activation_based.cuda_kernel": _KERNELS,
    "activation_based.cuda_utils": _KERNELS,
    "activation_based.neuron_kernel": _KERNELS,
    "activation_based.spike_op": _KERNELS,
    "activation_based.triton_kernel": _KERNELS,
    "activation_based.neuron.flexsn": _KERNELS,
    "activation_based.neuron.flexsn_hop": _KERNELS,
    "activation_based.neuron.flexsn_trace": _KERNELS,
    "clock_driven.cu_kernel_opt": _KERNELS,
    "clock_driven.neuron_kernel": _KERNELS,
    "clock_driven.spike_op": _KERNELS,
    "clock_driven.accelerating": _KERNELS,
    "activation_based.lava_exchange": "there is no exchange with Lava; spikescope.exchange writes and reads NIR",
    "clock_driven.lava_exchange": "there is no exchange with Lava; spikescope.exchange writes and reads NIR",
    "activation_based.lynxi_exchange": "there is no exchange with Lynxi; spikescope.exchange writes and reads NIR",
    "activation_based.distributed": (
        "training in many processes is PyTorch's own here: torchrun with DistributedDataParallel, "
        "functional.convert_sync_batchnorm(net), and monitor.sync"
    ),
    "activation_based.op_counter.memory_residency": _CHIPS,
    "activation_based.op_counter.neuromc": _CHIPS,
    "activation_based.op_counter.spikesim": _CHIPS,
    "activation_based.precision": (
        "precision is PyTorch's own here: torch.autocast, or net.half(), with states in float32"
    ),
    "activation_based.memopt": (
        "memory is saved by functional.checkpoint(module, x) here, which knows the state of the neurons"
    ),
    "activation_based.profiler": _PROFILING,
    "activation_based.onnx2snn": "networks are converted from PyTorch here: ann2snn.Converter(dataloader)(net)",
    "activation_based.model.spike_dhs": _SEARCH,
    "activation_based.model.train_classify": _TRAINING,
    "activation_based.model.train_imagenet_example": _TRAINING,
    "clock_driven.model.train_classify": _TRAINING,
    "clock_driven.model.train_imagenet": _TRAINING,
    "activation_based.examples": "the programs beside that package are not part of a library; copy the class you need",
    "clock_driven.examples": "the programs beside that package are not part of a library; copy the class you need",
    "activation_based.ann2snn.sample_models": "these networks are not part of a library; copy the class you need",
    "clock_driven.ann2snn.sample_models": "these networks are not part of a library; copy the class you need",
    "activation_based.ann2snn.examples": "the programs beside that package are not part of a library",
    "clock_driven.ann2snn.examples": "the programs beside that package are not part of a library",
    "clock_driven.ann2snn.kernels": "networks are converted from PyTorch here: ann2snn.Converter(dataloader)(net)",
    "timing_based": _TIMES,
    "event_driven": _TIMES,
    "nsys": _PROFILING,
    "models": "networks are built by spikescope.models.create(name)",
    "sequence": "attention and recurrent layers are in spikescope.layer and spikescope.rnn",
}
"""Whole parts of that package that are not here, and what to use instead."""


_SHARED = (
    "a network is made by spikescope.models.create(name), and trained in many processes by PyTorch's own torchrun with "
    "DistributedDataParallel and functional.convert_sync_batchnorm(net)"
)

_FRAMES = (
    "a data set makes its frames itself: datasets.DVS128Gesture(root, data_type='frame', frames_number=16, "
    "split_by='number') and its like, and one of your own derives from datasets.NeuromorphicDatasetFolder"
)

UNRELEASED = frozenset({"activation_based.op_counter"})
"""Parts of which published code imports names that no release has: what they lack is refused when it is used, too."""

_RECIPE = "networks are converted from PyTorch here by ann2snn.Converter(dataloader)(net)"

INSTEAD: tuple[tuple[str, str], ...] = (
    ("SEWResNet34*", _SHARED),
    ("SpikformerBuilder", _SHARED),
    ("Spikformer*Config", _SHARED),
    ("*EventBuilder", _FRAMES),
    ("*Frame*Builder", _FRAMES),
    ("NeuromorphicDataset[BC]*", _FRAMES),
    ("*NeuroMC*", _CHIPS),
    ("*neuromc*", _CHIPS),
    ("MemoryHierarchyConfig", _CHIPS),
    ("MemoryInstanceSpec", _CHIPS),
    ("*SpikeSim*", _CHIPS),
    ("*spikesim*", _CHIPS),
    ("*ompute*nergy*", "op_counter.SimpleEnergyProfiler and estimate_simple_energy price what a network does"),
    ("Lemaire*Counter", "op_counter.LemaireEnergyProfiler counts addresses with all else"),
    ("aten", "write torch.ops.aten"),
    ("NeuronStateCounter", "monitor.energy(net, x) counts the updates of neurons, and what each of them computes"),
    ("download_url", "nothing is downloaded; fetch the file yourself and put it where the program looks for it"),
    ("*GeneralNode", "derive a neuron from neuron.BaseNode and write charge(p, s, x), as CONTRIBUTING.md shows"),
    (
        "check_backend*",
        "node.supported_backends lists the backends, and node.implementation(x) says what runs, and why",
    ),
    ("neuron_implementation", "node.implementation(x) says what runs, and why"),
    ("lava_cuba_lif_step", "there is no exchange with Lava; spikescope.exchange writes and reads NIR"),
    ("pack_conv_bn_train_modules", "it changes no number there: leave the call out, and train the network as it is"),
    ("SingleModule", "base.StepModule is the base of what knows a step mode"),
    ("check_manual_grad", "every surrogate is tested against autograd of its primitive; see tests/surrogate"),
    ("check_cuda_grad", "backends are compared with the eager loop by `make fuzz`"),
    ("plot_surrogate_function", "evaluate surrogate(x) and its gradient on a grid, and draw them with matplotlib"),
    (
        "STDPLearner",
        "learning.STDPLearner(step_mode, synapse, sn, tau_pre, tau_post) is the rule for a layer and a neuron",
    ),
    ("*SparseLinear", "layer.Linear is dense, on all devices"),
    ("sparse_mm_dense*", "torch.sparse multiplies sparse matrices"),
    ("*Recipe", _RECIPE),
    ("TD*", _RECIPE),
    ("SpikeZIP*", _RECIPE),
    ("Qwen2*", _RECIPE),
    ("*Hook", _RECIPE),
    ("simulator", "ann2snn.Converter(dataloader)(net) gives a network that runs like any other"),
    ("ActivationAwareIFNode", "neuron.IFNode(v_threshold=...) takes a tensor, as [C, 1, 1] for channels"),
    ("*TuningCurveEncoder", "encoding.PopSpikeEncoderDeterministic and PopSpikeEncoderRandom code by populations"),
    ("IntervalEncoder", "encoding.PeriodicEncoder(spike) repeats a train that has a spike each T_in steps"),
    (
        "*_step",
        "functional.get_state and functional.set_state hand a state around; most neurons have a step here",
    ),
    ("*hard_reset*", _KERNELS),
    ("*soft_reset*", _KERNELS),
    ("*bptt*", _KERNELS),
    ("*_template", _KERNELS),
    ("LIF*Step", _KERNELS),
    ("IF*Step", _KERNELS),
    ("*CUDACode", _KERNELS),
    ("FlexSN", _KERNELS),
)
"""What to use in place of single names, by patterns; the first that fits."""


def area_of(name: str) -> str | None:
    """The part that is not here to which a module belongs.

    >>> area_of("activation_based.auto_cuda.cfunction"), area_of("activation_based.neuron")
    ('activation_based.auto_cuda', None)
    """
    return innermost(name, AREAS)


def reason(fullname: str, area: str | None, home: str = "") -> str:
    """Why there is no such thing, and what to do."""
    if area is not None:
        return f"{fullname} is not here: {AREAS[area]}."
    last = fullname.rpartition(".")[2]
    for pattern, words in INSTEAD:
        if fnmatchcase(last, pattern):
            return f"{fullname} is not here: {words}."
    where = f"{home} has no counterpart" if home else "there is no counterpart"
    return f"{fullname} is not here: {where}. docs/guide/names.md lists what there is."


class _Absent(ABCMeta):  # which may stand beside `ABC`
    """The class of what is not here: it may be imported, and derived from, but not used."""

    _why: str

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(cls._why)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{cls.__name__} has no attribute {name}; {cls._why}")
        return absent(name, cls._why)

    def __instancecheck__(cls, instance: object) -> bool:
        return False

    def __repr__(cls) -> str:
        return f"<not here: {cls.__name__}>"


def absent(name: str, why: str) -> Any:
    """A name that can be imported. Calling it raises NotImplementedError with `why`; nothing is an instance of it.

    >>> kernel = absent("kernel", "kernel is not here: use step(p, s, x).")
    >>> kernel(1)
    Traceback (most recent call last):
    NotImplementedError: kernel is not here: use step(p, s, x).
    """
    if name.endswith("_AVAILABLE"):
        return False
    return _Absent(name, (), {"_why": why, "__module__": __name__, "__doc__": why})
