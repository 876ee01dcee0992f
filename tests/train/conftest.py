import pytest
import torch

from pictures import leave_undrawn
from sample import WHOLE
from spikescope.train import Dataset, digits_network


@pytest.fixture
def drawn():
    """To be asked for where the pictures of a run are to be drawn; else the usual run leaves that out."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    if not WHOLE and "drawn" not in request.fixturenames:
        leave_undrawn(monkeypatch)


@pytest.fixture
def small_dataset():
    """100 images of two bars, 70 to train on: as large as the digits, and easy."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(100) % 10
    images = 0.2 * torch.rand(100, 1, 8, 8, generator=generator)
    rows, columns = labels % 8, (3 * labels) % 8
    images[torch.arange(100), 0, rows] += 0.7
    images[torch.arange(100), 0, :, columns] += 0.7
    return Dataset(images[:70], labels[:70], images[70:], labels[70:])


@pytest.fixture
def small_network():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return digits_network("LIFNode", channels=(3, 5), hidden=7)
