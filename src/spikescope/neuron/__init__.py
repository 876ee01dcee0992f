"""Spiking neurons."""

from ..errors import explain_absent as _explain_absent
from .adaptive import *
from .core import *
from .core import Neuron
from .core import registry as registry
from .gated import *
from .integrate import *
from .multilevel import *
from .noisy import *
from .nonlinear import *
from .online import *
from .parallel import *
from .readout import *
from .resonate import *
from .synaptic import *

BaseNode = Neuron
"""The name of `Neuron` in SpikingJelly, for `isinstance(module, neuron.BaseNode)`."""

_explain_absent(__name__)
