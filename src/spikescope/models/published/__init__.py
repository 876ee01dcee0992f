"""Weights that papers published with their own code: read by key maps, and computed as that code computes them."""

from .layouts import LAYOUTS as LAYOUTS
from .load import LoadedWeights as LoadedWeights
from .load import load_published as load_published

__all__ = ["LAYOUTS", "LoadedWeights", "load_published"]
