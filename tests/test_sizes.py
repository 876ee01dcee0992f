"""Sizes that no module can have: refused at once by every layer, encoder, cell, neuron and surrogate, in words."""

import inspect
import math
import re
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import ann2snn, encoding, functional, layer, models, monitor, neuron, rnn, spikes, surrogate
from spikescope.errors import LARGEST

ARGUMENTS = {
    "AxisAttention": (4, 2, 0),
    "BatchNormThroughTime1d": (4, 3),
    "BatchNormThroughTime2d": (4, 3),
    "BatchNormThroughTime3d": (4, 3),
    "Delay": (2,),
    "DropConnectLinear": (3, 4),
    "LatencyEncoder": (4,),
    "LinearRecurrentContainer": (nn.Identity(), 3, 4),
    "MultiDimensionalAttention": (4, 4, 2, 2),
    "NeuNorm": (2, 3, 3),
    "PopSpikeEncoder": (2, 3, 4, (-1.0, 1.0), 1.0),
    "QKAttention": (8, 2),
    "ChannelQKAttention": (8, 2),
    "TokenQKAttention": (8, 2),
    "SelfAttention": (8, 2, "s"),
    "SpikeDrivenSelfAttention": (8, 2),
    "SpikingGRU": (3, 4, 2),
    "SpikingGRUCell": (3, 4),
    "SpikingLSTM": (3, 4, 2),
    "SpikingLSTMCell": (3, 4),
    "SpikingSelfAttention": (8, 2),
    "SpikingVanillaRNN": (3, 4, 2),
    "SpikingVanillaRNNCell": (3, 4),
    "StatefulEncoder": (4,),
    "TemporalEffectiveBatchNorm": {"T": 4, "num_features": 3},
    "TemporalWiseAttention": (8, 2),
    "VotingLayer": (2,),
    "WeightedPhaseEncoder": (4,),
}
"""Of modules that want sizes and are neither neurons nor surrogates, which have examples of their own."""

WITH_EXAMPLES = [*neuron.registry.values(), *surrogate.registry.values()]

OF_TORCH = ("num_features",)
"""Arguments that go to a constructor of PyTorch, which refuses them in its own words."""

CLASSES_OF_TORCH = {
    *(f"{name}{axes}d" for name in ("Conv", "ConvTranspose", "BatchNorm", "MaxUnpool") for axes in (1, 2, 3)),
    *(f"{name}{axes}d" for name in ("AvgPool", "MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool") for axes in (1, 2, 3)),
    *("BatchNorm", "SyncBatchNorm", "GroupNorm", "LayerNorm", "Linear", "Upsample", "WSConv2d", "WSLinear"),
}
"""Classes all of whose sizes go there."""

BASES = {"BatchNormThroughTime", "SpikingRNNBase", "SpikingRNNCellBase", "_PopulationEncoder"}
"""Nothing is made of these: those that are made of them are asked."""

APART = {"Flatten"}
"""An axis may be below zero: see the end of this file."""

WRONG = (-1, 1.5, True, math.nan, math.inf, "x", [2], torch.tensor(2.5), 10**30, 2 * LARGEST)
LARGE = (2**62, LARGEST)


def _arguments(cls):
    if cls in WITH_EXAMPLES:
        return dict(cls.example)
    given = next((held for name, held in ARGUMENTS.items() if cls.__name__ == name), None)
    given = given or next((held for name, held in ARGUMENTS.items() if cls.__name__.startswith(name)), None)
    if given is None or isinstance(given, dict):
        return given
    return dict(zip(inspect.signature(cls).parameters, given, strict=False))


def _sizes(cls, given):
    """The arguments that are whole numbers."""
    for name, parameter in inspect.signature(cls).parameters.items():
        if type(given.get(name, parameter.default)) is int and name not in OF_TORCH:
            yield name


def _takes_a_size(cls):
    given = inspect.signature(cls).parameters.values()
    return any(re.search(r"\bint\b", str(held.annotation)) or type(held.default) is int for held in given)


def _classes():
    listed = [held for room in (layer, encoding, rnn) for held in vars(room).values() if inspect.isclass(held)]
    return [cls for cls in dict.fromkeys([*listed, *WITH_EXAMPLES]) if issubclass(cls, nn.Module)]


def _cases():
    for cls in _classes():
        if (given := _arguments(cls)) is not None:
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


def test_no_class_with_a_size_is_left_out():
    known = CLASSES_OF_TORCH | BASES | APART
    asked = [cls for cls in _classes() if _takes_a_size(cls) and cls.__name__ not in known]
    assert [cls for cls in asked if _arguments(cls) is None] == []
    named = {cls.__name__: cls for cls in _classes() if cls.__name__ in known}
    assert set(named) == known
    for name in CLASSES_OF_TORCH:
        assert any(held.__module__.startswith("torch.nn.modules.") for held in named[name].__mro__[:-2]), name


@pytest.mark.parametrize(("cls", "given", "name"), CASES)
def test_what_is_no_size_is_refused_by_the_name_of_the_module(cls, given, name):
    cls(**given)
    for wrong in WRONG:
        with _seconds(20), pytest.raises((ValueError, TypeError)) as told:
            cls(**{**given, name: wrong})
        assert name in str(told.value), wrong
        assert any(held.__name__ in str(told.value) for held in cls.__mro__[:-2]), wrong


def _refusal(cls, given):
    try:
        with _seconds(20):
            cls(**given)
    except (ValueError, TypeError, RuntimeError) as error:
        return error
    return None


@pytest.mark.parametrize(("cls", "given", "name"), CASES)
def test_a_size_beyond_all_memory_is_refused_at_once_or_takes_none(cls, given, name):
    for large in LARGE:
        refused = _refusal(cls, {**given, name: large})
        if isinstance(refused, RuntimeError):  # of PyTorch, which allocates
            assert re.search("memory|overflow", str(refused)), large
        elif refused is not None:
            assert name in str(refused), large
            assert any(held.__name__ in str(refused) for held in cls.__mro__[:-2]), large


@pytest.mark.parametrize(("cls", "given", "name"), CASES)
@pytest.mark.parametrize("kind", [np.int64, np.int16])
def test_a_size_that_comes_from_numpy_is_kept_as_a_number(cls, given, name, kind):
    size = given.get(name, inspect.signature(cls).parameters[name].default)
    made = cls(**{**given, name: kind(size)})
    assert not [held for part in made.modules() for held in vars(part).values() if isinstance(held, np.generic)]


@pytest.mark.parametrize("kind", [np.int64, np.int16])
def test_steps_that_come_from_numpy(kind):
    x, net = torch.rand(5, 1, 2) + 0.1, nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    nn.init.eye_(net[0].weight)
    node = neuron.IFNode(step_mode="m")
    got = functional.chunk_multi_step_forward(kind(2), x, node)
    node.reset()
    assert torch.equal(got, functional.chunk_multi_step_forward(2, x, node))
    snn = ann2snn.Converter(x[0])(net)
    assert ann2snn.compare(net, snn, x[0], steps=kind(4)).table() == ann2snn.compare(net, snn, x[0], steps=4).table()
    data = (x[:, 0], torch.zeros(5, dtype=torch.int64))
    given = [ann2snn.accuracy_over_time(snn, [data], steps=steps) for steps in (kind(4), 4)]
    assert given[0] == given[1]
    assert torch.equal(functional.delay(x, kind(2)), functional.delay(x, 2))
    labels = torch.tensor([1, 0])
    assert torch.equal(
        functional.redundant_one_hot(labels, kind(3), kind(2)), functional.redundant_one_hot(labels, 3, 2)
    )
    assert neuron.GatedLIFNode(4, inplane=(kind(3), kind(1), kind(1))).alpha.shape == (3, 1, 1)
    assert neuron.GatedLIFNode(4, inplane=kind(3)).alpha.shape == (3, 1, 1)
    packed = spikes.PackedSpikes.from_dense((x > 0.5).float())
    assert torch.equal(packed[kind(2)], packed[2])
    net = models.Spikformer(T=kind(2), patch_size=4, embed_dims=8, num_heads=2, depths=1)
    assert type(net.T) is int


@pytest.mark.parametrize("place", ["start_dim", "end_dim"])
@pytest.mark.parametrize("given", [64, 10**30, -65, True, math.nan, 1.5, "x", None])
def test_an_axis_that_no_tensor_has(place, given):
    with _seconds(20), pytest.raises(ValueError, match=f"Flatten: {place}, an axis, must be a whole number"):
        layer.Flatten(**{place: given})


@pytest.mark.parametrize("kind", [np.int64, np.int16])
def test_counts_of_monitors_that_come_from_numpy(kind):
    net = neuron.IFNode(step_mode="m")
    with monitor.record(net, "count", every=kind(2)) as recording:
        for _ in range(4):
            net(torch.ones(3, 1, 2))
            functional.reset_net(net)
    assert recording[""].sum() == 2 * 3 * 2
    assert monitor.every(kind(3), kind(1)) == slice(1, None, 3)
    assert monitor.first(kind(2)) == slice(0, 2, 1)
    assert monitor.random_choice(kind(2))(5).tolist() == monitor.random_choice(2)(5).tolist()
