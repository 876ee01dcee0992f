"""Delay, first spike, redundant labels, initial weights."""

import math

import pytest
import torch
from torch import nn

from spikescope.errors import ShapeError
from spikescope.functional import delay, first_spike_index, kaiming_normal_conv_linear_weight, redundant_one_hot


@pytest.mark.parametrize(
    ("steps", "want"),
    [(0, [1.0, 2.0, 3.0]), (1, [0.0, 1.0, 2.0]), (2, [0.0, 0.0, 1.0]), (3, [0.0] * 3), (7, [0.0] * 3)],
)
def test_delay_by_hand(steps, want):
    assert delay(torch.tensor([1.0, 2.0, 3.0]), steps).tolist() == want


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool, torch.int64])
def test_delay_element_by_element(steps, dtype):
    x_seq = torch.arange(1, 31).view(3, 2, 5).transpose(0, 2).to(dtype)  # [5, 2, 3], not contiguous
    y = delay(x_seq, steps)
    assert y.shape == x_seq.shape
    assert y.dtype == dtype
    for t in range(5):
        want = x_seq[t - steps] if t >= steps else torch.zeros_like(x_seq[0])
        assert torch.equal(y[t], want)


def test_delay_of_nothing_and_gradient():
    assert delay(torch.ones(0, 3), 2).shape == (0, 3)
    assert delay(torch.ones(4, 0), 2).shape == (4, 0)
    x_seq = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    for steps in (0, 1, 6):
        assert torch.autograd.gradcheck(lambda x, d=steps: delay(x, d), x_seq)
    x_seq = torch.ones(3)
    delay(x_seq, 0)[0] = 5.0  # never the input itself
    assert x_seq[0] == 1.0


def test_delay_refuses_in_words():
    with pytest.raises(ValueError, match="delay_steps must be a whole number of at least 0, but got -1"):
        delay(torch.ones(3), -1)
    for wrong in (1.0, True, None):
        with pytest.raises(TypeError, match=f"delay_steps must be a whole number, but got {wrong}"):
            delay(torch.ones(3), wrong)
    with pytest.raises(ShapeError, match="time first"):
        delay(torch.tensor(1.0), 1)
    with pytest.raises(TypeError, match=r"torch\.Tensor, but got list"):
        delay([1.0], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool, torch.int32])
def test_first_spike_by_hand(dtype):
    spikes = torch.tensor([[[0, 1, 0, 1], [1, 1, 1, 1]], [[0, 0, 0, 0], [0, 0, 0, 1]]]).to(dtype)
    want = [[[0, 1, 0, 0], [1, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]]]
    found = first_spike_index(spikes)
    assert found.dtype == torch.bool
    assert found.int().tolist() == want


def test_any_value_but_zero_is_a_spike():
    spikes = torch.tensor([[0.0, -1.0, 2.0], [0.0, 0.5, 0.5], [3.0, -3.0, 1.0]], requires_grad=True)
    found = first_spike_index(spikes)
    assert found.int().tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert not found.requires_grad


def test_first_spike_shapes():
    assert first_spike_index(torch.ones(3, 0)).shape == (3, 0)
    assert first_spike_index(torch.ones(0, 3)).shape == (0, 3)
    assert first_spike_index(torch.ones(1)).tolist() == [True]
    across = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).T
    assert first_spike_index(across).int().tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ShapeError, match="time last"):
        first_spike_index(torch.tensor(1.0))


def test_redundant_one_hot_by_hand():
    codes = redundant_one_hot(torch.tensor([2, 0]), 3, 3)
    assert codes.tolist() == [[0, 0, 0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert codes.dtype == torch.float32
    assert torch.equal(redundant_one_hot(torch.tensor([1, 0]), 2, 1), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert redundant_one_hot(torch.zeros(0, dtype=torch.int64), 3, 2).shape == (0, 6)


@pytest.mark.parametrize(
    ("labels", "classes", "n", "error", "text"),
    [
        ([0, 3], 3, 2, ValueError, "labels must be from 0 to 2, but got 0 to 3"),
        ([-1, 1], 3, 2, ValueError, "labels must be from 0 to 2, but got -1 to 1"),
        ([[0]], 3, 2, ShapeError, r"labels \[N\], but got \[1, 1\]"),
        ([0.0], 3, 2, TypeError, r"integer dtype, but got torch\.float32"),
        ([True], 3, 2, TypeError, r"integer dtype, but got torch\.bool"),
        ([0], 0, 2, ValueError, "num_classes must be a whole number of at least 1, but got 0"),
        ([0], 3, 0, ValueError, "n must be a whole number of at least 1, but got 0"),
        ([0], 3, 1.5, TypeError, "n must be a whole number, but got 1.5"),
    ],
)
def test_redundant_one_hot_refuses_in_words(labels, classes, n, error, text):
    with pytest.raises(error, match=text):
        redundant_one_hot(torch.tensor(labels), classes, n)


def test_they_compile():
    def run(x_seq, labels):
        return delay(x_seq, 2), first_spike_index(x_seq), redundant_one_hot(labels, 3, 2)

    args = (torch.tensor([0.0, 1.0, 1.0]), torch.tensor([2, 1]))
    for got, want in zip(torch.compile(run, backend="eager", fullgraph=True)(*args), run(*args), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Linear(301, 97), 301),
        (nn.Conv1d(31, 97, 11), 341),
        (nn.Conv2d(13, 97, 5), 325),
        (nn.Conv3d(11, 97, 3), 297),
        (nn.ConvTranspose2d(97, 13, 5), 325),
    ],
    ids=lambda v: type(v).__name__,
)
def test_kaiming_weights_have_their_spread_and_biases_stay(layer, fan_in):
    torch.manual_seed(0)
    nn.init.constant_(layer.weight, 7.0)
    bias = layer.bias.detach().clone()
    kaiming_normal_conv_linear_weight(nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(layer)))
    weight = layer.weight.detach()
    assert weight.mean().abs() < 0.02 * weight.std()
    assert math.isclose(weight.std(), math.sqrt(2 / 6 / fan_in), rel_tol=0.02)
    assert (weight.abs() > 2 * weight.std()).float().mean() > 0.03  # a normal distribution; a uniform one has none
    assert torch.equal(layer.bias, bias)


def test_kaiming_leaves_other_layers_alone():
    norm = nn.BatchNorm1d(3)
    kaiming_normal_conv_linear_weight(nn.Sequential(norm, nn.Linear(2, 2, bias=False)))
    assert norm.weight.tolist() == [1.0] * 3
