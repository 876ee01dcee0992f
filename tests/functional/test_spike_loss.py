"""Losses of rates, counts, first spikes and potentials: by hand, by other formulas, and with their gradients."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from spikescope import functional, neuron
from spikescope.errors import ShapeError
from spikescope.functional import (
    count_cross_entropy,
    count_mse_loss,
    first_spike_cross_entropy,
    first_spike_mse_loss,
    first_spike_time,
    membrane_cross_entropy,
    membrane_mse_loss,
    rate_cross_entropy,
    rate_mse_loss,
)

LOSSES = {
    "rate_cross_entropy": rate_cross_entropy,
    "count_cross_entropy": count_cross_entropy,
    "rate_mse_loss": partial(rate_mse_loss, correct_rate=0.83, incorrect_rate=0.07),
    "count_mse_loss": partial(count_mse_loss, correct_rate=0.83, incorrect_rate=0.07),
    "first_spike_cross_entropy": partial(first_spike_cross_entropy, tau=1.7),
    "first_spike_mse_loss": partial(first_spike_mse_loss, correct_time=0.6, incorrect_time=3.3),
    "membrane_cross_entropy each": membrane_cross_entropy,
    "membrane_cross_entropy max": partial(membrane_cross_entropy, over_time="max"),
    "membrane_mse_loss each": partial(membrane_mse_loss, correct_potential=0.9, incorrect_potential=-0.2),
    "membrane_mse_loss max": partial(membrane_mse_loss, over_time="max"),
}
ENTROPIES = [name for name in LOSSES if "entropy" in name]
OF_SPIKES = [name for name in LOSSES if "membrane" not in name]
every = pytest.mark.parametrize("name", LOSSES)

# two neurons, three steps, one sample: counts 2 and 1, first spikes at 1 and 0
TRAIN = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
RIGHT, WRONG = torch.tensor([0]), torch.tensor([1])


def of_two(score, other):
    """The cross entropy of the first of two classes."""
    return math.log(1 + math.exp(other - score))


@pytest.mark.parametrize(
    ("loss", "right", "wrong"),
    [
        (rate_cross_entropy, of_two(2 / 3, 1 / 3), of_two(1 / 3, 2 / 3)),
        (count_cross_entropy, of_two(2, 1), of_two(1, 2)),
        (rate_mse_loss, (1 / 9 + 1 / 9) / 2, (4 / 9 + 4 / 9) / 2),
        (partial(rate_mse_loss, correct_rate=0.5, incorrect_rate=1 / 3), 1 / 72, (1 / 9 + 1 / 36) / 2),
        (partial(count_mse_loss, correct_rate=0.5, incorrect_rate=1 / 3), 1 / 8, (1 + 1 / 4) / 2),
        (first_spike_cross_entropy, of_two(-1, 0), of_two(0, -1)),
        (partial(first_spike_cross_entropy, tau=0.5), of_two(-2, 0), of_two(0, -2)),
        (first_spike_mse_loss, (1 / 9 + 1) / 2, (4 / 9 + 0) / 2),
        (partial(first_spike_mse_loss, correct_time=2, incorrect_time=1), (1 / 9 + 1 / 9) / 2, (0 + 4 / 9) / 2),
    ],
)
def test_by_hand(loss, right, wrong):
    assert math.isclose(loss(TRAIN, RIGHT), right, rel_tol=1e-6)
    assert math.isclose(loss(TRAIN, WRONG), wrong, rel_tol=1e-6)


POTENTIALS = torch.tensor([[[0.5, -1.0]], [[2.5, 0.25]], [[-3.0, 1.5]]])  # maxima 2.5 and 1.5


@pytest.mark.parametrize(
    ("loss", "want"),
    [
        (membrane_cross_entropy, (of_two(0.5, -1) + of_two(2.5, 0.25) + of_two(-3, 1.5)) / 3),
        (partial(membrane_cross_entropy, over_time="max"), of_two(2.5, 1.5)),
        (membrane_mse_loss, (0.25 + 1 + 2.25 + 0.0625 + 16 + 2.25) / 6),
        (partial(membrane_mse_loss, over_time="max"), (2.25 + 2.25) / 2),
        (
            partial(membrane_mse_loss, correct_potential=3.0, incorrect_potential=1.0, over_time="max"),
            (0.25 + 0.25) / 2,
        ),
    ],
)
def test_of_potentials_by_hand(loss, want):
    assert math.isclose(loss(POTENTIALS, RIGHT), want, rel_tol=1e-6)


def test_the_cross_entropy_of_every_step_is_that_of_efficient_training():
    v_seq, target = torch.randn(5, 3, 4), torch.tensor([2, 0, 3])
    want = functional.temporal_efficient_training_cross_entropy(v_seq, target, label_smoothing=0.1)
    assert membrane_cross_entropy(v_seq, target, label_smoothing=0.1) == want


def test_the_first_spike_is_where_the_mask_says_and_T_for_the_silent():
    torch.manual_seed(0)
    spikes = (torch.rand(11, 7, 5, 3) < 0.15).float()
    mask = functional.first_spike_index(spikes.movedim(0, -1))
    steps = torch.arange(11).float()
    want = torch.where(mask.any(-1), (mask * steps).sum(-1), 11)
    assert (want == 11).any()
    assert torch.equal(first_spike_time(spikes), want)
    assert torch.equal(first_spike_time(spikes[:1]), 1 - spikes[0])
    assert torch.equal(first_spike_time(spikes[:0]), torch.zeros(7, 5, 3))


@pytest.mark.parametrize("train", range(16))
def test_the_gradient_of_the_first_spike_is_the_change_by_a_whole_spike(train):
    spikes = torch.tensor([float(train >> t & 1) for t in range(4)], requires_grad=True)
    (gradient,) = torch.autograd.grad(first_spike_time(spikes), spikes)
    for t in range(4):
        without, having = spikes.detach().clone(), spikes.detach().clone()
        without[t], having[t] = 0, 1
        assert gradient[t] == first_spike_time(having) - first_spike_time(without)


def test_of_probabilities_it_is_the_expected_time():
    p = [0.3, 0.85, 0.45]
    want = sum(
        (next((t for t in range(3) if n >> t & 1), 3)) * math.prod(q if n >> t & 1 else 1 - q for t, q in enumerate(p))
        for n in range(8)
    )
    assert math.isclose(first_spike_time(torch.tensor(p, dtype=torch.float64)), want, rel_tol=1e-12)


def sequence(name, *shape, dtype=torch.float64):
    torch.manual_seed(0)
    made = torch.rand(shape, dtype=torch.float64) if name in OF_SPIKES else torch.randn(shape, dtype=torch.float64)
    return made.to(dtype)


@every
@pytest.mark.parametrize("rest", [(), (3,), (2, 3)], ids=str)
def test_gradients(name, rest):
    x_seq = sequence(name, 4, 3, 5, *rest).requires_grad_()
    target = torch.randint(5, (3, *rest))
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target), x_seq)
    if not rest:
        assert torch.autograd.gradgradcheck(lambda x: LOSSES[name](x, target), x_seq)


@every
def test_shares_of_one_class_are_that_class(name):
    x_seq, target = sequence(name, 4, 3, 5, 2), torch.tensor([[0, 4], [3, 3], [1, 2]])
    shares = F.one_hot(target, 5).movedim(-1, 1)
    for dtype in (torch.float64, torch.float32, torch.float16):
        torch.testing.assert_close(LOSSES[name](x_seq, shares.to(dtype)), LOSSES[name](x_seq, target))
    assert LOSSES[name](x_seq.float(), shares.double()).dtype == torch.float32


@every
def test_reductions(name):
    x_seq, target = sequence(name, 4, 3, 5, 2), torch.tensor([[0, 4], [3, 3], [1, 2]])
    each = LOSSES[name](x_seq, target, reduction="none")
    assert each.shape == ((3, 2) if name in ENTROPIES else (3, 5, 2))
    torch.testing.assert_close(LOSSES[name](x_seq, target, reduction="sum"), each.sum())
    torch.testing.assert_close(LOSSES[name](x_seq, target), each.mean())
    empty = LOSSES[name](x_seq[:, :0], target[:0], reduction="sum")
    assert empty == 0
    assert LOSSES[name](x_seq[:, :0], target[:0], reduction="none").numel() == 0


@pytest.mark.parametrize("name", ENTROPIES)
def test_the_options_of_the_cross_entropy_are_passed_on(name):
    scores = {
        "rate_cross_entropy": lambda x: x.mean(0),
        "count_cross_entropy": lambda x: x.sum(0),
        "first_spike_cross_entropy": lambda x: -first_spike_time(x) / 1.7,
        "membrane_cross_entropy each": lambda x: x[0],
        "membrane_cross_entropy max": lambda x: x.amax(0),
    }[name]
    x_seq, target = sequence(name, 1 if "each" in name else 4, 3, 5), torch.tensor([2, 0, 4])
    options = {"weight": torch.rand(5).double(), "label_smoothing": 0.13, "ignore_index": 0}
    for reduction in ("mean", "sum", "none"):
        want = F.cross_entropy(scores(x_seq), target, **options, reduction=reduction)
        torch.testing.assert_close(LOSSES[name](x_seq, target, **options, reduction=reduction), want)
    assert LOSSES[name](x_seq, target, weight=torch.ones(5)) == LOSSES[name](x_seq, target)  # of another dtype


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(name, dtype):
    x_seq, target = sequence(name, 4, 3, 5, dtype=dtype), torch.tensor([2, 0, 4])
    loss = LOSSES[name](x_seq.requires_grad_(), target)
    assert loss.dtype == torch.float32
    assert loss == LOSSES[name](x_seq.float(), target)
    loss.backward()
    assert x_seq.grad.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LOSSES[name](x_seq, target), loss)


def test_half_precision_counts_far():
    ones = torch.ones(3001, 1, 2, dtype=torch.float16)
    assert count_mse_loss(ones, RIGHT, incorrect_rate=1.0) == 0
    assert first_spike_time(0 * ones).tolist() == [[3001.0, 3001.0]]


@every
def test_a_view_that_is_not_contiguous(name):
    x_seq, target = sequence(name, 4, 3, 5), torch.tensor([2, 0, 4])
    turned = x_seq.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not turned.is_contiguous()
    torch.testing.assert_close(LOSSES[name](turned, target), LOSSES[name](x_seq, target))


@every
@pytest.mark.slow(keep=3)
def test_compiled_and_transformed(name):
    x_seq, target = sequence(name, 4, 3, 5), torch.tensor([2, 0, 4])
    torch.compiler.reset()  # the functions share code, which is compiled a few times only
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x_seq, target), LOSSES[name](x_seq, target))
    both = torch.stack((x_seq, x_seq.flip(0)))
    gradient = torch.func.grad(lambda x: LOSSES[name](x, target))
    torch.testing.assert_close(torch.func.vmap(gradient)(both)[1], gradient(both[1]))


@every
def test_the_gradient_reaches_the_weights_through_spikes(name):
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 3)
    node = neuron.LIFNode(step_mode="m", store_v_seq=True)
    spikes = node(linear(2 * torch.rand(5, 4, 6)))
    LOSSES[name](spikes if name in OF_SPIKES else node.v_seq, torch.tensor([0, 1, 2, 0])).backward()
    assert linear.weight.grad.isfinite().all()
    assert linear.weight.grad.abs().max() > 0


@every
@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((4, 3), torch.zeros(3).long()),
        ((0, 3, 5), torch.zeros(3).long()),
        ((4, 3, 5), torch.zeros(2).long()),
        ((4, 3, 5), torch.zeros(3)),
        ((4, 3, 5), torch.zeros(3, 5).long()),
        ((4, 3, 5, 2), torch.zeros(3).long()),
    ],
    ids=lambda v: str(tuple(getattr(v, "shape", v))),
)
def test_shapes_that_do_not_fit_are_refused(name, shape, target):
    with pytest.raises(ShapeError, match=r"a sequence \[T, N, C, \*\] of at least one step with a target of classes"):
        LOSSES[name](torch.zeros(shape), target)


@every
def test_what_else_is_refused(name):
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', but got 'total'"):
        LOSSES[name](TRAIN, RIGHT, reduction="total")
    with pytest.raises(TypeError, match=r"the sequence must be a torch\.Tensor, but got list"):
        LOSSES[name]([1.0], RIGHT)
    with pytest.raises(TypeError, match=r"target must be a torch\.Tensor, but got int"):
        LOSSES[name](TRAIN, 0)
    if name not in ENTROPIES:
        with pytest.raises(ValueError, match="classes from 0 to 1, but got 2 to 2"):
            LOSSES[name](TRAIN, torch.tensor([2]))


def test_refused_arguments():
    for tau in (0, None):
        with pytest.raises(ValueError, match=f"tau must be above 0, but got {tau}"):
            first_spike_cross_entropy(TRAIN, RIGHT, tau=tau)
    with pytest.raises(ValueError, match=r"or probabilities between, but got values from 0 to 2"):
        first_spike_time(2 * TRAIN)
    with pytest.raises(ShapeError, match=r"spikes \[T, \*\] with time first, but got \[\]"):
        first_spike_time(torch.tensor(1.0))
    for loss in (membrane_cross_entropy, membrane_mse_loss):
        with pytest.raises(ValueError, match="over_time must be one of 'each', 'max', but got 'last'"):
            loss(TRAIN, RIGHT, over_time="last")


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_classes_may_be_integers_of_any_width(name, dtype):
    spike_seq = (torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    target = torch.tensor([1, 0])
    assert torch.equal(LOSSES[name](spike_seq, target.to(dtype)), LOSSES[name](spike_seq, target))
