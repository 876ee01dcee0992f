"""From one pure step to a run over time, on every backend."""

from . import batching as batching
from .eager import Step
from .run import Definition, Plan, backends, plan, run_sequence, run_single

__all__ = ["Definition", "Plan", "Step", "backends", "plan", "run_sequence", "run_single"]
