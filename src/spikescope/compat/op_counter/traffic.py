"""What a neuromorphic chip would read and write: weights that spikes reach, biases, and the states of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...base import MemoryModule
from ...neuron import BaseNode
from .counter import ModuleCounter, is_binary_tensor
from .memory import size_of
from .spikes import additions_of_convolution

__all__ = ["SYNAPTIC_MODULES", "NeuromorphicMemoryAccessCounter", "first_input", "steps_of", "uses_of_weights"]

SYNAPTIC_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def first_input(args: Any, kwargs: Any) -> Tensor:
    """The first tensor that a module was given."""
    return next(held for held in (*args, *kwargs.values()) if isinstance(held, Tensor))


def steps_of(module: nn.Module, x: Tensor) -> int:
    """The time steps of a call."""
    return len(x) if getattr(module, "step_mode", "s") == "m" else 1


def uses_of_weights(module: Any, x: Tensor, out: Tensor) -> int:
    """How often a weight is used: with spikes once for each that reaches it, else once for each product."""
    if not is_binary_tensor(x):
        return out.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return int(x.count_nonzero()) * module.out_features
    x = x.flatten(0, -module.weight.ndim)  # to one axis of samples
    padding = module.padding
    if isinstance(padding, str) or module.padding_mode != "zeros":
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x, padding = F.pad(x.float(), module._reversed_padding_repeated_twice, mode), (0,) * len(module.stride)
    none = (0,) * len(module.stride)
    return additions_of_convolution(
        x, module.weight, module.stride, padding, module.dilation, False, none, module.groups
    )


class NeuromorphicMemoryAccessCounter(ModuleCounter):
    """Counts bytes of weights and biases that linear and convolution layers use, and of states of neurons.

    A weight is read each time that it is used: for an input of spikes once for each spike that reaches it. A state is
    read and written once a step. The sums stand by `weight_read_bytes`, `bias_read_bytes`, `neuron_state_read_bytes`
    and `neuron_state_write_bytes`.

    - `extra_ignore_modules`: classes of modules that are not counted.

    >>> from spikescope.compat.op_counter import ModuleCounterMode
    >>> net = nn.Sequential(nn.Linear(3, 4), spikescope.neuron.IFNode())
    >>> counter = NeuromorphicMemoryAccessCounter()
    >>> with ModuleCounterMode([counter], model=net):
    ...     y = net(torch.tensor([[1.0, 0.0, 1.0]]))
    >>> counter.get_counts()["Global"]  # of 2 x 4 weights, 4 biases, 4 potentials
    {'weight_read_bytes': 32, 'bias_read_bytes': 16, 'neuron_state_read_bytes': 16, 'neuron_state_write_bytes': 16}
    """

    METRICS = ("weight_read_bytes", "bias_read_bytes", "neuron_state_read_bytes", "neuron_state_write_bytes")

    def __init__(self, *, extra_ignore_modules: Sequence[type[nn.Module]] | None = None) -> None:
        super().__init__()
        self.ignore_modules = list(extra_ignore_modules or ())
        self.rules = {("forward", kind): self._of_synapses for kind in SYNAPTIC_MODULES}
        self.rules["forward", BaseNode] = self._of_neuron
        self._found = [0, 0, 0, 0]

    def _of_synapses(self, module: Any, args: Any, kwargs: Any, out: Tensor) -> int:
        uses = uses_of_weights(module, first_input(args, kwargs), out)
        biases = 0 if module.bias is None else out.numel() * module.bias.element_size()
        self._found = [uses * module.weight.element_size(), biases, 0, 0]
        return sum(self._found)

    def _of_neuron(self, module: MemoryModule, args: Any, kwargs: Any, out: Any) -> int:
        states = [state for _, state in module.named_memories()]
        moved = size_of(states) * steps_of(module, first_input(args, kwargs))
        self._found = [0, 0, moved, moved]
        return 2 * moved

    def record(self, scope: str, func: Any, value: int) -> None:
        """Add to the four sums of a scope."""
        for name, found in zip(self.METRICS, self._found, strict=True):
            self.records[scope][name] += found
