"""SNASNet is that of the reference, whose numbers `reference.py` stored, and says in words what it does not take."""

import json
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from snas_cases import CASES, SNAS, made, told_of

from spikescope import functional, models, monitor
from spikescope.models.snas_net import FeedbackCell

STORED = json.loads(SNAS.read_text())
ARGS = {
    "timestep": 2,
    "dataset": "cifar100",
    "celltype": "backward",
    "second_avgpooling": 8,
    "threshold": 1.0,
    "tau": 2.0,
}
NOTHING = torch.zeros(4, 4)


@pytest.mark.parametrize("name", CASES)
def test_names_first_weights_and_outputs(name):
    told, theirs = told_of(models.SNASNet, name), STORED[name]
    assert {key: told[key] for key in ("entries", "fingerprint")} == {
        key: theirs[key] for key in ("entries", "fingerprint")
    }
    for ours, stored in zip(told["beginnings"], theirs["beginnings"], strict=True):
        assert ours == pytest.approx(stored, rel=1e-4, abs=1e-6)
    assert torch.tensor(theirs["outputs"]).unique().numel() > 2
    assert told["outputs"] == theirs["outputs"]


def test_what_came_back_is_a_state_and_the_network_learns():
    net = made(models.SNASNet, "backward").train()
    x = torch.rand(2, 3, 32, 32)
    with monitor.record(net, ["rate"]) as seen:
        y = net(x)
    y.square().sum().backward()
    assert all(held.grad is not None and held.grad.isfinite().all() for held in net.parameters())
    assert len(seen.table().splitlines()) == 1 + 15
    assert net.cell1.last_xin.shape == (2, 128, 32, 32)
    assert deepcopy(net).cell2.last_x2.grad_fn is None
    functional.reset_net(net)
    assert (net.cell1.last_xin, net.cell2.last_x2) == (0.0, 0.0)
    with pytest.raises(ValueError, match="step_mode='m' is not supported by the network itself"):
        functional.set_step_mode(net, "m")


def test_what_leads_back_is_seen_by_the_next_step_alone():
    matrix = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]  # a line, and from its end to its beginning
    cell = FeedbackCell(SimpleNamespace(threshold=1.0, tau=2.0), 1, 1, matrix)
    seen = [cell(torch.full((1, 1, 1, 1), x)).item() for x in (1.0, 5.0, 0.0)]
    assert seen == [1.0, 5.0 + 1.0, 0.0 + 6.0]


@pytest.mark.parametrize(
    ("changed", "matrix", "words"),
    [
        ({"dataset": "mnist"}, NOTHING, r"args.dataset must be one of 'cifar10', 'cifar100', 'tinyimagenet'"),
        ({"celltype": "both"}, NOTHING, r"args.celltype must be one of 'forward', 'backward'"),
        ({"timestep": 0}, NOTHING, "args.timestep must be a whole number of at least 1"),
        ({"second_avgpooling": 17}, NOTHING, "args.second_avgpooling must be at most 16, but got 17"),
        ({}, NOTHING[:3], "4 rows of 4 whole numbers from 0 to 4"),
        ({}, NOTHING + 5, "4 rows of 4 whole numbers from 0 to 4"),
        ({}, NOTHING + 0.5, "4 rows of 4 whole numbers from 0 to 4"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changed, matrix, words):
    with pytest.raises(ValueError, match=words), torch.device("meta"):
        models.SNASNet(SimpleNamespace(**ARGS | changed), matrix.tolist())


@pytest.mark.parametrize("matrix", [None, 3, "0302", [[None] * 4] * 4])
def test_what_is_no_matrix_is_refused_in_words(matrix):
    with pytest.raises(ValueError, match="4 rows of 4 whole numbers from 0 to 4"), torch.device("meta"):
        models.SNASNet(SimpleNamespace(**ARGS), matrix)


@pytest.mark.parametrize("missing", ARGS)
def test_an_attribute_that_is_missing_is_named(missing):
    held = SimpleNamespace(**{name: value for name, value in ARGS.items() if name != missing})
    with pytest.raises(TypeError, match=f"SNASNet: args must be an object with the attributes .* has no {missing}"):
        models.SNASNet(held, NOTHING)
    if missing in ("threshold", "tau"):
        with pytest.raises(TypeError, match=f"FeedbackCell: args must be .* has no {missing}"):
            FeedbackCell(held, 1, 1, NOTHING)


def test_another_size_is_refused_in_words():
    with torch.device("meta"):
        net = models.SNASNet(SimpleNamespace(**ARGS), NOTHING.tolist())
        with pytest.raises(ValueError, match=r"takes images \[N, C=3, H=32, W=32\], but got \[N=1, C=3, H=8, W=8\]"):
            net(torch.rand(1, 3, 8, 8))
