"""The van Rossum distance against its closed forms, its integral, another library, and the laws of a distance."""

import math

import pytest
import torch

from spikescope.errors import ShapeError
from spikescope.functional import van_rossum_distance


def train(T, *times, dtype=torch.float64):
    made = torch.zeros(T, 1, dtype=dtype)
    made[list(times)] = 1
    return made


def trains(T, *rest, seed=0, rate=0.2):
    return (torch.rand(T, *rest, generator=torch.Generator().manual_seed(seed)) < rate).double()


@pytest.mark.parametrize("tau", [0.4, 3.7, 50.0])
@pytest.mark.parametrize("T", [1, 2, 13])
def test_a_spike_more_is_one_half(T, tau):
    for t in range(T):
        assert van_rossum_distance(train(T, t), train(T), tau) == 0.5


@pytest.mark.parametrize("late", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("tau", [0.7, 4.3])
def test_a_spike_that_is_late(late, tau):
    got = van_rossum_distance(train(13, 0), train(13, late), tau)
    assert math.isclose(got, 1 - math.exp(-late / tau), rel_tol=1e-12)


def test_the_limits_are_coincidences_and_numbers():
    x, y = train(21, 1, 5, 9, 14), train(21, 2, 5, 20)  # five spikes alone; four against three
    assert math.isclose(van_rossum_distance(x, y, 1e-3), 5 / 2, rel_tol=1e-12)
    assert math.isclose(van_rossum_distance(x, y, 1e9), (4 - 3) ** 2 / 2, rel_tol=1e-6)


def test_it_is_the_integral_of_the_squared_difference():
    x, y, tau = trains(17, 1, seed=1), trains(17, 1, seed=2), 3.3
    fine = 2000  # parts of a step; the midpoint rule is off by (1 / fine tau)^2
    t = (torch.arange((17 + 60) * fine, dtype=torch.float64) + 0.5) / fine
    difference = torch.zeros_like(t)
    for step, weight in enumerate((x - y).flatten()):
        difference += weight * torch.exp(-(t - step) / tau) * (t >= step)
    want = (difference**2).sum() / fine / tau
    assert want > 0.5
    assert math.isclose(van_rossum_distance(x, y, tau), want, rel_tol=1e-6)


@pytest.mark.parametrize("tau", [0.9, 6.1])
def test_elephant_has_the_same_but_for_its_norm(tau):
    quantities = pytest.importorskip("quantities")
    neo = pytest.importorskip("neo")
    dissimilarity = pytest.importorskip("elephant.spike_train_dissimilarity")
    every = trains(37, 5)
    given = [
        neo.SpikeTrain(held.nonzero().flatten().double().numpy(), units="ms", t_stop=40.0) for held in every.unbind(1)
    ]
    want = dissimilarity.van_rossum_distance(given, time_constant=tau * quantities.ms)  # a spike more is 1, not squared
    for i in range(5):
        got = van_rossum_distance(every[:, i : i + 1].expand(-1, 5), every, tau, "none")
        torch.testing.assert_close(got, torch.from_numpy(want[i] ** 2 / 2), rtol=1e-9, atol=1e-9)


def test_its_root_is_a_distance():
    x, y, z = (trains(29, 11, 3, seed=s) for s in range(3))
    between = [van_rossum_distance(*pair, 2.9, "none").sqrt() for pair in ((x, y), (y, z), (x, z))]
    assert bool((between[2] <= between[0] + between[1] + 1e-12).all())
    torch.testing.assert_close(van_rossum_distance(y, x, 2.9, "none"), between[0] ** 2)
    assert van_rossum_distance(x, x, 2.9) == 0
    assert bool((between[0] > 0).all())


def test_reductions_and_empty_sequences():
    x, y = trains(9, 4, 3), trains(9, 4, 3, seed=1)
    each = van_rossum_distance(x, y, 2.2, "none")
    assert each.shape == (4, 3)
    torch.testing.assert_close(van_rossum_distance(x, y, 2.2), each.mean())
    torch.testing.assert_close(van_rossum_distance(x, y, 2.2, "sum"), each.sum())
    assert van_rossum_distance(x[:0], y[:0], 2.2) == 0
    assert van_rossum_distance(x[:, :0], y[:, :0], 2.2, "sum") == 0
    turned = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert torch.equal(van_rossum_distance(turned, y, 2.2), van_rossum_distance(x, y, 2.2))


@pytest.mark.parametrize("T", [1, 2, 3, 5, 8])
def test_gradients(T):
    x = torch.rand(T, 2, 3, dtype=torch.float64, requires_grad=True)
    y = torch.rand(T, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: van_rossum_distance(x, y, 1.9), (x, y))
    assert torch.autograd.gradgradcheck(lambda x: van_rossum_distance(x, y.detach(), 1.9), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_other_precisions(dtype):
    x, y = trains(300, 2), trains(300, 2, seed=1)
    got = van_rossum_distance(x.to(dtype), y.to(dtype), 7.7, "none")
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), van_rossum_distance(x, y, 7.7, "none"), rtol=1e-5, atol=1e-5)


def test_compiled_and_transformed():
    x, y = trains(13, 2, 3), trains(13, 2, 3, seed=1)
    torch.compiler.reset()
    compiled = torch.compile(van_rossum_distance, backend="eager", fullgraph=True)
    assert compiled(x, y, 3.1) == van_rossum_distance(x, y, 3.1)
    each = torch.func.vmap(lambda x, y: van_rossum_distance(x, y, 3.1), in_dims=2)(x, y)
    torch.testing.assert_close(each, van_rossum_distance(x, y, 3.1, "none").mean(0))


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((torch.ones(3, 2), torch.ones(4, 2), 1.0), ShapeError, r"the same shape, but got \[T=3, N=2\] and \[T=4, N=2"),
        ((torch.ones(3), torch.ones(3), 1.0), ShapeError, r"two sequences \[T, N, \*\]"),
        ((torch.ones(3, 2), torch.ones(3, 2), 0.0), ValueError, "tau must be above 0, but got 0.0"),
        ((torch.ones(3, 2), torch.ones(3, 2), "long"), ValueError, "tau must be above 0, but got 'long'"),
        ((torch.ones(3, 2), torch.ones(3, 2), math.nan), ValueError, "tau must be above 0, but got nan"),
        ((torch.ones(3, 2), torch.ones(3, 2), 1.0, "total"), ValueError, "reduction must be one of"),
        (([1.0], torch.ones(3, 2), 1.0), TypeError, "x_seq must be a"),
        ((torch.ones(3, 2), [1.0], 1.0), TypeError, "y_seq must be a"),
    ],
)
def test_refused_in_words(args, error, text):
    with pytest.raises(error, match=text):
        van_rossum_distance(*args)
