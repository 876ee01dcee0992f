"""The tests of a GPU: `make gpu` runs them there, in shards; Triton's interpreter rehearses them on a CPU, small."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "dynamics"))

REHEARSED = os.environ.get("SPIKESCOPE_REHEARSE") == "1"
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


def pytest_collection_modifyitems(items):
    """Mark all of them, and keep every k-th where several processes share them (`SPIKESCOPE_SHARD=i/k`)."""
    here = f"{Path(__file__).parent}{os.sep}"
    own = [item for item in items if str(item.path).startswith(here)]
    shard, of = map(int, os.environ.get("SPIKESCOPE_SHARD", "0/1").split("/"))
    left_out = set(own) - set(own[shard::of])
    for item in own:
        item.add_marker(pytest.mark.gpu)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def device(request):
    """The GPU; in a rehearsal the CPU, for the tests that do not say `real_gpu`."""
    pytest.importorskip("triton")
    if REHEARSED and INTERPRETED:
        if request.node.get_closest_marker("real_gpu"):
            pytest.skip("Triton's interpreter has no streams, no graphs and no device")
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if INTERPRETED:
        pytest.skip("Triton runs in its interpreter here: make gpu PART=tests runs the tests of a GPU")
    return torch.device("cuda")
