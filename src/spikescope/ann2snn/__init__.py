"""From a trained network of ReLUs to one of spikes: rates in the place of activations."""

from ..errors import explain_absent as _explain_absent
from .accuracy import *
from .compare import *
from .converter import *
from .modules import *

_explain_absent(__name__)
