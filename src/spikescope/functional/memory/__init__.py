"""Training in less memory: what autograd keeps, as bits or computed again, and segments that keep nothing."""

from .fit import MemoryPlan as MemoryPlan
from .fit import fit_memory as fit_memory
from .fit import unfit_memory as unfit_memory
from .keeping import lean as lean

__all__ = ["MemoryPlan", "fit_memory", "lean", "unfit_memory"]
