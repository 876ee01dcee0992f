"""Surrogate functions: the spike, and the gradient used in place of its own."""

from ..errors import explain_absent as _explain_absent
from .core import *
from .core import registry as registry
from .functions import *
from .piecewise import *
from .smooth import *
from .special import *

_explain_absent(__name__)
