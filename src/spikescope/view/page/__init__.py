"""How a document is drawn: figures that read without script, in one file."""

from .sections import sections as sections
from .write import page as page
