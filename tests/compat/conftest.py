"""The import aliases of the tests in this folder."""

import pytest

from spikescope.compat import install, uninstall


@pytest.fixture
def aliases():
    """Imports of `spikingjelly` lead here for one test, whatever is installed."""
    uninstall()
    install(force=True)
    yield
    uninstall()
