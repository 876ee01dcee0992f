"""Seeing inside a network while it runs."""

from ..sockets import instrument as instrument
from .counts import *
from .gpu import *
from .health import *
from .memory import Budget as Budget
from .memory import BudgetError as BudgetError
from .memory import Moment as Moment
from .preview import *
from .probe import Probe as Probe
from .probe import ProbeReport as ProbeReport
from .rates import *
from .record import *
from .recorder import Recorder as Recorder
from .recorders import *
from .results import Results as Results
from .select import *
from .sinks import *
from .spill import SpilledRecords as SpilledRecords
from .spill import open_records as open_records
from .subset import *
from .sync import sync
