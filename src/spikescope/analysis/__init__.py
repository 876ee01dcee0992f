"""What trains of spikes say, by the definitions of Elephant and pynapple; and what a network costs."""

from ..errors import explain_absent as _explain_absent
from .compare import *
from .comparison import *
from .correlation import *
from .distance import *
from .formulas import *
from .intervals import *
from .pairs import *
from .rates import *
from .registry import *
from .representation import *
from .tuning import *
from .work import *

_explain_absent(__name__)
