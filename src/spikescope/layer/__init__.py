"""Layers and containers that know time."""

from .container import *
from .dropout import *
from .norm import *
from .online import *
from .standardization import *
from .stateless import *
from .stateless import registry as registry
from .synapse import *
from .temporal_norm import *
