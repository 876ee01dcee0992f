"""`python -m release check` refuses a release whose parts disagree; `python -m release dist` builds and proves one."""

import argparse
import sys
from pathlib import Path

from .agree import objections
from .build import build
from .prove import prove

parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
parser.add_argument("what", choices=("check", "dist"))
parser.add_argument("--python", nargs="*", default=[sys.executable], help="each is tried in an environment of its own")
given = parser.parse_args()

found = objections()
if given.what == "dist":
    files = build()
    for python in given.python:
        prove(files, python)
    print(
        "built and tried:", *(f"{path.relative_to(Path.cwd())} ({path.stat().st_size / 1e6:.2f} MB)" for path in files)
    )
for line in found:
    print(f"not to be released: {line}", file=sys.stderr)
if given.what == "check":
    sys.exit(1 if found else 0)
