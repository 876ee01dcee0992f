"""From a trained network of ReLUs to one of spikes: rates in the place of activations."""

from .accuracy import *
from .compare import *
from .converter import *
from .modules import *
