"""Conversions by recipes, as SpikingJelly 2.0 has them: a converter follows the network and runs the stages of one."""

from .converters import *
from .measures import *
from .stages import *
from .to_rates import *
