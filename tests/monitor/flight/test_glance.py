"""What is asked of all tensors of a step in one call: the answers are those of PyTorch, with and without the kernel."""

import math

import pytest
import torch
from torch import nn

from spikescope.monitor.flight import glance as glancing
from spikescope.monitor.flight.glance import Glance, fired

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZES = [1, 7, 4095, 4097, 9000]
ODD = [math.nan, math.inf, -math.inf]


@pytest.fixture(params=["kernel", "no kernel"])
def kernel(request, monkeypatch):
    if request.param == "no kernel":
        monkeypatch.setattr(glancing, "_looking", lambda: None)
    return request.param == "kernel"


def answers(x):
    """Whether all is finite, as each way says it."""
    return not Glance()({"x": x}).get("x"), not Glance({"x": x})({}).get("x")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_not_finite_is_found_wherever_it_is(kernel, dtype):
    for size in SIZES:
        sound = torch.randn(size).to(dtype)
        sound[0] = torch.finfo(dtype).max / 2
        assert answers(sound) == (True, True)
        for place in {0, size // 2, size - 1}:
            for value in ODD:
                x = sound.clone()
                x[place] = value
                assert answers(x) == (False, False)


def test_each_answer_is_of_its_own_tensor(kernel):
    bits = torch.zeros(3, 5000, dtype=torch.uint8)
    lit = bits.clone()
    lit[0, 17] = 4
    x, y = torch.ones(4, 3), torch.full((2,), math.nan)
    asked = {"bits": bits, "y": y, "turned": x.T, "expanded": y[:1].expand(9), "lit": lit, "x": x, "none": x[:0]}
    lasting = {"sound": x, "odd": y}
    found = {name: held for name, held in Glance(lasting)(asked).items() if held}
    assert found.keys() == {"odd", "y", "expanded", "lit"}
    assert found.pop("lit") == 1.0
    assert all(map(math.isnan, found.values()))


@pytest.mark.parametrize("parts", [[0, 0], [0, 3], [5000, 0], [0]])
def test_a_layer_has_fired_wherever_its_spike_is(kernel, parts):
    held = [torch.zeros(2, 1, 6000) for _ in parts]
    for values, place in zip(held, parts, strict=True):
        values[0, 0, place] = float(place > 0)
    assert [fired(values) != 0 for values in held] == [place > 0 for place in parts]
    bytes_of = [values.to(torch.uint8) for values in held]
    told = Glance()(dict(enumerate(bytes_of)))
    assert [bool(told.get(i)) for i in range(len(parts))] == [place > 0 for place in parts]


def test_what_lasts_is_looked_at_where_it_is_now(kernel):
    net = nn.Linear(3, 2)
    glance = Glance(dict(net.named_parameters()))

    def odd():
        return {name for name, held in glance({}).items() if held}

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
