"""Spiking neurons."""

from .adaptive import *
from .core import *
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
