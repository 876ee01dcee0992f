"""Counters of operations, memory and energy, as SpikingJelly 2.0 names them."""

from .counter import BaseCounter, EnergyModelInfo, ModuleCounter, call_model, is_binary_tensor
from .flops import FlopCounter
from .lemaire import (
    LemaireEnergyConfig,
    LemaireEnergyCostConfig,
    LemaireEnergyProfiler,
    LemaireEnergyReport,
    estimate_lemaire_energy,
)
from .memory import MemoryAccessCounter
from .modes import ActiveModuleTracker, DispatchCounterMode, FunctionCounterMode, ModuleCounterMode
from .simple import (
    SimpleEnergyConfig,
    SimpleEnergyCostConfig,
    SimpleEnergyProfiler,
    SimpleEnergyReport,
    estimate_simple_energy,
)
from .spikes import ACCounter, MACCounter, SynOpCounter
from .traffic import NeuromorphicMemoryAccessCounter

__all__ = [
    "ACCounter",
    "ActiveModuleTracker",
    "BaseCounter",
    "DispatchCounterMode",
    "EnergyModelInfo",
    "FlopCounter",
    "FunctionCounterMode",
    "LemaireEnergyConfig",
    "LemaireEnergyCostConfig",
    "LemaireEnergyProfiler",
    "LemaireEnergyReport",
    "MACCounter",
    "MemoryAccessCounter",
    "ModuleCounter",
    "ModuleCounterMode",
    "NeuromorphicMemoryAccessCounter",
    "SimpleEnergyConfig",
    "SimpleEnergyCostConfig",
    "SimpleEnergyProfiler",
    "SimpleEnergyReport",
    "SynOpCounter",
    "call_model",
    "estimate_lemaire_energy",
    "estimate_simple_energy",
    "is_binary_tensor",
]
