"""`python -m website [FOLDER]`: builds the site into a folder, build/site by default."""

import logging
import sys
from pathlib import Path

from .assemble import ROOT
from .build import build

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "site")
