"""From one pure step to a run over time, on every backend."""

from . import batching as batching
from .eager import Sequence, Step
from .layout import TAPS, support_tap
from .run import Definition, Plan, backends, plan, run_sequence, run_single

__all__ = [
    "TAPS",
    "Definition",
    "Plan",
    "Sequence",
    "Step",
    "backends",
    "plan",
    "run_sequence",
    "run_single",
    "support_tap",
]
