"""One page that shows what went on inside a network, and the document that it is drawn from."""

from ..errors import explain_absent as _explain_absent
from .report import *

_explain_absent(__name__)
