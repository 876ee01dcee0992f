"""Seeing inside a network while it runs."""

from ..errors import explain_absent as _explain_absent
from ..recording import Budget as Budget
from ..recording import BudgetError as BudgetError
from ..recording import Moment as Moment
from ..recording import SpilledRecords as SpilledRecords
from ..recording import open_records as open_records
from ..sockets import instrument as instrument
from . import after as after
from .choose.modules import *
from .choose.preview import *
from .choose.subset import *
from .classic.counts import *
from .classic.gpu import *
from .classic.monitors import *
from .classic.rates import *
from .classic.recorder import Recorder as Recorder
from .compare import compare as compare
from .flight.front import *
from .foreign.known import adopt as adopt
from .health.finding import Evidence as Evidence
from .health.finding import Finding as Finding
from .health.health import *
from .operations import *
from .pricing import *
from .probe.single import Probe as Probe
from .probe.single import ProbeReport as ProbeReport
from .record import *
from .results import Results as Results
from .show.experiments import *
from .show.sinks import *
from .sync import sync

_explain_absent(__name__)
