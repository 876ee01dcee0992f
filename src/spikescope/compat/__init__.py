"""Code written for SpikingJelly, as it is: its import paths as aliases of this library.

Either begin a script with `import spikescope.compat.spikingjelly`, or run it by
`python -m spikescope.compat script.py`. `load_checkpoint(net, path)` reads the files of its networks.
"""

from .aliases import *
from .checkpoint import *
from .script import *
