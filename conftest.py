"""Names that every doctest of the package may use."""

import pytest
import torch

import spikescope


@pytest.fixture(autouse=True)
def names_for_doctests(request, doctest_namespace):
    if isinstance(request.node, pytest.DoctestItem):
        torch.manual_seed(0)
        doctest_namespace.update(torch=torch, nn=torch.nn, spikescope=spikescope)
