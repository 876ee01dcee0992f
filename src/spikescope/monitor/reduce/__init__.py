"""Reducers: what to keep of a signal that arrives in chunks, with one law for all: any cut gives the same."""

from typing import Any

import torch

from .core import Along, Reducer, Rule, nbytes, registry, rules
from .count import Count, Rate, SaturatedShare, SilentShare
from .histogram import Bins, Histogram, LogBins, LogHistogram
from .quantile import Quantile
from .raw import Packed, Raw
from .series import GradientNorm, RateOverTime
from .support import SupportShare
from .trains import FirstSpike, FirstSpikeLatency, InterSpikeInterval, Intervals, IsiCv
from .values import Extent, FoundNonFinite, MinMax, Moments, MomentValues, NonFinite, Norm
from .variability import Fano, Synchrony
from .work import SynapticOperations, SynOps, fan_out

__all__ = [
    "Along",
    "Bins",
    "Count",
    "Extent",
    "Fano",
    "FirstSpike",
    "FirstSpikeLatency",
    "FoundNonFinite",
    "GradientNorm",
    "Histogram",
    "InterSpikeInterval",
    "Intervals",
    "IsiCv",
    "LogBins",
    "LogHistogram",
    "MinMax",
    "MomentValues",
    "Moments",
    "NonFinite",
    "Norm",
    "Packed",
    "Quantile",
    "Rate",
    "RateOverTime",
    "Raw",
    "Reducer",
    "Rule",
    "SaturatedShare",
    "SilentShare",
    "SupportShare",
    "SynOps",
    "SynapticOperations",
    "Synchrony",
    "fan_out",
    "nbytes",
    "registry",
    "rules",
]

_RESULTS: list[Any] = [Bins, Extent, FirstSpike, FoundNonFinite, Intervals, LogBins, MomentValues, SynapticOperations]
torch.serialization.add_safe_globals(_RESULTS)  # what was saved of them is read by `torch.load` as it is
