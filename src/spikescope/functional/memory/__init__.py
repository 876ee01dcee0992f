"""Training in less memory: what autograd keeps, as bits or computed again, and segments that keep nothing; and a heap
that a process keeps, for less time.
"""

from ...toolchain.heap import keep_heap as keep_heap
from .fit import MemoryPlan as MemoryPlan
from .fit import fit_memory as fit_memory
from .fit import unfit_memory as unfit_memory
from .saved_tensors import lean as lean

__all__ = ["MemoryPlan", "fit_memory", "keep_heap", "lean", "unfit_memory"]
