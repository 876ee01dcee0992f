"""Spiking neurons."""

from ..errors import explain_absent as _explain_absent
from .adaptive import *
from .base import *
from .base import registry as registry
from .core import *
from .gated import *
from .integrate import *
from .integrate import IntegrateAndFire, Membrane
from .multilevel import *
from .noisy import *
from .nonlinear import *
from .online import *
from .parallel import *
from .readout import *
from .readout import ReadOut
from .resonate import *
from .stages import *
from .synaptic import *

BaseNode = SimpleBaseNode = IntegrateAndFire
"""SpikingJelly's names for the base of the neurons that charge, fire and reset, for subclasses and `isinstance`."""

NonSpikingBaseNode = ReadOut

_explain_absent(__name__)
