"""`python -m spikescope.compat`."""

import sys

from .script import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
