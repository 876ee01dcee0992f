"""Energy from additions, multiply-accumulates and bytes, at a price each."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import nn

from ...errors import check_switches
from .counter import EnergyModelInfo, call_model
from .modes import DispatchCounterMode, ModuleCounterMode
from .spikes import ACCounter, MACCounter, SynOpCounter
from .traffic import NeuromorphicMemoryAccessCounter

__all__ = [
    "SimpleEnergyConfig",
    "SimpleEnergyCostConfig",
    "SimpleEnergyProfiler",
    "SimpleEnergyReport",
    "check_prices",
    "estimate_simple_energy",
]


def check_prices(config: Any, names: tuple[str, ...]) -> None:
    """A ValueError for a price that is no finite number of 0 or more."""
    for name in names:
        price = getattr(config, name)
        if not (math.isfinite(price) and price >= 0):
            raise ValueError(
                f"{type(config).__name__}: {name} must be finite and at least 0, but got {price!r}. Give pJ."
            )


@dataclass
class SimpleEnergyCostConfig:
    """Prices in pJ: of a multiply-accumulate, an addition, and a byte that is read or written.

    Those of arithmetic are for 45 nm by Horowitz, *Computing's energy problem* (ISSCC 2014), as works on spiking
    networks use them.
    """

    e_mac_pj: float = 4.6
    e_ac_pj: float = 0.9
    e_memory_pj_per_byte: float = 24.96

    def __post_init__(self) -> None:
        check_prices(self, tuple(held.name for held in fields(self)))

    @classmethod
    def fp32(cls) -> Self:
        """Floating-point numbers of 32 bits."""
        return cls()

    @classmethod
    def fp16(cls) -> Self:
        """Floating-point numbers of 16 bits."""
        return cls(1.5, 0.4)

    @classmethod
    def int8(cls) -> Self:
        """Integers of 8 bits."""
        return cls(0.23, 0.03)


@dataclass
class SimpleEnergyConfig:
    """What is counted at which prices; `strict`: whether a network of which nothing is known is an error."""

    strict: bool = False
    cost_config: SimpleEnergyCostConfig = field(default_factory=SimpleEnergyCostConfig)
    extra_ignore_modules: list[type[nn.Module]] | None = None

    def __post_init__(self) -> None:
        check_switches("SimpleEnergyConfig", strict=self.strict)


@dataclass
class SimpleEnergyReport:
    """Energies in pJ, and the counts that they come from."""

    energy_total_pj: float
    energy_compute_pj: float
    energy_mac_pj: float
    energy_ac_pj: float
    energy_memory_pj: float
    breakdown_pj: dict[str, float]
    counts: dict[str, int]
    warnings: list[str]
    model_info: EnergyModelInfo
    config: SimpleEnergyConfig


MODEL = EnergyModelInfo(
    "simple_horowitz_step_composite_v1",
    "spikingjelly-defined",
    ("https://doi.org/10.1109/ISSCC.2014.6757323", "https://openreview.net/pdf?id=SzwU2XrXIS"),
    45,
    "prices as configured; bytes of the dtypes that run",
    "additions and multiply-accumulates that run, and traffic of parameters and states",
)
NOTHING = "SimpleEnergyProfiler: no operation of the network has a rule, so that all energies are 0."


class SimpleEnergyProfiler:
    """A context that counts what a network does, and prices it: `bind_model(net)`, then run inside.

    `monitor.energy` prices by layer beside a twin without spikes, and counts no bias, pool or normalisation.
    """

    def __init__(self, *, config: SimpleEnergyConfig | None = None) -> None:
        self.config = copy.deepcopy(config or SimpleEnergyConfig())
        ignored = self.config.extra_ignore_modules
        self.mac_counter = MACCounter(extra_ignore_modules=ignored)
        self.ac_counter = ACCounter(extra_ignore_modules=ignored)
        self.synop_counter = SynOpCounter(extra_ignore_modules=ignored)
        self.memory_counter = NeuromorphicMemoryAccessCounter(extra_ignore_modules=ignored)
        self._modules: ModuleCounterMode | None = None
        self._running = ExitStack()

    def bind_model(self, model: nn.Module) -> None:
        """The network whose parameters and states are watched."""
        if self._modules is not None and self._modules.active:
            raise RuntimeError("SimpleEnergyProfiler: bind_model cannot change the network while it is counting.")
        self._modules = ModuleCounterMode([self.memory_counter], model=model)

    def __enter__(self) -> Self:
        if self._modules is None:
            raise RuntimeError("SimpleEnergyProfiler: there is no network yet. Call bind_model(net) first.")
        operations = (self.mac_counter, self.ac_counter, self.synop_counter)
        for counter in (*operations, self.memory_counter):
            counter.reset()
        with ExitStack() as stack:
            stack.enter_context(self._modules)
            stack.enter_context(DispatchCounterMode(operations))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *args: Any) -> None:
        self._running.__exit__(*args)

    def get_report(self) -> SimpleEnergyReport:
        """The energies of what has run."""
        prices = self.config.cost_config
        operations = {"mac": self.mac_counter, "ac": self.ac_counter, "synop": self.synop_counter}
        known = any(counter.get_counts().get("Global") for counter in operations.values())
        moved = {name: self.memory_counter.records["Global"][name] for name in self.memory_counter.METRICS}
        if not known and not self.memory_counter.records.keys() - {"Global"}:
            if self.config.strict:
                raise RuntimeError(f"{NOTHING} Count with strict=False to have them.")
            warnings = [NOTHING]
        else:
            warnings = []
        counts = {name: counter.get_total() for name, counter in operations.items()} | moved
        counts["memory_access_bytes"] = sum(moved.values())
        weight, bias, read, written = moved.values()
        energy = {
            "mac_pj": counts["mac"] * prices.e_mac_pj,
            "ac_pj": counts["ac"] * prices.e_ac_pj,
            "parameter_memory_pj": (weight + bias) * prices.e_memory_pj_per_byte,
            "neuron_state_memory_pj": (read + written) * prices.e_memory_pj_per_byte,
        }
        energy["memory_pj"] = energy["parameter_memory_pj"] + energy["neuron_state_memory_pj"]
        compute = energy["mac_pj"] + energy["ac_pj"]
        return SimpleEnergyReport(
            compute + energy["memory_pj"],
            compute,
            energy["mac_pj"],
            energy["ac_pj"],
            energy["memory_pj"],
            energy,
            counts,
            warnings,
            MODEL,
            copy.deepcopy(self.config),
        )

    def get_total(self) -> float:
        """The whole energy in pJ."""
        return self.get_report().energy_total_pj

    def get_counts(self) -> dict[str, int]:
        """The counts of the report."""
        return self.get_report().counts


def estimate_simple_energy(
    model: nn.Module, inputs: Any, *, config: SimpleEnergyConfig | None = None
) -> SimpleEnergyReport:
    """The energies of one run of a network, without gradients.

    - `inputs`: its input, a tuple or list of those by place, or a dict of those by name.

    >>> report = estimate_simple_energy(nn.Linear(2, 3), torch.tensor([[1.0, 0.0]]))
    >>> report.counts["synop"], report.energy_ac_pj  # one spike to three, at 0.9 pJ
    (3, 2.7)
    """
    profiler = SimpleEnergyProfiler(config=config)
    profiler.bind_model(model)
    with profiler, torch.no_grad():
        call_model(model, inputs)
    return profiler.get_report()
