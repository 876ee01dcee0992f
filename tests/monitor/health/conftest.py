"""For all tests of health."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    """Each test compiles anew: all networks share the frame that counts towards the limit of recompilations."""
    yield
    torch._dynamo.reset()
