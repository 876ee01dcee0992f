"""Names that every doctest of the package may use, and what it defines taken out of the registries again."""

import pytest
import torch

import spikescope


@pytest.fixture(autouse=True)
def names_for_doctests(request, doctest_namespace):
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, nn=torch.nn, spikescope=spikescope)
    registries = spikescope.neuron.registry, spikescope.surrogate.registry
    before = [dict(registry) for registry in registries]
    yield
    for registry, held in zip(registries, before, strict=True):
        registry.clear()
        registry.update(held)
