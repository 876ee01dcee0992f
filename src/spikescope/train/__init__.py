"""Training: data, the loop over epochs, and the folder of a run."""

from .console import *
from .data import *
from .demo import *
from .digits import *
from .loop import *
from .observe import *
from .run_folder import *
