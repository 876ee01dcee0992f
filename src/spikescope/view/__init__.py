"""One page that shows what went on inside a network, and the document that it is drawn from."""

from .report import *
