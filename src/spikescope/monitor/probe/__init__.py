"""How a value comes in: from a socket of a module or the kernel of a neuron to whoever wants it."""

from .single import Probe as Probe
from .single import ProbeReport as ProbeReport
