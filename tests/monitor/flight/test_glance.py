"""What is asked of all tensors of a step in one call: the answers are those of PyTorch, with and without the kernel."""

import math

import pytest
import torch
from torch import nn

from spikescope.monitor.flight import glance as glancing
from spikescope.monitor.flight.glance import Lasting, copied, fired, glance

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZES = [1, 7, 4095, 4097, 9000]
ODD = [math.nan, math.inf, -math.inf]


@pytest.fixture(params=["kernel", "no kernel"])
def kernel(request, monkeypatch):
    if request.param == "no kernel":
        monkeypatch.setattr(glancing, "_looking", lambda: None)
        monkeypatch.setattr(glancing, "_copying", lambda: None)
    return request.param == "kernel"


def answers(x):
    """Whether all is finite, as each way says it."""
    return glance({"x": x})["x"] == 0, Lasting([x]).odd().get(0, 0.0) == 0


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
    found = {name: held != 0 for name, held in glance(asked).items()}
    wanted = {"bits": False, "y": True, "turned": False, "expanded": True, "lit": True, "x": False, "none": False}
    assert found == wanted


@pytest.mark.parametrize("parts", [[0, 0], [0, 3], [5000, 0], [0]])
def test_a_layer_has_fired_wherever_its_spike_is(kernel, parts):
    held = [torch.zeros(2, 1, 6000) for _ in parts]
    for values, place in zip(held, parts, strict=True):
        values[0, 0, place] = float(place > 0)
    assert [fired(values) != 0 for values in held] == [place > 0 for place in parts]
    bytes_of = [values.to(torch.uint8) for values in held]
    assert [held != 0 for held in glance(dict(enumerate(bytes_of))).values()] == [place > 0 for place in parts]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int32, torch.complex64])
def test_a_copy_is_equal_and_says_whether_all_is_finite(kernel, dtype):
    whole = (10 * torch.randn(4, 3, 2, 2500)).to(dtype)
    parts = {
        "all": whole,
        "first sample": whole[:, :1],
        "last samples": whole[:, 1:],
        "one step": whole[:1],
        "some steps": whole[::2],
        "turned": whole.transpose(0, 1),
        "some neurons": whole[..., ::2],
        "expanded": whole[:1].expand(5, 3, 2, 2500),
        "nothing": whole[:0],
        "flat": whole[0, 0, 0],
    }
    for name, part in parts.items():
        made, finite = copied(part.requires_grad_() if name == "all" and dtype.is_floating_point else part)
        assert torch.equal(made, part), name
        assert (made.dtype, made.requires_grad) == (dtype, False)
        assert made.untyped_storage().data_ptr() != part.untyped_storage().data_ptr() or not part.numel()
        assert finite in ((True, None) if kernel and dtype in DTYPES else (None,)), name
    if dtype in DTYPES:
        odd = whole.detach().clone()
        odd[3, 1, 1, 2499] = math.inf
        told = [copied(odd[:, 1:])[1], copied(odd[:, :1])[1]]
        assert told == ([False, True] if kernel else [None, None])


def test_a_view_that_turns_the_sign_is_copied_with_its_sign(kernel):
    turned = torch.view_as_complex(torch.ones(3, 2)).conj().imag
    assert torch.equal(copied(turned)[0], -torch.ones(3))
    assert torch.equal(copied(turned[:1])[0], -torch.ones(1))


def test_what_lasts_is_looked_at_where_it_is_now(kernel):
    net = nn.Linear(3, 2)
    weights = list(net.parameters())
    lasting = Lasting(weights)

    def odd():
        return {place for place, held in lasting.odd().items() if held != 0}

    assert odd() == set()
    with torch.no_grad():
        net.bias[1] = math.nan
    assert odd() == {1}
    net.bias.data = torch.zeros(2)
    assert odd() == set()
    net.half()
    with torch.no_grad():
        net.weight[0, 0] = math.inf
    assert odd() == {0}
    net.weight.data = net.weight.data.new_zeros(3, 2).T  # does not lie in one row any more
    assert odd() == set()
    with torch.no_grad():
        net.weight[1, 2] = math.nan
    assert odd() == {0}
