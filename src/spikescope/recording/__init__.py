"""Records that outlast their moment: within a budget in memory, and beyond it on disk."""

from .budget import Budget as Budget
from .budget import BudgetError as BudgetError
from .records import Moment as Moment
from .spill import SpilledRecords as SpilledRecords
from .spill import open_records as open_records
