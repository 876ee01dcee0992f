"""From one pure step to a run over time, on every backend."""

from . import batching as batching
from .eager import Sequence, Step
from .eager_taps import eager_taps
from .gain import multiplied
from .layout import TAPS, support_tap
from .norm.batch import normalized
from .norm.kernels import Norm
from .norm.pair import NormedRun, prepare_normed, run_normed
from .pool.windows import Windows, has_pool, pooled
from .prepared import Prepared
from .run import (
    WHOLE_TAPS,
    Definition,
    Plan,
    backends,
    deferred_taps,
    plan,
    prepare,
    run_sequence,
    run_single,
    run_single_eagerly,
)

__all__ = [
    "TAPS",
    "WHOLE_TAPS",
    "Definition",
    "Norm",
    "NormedRun",
    "Plan",
    "Prepared",
    "Sequence",
    "Step",
    "Windows",
    "backends",
    "deferred_taps",
    "eager_taps",
    "has_pool",
    "multiplied",
    "normalized",
    "plan",
    "pooled",
    "prepare",
    "prepare_normed",
    "run_normed",
    "run_sequence",
    "run_single",
    "run_single_eagerly",
    "support_tap",
]
