"""Spikes packed into bits: eight to the byte, counted and cut without unpacking, compressed on demand."""

from .bits import *
from .flat import *
from .packed import *
