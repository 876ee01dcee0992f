"""Packed spikes against the dense tensor that they stand for."""

import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from spikescope.errors import MissingExtraError, ShapeError
from spikescope.spikes import CompressedSpikes, PackedSpikes, bool_spike_to_float, float_spike_to_bool
from spikescope.spikes.bits import pack_bool, pack_by_sums
from spikescope.spikes.kernel import SMALL, pack_rows, unpack_bytes

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
]
shapes = st.lists(st.integers(0, 9), min_size=2, max_size=4).map(tuple)
few = settings(max_examples=30, deadline=None)


def spikes(shape, seed=0, dtype=torch.float32, rate=0.4):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).to(dtype)


def test_bits_are_least_significant_first_and_the_tail_is_zero():
    s = torch.tensor([0.0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0])
    bits, dtype, shape, padding = float_spike_to_bool(s)
    assert (bits.tolist(), bits.dtype, dtype, shape, padding) == ([216, 7], torch.uint8, torch.float32, (13,), 3)


@pytest.mark.parametrize("dtype", DTYPES[:4])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_kernel_unpacks_every_byte_as_the_table_does(dtype, rows):
    bits = torch.arange(256, dtype=torch.uint8).repeat(rows, 3 * SMALL // 2048)
    found = unpack_bytes(bits, dtype)
    expected = (bits.unsqueeze(2) >> torch.arange(8)) & 1
    assert found is not None
    assert found.dtype is dtype
    assert torch.equal(found, expected.flatten(1).to(dtype))
    assert unpack_bytes(bits[:, ::2], dtype) is None
    assert unpack_bytes(bits, torch.int32) is None


@few
@given(shape=st.lists(st.integers(0, 7), max_size=4).map(tuple), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_packing_and_unpacking_is_the_identity(shape, dtype, seed):
    s = spikes(shape, seed, dtype)
    packed = float_spike_to_bool(s)
    back = bool_spike_to_float(*packed)
    named = dict(zip(("spike_b", "s_dtype", "s_shape", "s_padding"), float_spike_to_bool(spike=s), strict=True))
    assert torch.equal(bool_spike_to_float(**named), back)
    assert back.dtype == dtype
    assert torch.equal(back, s)
    assert packed[0].numel() == -(-s.numel() // 8)
    assert packed[3] == 8 * packed[0].numel() - s.numel()
    assert packed[0].tolist() == np.packbits(s.bool().numpy(), bitorder="little").tolist()


def test_memory_layout_does_not_matter():
    s = spikes((3, 5, 4, 7))
    laid = s.contiguous(memory_format=torch.channels_last)
    for other in (laid, s.transpose(1, 3).contiguous().transpose(1, 3), s.repeat_interleave(2, 3)[..., ::2]):
        assert torch.equal(float_spike_to_bool(other)[0], float_spike_to_bool(s)[0])
        assert PackedSpikes.from_dense(other) == PackedSpikes.from_dense(s)


def test_gradients_and_negative_zero_are_no_obstacle():
    s = torch.tensor([1.0, -0.0], requires_grad=True)
    assert float_spike_to_bool(s)[0].tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_other_values_are_refused(dtype):
    for odd in (2, -1) if dtype == torch.int32 else (0.5, 1 + torch.finfo(dtype).eps, torch.finfo(dtype).tiny, -1):
        s = torch.zeros(3, 4, dtype=dtype)
        s[1, 2] = odd
        with pytest.raises(ValueError, match="packs spikes, which are 0 or 1, but got the value"):
            float_spike_to_bool(s)
        with pytest.raises(ValueError, match=r"PackedSpikes.from_dense packs spikes"):
            PackedSpikes.from_dense(s)
    if dtype.is_floating_point:
        with pytest.raises(ValueError, match="got the value nan"):
            float_spike_to_bool(torch.tensor([1.0, float("nan")], dtype=dtype))


def test_what_is_no_spike_tensor_is_refused():
    with pytest.raises(TypeError, match=r"must be a torch.Tensor, but got list"):
        float_spike_to_bool([0, 1])
    with pytest.raises(TypeError, match="packs real zeros and ones"):
        float_spike_to_bool(torch.zeros(2, dtype=torch.complex64))


def test_a_padding_of_eight_is_understood():
    s = spikes((4, 4))
    bits, dtype, shape, padding = float_spike_to_bool(s)
    assert padding == 0
    assert torch.equal(bool_spike_to_float(bits, dtype, shape, 8), s)
    assert torch.equal(bool_spike_to_float(torch.cat((bits, bits.new_zeros(1))), dtype, shape, 8), s)


def test_bits_that_do_not_fit_are_refused():
    bits = torch.zeros(2, dtype=torch.uint8)
    for shape, padding in (((13,), 0), ((13,), 8), ((17,), 7), ((8,), 0)):
        with pytest.raises(ShapeError, match="spikes, which take"):
            bool_spike_to_float(bits, torch.float32, shape, padding)
    with pytest.raises(TypeError, match=r"bits must be a torch.uint8 tensor with 1 axes"):
        bool_spike_to_float(bits.float(), torch.float32, (16,))


@few
@given(shape=st.tuples(st.integers(0, 5), st.integers(0, 20)))
def test_the_road_of_other_devices_packs_the_same_bits(shape):
    s = spikes(shape, dtype=torch.bool)
    assert torch.equal(pack_by_sums(s), pack_bool(s))


@few
@given(shape=shapes, order=st.sampled_from(["step", "time"]), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_a_packed_train_is_its_dense_tensor(shape, order, dtype, seed):
    s = spikes(shape, seed, dtype)
    train = PackedSpikes.from_dense(s, order)
    assert (train.shape, train.dtype, train.order, len(train)) == (s.shape, dtype, order, shape[0])
    assert torch.equal(train.dense(), s)
    whole = s.double()
    assert train.count().item() == whole.sum()
    assert torch.equal(train.count("step").double(), whole.flatten(1).sum(1) if s.numel() else torch.zeros(shape[0]))
    assert torch.equal(train.count("neuron").double(), whole.sum((0, 1)))
    if s.numel():
        assert train.rate() == pytest.approx(whole.mean().item(), rel=1e-12)
        torch.testing.assert_close(train.rate("neuron"), whole.mean((0, 1)))
        torch.testing.assert_close(train.rate("step"), whole.flatten(1).mean(1))
    else:
        assert np.isnan(train.rate())


@few
@given(shape=shapes, order=st.sampled_from(["step", "time"]), data=st.data())
def test_slices_in_time_are_those_of_the_tensor(shape, order, data):
    s = spikes(shape)
    train = PackedSpikes.from_dense(s, order)
    cut = data.draw(st.slices(shape[0]))
    times = torch.arange(shape[0])[list(range(*cut.indices(shape[0])))]
    assert train[cut] == PackedSpikes.from_dense(s[times])
    assert train[cut].count().item() == s[times].sum()
    assert torch.equal(torch.stack(list(train)) if shape[0] else s, s)


def test_column_counts_do_not_overflow_a_byte():
    s = spikes((700, 1, 11), rate=0.97)
    assert torch.equal(PackedSpikes.from_dense(s).count("neuron"), s.sum((0, 1)).long())
    assert PackedSpikes.from_dense(s, "time").count().item() == s.sum()


@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (300, 7, 8), (4, 3, 5), (0, 3, 8), (4, 0, 8), (2, 3)])
def test_counts_of_neurons_whether_or_not_a_sample_is_whole_bytes(shape):
    s = spikes(shape)
    for order in ("step", "time"):
        counts = PackedSpikes.from_dense(s, order).count("neuron")
        assert counts.shape == s.shape[2:]
        assert torch.equal(counts, s.sum((0, 1)).long())


def test_counts_of_a_slice_that_starts_inside_a_word():
    s = spikes((9, 2, 64))
    train = PackedSpikes.from_dense(s)
    shifted = PackedSpikes(
        torch.cat((torch.zeros(3, dtype=torch.uint8), train.bits.flatten()))[3:].view(9, 16), s.shape
    )
    assert shifted.count("step").tolist() == s.sum((1, 2)).tolist()
    assert shifted[2:].count("neuron").tolist() == s[2:].sum((0, 1)).tolist()


@few
@given(cuts=st.lists(st.integers(0, 11), max_size=3), order=st.sampled_from(["step", "time"]))
def test_joined_parts_are_the_whole(cuts, order):
    s = spikes((11, 2, 3))
    borders = [0, *sorted(cuts), 11]
    parts = [PackedSpikes.from_dense(s[a:b], order) for a, b in itertools.pairwise(borders)]
    assert PackedSpikes.concat(parts) == PackedSpikes.from_dense(s)
    assert PackedSpikes.concat(parts).order == order


def test_equality_looks_at_shape_dtype_and_spikes():
    s = spikes((6, 2, 5))
    train = PackedSpikes.from_dense(s)
    assert train == PackedSpikes.from_dense(s, "time")
    assert train != PackedSpikes.from_dense(1 - s)
    assert train != PackedSpikes.from_dense(s.bool())
    assert train != PackedSpikes.from_dense(s.view(6, 5, 2))
    assert train != "spikes"
    with pytest.raises(TypeError, match="unhashable"):
        hash(train)


def test_the_size_is_that_of_the_bits():
    train = PackedSpikes.from_dense(spikes((4, 3, 5)))
    assert train.nbytes == 4 * 2
    assert train.to("time").nbytes == 15
    assert train.to("time").to("step") == train
    assert float_spike_to_bool(torch.zeros(1024))[0].numel() == 128


def test_rows_of_a_kernel_are_taken_over_and_checked():
    s = spikes((4, 3, 5), dtype=torch.bool)
    rows = PackedSpikes.from_dense(s).bits
    assert PackedSpikes.from_rows(rows, (4, 3, 5), torch.bool) == PackedSpikes.from_dense(s)
    dirty = rows.clone()
    dirty[2, -1] |= 128
    with pytest.raises(ValueError, match="the last 1 bits of each row lie past the end"):
        PackedSpikes.from_rows(dirty, (4, 3, 5))
    with pytest.raises(ShapeError, match=r"take bits of the shape \[4, 2\], but got \[3, 2\]"):
        PackedSpikes.from_rows(rows[:3], (4, 3, 5))


def test_wrong_uses_are_refused_in_words():
    train = PackedSpikes.from_dense(spikes((4, 3, 5)))
    with pytest.raises(IndexError, match="there is no step 4; there are 4"):
        train[4]
    assert torch.equal(train[-1], train.dense()[3])
    with pytest.raises(TypeError, match="a step or a slice of steps"):
        train[0, 1]
    with pytest.raises(ValueError, match="order must be one of 'step', 'time'"):
        train.to("neuron")
    with pytest.raises(ValueError, match="per must be one of 'all', 'step', 'neuron'"):
        train.count("layer")
    with pytest.raises(ShapeError, match="joins parts of one step shape"):
        PackedSpikes.concat([train, PackedSpikes.from_dense(spikes((4, 3, 4)))])
    with pytest.raises(ValueError, match="joins at least one part"):
        PackedSpikes.concat([])
    with pytest.raises(ShapeError, match="time first"):
        PackedSpikes.from_dense(spikes((4,)))


@few
@given(shape=shapes, dtype=st.sampled_from(DTYPES))
def test_compression_loses_nothing(shape, dtype):
    train = PackedSpikes.from_dense(spikes(shape, dtype=dtype))
    small = train.compress(level=3)
    assert isinstance(small, CompressedSpikes)
    assert small.decompress() == train
    assert small.nbytes == len(small.frame)


def test_compression_reaches_the_known_size_and_notices_damage():
    train = PackedSpikes.from_dense(spikes((64, 16, 256), rate=0.05))
    small = train.compress()
    assert small.nbytes < 0.4 * train.nbytes
    with pytest.raises(ValueError, match="the frame is damaged"):
        CompressedSpikes(small.frame[:-9], small.shape, small.dtype).decompress()


def test_without_zstandard_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"spikescope\[storage\]"):
        PackedSpikes.from_dense(spikes((4, 3, 5))).compress()


def test_slices_of_trains_begin_at_any_bit_of_any_byte():
    s = spikes((37, 2, 3))
    train = PackedSpikes.from_dense(s, "time")
    for cut in (slice(9, 30), slice(16, 24), slice(33, 10, -3), slice(36, 37)):
        held = list(range(*cut.indices(37)))
        assert torch.equal(train[cut].dense(), s[held])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 40_961), (5, 4_096 * 2), (7, 12_289 - 8), (40_000, 1), (3, 0), (17_001, 3)])
def test_the_kernel_packs_the_same_bits(shape, dtype):
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.3).to(dtype)
    x[0, :1] = -0.0
    bits = pack_rows(x, *shape)
    assert (bits is not None) == (x.numel() >= 1 << 14)
    if bits is not None:
        assert torch.equal(bits, pack_by_sums(x.bool()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("odd", [0.5, -1.0, 2.0, float("nan"), float("inf"), 6e-5])
@pytest.mark.parametrize("place", [0, 13, 22, 31, 4_000])
def test_the_kernel_takes_no_other_values(dtype, odd, place):
    x = torch.zeros(5, 4_001, dtype=dtype)
    x[4, place] = odd
    assert pack_rows(x, *x.shape) is None
    with pytest.raises(ValueError, match="packs spikes, which are 0 or 1"):
        float_spike_to_bool(x)


def test_the_kernel_leaves_to_others_what_it_does_not_know(monkeypatch):
    x = torch.zeros(2, 1 << 14)
    assert pack_rows(x, 2, 1 << 14) is not None
    assert pack_rows(x.T, 1 << 14, 2) is None
    assert pack_rows(x.int(), 2, 1 << 14) is None
    monkeypatch.setattr("spikescope.spikes.kernel.trouble", lambda: "there is none")
    assert pack_rows(x, 2, 1 << 14) is None


@pytest.mark.parametrize("size", [(8, 16), (64, 1024)])  # by NumPy, and by the kernel
def test_spikes_without_memory_of_their_own_are_read_or_refused_in_words(size):
    assert not PackedSpikes.from_dense(torch._efficientzerotensor(size)).dense().any()
    fired = -(torch.rand(size) > 0.5).float()
    assert torch.equal(PackedSpikes.from_dense(torch._neg_view(fired)).dense(), -fired)
    freed = torch.zeros(size)
    freed.untyped_storage().resize_(0)
    with FakeTensorMode():
        fake = torch.zeros(size)
    for held, why in (
        (freed, "storage was freed"),
        (torch.zeros(size, device="meta"), "meta"),
        (fake, "FakeTensorMode"),
    ):
        with pytest.raises(TypeError, match=f"has no values: .*{why}"):
            PackedSpikes.from_dense(held)
    with pytest.raises(TypeError, match=r"torch\.func"):
        torch.vmap(lambda held: PackedSpikes.from_dense(held).dense())(torch.zeros(3, *size))


@pytest.mark.parametrize("given", [None, 2.5, "float32"])
def test_bits_are_unpacked_to_a_dtype_alone(given):
    bits, _, shape, padding = float_spike_to_bool(torch.ones(3))
    with pytest.raises(TypeError, match=r"bool_spike_to_float: s_dtype must be a torch\.dtype, but got"):
        bool_spike_to_float(bits, given, shape, padding)
