"""From one pure step to a run over time, on every backend."""

from . import batching as batching
from .eager import Sequence, Step
from .layout import TAPS, support_tap
from .normed import Norm, run_normed
from .pooling import pool, pools
from .prepared import Prepared
from .run import WHOLE_TAPS, Definition, Plan, backends, deferred_taps, plan, prepare, run_sequence, run_single
from .taps import eager_taps

__all__ = [
    "TAPS",
    "WHOLE_TAPS",
    "Definition",
    "Norm",
    "Plan",
    "Prepared",
    "Sequence",
    "Step",
    "backends",
    "deferred_taps",
    "eager_taps",
    "plan",
    "pool",
    "pools",
    "prepare",
    "run_normed",
    "run_sequence",
    "run_single",
    "support_tap",
]
