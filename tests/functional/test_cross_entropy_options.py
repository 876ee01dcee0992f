"""The options of the losses by cross entropy: what PyTorch takes for none, or refuses in words of its insides."""

import inspect
import math

import pytest
import torch

from spikescope import functional
from spikescope.errors import ShapeError

LOSSES = [
    held
    for name, held in vars(functional).items()
    if inspect.isfunction(held) and "label_smoothing" in inspect.signature(held).parameters and name[0] != "_"
]


def loss(function, **options):
    spikes = (torch.arange(60).reshape(4, 3, 5) % 3 == 0).float()
    return function(spikes, torch.tensor([0, 1, 4]), **options)


def test_the_losses_are_found():
    assert len(LOSSES) >= 5


@pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("smoothing", [-0.5, -1, 1.5, math.nan, math.inf, -math.inf, True, None, "0.1"], ids=repr)
def test_a_smoothing_is_a_share(function, smoothing):
    with pytest.raises(ValueError, match=f"{function.__name__}: label_smoothing must be at least 0 and at most 1"):
        loss(function, label_smoothing=smoothing)


@pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)
def test_a_weight_is_a_number_a_class(function):
    with pytest.raises(TypeError, match=f"{function.__name__}: weight must be a torch.Tensor, but got list"):
        loss(function, weight=[1.0] * 5)
    for shape in ((), (4,), (5, 1)):
        with pytest.raises(ShapeError, match=f"{function.__name__}: weight .* each of the 5 classes"):
            loss(function, weight=torch.ones(shape))
    assert torch.equal(loss(function, weight=torch.ones(5)), loss(function))


@pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("index", [None, 1.0, True, "0"], ids=repr)
def test_an_ignored_class_is_a_whole_number(function, index):
    with pytest.raises(TypeError, match=f"{function.__name__}: ignore_index must be a whole number"):
        loss(function, ignore_index=index)
