"""What is seen of the short way of a call."""

import pytest

from spikescope.dynamics.cpp.prepared import PreparedOnCpu
from spikescope.dynamics.triton.prepared import PreparedOnGpu


@pytest.fixture
def short(monkeypatch):
    """Every run on the short way, as a list that grows."""
    runs = []

    def noted(forward):
        def run(self, *args):
            runs.append(self)
            return forward(self, *args)

        return run

    for kind in (PreparedOnCpu, PreparedOnGpu):
        monkeypatch.setattr(kind, "forward", noted(kind.forward))
    return runs
