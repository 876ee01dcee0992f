"""Step mode and state: what a module of a spiking network has beyond `nn.Module`, and nothing else."""

from ..errors import explain_absent as _explain_absent
from .initial_state import recomputing
from .module import INPUT_NAMES, MemoryModule, MultiStepModule, SingleStepModule, StepModule, backends_of, input_of
from .module import kind_of as kind_of
from .module import moved as moved

__all__ = [
    "INPUT_NAMES",
    "MemoryModule",
    "MultiStepModule",
    "SingleStepModule",
    "StepModule",
    "backends_of",
    "input_of",
    "recomputing",
]

_explain_absent(__name__)
