"""Neurons of SpikingJelly 2.0 that mix neurons, steps or samples, or pass no gradient: no kernel fits them."""

from .few_spike import *
from .intra_layer import ILCBaseNode, ILCCUBALIFNode, ILCIFNode, ILCLIFNode
from .noisy import *
from .normalized import *
from .represented import *
from .signed import STBIFNode
