"""Names that every doctest of the package may use, what it defines taken out again, and what needs other packages."""

import sys
from importlib.util import find_spec

import pytest
import torch

import spikescope

NEIGHBOURS = ("lightning", "accelerate", "skorch")
collect_ignore = [f"src/spikescope/neighbours/{name}.py" for name in NEIGHBOURS if find_spec(name) is None]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """To look for examples in the module whose import installs the import aliases is no wish for them."""
    held = yield
    if "spikescope.compat" in sys.modules:  # not where some files of the package alone are collected
        spikescope.compat.uninstall()
    return held


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
