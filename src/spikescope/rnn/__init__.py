"""Recurrent cells and layers whose gates spike."""

from ..errors import explain_absent as _explain_absent
from .cells import *
from .layers import *

_explain_absent(__name__)
