"""Spiking neurons."""

from .core import *
from .core import registry as registry
from .integrate import *
