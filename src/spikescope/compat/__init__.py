"""Code written for SpikingJelly, as it is: its import paths as aliases of this library.

Either begin a script with `import spikescope.compat.spikingjelly`, or run it by
`python -m spikescope.compat script.py`.
"""

from .aliases import *
from .script import *
