"""What a network takes when it runs: time, memory, spikes and energy, in all and by kind of layer."""

from ..errors import explain_absent as _explain_absent
from .preparing import *
from .profile import *

_explain_absent(__name__)
