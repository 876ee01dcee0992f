"""Spikes packed into bits: eight to the byte, counted and cut without unpacking, compressed on demand."""

from .bits import *
from .flat import *
from .gpu import vouched as vouched
from .packed import *
