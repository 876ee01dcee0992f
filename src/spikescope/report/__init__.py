"""Pictures and tables of what went on inside a network."""

from .figures import *
from .summary import *
from .views import *
