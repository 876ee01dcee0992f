"""What is wrong with a network while it trains."""

from .findings import *
