"""`python -m release check` refuses a release whose parts disagree; `python -m release dist` builds and proves one."""

import argparse
import sys
from pathlib import Path

from .agree import objections, unsaid
from .build import build
from .prove import prove
from .pythons import interpreter, supported

parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
parser.add_argument("what", choices=("check", "dist"))
parser.add_argument(
    "--python",
    nargs="*",
    default=supported(),
    metavar="VERSION",
    help="each is tried in an environment of its own: 3.12, or a command; those of pyproject.toml by default",
)
given = parser.parse_args()

if given.what == "dist":
    pythons = {wanted: interpreter(wanted) for wanted in given.python}
    if absent := [wanted for wanted, found in pythons.items() if found is None]:
        sys.exit(
            f"There is no Python {', '.join(absent)}: neither on the path nor kept by pyenv. Install it, or name those "
            'to try: make dist PYTHONS="3.11 3.12".'
        )
    files = build()
    for wanted, python in pythons.items():
        prove(files, wanted, str(python))
    sizes = (f"{path.relative_to(Path.cwd())} ({path.stat().st_size / 1e6:.2f} MB)" for path in files)
    print("built and tried:", *sizes)
found = objections()
for line in found:
    print(f"not to be released: {line}", file=sys.stderr)
for line in unsaid():
    print(f"before it is published: {line}", file=sys.stderr)
if given.what == "check":
    print("nothing speaks against a release" if not found else f"{len(found)} things speak against a release")
    sys.exit(1 if found else 0)
