"""Every reducer by its kernel: what PyTorch's operations give, for all numbers, layouts and numbers of threads."""

import math
from contextlib import contextmanager

import pytest
import torch

from spikescope.monitor import reduce
from spikescope.monitor.reduce import histogram, registry
from spikescope.monitor.reduce.cpp import bins, common
from spikescope.spikes import PackedSpikes

CASES = {name: kind(**kind.example) for name, kind in registry.items()}
CASES |= {
    "SupportShare, odd": reduce.SupportShare(low=-0.3, high=math.inf, v_threshold=0.7),
    "Fano, windows": reduce.Fano(window=2),
    "Histogram, fine": reduce.Histogram(tuple(i / 50 for i in range(-100, 101))),
    "Histogram, finer": reduce.Histogram(tuple(i / 2000 for i in range(-4000, 4001))),
    "Histogram, at zero": reduce.Histogram((-0.0, 1e-42, 1.0)),
    "Histogram, huge": reduce.Histogram((-3.5e38, 1e30, 3.4e38, 1e39)),
    "LogHistogram, wide": reduce.LogHistogram(low=-44, high=38, per_decade=1),
}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SHAPES = ((5, 3, 1031), (3, 2, 4, 37, 29), (2, 1, 4099), (1, 1, 1), (7, 1500, 3))
ROUNDING = {"rtol": 1e-11, "atol": 1e-11}
every = pytest.mark.parametrize("name", CASES)


def spikes(shape, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2).float()


def potentials(shape, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=drawn) * 10 ** (torch.rand(shape, generator=drawn) * 4 - 2)


def values(result):
    """The numbers of a result, flat."""
    if isinstance(result, PackedSpikes):
        return [result.dense()]
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, tuple):
        return [v for part in result for v in values(part)]
    return [torch.tensor(result) if isinstance(result, int | float) else result]


def found(reducer, x):
    """All that a reducer says, and the summary from which it goes on; what a refusal says, where it refuses."""
    try:
        summary = reducer.measure(x, start=3)
        return values(tuple(summary)) + values(reducer.result(summary))
    except ValueError as refusal:
        return [str(refusal)]


def fresh(reducer):
    return type(reducer)(**{name: getattr(reducer, name) for name in reducer.__dataclass_fields__ if name[0] != "_"})


@contextmanager
def without_kernels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "_function", lambda *given: None)
        yield


def check_same(a, b):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        if not isinstance(left, torch.Tensor):
            assert left == right
            continue
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
        if left.is_floating_point():
            torch.testing.assert_close(left, right, equal_nan=True, **ROUNDING)
        else:
            assert torch.equal(left, right)


def check_both(reducer, x):
    by_kernel = found(fresh(reducer), x)
    with without_kernels():
        check_same(by_kernel, found(fresh(reducer), x))


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_kernel_gives_what_pytorch_gives(name, dtype):
    for shape in SHAPES:
        for made in (spikes, potentials):
            check_both(CASES[name], made(shape).to(dtype))


@every
def test_however_the_signal_lies_in_memory(name):
    x = spikes((4, 3, 8, 15, 17))
    for held in (
        x.flatten(0, 1).to(memory_format=torch.channels_last).view(x.shape),
        x.transpose(0, 4).contiguous().transpose(0, 4),
        x[:, ::2, 1:, :, 2:],
        x[:1].expand_as(x),
        x[:, :1].expand_as(x),
        x.flip(0),
    ):
        check_both(CASES[name], held)


ODD = {
    "NaN": math.nan,
    "negative NaN": -math.nan,
    "infinite": math.inf,
    "negative and infinite": -math.inf,
    "negative zero": -0.0,
    "subnormal": -1e-42,
    "largest": 3.38e38,
}


@every
@pytest.mark.parametrize("odd", ODD)
def test_odd_numbers_are_taken_as_pytorch_takes_them(name, odd):
    """Wherever they are: among many, as all there are, as the first of a block."""
    places = torch.tensor([0, 1, 5, 4095, 4096, 5000])
    for dtype in (torch.float32, torch.bfloat16):
        x = potentials((2, 3, 1711)).to(dtype)
        x.view(-1)[places] = ODD[odd]
        check_both(CASES[name], x)
        check_both(CASES[name], torch.full((3, 2, 9), ODD[odd], dtype=dtype))


@every
def test_the_number_of_threads_changes_no_bit(name):
    made = spikes if {"count", "packed"} & {*CASES[name].taps} else potentials
    x, before = made((4, 3, 20_011)), torch.get_num_threads()
    told = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            told.append(found(fresh(CASES[name]), x))
    finally:
        torch.set_num_threads(before)
    for other in told[1:]:
        for left, right in zip(told[0], other, strict=True):
            assert torch.allclose(left, right, 0, 0, equal_nan=True) if torch.is_tensor(left) else left == right


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_moments_of_values_far_from_zero(offset):
    x = potentials((4, 5, 3001)).double() / 100 + offset
    off = x - x.mean()
    var = off.square().mean()
    wanted = x.mean(), var, off.pow(3).mean() / var**1.5, off.pow(4).mean() / var**2 - 3
    got = reduce.Moments().result(reduce.Moments().measure(x))
    assert got == pytest.approx([value.item() for value in wanted], rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_constant_signal_has_no_variance(dtype):
    for whole in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not whole:
                patch.setattr(common, "_function", lambda *given: None)
            summary = reduce.Moments().measure(torch.full((3, 5, 4099), 0.1, dtype=dtype))
            got = reduce.Moments().result(reduce.Moments().merge(summary, summary, "batch"))
        assert got.var == 0
        assert math.isnan(got.skew)


def test_numbers_at_an_edge_lie_above_it_and_those_before_below():
    edges = (-1.5, -0.1, 0.1, 0.3, 1e-3 + 0.3, 7.0)
    for real in (torch.float32, torch.float64):
        at = bins.bounds_of(edges, real)
        below = torch.nextafter(at, torch.full_like(at, -math.inf))
        x = torch.cat((at, below)).view(1, 1, -1)
        counts = bins.bin_counts(x, edges)
        assert counts[:-2].tolist() == [1, 2, 2, 2, 2, 2, 1]
        with without_kernels():
            assert torch.equal(counts[:-2], histogram.binned(x, edges).counts)


def test_edges_too_close_for_the_table_are_left_to_pytorch():
    assert bins.bin_counts(torch.ones(1, 1, 5), CASES["Histogram, finer"].edges) is None
    assert bins.bin_counts(torch.ones(1, 1, 5), CASES["Histogram, fine"].edges) is not None
