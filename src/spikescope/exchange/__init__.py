"""Networks to and from the Neuromorphic Intermediate Representation (NIR), the exchange format of the field.

Pedersen et al., *Neuromorphic intermediate representation: a unified instruction set for interoperable brain-inspired
computing* (Nature Communications 2024). Needs the package nir: `pip install 'spikescope[nir]'`.
"""

from ..errors import explain_absent as _explain_absent
from .network import *
from .reading import *
from .storage import *
from .writing import *

_explain_absent(__name__)
