"""The demo: scanned digits, a small network for them, and a training in memory that is watched."""

from .digits import *
from .job import *
from .loop import *
