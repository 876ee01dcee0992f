"""Spikes packed into bits: eight to the byte, counted and cut without unpacking, compressed on demand."""

from ..errors import explain_absent as _explain_absent
from .bits import *
from .flat import *
from .gpu import vouched as vouched
from .packed import *

_explain_absent(__name__)
