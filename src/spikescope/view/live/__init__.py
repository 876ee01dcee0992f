"""The page while a network runs: a server on this machine alone, which nobody has to wait for."""

from .front import Live as Live
from .front import live as live
