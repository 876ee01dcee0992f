"""What is asked of all tensors of a step in one call: each kernel gives the answers of PyTorch."""

import itertools
import math

import pytest
import torch
from torch import nn

from spikescope.dynamics.triton import launch
from spikescope.monitor.flight.checks import glance as glancing
from spikescope.monitor.flight.checks import gpu
from spikescope.monitor.flight.checks.glance import Glance

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZES = [1, 7, 4095, 4097]
ODD = [math.nan, math.inf, -math.inf]


@pytest.fixture(params=["kernel", "GPU", "no kernel"])
def kernel(request, monkeypatch):
    """By the kernel of a CPU, by that of a GPU in Triton's interpreter, and by PyTorch alone."""
    if request.param == "GPU":
        pytest.importorskip("triton")
        if not launch.interpreted():
            pytest.skip("TRITON_INTERPRET is 0")
        monkeypatch.setattr(gpu, "PLACES", ("cpu",))
    if request.param != "kernel":
        monkeypatch.setattr(glancing, "_looking", lambda: None)
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_not_finite_is_found_wherever_it_is(kernel, dtype):
    asked = {}
    for size in SIZES:
        sound = torch.randn(size).to(dtype)
        sound[0] = torch.finfo(dtype).max / 2
        asked[size, None, None] = sound
        for place, value in zip({0, size // 2, size - 1}, itertools.cycle(ODD)):
            asked[size, place, value] = x = sound.clone()
            x[place] = value
    for late in (Glance()(finite=asked), Glance(asked)()):
        found = late.values()
        assert {name for name in asked if found.get(name)} == {name for name in asked if name[1] is not None}


def test_each_answer_is_of_its_own_tensor(kernel):
    bits = torch.zeros(3, 5000, dtype=torch.uint8)
    lit = bits.clone()
    lit[0, 17] = 4
    x, y = torch.ones(4, 3), torch.full((2,), math.nan)
    odd = x.clone()
    odd[3, 2] = math.inf
    last = torch.ones(2, 3, 4, 5)
    last[1, 2, 3, 4] = math.nan
    finite = {"y": y, "turned": x.T, "expanded": y[:1].expand(9), "x": x, "none": x[:0], "gaps": x[:, :2]}
    finite |= {"odd": odd.T, "odd gaps": odd[:, 1:], "last": last.contiguous(memory_format=torch.channels_last)}
    lasting = {"sound": x, "lasts": y}
    told = {"loss": torch.tensor(0.0), "number": 2.5}
    found = Glance(lasting)({"bits": bits, "lit": lit}, finite, told).values()
    found = {name: held for name, held in found.items() if held}
    assert found.keys() == {"lasts", "y", "expanded", "lit", "odd", "odd gaps", "last", "number"}
    assert (found.pop("lit"), found.pop("number")) == (1.0, 2.5)
    assert not any(map(math.isfinite, found.values()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_told_comes_along(kernel, dtype):
    for value in (0.0, 1.5, -3.25, math.inf):
        assert Glance()(told={"loss": torch.tensor(value, dtype=dtype)}).values() == {"loss": value}
    assert math.isnan(Glance()(told={"loss": torch.tensor(math.nan, dtype=dtype)}).values()["loss"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int32, *DTYPES])
def test_a_layer_has_fired_wherever_its_spike_is(kernel, dtype):
    asked = {place: torch.zeros(2, 1, 5000, dtype=dtype) for place in (None, 0, 9999, 5001)}
    for place, values in asked.items():
        if place is not None:
            values.view(-1)[place] = 1
    found = Glance()(asked).values()
    assert {place for place in asked if found.get(place)} == {0, 9999, 5001}


def test_the_sign_of_zero_is_no_spike(kernel):
    assert not any(Glance()({dtype: -torch.zeros(9, dtype=dtype) for dtype in DTYPES}).values().values())


def test_what_lasts_is_looked_at_where_it_is_now(kernel):
    net = nn.Linear(3, 2)
    glance = Glance(dict(net.named_parameters()))

    def odd():
        return {name for name, held in glance().values().items() if held}

    assert odd() == set()
    with torch.no_grad():
        net.bias[1] = math.nan
    assert odd() == {"bias"}
    net.bias.data = torch.zeros(2)
    assert odd() == set()
    net.half()
    with torch.no_grad():
        net.weight[0, 0] = math.inf
    assert odd() == {"weight"}
    net.weight.data = net.weight.data.new_zeros(3, 2).T  # does not lie in one row any more
    assert odd() == set()
    with torch.no_grad():
        net.weight[1, 2] = math.nan
    assert odd() == {"weight"}
