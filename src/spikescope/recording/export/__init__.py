"""Recordings in the formats of other programs."""

from . import formats as _formats
from .base import Exports as Exports
from .base import registry as registry
