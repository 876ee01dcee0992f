"""The libraries that monitors know: nothing is imported of them, their classes are known by name."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ...sockets import Signal
from .adapter import Adapter

__all__ = ["LIBRARIES"]

ANY_NUMBER = 1 << 31
"""More spikes than come in a step, of neurons that may give any number."""


class SnnTorch(Adapter):
    """Steps that give (spikes, ..., mem); with `init_hidden` the spikes alone, and the state is kept."""

    library = "snntorch"
    classes = ("SpikingNeuron", "LeakyParallel")
    reset = "snntorch.utils.reset(net)"

    _PARALLEL = ("LeakyParallel", "StateLeaky", "AssociativeLeaky")
    _STATES = ("spk", "syn", "syn_exc", "syn_inh", "mem")

    def spikes(self, module: Any) -> str | None:
        silent = _is_a(module, "StateLeaky") and not module.output
        return None if silent else "0"

    def potential(self, module: Any) -> Signal | str:
        if _is_a(module, "LeakyParallel", "AssociativeLeaky"):
            return "it gives spikes alone"
        if _is_a(module, "StateLeaky"):
            return Signal("output", "-1")
        given = module.output or not module.init_hidden
        return Signal("output", "-1") if given else Signal("after", "mem")

    def threshold(self, module: nn.Module) -> str | None:
        return "threshold"

    def in_sequences(self, module: nn.Module) -> bool:
        return _is_a(module, *self._PARALLEL)

    def held(self, module: nn.Module) -> Any:
        return {name: getattr(module, name) for name in self._STATES if isinstance(getattr(module, name, None), Tensor)}

    def keeps(self, module: nn.Module) -> bool:
        return bool(getattr(module, "init_hidden", False))

    def binary(self, module: Any) -> bool:
        return not _is_a(module, "AssociativeLeaky") and bool((module.graded_spikes_factor == 1).all())


class Norse(Adapter):
    """Cells and sequences `[T, N, *]` that give (spikes, state) and are passed a state, or None at the beginning."""

    library = "norse"
    classes = ("SNNCell", "SNNRecurrentCell", "SNN", "SNNRecurrent", "CobaLIFCell", "LIFCorrelation", "LILinearCell")
    reset = "state = None  # before each sequence"

    _READOUTS = ("LICell", "LI", "LIBoxCell", "LILinearCell")

    def spikes(self, module: nn.Module) -> str | None:
        return None if _is_a(module, *self._READOUTS) else "0"

    def potential(self, module: Any) -> Signal | str:
        if self.in_sequences(module) and not module.record_states:
            if self.spikes(module) is None:
                return Signal("output", "0")
            return "of a sequence it keeps the last state alone; make it with record_states=True"
        name = type(module).__name__
        inside = "lif_adex." if "AdExRefrac" in name else "lif." if "Refrac" in name else ""
        return Signal("output", f"1.{inside}v")

    def threshold(self, module: nn.Module) -> str | None:
        if self.spikes(module) is None:
            return None
        return "p.lif.v_th" if hasattr(getattr(module, "p", None), "lif") else "p.v_th"

    def in_sequences(self, module: nn.Module) -> bool:
        return _is_a(module, "SNN", "SNNRecurrent")

    def binary(self, module: nn.Module) -> bool:
        return True


class Sinabs(Adapter):
    """Sequences `[N, T, *]`, or `[N * T, *]` where they are squeezed, with a state that the layer keeps."""

    library = "sinabs"
    classes = ("StatefulLayer",)
    reset = "sinabs.utils.reset_states(net)"

    def spikes(self, module: Any) -> str | None:
        return "0" if module.does_spike else None

    def potential(self, module: Any) -> Signal | str:
        if not module.record_states:
            return "of a sequence it keeps the last state alone; make it with record_states=True"
        return Signal("after", "recordings.v_mem")

    def threshold(self, module: Any) -> str | None:
        return "spike_threshold" if module.does_spike else None

    def in_sequences(self, module: nn.Module) -> bool:
        return True

    def axes(self, module: Any) -> tuple[int, ...]:
        squeezed = _is_a(module, "SqueezeMixin")
        return (max(1, module.batch_size) * max(1, module.num_timesteps),) if squeezed else (1, 1)

    def time_first(self, module: Any, value: Tensor, kind: str) -> Tensor:
        if _is_a(module, "SqueezeMixin") and kind != "after":
            value = value.unflatten(0, (module.batch_size, module.num_timesteps))
        return value.transpose(0, 1)

    def held(self, module: nn.Module) -> Any:
        return dict(module.named_buffers(recurse=False))

    def binary(self, module: Any) -> bool:
        return getattr(module.spike_fn, "__name__", "") == "SingleSpike"

    def most(self, module: Any) -> int:
        given = getattr(module, "spike_fn", None)
        if given is None or self.binary(module):
            return 1
        several = getattr(given, "__name__", type(given).__name__) in ("MultiSpike", "MaxSpike")
        limit = getattr(given, "max_num_spikes_per_bin", None)
        return 1 if not several else ANY_NUMBER if limit is None else max(1, int(limit))


class SpikingJelly(Adapter):
    """Steps or sequences `[T, N, *]` by `step_mode`, in old releases by the class; the neuron keeps its state."""

    library = "spikingjelly"
    classes: ClassVar[tuple[str, ...]] = (
        "BaseNode", "SimpleBaseNode", "NoisyBaseNode", "ILCBaseNode", "GatedLIFNode", "DSRIFNode", "DSRLIFNode", "PSN",
        "MaskedPSN", "SlidingPSN", "FewSpikeNode", "STBIFNode", "ActivationAwareIFNode", "FlexSN",
    )  # fmt: skip
    reset = "functional.reset_net(net)"

    _LEVELS = ("LIAFNode", "ILIFNode", "TernaryIFNode", "TernaryLIFNode", "FewSpikeNode", "STBIFNode", "DSRIFNode",
               "DSRLIFNode", "ActivationAwareIFNode")  # fmt: skip

    def potential(self, module: Any) -> Signal | str:
        if self.in_sequences(module):
            if getattr(module, "store_v_seq", False) or _began(module, "MultiStep"):
                return Signal("after", "v_seq")
            return "of a sequence it keeps the last potential alone; set store_v_seq = True"
        return Signal("after", "v") if hasattr(module, "v") else "it has no potential v"

    def threshold(self, module: nn.Module) -> str | None:
        return "v_threshold" if hasattr(module, "v_threshold") else None

    def in_sequences(self, module: nn.Module) -> bool:
        return getattr(module, "step_mode", None) == "m" or _began(module, "MultiStep")

    def held(self, module: nn.Module) -> Any:
        found = getattr(module, "_memories", None)
        return {"v": getattr(module, "v", None)} if found is None else found  # before 0.0.0.0.12 an attribute

    def binary(self, module: nn.Module) -> bool:
        return not _is_a(module, *self._LEVELS)

    def rest(self, module: Any) -> None:
        if hasattr(module, "reset"):
            module.reset()


class SpikingJellyLayers(SpikingJelly):
    """Layers that take steps or sequences; what read-outs give has no time."""

    classes = ("StepModule", "SeqToANNContainer", "MultiStep*")
    neurons = False

    def in_sequences(self, module: nn.Module) -> bool:
        if any("NonSpiking" in base.__name__ for base in type(module).__mro__):
            return False
        return _is_a(module, "SeqToANNContainer") or super().in_sequences(module)

    def held(self, module: nn.Module) -> Any:
        return None


LIBRARIES: tuple[Adapter, ...] = (SnnTorch(), Norse(), Sinabs(), SpikingJelly(), SpikingJellyLayers())


def _is_a(module: nn.Module, *names: str) -> bool:
    """Whether a class of this name is among the bases."""
    return any(base.__name__ in names for base in type(module).__mro__)


def _began(module: nn.Module, start: str) -> bool:
    """Whether a class whose name begins so, and that is no mere mark, is among the bases."""
    return any(base.__name__.startswith(start) and base.__name__ != "MultiStepModule" for base in type(module).__mro__)
