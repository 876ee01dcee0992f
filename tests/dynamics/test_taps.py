"""The taps of a fused run against the same numbers, computed from the eager loop."""

import pytest
import torch
from dynamics_cases import assert_equal, inputs, make

from spikescope.dynamics import eager
from spikescope.dynamics.cpp.chunks import CHUNK
from spikescope.dynamics.cpp.kernel import IO_TYPES
from spikescope.dynamics.fused import run_fused
from spikescope.dynamics.layout import BLOCK, TAPS, support_tap
from spikescope.neuron import AdaptiveLIFNode, LIFNode, NonSpikingIFNode, NonSpikingLIFNode, TernaryIFNode

SUPPORTS = {support_tap(*numbers): numbers for numbers in ((0.83, -0.31, 0.47), (1.1, -float("inf"), 0.0))}
NAMES = (*TAPS, *SUPPORTS)


def flat(seq, strides):
    """`[T, *step]` to `[T, n]`, the neurons in the order in which a step lies in memory."""
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return seq.permute(0, *(1 + axis for axis in order)).reshape(len(seq), -1)


def expected(cls, x_seq, dtype):
    """Output and potential before the reset of every step, by the step function itself."""
    node = make(cls, "torch")
    p = node.params()
    state = eager.start(cls.rest(p), x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:]))
    outputs, levels = [], []
    for x in x_seq:
        out = cls.step(p, state, x.to(dtype))
        state = out.state
        outputs.append(out.output)
        levels.append(out.h)
    return torch.stack(outputs), torch.stack(levels)


def bits(fired):
    """Bits, the least significant first, by arithmetic; `[T, n]` to `[T, ceil(n / 8)]`."""
    padded = torch.zeros(len(fired), -(-fired.shape[1] // 8) * 8, dtype=torch.int64)
    padded[:, : fired.shape[1]] = fired
    return (padded.reshape(len(fired), -1, 8) * torch.tensor([1, 2, 4, 8, 16, 32, 64, 128])).sum(-1).to(torch.uint8)


def tapped(cls, x_seq, names=NAMES, backend="cpp", keep_v=False):
    node = make(cls, backend)
    made = node._definition(node.params())
    state = cls.rest(node.params())
    return run_fused(backend, made.key, state, made.tensors, made.numbers, x_seq, keep_v, tuple(names))


def check(cls, x_seq, backend="cpp", keep_v=False):
    run, taps = tapped(cls, x_seq, backend=backend, keep_v=keep_v)
    wide = torch.float64 if x_seq.dtype is torch.float64 else torch.float32
    y, h = expected(cls, x_seq, wide)
    assert_equal(run.output, y.to(x_seq.dtype), "output")
    count = (y != 0).sum(0)
    assert taps["count"].dtype is (torch.uint8 if len(x_seq) < 256 else torch.int32)
    assert_equal(taps["count"].long(), count, "count")
    assert_equal(taps["packed"], bits(flat(y != 0, x_seq[0].stride())), "packed")
    assert_equal(taps["h"], h, "h")
    for row, block in zip(taps["range"], flat(h, x_seq[0].stride()).split(BLOCK, 1), strict=True):
        assert row[0] == block.min()
        assert row[1] == block.max()
        torch.testing.assert_close(row[2], block.double().sum(), rtol=1e-5, atol=1e-3)  # sums over time in float32
    for name, (v_threshold, low, high) in SUPPORTS.items():
        inside = (h - v_threshold >= low) & (h - v_threshold <= high)
        blocks = flat(inside, x_seq[0].stride()).split(BLOCK, 1)
        assert taps[name].tolist() == [block.sum().item() for block in blocks], name
    return run, taps


@pytest.mark.parametrize("size", [1, 7, 8, 9, 37, 255, 257, 1000])
def test_taps_at_all_sizes(size):
    check(LIFNode, inputs(5, size))


@pytest.mark.parametrize("dtype", IO_TYPES, ids=str)
@pytest.mark.parametrize("size", [CHUNK, 3 * CHUNK, BLOCK, BLOCK + CHUNK, 2 * BLOCK + 3 * CHUNK])
def test_neurons_about_the_ends_of_chunks_and_blocks(size, dtype):
    for neurons in (size - 1, size, size + 1):
        x_seq = inputs(5, neurons, dtype=dtype)
        run, _ = check(AdaptiveLIFNode, x_seq, keep_v=True)
        node = make(AdaptiveLIFNode, "torch", store_v_seq=True)
        node(x_seq)
        assert_equal(run.v_seq, node.v_seq, "v_seq")
        for name, held in run.state._asdict().items():
            assert_equal(held, getattr(node, name), name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_taps_in_other_dtypes(dtype):
    check(LIFNode, inputs(5, 3, 37, dtype=dtype))


def test_outputs_that_are_nothing_once_they_are_rounded_do_not_count():
    """The least number of half precision is halved by the first step, and rounded to zero."""
    x_seq = torch.full((2, 300), 6e-8, dtype=torch.float16)
    run, taps = tapped(NonSpikingLIFNode, x_seq, ("count", "packed"), keep_v=False)
    assert not run.output[0].any()
    assert run.output[1].all()
    assert (taps["count"] == 1).all()


@pytest.mark.parametrize("cls", [TernaryIFNode, AdaptiveLIFNode, NonSpikingIFNode], ids=lambda cls: cls.__name__)
def test_taps_of_other_neurons(cls):
    check(cls, inputs(6, 5, 61))


def test_counts_of_long_runs():
    x_seq = torch.full((520, 75), 2.5)  # more than fit into one vector, and some over
    x_seq[:, ::3] = -1.3
    for steps, dtype in (
        (255, torch.uint8),
        (256, torch.int32),
        (300, torch.int32),
        (510, torch.int32),
        (520, torch.int32),
    ):
        _, taps = check(LIFNode, x_seq[:steps])
        assert taps["count"].dtype is dtype
        assert taps["count"].max() == steps


def test_taps_of_other_layouts():
    check(LIFNode, inputs(5 * 2, 3, 5, 7).to(memory_format=torch.channels_last).unflatten(0, (5, 2)))
    check(LIFNode, inputs(2, 5, 33).transpose(0, 1))


@pytest.mark.parametrize("names", [("count",), ("range", "packed"), ("h",), ()])
def test_taps_one_by_one_in_the_order_asked_for(names):
    x_seq = inputs(5, 37).requires_grad_()
    run, taps = tapped(LIFNode, x_seq, names, keep_v=True)
    assert tuple(taps) == names
    _, every = tapped(LIFNode, x_seq)
    for name, held in taps.items():
        assert_equal(held, every[name], name)
        assert not held.requires_grad
    run.output.sum().backward()
    assert x_seq.grad.count_nonzero() > 0


def test_taps_change_nothing_else():
    x_seq = inputs(70, 37)
    plain, with_taps = (tapped(LIFNode, x_seq, names, keep_v=True)[0] for names in ((), NAMES))
    assert_equal(with_taps.output, plain.output, "output")
    assert_equal(with_taps.v_seq, plain.v_seq, "v_seq")
    assert_equal(with_taps.state.v, plain.state.v, "v")


def test_taps_of_nothing():
    _, taps = tapped(LIFNode, torch.empty(0, 5))
    assert taps["count"].tolist() == [0] * 5
    assert taps["packed"].shape == (0, 1)
    assert taps["range"].tolist() == [[float("inf"), float("-inf"), 0.0]]
    _, taps = tapped(LIFNode, torch.empty(4, 0))
    assert [tuple(taps[name].shape) for name in TAPS] == [(0,), (4, 0), (4, 0), (0, 3)]
    assert all(taps[name].shape == (0,) for name in SUPPORTS)


@pytest.mark.parametrize("backend", ["cpp", "torch"])
def test_a_nan_shows_in_the_range_and_is_outside_any_support(backend):
    x_seq = torch.full((3, BLOCK + 5), 0.41)
    x_seq[1, BLOCK + 2] = float("nan")
    node = LIFNode(step_mode="m", backend=backend)
    node.request_taps(("range", *SUPPORTS))
    node(x_seq)
    assert node.tapped["range"].isnan().tolist() == [[False] * 3, [True] * 3]
    everywhere = support_tap(1.1, -float("inf"), 0.0)
    assert node.tapped[everywhere].tolist() == [3 * BLOCK, 3 * 5 - 2]  # from the second step on it stays NaN
