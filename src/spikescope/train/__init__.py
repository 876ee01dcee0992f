"""Training: a recipe and the trainer, data, the folder of a run, and the demo."""

from .checkpoint import *
from .console import *
from .conversion import *
from .data import *
from .demo import *
from .logs import *
from .networks import *
from .observe import *
from .program import *
from .ranks import *
from .recipe import *
from .run_folder import *
from .seeding import *
from .sharding import *
from .sources import *
from .trainer import *
