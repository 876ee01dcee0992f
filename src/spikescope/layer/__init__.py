"""Layers and containers that know time."""

from ..errors import explain_absent as _explain_absent
from .attention import *
from .container import *
from .dropconnect import *
from .dropout import *
from .norm import *
from .online import *
from .self_attention import *
from .standardization import *
from .stateless import *
from .stateless import registry as registry
from .synapse import *
from .temporal_norm import *

_explain_absent(__name__)
