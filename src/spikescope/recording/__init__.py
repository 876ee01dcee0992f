"""Records that outlast their moment: within a budget in memory, and beyond it on disk."""

from ..errors import explain_absent as _explain_absent
from .budget import Budget as Budget
from .budget import BudgetError as BudgetError
from .events import Events as Events
from .events import events_of as events_of
from .held import in_memory as in_memory
from .opened import OpenedRecording as OpenedRecording
from .opened import open_recording as open_recording
from .records import Moment as Moment
from .shape import StoredRecording as StoredRecording
from .signal import Block as Block
from .signal import Layer as Layer
from .signal import Run as Run
from .signal import Signal as Signal
from .spill import SpilledRecords as SpilledRecords
from .spill import open_records as open_records
from .writer import Writer as Writer

_explain_absent(__name__)
