"""Surrogate functions: the spike, and the gradient used in place of its own."""

from .core import *
from .core import registry as registry
from .piecewise import *
from .smooth import *
from .special import *
