"""Importing this module is what installs the aliases: `import spikescope.compat.spikingjelly`.

If the package spikingjelly itself is installed, it stays what `import spikingjelly` gives, and a warning says so:
`spikescope.compat.install(force=True)` puts the aliases before it.
"""

from .aliases import install

install()
