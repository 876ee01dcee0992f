"""Recurrent cells and layers whose gates spike."""

from .cells import *
from .layers import *
