"""Energy by the equations of Lemaire et al.: operations, addresses, and accesses whose price grows with the memory.

Lemaire et al., *An analytical estimation of spiking neural networks energy efficiency* (ICONIP 2022).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...errors import check_switches
from ...neuron import BaseNode, IFNode, LIFNode
from .counter import EnergyModelInfo, ModuleCounter, call_model, is_binary_tensor
from .modes import ModuleCounterMode
from .simple import check_prices
from .traffic import SYNAPTIC_MODULES, first_input, steps_of

__all__ = [
    "LemaireEnergyConfig",
    "LemaireEnergyCostConfig",
    "LemaireEnergyProfiler",
    "LemaireEnergyReport",
    "estimate_lemaire_energy",
]

WORD = 4
"""Bytes of an access; every number has 32 bits in this model."""

Points = tuple[tuple[float, float], ...]


@dataclass
class LemaireEnergyCostConfig:
    """Prices in pJ: of an addition, a multiplication, and an accessed byte of memories of four sizes in bytes.

    >>> LemaireEnergyCostConfig().memory_cost_pj(16384)  # between 2.5 pJ for 8 KiB and 5 pJ for 32 KiB
    3.3333333333333335
    """

    e_add_pj: float = 0.1
    e_mul_pj: float = 3.1
    memory_breakpoints: Points = ((0.0, 0.0), (8192.0, 2.5), (32768.0, 5.0), (1048576.0, 25.0))

    def __post_init__(self) -> None:
        check_prices(self, ("e_add_pj", "e_mul_pj"))
        points = self.memory_breakpoints
        fit = len(points) == 4 and all(
            isinstance(point, tuple) and len(point) == 2 and all(math.isfinite(x) and x >= 0 for x in point)
            for point in points
        )
        if not fit or any(before[0] >= after[0] for before, after in pairwise(points)):
            raise ValueError(
                "LemaireEnergyCostConfig: memory_breakpoints must be four pairs (bytes, pJ per byte) of finite numbers "
                f"of at least 0, with growing bytes, but got {points!r}."
            )

    def memory_cost_pj(self, memory: float) -> float:
        """The price of a byte of a memory of so many bytes: on the lines between the points, and as theirs outside."""
        first, last = self.memory_breakpoints[0], self.memory_breakpoints[-1]
        if memory >= last[0]:
            return last[1]
        for (x, y), (after, above) in pairwise(self.memory_breakpoints):
            if memory <= after:
                return y + (above - y) / (after - x) * (max(memory, first[0]) - x)
        raise AssertionError(memory)


@dataclass
class LemaireEnergyConfig:
    """`strict`: whether a module without equations is an error; `snn_fifo_capacity_elements`: room for spikes."""

    strict: bool = True
    cost_config: LemaireEnergyCostConfig = field(default_factory=LemaireEnergyCostConfig)
    snn_fifo_capacity_elements: int = 1000

    def __post_init__(self) -> None:
        check_switches("LemaireEnergyConfig", strict=self.strict)
        if self.snn_fifo_capacity_elements <= 0:
            raise ValueError(
                "LemaireEnergyConfig: snn_fifo_capacity_elements must be above 0, but got "
                f"{self.snn_fifo_capacity_elements!r}."
            )


@dataclass
class LemaireEnergyReport:
    """Energies in pJ, and the counts and sizes of memories that they come from."""

    total_pj: float
    breakdown_pj: dict[str, float]
    counts: dict[str, int]
    buffer_sizes_bytes: dict[str, int]
    warnings: list[str]
    model_info: EnergyModelInfo
    config: LemaireEnergyConfig


MODEL = EnergyModelInfo(
    "lemaire_2022_runtime_v1",
    "paper",
    ("https://arxiv.org/abs/2210.13107", "https://doi.org/10.1007/978-3-031-30105-6_48"),
    45,
    "integers and accesses of 32 bits",
    "linear and convolution layers, IF and LIF neurons, forwards",
)

MEMORIES = {
    "read_in_bytes": "inout",
    "write_out_bytes": "inout",
    "read_params_bytes": "params",
    "read_potential_bytes": "potential",
    "write_potential_bytes": "potential",
}
"""To each kind of access the memory that it goes to."""


class LemaireCounter(ModuleCounter):
    """Counts operations, addresses and accesses of the modules that the equations speak of."""

    NEURONS: ClassVar[tuple[type[nn.Module], ...]] = (IFNode, LIFNode)

    def __init__(self, config: LemaireEnergyConfig, model: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.spiking = any(isinstance(module, BaseNode) for module in model.modules())
        self.rules = {("forward", kind): self._of_synapses for kind in SYNAPTIC_MODULES}
        self.rules |= {("forward", kind): self._of_neuron for kind in self.NEURONS}
        self.warnings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.accesses: list[tuple[str, int, int]] = []  # kind, words, words that the memory holds

    def record(self, scope: str, func: Any, value: int) -> None:
        """Nothing: the sums are of the whole network."""

    def reset(self) -> None:
        """Forget all sums, and look again for what the equations do not speak of."""
        super().reset()
        self.warnings.clear()
        self.counts.clear()
        self.accesses.clear()
        for kind in self._unknown():
            words = f"LemaireEnergyProfiler: the equations do not speak of {kind.__name__}; what it takes is left out."
            if self.config.strict:
                raise ValueError(f"{words} Leave it out with LemaireEnergyConfig(strict=False).")
            self.warnings.append(words)
            warnings.warn(words, RuntimeWarning, stacklevel=4)

    def _unknown(self) -> dict[type[nn.Module], None]:
        modules = list(self.model.modules())
        nodes = [module for module in modules if isinstance(module, BaseNode)]
        inside = {child for node in nodes for child in node.modules()} - set(nodes)
        known = (*SYNAPTIC_MODULES, *self.NEURONS)
        leaves = (module for module in modules if isinstance(module, BaseNode) or not any(module.children()))
        return {type(module): None for module in leaves if module not in inside and not isinstance(module, known)}

    def _of_synapses(self, module: Any, args: Any, kwargs: Any, out: Tensor) -> int:
        x, counts, made = first_input(args, kwargs), self.counts, out.numel()
        linear = isinstance(module, nn.Linear)
        parameters = sum(held.numel() for held in module.parameters(recurse=False))
        biases = 0 if module.bias is None else made
        counts["ac"] += biases
        if not is_binary_tensor(x):
            products = made * module.weight[0].numel()
            counts["mac"] += products
            counts["acc_addr"] += x.numel() + made
            if not linear:
                counts["acc_addr"] += module.out_channels * math.prod(module.kernel_size)
            self._access("read_in_bytes", x.numel() if linear else products, x.numel())
            self._access("read_params_bytes", products + biases, parameters)
            if not self.spiking:
                self._access("write_out_bytes", made, made)
            return 0
        spikes = int(x.count_nonzero())
        if linear:
            additions = reached = spikes * module.out_features
        else:
            each = spikes * (module.out_channels // module.groups)
            steps = (math.ceil(size / by) for size, by in zip(module.kernel_size, module.stride, strict=True))
            additions, reached = each * math.prod(steps), each * math.prod(module.kernel_size)
            counts["mac_addr"] += 2 * spikes
        counts["ac"] += additions
        counts["synop"] += additions
        counts["acc_addr"] += reached
        self._access("read_in_bytes", spikes, self.config.snn_fifo_capacity_elements)
        self._access("read_params_bytes", reached + biases, parameters)
        for kind in ("read_potential_bytes", "write_potential_bytes"):
            self._access(kind, reached, made // max(1, steps_of(module, x)))
        return 0

    def _of_neuron(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> int:
        spikes = out[0] if isinstance(out, (tuple, list)) else out
        steps, fired = steps_of(module, first_input(args, kwargs)), int(spikes.count_nonzero())
        potentials = spikes.numel() // max(1, steps)
        for kind in ("read_potential_bytes", "write_potential_bytes"):
            self._access(kind, potentials * steps, potentials)
        self._access("write_out_bytes", fired, self.config.snn_fifo_capacity_elements)
        self.counts["ac"] += fired
        self.counts["mac"] += spikes.numel() if isinstance(module, LIFNode) else 0
        return 0

    def _access(self, kind: str, words: int, held: int) -> None:
        self.accesses.append((kind, words * WORD, held * WORD))


class LemaireEnergyProfiler:
    """A context that counts what a network does, and prices it: `bind_model(net)`, then run inside."""

    def __init__(self, *, config: LemaireEnergyConfig | None = None) -> None:
        self.config = copy.deepcopy(config or LemaireEnergyConfig())
        self._counter: LemaireCounter | None = None
        self._modules: ModuleCounterMode | None = None

    def bind_model(self, model: nn.Module) -> None:
        """The network that is watched."""
        if self._modules is not None and self._modules.active:
            raise RuntimeError("LemaireEnergyProfiler: bind_model cannot change the network while it is counting.")
        self._counter = LemaireCounter(self.config, model)
        self._modules = ModuleCounterMode([self._counter], model=model)

    def _bound(self) -> tuple[LemaireCounter, ModuleCounterMode]:
        if self._counter is None or self._modules is None:
            raise RuntimeError("LemaireEnergyProfiler: there is no network yet. Call bind_model(net) first.")
        return self._counter, self._modules

    def __enter__(self) -> Self:
        counter, modules = self._bound()
        counter.reset()
        modules.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._bound()[1].__exit__(*args)

    def get_report(self) -> LemaireEnergyReport:
        """The energies of what has run."""
        counter, _ = self._bound()
        prices = self.config.cost_config
        moved = dict.fromkeys(MEMORIES, 0)
        sizes = dict.fromkeys(MEMORIES.values(), 0)
        energy = dict.fromkeys(MEMORIES.values(), 0.0)
        for kind, size, held in counter.accesses:
            memory = MEMORIES[kind]
            moved[kind] += size
            sizes[memory] = max(sizes[memory], held)
            energy[memory] += size * prices.memory_cost_pj(held)
        own = counter.counts
        both = prices.e_mul_pj + prices.e_add_pj
        parts = {
            "ops_pj": own["ac"] * prices.e_add_pj + own["mac"] * both,
            "addressing_pj": own["acc_addr"] * prices.e_add_pj + own["mac_addr"] * both,
            "memory_pj": sum(energy.values()),
        }
        return LemaireEnergyReport(
            sum(parts.values()),
            parts | {f"{memory}_pj": held for memory, held in energy.items()},
            {name: own[name] for name in ("synop", "mac", "ac")}
            | moved
            | {name: own[name] for name in ("acc_addr", "mac_addr")},
            {f"{memory}_buffer_bytes": held for memory, held in sizes.items()},
            list(counter.warnings),
            MODEL,
            copy.deepcopy(self.config),
        )


def estimate_lemaire_energy(
    model: nn.Module, inputs: Any, *, config: LemaireEnergyConfig | None = None
) -> LemaireEnergyReport:
    """The energies of one run of a network, without gradients.

    - `inputs`: its input, a tuple or list of those by place, or a dict of those by name.

    >>> report = estimate_lemaire_energy(nn.Linear(2, 3), torch.tensor([[1.0, 0.0]]))
    >>> report.counts["ac"], report.breakdown_pj["ops_pj"]  # one spike to three, and three biases, at 0.1 pJ
    (6, 0.6000000000000001)
    """
    profiler = LemaireEnergyProfiler(config=config)
    profiler.bind_model(model)
    with profiler, torch.no_grad():
        call_model(model, inputs)
    return profiler.get_report()
