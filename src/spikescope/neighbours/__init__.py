"""Training loops of other libraries: where the state of a network begins anew, and what is seen on the way.

`Classifier` makes of a network a module that begins every call from rest, which is all that most loops need.
`Companion` is for loops that want rates and findings too, or call a network step by step; the callbacks in
`neighbours.lightning`, `neighbours.accelerate` and `neighbours.skorch` are made of it, and need their packages.
"""

from ..errors import explain_absent as _explain_absent
from .classifier import *
from .companion import *

_explain_absent(__name__)
