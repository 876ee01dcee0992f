"""Classes of one's own that join a base of the aliases with `abc.ABC`, as code with a family of neurons does."""

import abc
from importlib import import_module

import pytest
from torch import nn

from spikescope.compat.sources import SOURCES
from spikescope.layer import Linear
from spikescope.neuron import LIFNode
from spikescope.surrogate.core import registry

pytestmark = pytest.mark.usefixtures("aliases")

ABSENT = ("activation_based.auto_cuda.base", "CKernel2D"), ("timing_based.neuron", "SRMNeuron")


def to_derive_from():
    """The classes of the aliases that are modules, and what is not here."""
    for alias in SOURCES:
        module = import_module(f"spikingjelly.{alias}")
        for name in dir(module):
            held = getattr(module, name)
            if isinstance(held, type) and issubclass(held, nn.Module):
                yield f"{alias}.{name}", held
    for alias, name in ABSENT:
        yield f"{alias}.{name}", getattr(import_module(f"spikingjelly.{alias}"), name)


def test_every_base_may_stand_beside_abc(monkeypatch):
    monkeypatch.setitem(registry, "Own", None)  # a surrogate is entered by its name
    names = dict(to_derive_from())
    assert len(names) > 300
    failed = {}
    for name, base in names.items():
        try:
            made = type("Own", (base, abc.ABC), {})
        except TypeError as error:
            failed[name] = str(error)
        else:
            assert issubclass(made, base)
    assert failed == {}


@pytest.mark.parametrize(
    ("alias", "name", "inside", "outside"),
    [
        ("activation_based.base", "MemoryModule", LIFNode, Linear),
        ("clock_driven.base", "MemoryModule", LIFNode, Linear),
        ("activation_based.neuron", "BaseNode", LIFNode, Linear),
        ("clock_driven.neuron", "BaseNode", LIFNode, Linear),
    ],
)
def test_abstract_methods_are_asked_for_beside_abc_alone(alias, name, inside, outside):
    base = getattr(import_module(f"spikingjelly.{alias}"), name)

    class Family(base, abc.ABC):
        @abc.abstractmethod
        def left_out(self): ...

    class Whole(Family):
        def left_out(self): ...

    class Loose(base):
        @abc.abstractmethod
        def left_out(self): ...

    with pytest.raises(TypeError, match="abstract"):
        Family()
    whole, loose = Whole(), Loose()
    assert isinstance(whole, Family)
    assert isinstance(loose, base)
    assert not isinstance(loose, Family)
    node, other = inside(), outside(2, 2)
    assert isinstance(node, base)
    assert not isinstance(node, (Family, Whole, Loose))
    assert not isinstance(other, base)
