"""Sums of spikes, which a lean network keeps as whole numbers of a few bits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from lean_cases import saved, small_tensors_too, step
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikescope import functional, layer, neuron
from spikescope.functional.memory import slices, stand_ins
from spikescope.spikes import whole
from spikescope.toolchain.compiler import trouble

__all__ = ["saved", "small_tensors_too"]

pytestmark = pytest.mark.skipif(bool(trouble()), reason="whole numbers are packed by a kernel")


@pytest.fixture(autouse=True)
def few_numbers_too(monkeypatch):
    monkeypatch.setattr(whole, "SMALL", 1)


def computed(values):
    """Values as an operation of a network gives them."""
    return torch.tensor(values, requires_grad=True) * 1


@pytest.mark.parametrize("number", [1, 2, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize(("width", "unit"), list(itertools.product(whole.WIDTHS, [1.0, 0.125])))
def test_whole_numbers_come_back(width, unit, number):
    top = (1 << width) - 1
    x = torch.randint(0, top + 1, (number,), generator=torch.Generator().manual_seed(0)).float()
    x[-1] = top
    packed = whole.pack_whole(x * unit, width, unit)
    assert packed.numel() == math.ceil(number * width / 8)
    assert torch.equal(whole.unpack_whole(packed, width, unit)[:number], x * unit)


@pytest.mark.parametrize("where", [0, 1, 1500, 4999])
@pytest.mark.parametrize("odd", [-0.0, -1.0, 0.5, 1e-30, math.nan, math.inf, -math.inf, 1e30, 2.0**31, 2.0**32])
@pytest.mark.parametrize("width", whole.WIDTHS)
def test_other_numbers_are_refused(width, odd, where):
    x = torch.ones(5000)
    x[where] = odd
    assert whole.pack_whole(x, width, 1.0) is None
    x[where] = 1 << width
    assert whole.pack_whole(x, width, 1.0) is None


@pytest.mark.parametrize(
    ("values", "width", "unit"),
    [
        ([0.0, 1.0, 2.0], 4, 1.0),
        ([0.0, 1.0, 15.0], 4, 1.0),
        ([0.0, 16.0, 2.0], 8, 1.0),
        ([0.0, 255.0, 0.125], 16, 0.125),
        ([0.0, 1.5, 0.0], 4, 0.5),
        ([0.0, 65535.0, 2.0], 16, 1.0),
    ],
)
def test_sums_take_as_few_bits_as_the_largest(values, width, unit):
    x = computed(values)
    found = stand_ins.seen(x)
    assert isinstance(found, stand_ins.Counts)
    assert found.format == (width, unit)
    assert torch.equal(found.memory(), x.detach())


@pytest.mark.parametrize(
    "values", [[0.0, 65536.0], [0.0, -1.0], [0.1, 2.0], [math.nan, 2.0], [math.inf, 2.0], [2.0, -0.0]]
)
def test_what_is_no_small_whole_number_is_kept_as_it_is(values):
    assert stand_ins.seen(computed(values)) is None


def test_what_a_glance_does_not_show_is_refused():
    values = [float(i % 3) for i in range(10_000)]
    assert stand_ins.seen(computed(values)).format == (4, 1.0)
    for odd, width in ((17.0, 8), (0.3, None)):
        found = stand_ins.seen(computed([*values[:4321], odd, *values[4322:]]))
        assert (None if found is None else found.format.width) == width


class Residual(nn.Module):
    """Two blocks that add their spikes to what they are given, the second with a convolution past it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (self.block(inputs) for inputs in (2, 16, 16))
        self.past = layer.Conv2d(16, 16, 1)
        functional.set_step_mode(self, "m")

    @staticmethod
    def block(inputs):
        conv = layer.Conv2d(inputs, 16, 3, padding=1, bias=False)
        return nn.Sequential(conv, layer.BatchNorm2d(16), neuron.LIFNode(tau=1.2))

    def forward(self, x):
        x = self.first(x)
        x = x + self.second(x)
        return self.third(x) + self.past(x)


IMAGES = torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sliced", [False, True], ids=["whole", "by slices"])
def test_sums_of_spikes_in_a_residual_network(sliced, saved, monkeypatch):
    monkeypatch.setattr(slices, "LEAST_SLICED", 1 if sliced else 1 << 40)
    formats, some = [], slices.Form.some
    monkeypatch.setattr(
        slices.Form, "some", lambda self, given, form, part: formats.append(form) or some(self, given, form, part)
    )
    monkeypatch.setattr(slices, "_same_bits", slices._same_bits.__wrapped__)
    plain, lean = Residual(), functional.lean(Residual())
    for _ in range(2):
        assert all(map(torch.equal, step(plain, IMAGES), step(lean, IMAGES)))
    assert saved.count("Counts") == 4  # by two convolutions, twice
    assert (stand_ins.Format(4, 1.0) in formats) == sliced


def test_what_attention_gives_its_neuron(saved):
    torch.manual_seed(0)
    x = (torch.rand(4, 2, 16, 32) < 0.5).float()
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(
            layer.Conv1d(16, 16, 1), layer.BatchNorm1d(16), neuron.LIFNode(), layer.SpikingSelfAttention(16, 2)
        )
        functional.set_step_mode(net, "m")
        found.append(step(functional.lean(net, lean), x))
    assert all(map(torch.equal, *found))
    assert saved.count("Counts") == 1


class Operations(TorchDispatchMode):
    """What PyTorch computes within."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_sums_are_seen_to_be_no_spikes_by_the_kernel_alone():
    x = torch.zeros(1 << 16)
    x[-1] = 2
    with Operations() as computed:
        assert not stand_ins.Spikes(x.dtype).ready(x.untyped_storage())
    assert not {"eq", "all"} & set(computed.names)
