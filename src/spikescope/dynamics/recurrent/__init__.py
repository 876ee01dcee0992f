"""Recurrent cells: what gates make of two products and a state, as a kernel a step and one node a sequence."""

from .equations import Cell
from .gates import Function, Gates, Joined
from .run import loop, run_kernels

__all__ = ["Cell", "Function", "Gates", "Joined", "loop", "run_kernels"]
