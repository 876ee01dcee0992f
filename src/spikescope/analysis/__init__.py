"""What trains of spikes say, by the definitions of Elephant and pynapple: on bits or flat events, over any blocks."""

from .correlation import *
from .distance import *
from .formulas import *
from .intervals import *
from .pairs import *
from .rates import *
from .registry import *
from .representation import *
from .tuning import *
