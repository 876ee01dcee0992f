"""Records that outlast their moment: within a budget in memory, and beyond it on disk."""

from ..errors import explain_absent as _explain_absent
from .budget import Budget as Budget
from .budget import BudgetError as BudgetError
from .disk.opened import OpenedRecording as OpenedRecording
from .disk.opened import open_recording as open_recording
from .disk.spill import SpilledRecords as SpilledRecords
from .disk.spill import open_records as open_records
from .disk.writer import Writer as Writer
from .events import Events as Events
from .events import events_of as events_of
from .held import in_memory as in_memory
from .records import Moment as Moment
from .shape import StoredRecording as StoredRecording
from .signal import Block as Block
from .signal import Layer as Layer
from .signal import Run as Run
from .signal import Signal as Signal

_explain_absent(__name__)
