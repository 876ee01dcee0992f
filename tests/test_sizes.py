"""Sizes that no module can have: refused at once by every layer, encoder, cell, neuron and surrogate, in words."""

import inspect
import math
import signal
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import nn

from spikescope import encoding, layer, neuron, rnn, surrogate
from spikescope.errors import LARGEST

ARGUMENTS = {
    "AxisAttention": (4, 2, 0),
    "BatchNormThroughTime1d": (4, 3),
    "BatchNormThroughTime2d": (4, 3),
    "BatchNormThroughTime3d": (4, 3),
    "Delay": (2,),
    "DropConnectLinear": (3, 4),
    "LatencyEncoder": (4,),
    "MultiDimensionalAttention": (4, 4, 2, 2),
    "NeuNorm": (2, 3, 3),
    "PopSpikeEncoder": (2, 3, 4, (-1.0, 1.0), 1.0),
    "QKAttention": (8, 2),
    "ChannelQKAttention": (8, 2),
    "TokenQKAttention": (8, 2),
    "SpikeDrivenSelfAttention": (8, 2),
    "SpikingGRU": (3, 4, 2),
    "SpikingGRUCell": (3, 4),
    "SpikingLSTM": (3, 4, 2),
    "SpikingLSTMCell": (3, 4),
    "SpikingSelfAttention": (8, 2),
    "SpikingVanillaRNN": (3, 4, 2),
    "SpikingVanillaRNNCell": (3, 4),
    "TemporalWiseAttention": (8, 2),
    "VotingLayer": (2,),
    "WeightedPhaseEncoder": (4,),
}
"""Of modules that want sizes and are neither neurons nor surrogates, which have examples of their own."""

WITH_EXAMPLES = [*neuron.registry.values(), *surrogate.registry.values()]

OF_TORCH = ("num_features",)
"""Arguments that go to a constructor of PyTorch, which refuses them in its own words."""

WRONG = (-1, 1.5, True, math.nan, math.inf, "x", [2], torch.tensor(2.5), 10**30, 2 * LARGEST)
LARGE = (2**62, LARGEST)


def _arguments(cls):
    if cls in WITH_EXAMPLES:
        return dict(cls.example)
    given = next((held for name, held in ARGUMENTS.items() if cls.__name__ == name), None)
    given = given or next((held for name, held in ARGUMENTS.items() if cls.__name__.startswith(name)), None)
    return None if given is None else dict(zip(inspect.signature(cls).parameters, given, strict=False))


def _sizes(cls, given):
    """The arguments that are whole numbers."""
    for name, parameter in inspect.signature(cls).parameters.items():
        if type(given.get(name, parameter.default)) is int and name not in OF_TORCH:
            yield name


def _cases():
    listed = [held for room in (layer, encoding, rnn) for held in vars(room).values() if inspect.isclass(held)]
    for cls in dict.fromkeys([*listed, *WITH_EXAMPLES]):
        if issubclass(cls, nn.Module) and not inspect.isabstract(cls) and (given := _arguments(cls)) is not None:
            for name in _sizes(cls, given):
                yield pytest.param(cls, given, name, id=f"{cls.__name__}-{name}")


@contextmanager
def _seconds(count):
    def late(*_):
        pytest.fail("it takes for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(count)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


CASES = list(_cases())


def test_the_law_is_asked_of_many():
    assert {"SpikingLSTM-num_layers", "GatedLIFNode-T", "Delay-delay_steps", "SquarewaveFourierSeries-n"} <= {
        held.id for held in CASES
    }
    assert len(CASES) > 40


@pytest.mark.parametrize(("cls", "given", "name"), CASES)
def test_what_is_no_size_is_refused_by_the_name_of_the_module(cls, given, name):
    cls(**given)
    for wrong in WRONG:
        with _seconds(20), pytest.raises((ValueError, TypeError)) as told:
            cls(**{**given, name: wrong})
        assert name in str(told.value), wrong
        assert any(held.__name__ in str(told.value) for held in cls.__mro__[:-2]), wrong


@pytest.mark.parametrize(("cls", "given", "name"), CASES)
def test_a_size_beyond_all_memory_is_refused_at_once_or_takes_none(cls, given, name):
    for large in LARGE:
        with _seconds(20), suppress(ValueError, TypeError, RuntimeError):  # of PyTorch that allocates, in its words
            cls(**{**given, name: large})


@pytest.mark.parametrize("place", ["start_dim", "end_dim"])
@pytest.mark.parametrize("given", [64, 10**30, -65, True, math.nan, 1.5, "x", None])
def test_an_axis_that_no_tensor_has(place, given):
    with _seconds(20), pytest.raises(ValueError, match=f"Flatten: {place}, an axis, must be a whole number"):
        layer.Flatten(**{place: given})
