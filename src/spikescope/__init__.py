"""Spikescope: train spiking neural networks in PyTorch, fast, and see inside them while they run."""

__version__ = "0.1.0"

from . import base, functional, layer, neuron, surrogate
