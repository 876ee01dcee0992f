"""Pictures and tables of what went on inside a network."""

from .classes import *
from .energy import *
from .figures import *
from .measures import *
from .summary import *
from .traces import traces as traces
from .views import *
