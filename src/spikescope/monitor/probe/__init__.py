"""How values come in: from the socket of a module or the kernel of a neuron to whoever wants them."""

from .single import Probe as Probe
from .single import ProbeReport as ProbeReport
