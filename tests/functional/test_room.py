"""As few slices as there is room for: a step takes no more at its peak than with the most slices of all."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from spikescope import functional, layer, models, neuron
from spikescope.functional.memory import slices, stand_ins
from spikescope.functional.memory.peak import most_allocated
from spikescope.functional.memory.workspace import Room

BLOCKS = 5


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch):
    monkeypatch.setattr(stand_ins, "LEAST", 1)
    monkeypatch.setattr(slices, "LEAST_SLICED", 1)


@pytest.fixture
def taken(monkeypatch):
    """The slices of each backward pass, the trials apart."""
    found = []
    chosen = slices._Held.slices

    def noted(*args):
        found.append(chosen(*args))
        return found[-1]

    monkeypatch.setattr(slices._Held, "slices", noted)
    return found


def blocks(bias=False):
    parts = []
    for block in range(BLOCKS):
        parts += [layer.Conv2d(32 if block else 4, 32, 3, padding=1, bias=bias), layer.BatchNorm2d(32)]
        parts.append(neuron.LIFNode())
    return nn.Sequential(*parts)


class Residual(nn.Module):
    """Each block is added to what it was given, so that a gradient waits beside its convolutions."""

    def __init__(self):
        super().__init__()
        self.first, *rest = blocks().children()
        self.rest = nn.ModuleList(nn.Sequential(*rest[i : i + 3]) for i in range(2, len(rest), 3))
        self.start = nn.Sequential(*rest[:2])

    def forward(self, x):
        x = self.start(self.first(x))
        for block in self.rest:
            x = block(x) + x
        return x


NETS = {
    "blocks": (blocks, (4, 4, 4, 16, 16)),
    "residual": (Residual, (4, 4, 4, 16, 16)),
    "wide end": (lambda: nn.Sequential(blocks(), layer.Flatten(), layer.Linear(8192, 200)), (4, 4, 4, 16, 16)),
    "sew_resnet18": (lambda: models.create("sew_resnet18", num_classes=10, cnf="ADD"), (2, 4, 3, 64, 64)),
    "spikformer_s": (lambda: models.create("spikformer_s", T=2, img_size_h=32, img_size_w=32), (2, 4, 3, 32, 32)),
}


def made(kind):
    torch.manual_seed(0)
    build, shape = NETS[kind]
    net, x = build(), torch.rand(shape)
    functional.set_step_mode(net, "m")
    return functional.lean(net), x


def step(net, x):
    functional.reset_net(net)
    net(x).square().mean().backward()


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("there", [True, False], ids=["gradients there", "gradients come about"])
@pytest.mark.parametrize("kind", NETS)
def test_a_step_takes_no_more_at_its_peak_than_with_the_most_slices(kind, there, taken, monkeypatch):
    def peak():
        net, x = made(kind)
        step(net, x)
        functional.reset_net(net)  # a state from before that is let go of within would be taken for room
        net.zero_grad(set_to_none=not there)
        taken.clear()
        return most_allocated(lambda: step(net, x), torch.device("cpu"))

    some, chosen = peak(), list(taken)
    monkeypatch.setattr(Room, "left", lambda *_: 0)
    most, finest = peak(), list(taken)
    assert some <= most
    assert len(chosen) == len(finest) > 0
    assert sum(map(sum, chosen)) < sum(map(sum, finest))


def test_the_room_grows_from_the_last_convolution_to_the_first(taken):
    step(*made("blocks"))
    assert taken == [(4, 4), (2, 2), (1, 1), (1, 1)]


def test_whose_input_others_read_has_less_room():
    found = []
    for others in (False, True):
        room, x, y = Room(), torch.zeros(10), torch.zeros(10)
        room.made(StorageWeakRef(x.untyped_storage()), 40)
        number = room.layer(x, 0)
        if not others:
            del x
        room.layer(y, 1000)
        room.close()
        found.append(room.left(number))
    assert found == [1000, 960]


def test_gradients_of_later_weights_take_room_unless_they_were_there():
    room, x = Room(), torch.zeros(10)
    first = room.layer(x, 100)
    room.keep(x.untyped_storage(), 30)
    room.keep(x.untyped_storage(), 30)
    room.layer(x, 200, 50)
    assert room.left(first) == 0  # the call has not ended
    room.close()
    assert room.left(first) == 230 - 50
