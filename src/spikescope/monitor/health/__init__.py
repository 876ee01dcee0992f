"""What is wrong with a network while it trains: its causes, ranked, each with its consequences and what to do."""

from .finding import Evidence as Evidence
from .finding import Finding as Finding
from .health import Health as Health
from .health import health as health
from .registry import Cause as Cause
