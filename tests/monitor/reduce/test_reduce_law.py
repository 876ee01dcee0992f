"""The law of every reducer: measuring a whole run, or merging its chunks, gives the same."""

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikescope.monitor import reduce
from spikescope.monitor.reduce import Reducer, nbytes, registry, rules
from spikescope.spikes import PackedSpikes

STEPS, SAMPLES, NEURONS = 11, 5, (3, 2)
ROUNDING = {"rtol": 1e-11, "atol": 1e-11}  # sums in float64 of other order: some thousand roundings of 1e-16
EXTRA = [
    reduce.Count(per="channel"),
    reduce.Rate(per="layer"),
    reduce.SaturatedShare(threshold=0.5),
    reduce.Fano(window=3),
    reduce.Fano(window=1),
    reduce.SynOps(torch.tensor([[2.0], [3.0], [5.0]])),
]
CASES = [cls(**cls.example) for cls in registry.values()] + EXTRA
NAMES = [f"{type(r).__name__}{i}" for i, r in enumerate(CASES)]
every = pytest.mark.parametrize("reducer", CASES, ids=NAMES)
tapped = pytest.mark.parametrize("reducer", [r for r in CASES if r.taps], ids=lambda r: type(r).__name__)
SPIKES_ONLY = (
    reduce.Count,
    reduce.Fano,
    reduce.Packed,
    reduce.Rate,
    reduce.RateOverTime,
    reduce.SaturatedShare,
    reduce.SynOps,
)


def signal(reducer, seed, shape=(STEPS, SAMPLES, *NEURONS)):
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(shape, generator=generator) < 0.4).float()
    real = not isinstance(reducer, SPIKES_ONLY) and seed % 2
    return torch.randn(shape, generator=generator) * spikes if real else spikes


def values(result):
    """The numbers of a result, flat."""
    if isinstance(result, PackedSpikes):
        return [result.dense()]
    if isinstance(result, torch.Tensor):
        return [result]
    return [v for part in result for v in values(part)] if isinstance(result, tuple) else [torch.tensor(result)]


def check_same(a, b):
    for left, right in zip(values(a), values(b), strict=True):
        assert left.dtype == right.dtype
        if left.is_floating_point():
            torch.testing.assert_close(left, right, equal_nan=True, **ROUNDING)
        else:
            assert torch.equal(left, right)


def fold(reducer, parts, along, draw):
    """Merge neighbours in a random order: the law holds for every tree."""
    parts = list(parts)
    while len(parts) > 1:
        i = draw(st.integers(0, len(parts) - 2))
        parts[i : i + 2] = [reducer.merge(parts[i], parts[i + 1], along)]
    return parts[0]


@every
@settings(max_examples=12, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), time_first=st.booleans())
def test_any_cut_in_time_and_batch_gives_the_same(reducer, data, seed, time_first):
    x = signal(reducer, seed)
    times = [0, *sorted(data.draw(st.lists(st.integers(0, STEPS), max_size=4))), STEPS]
    samples = [0, *sorted(data.draw(st.lists(st.integers(0, SAMPLES), max_size=2))), SAMPLES]
    grid = [
        [reducer.measure(x[t:u, m:n], start=t) for m, n in itertools.pairwise(samples)]
        for t, u in itertools.pairwise(times)
    ]
    inner, outer = ("time", "batch") if time_first else ("batch", "time")
    lines = zip(*grid, strict=True) if time_first else grid
    merged = fold(reducer, [fold(reducer, line, inner, data.draw) for line in lines], outer, data.draw)
    check_same(reducer.result(merged), reducer.result(reducer.measure(x)))


@every
def test_closed_runs_merge_as_samples_of_one_batch(reducer):
    x = signal(reducer, 3)
    closed = [reducer.close(reducer.measure(part)) for part in (x[:, :2], x[:, 2:4], x[:, 4:])]
    for order in ((0, 1, 2), (2, 0, 1)):
        a, b, c = (closed[i] for i in order)
        whole = reducer.measure(torch.cat([(x[:, :2], x[:, 2:4], x[:, 4:])[i] for i in order], 1))
        check_same(reducer.result(reducer.merge(reducer.merge(a, b, "batch"), c, "batch")), reducer.result(whole))
    check_same(reducer.result(closed[0]), reducer.result(reducer.measure(x[:, :2])))
    check_same(reducer.result(reducer.close(closed[0])), reducer.result(closed[0]))


@every
def test_an_empty_chunk_changes_nothing(reducer):
    x = signal(reducer, 5)
    whole = reducer.measure(x)
    before, after = reducer.measure(x[:0]), reducer.measure(x[:0], start=STEPS)
    check_same(reducer.result(reducer.merge(reducer.merge(before, whole), after)), reducer.result(whole))
    check_same(reducer.result(reducer.merge(whole, reducer.measure(x[:, :0]), "batch")), reducer.result(whole))


@every
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)], ids=str)
def test_nothing_seen_results_in_nan_or_nothing(reducer, shape):
    if isinstance(getattr(reducer, "fan_out", 0), torch.Tensor):
        pytest.skip("its fan_out is that of other neurons")
    for found in values(reducer.result(reducer.measure(torch.zeros(shape)))):
        if found.is_floating_point() and not isinstance(reducer, reduce.Raw | reduce.Packed):
            assert bool((found.isnan() | (found == 0)).all()) or isinstance(
                reducer, reduce.Histogram | reduce.LogHistogram
            )


@every
def test_measuring_neither_keeps_nor_changes_the_signal(reducer):
    x = signal(reducer, 2).requires_grad_()
    before = x.detach().clone()
    summary = reducer.measure(x)
    kept = values(reducer.result(summary))
    assert torch.equal(x.detach(), before)
    assert not any(value.requires_grad for value in kept)
    with torch.no_grad():
        x.add_(1)
    check_same(tuple(values(reducer.result(summary))), tuple(kept))
    assert x.untyped_storage().data_ptr() not in {v.untyped_storage().data_ptr() for v in kept}


@every
def test_memory_layout_and_dtype_do_not_matter(reducer):
    x = signal(reducer, 4)
    expected = values(reducer.result(reducer.measure(x)))
    strided = x.transpose(0, 3).contiguous().transpose(0, 3)
    check_same(tuple(values(reducer.result(reducer.measure(strided)))), tuple(expected))
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8, torch.int64):
        for found, wanted in zip(values(reducer.result(reducer.measure(x.to(dtype)))), expected, strict=True):
            torch.testing.assert_close(found.double(), wanted.double(), equal_nan=True, **ROUNDING)


@tapped
@pytest.mark.parametrize("cut", [0, 4, STEPS])
def test_the_taps_of_a_kernel_give_what_the_signal_gives(reducer, cut):
    x = signal(reducer, 6)

    def taps(part):
        packed = PackedSpikes.from_dense(part).bits
        blocks = part.flatten().split(7)
        extent = [[b.min().item(), b.max().item(), b.sum().item()] for b in blocks if b.numel()]
        count = part.sum(0).to(torch.uint8)
        made = {"count": count, "packed": packed, "range": torch.tensor(extent, dtype=torch.float64).view(-1, 3)}
        for name in reducer.taps:
            if name.startswith("support"):
                v_threshold, low, high = map(float, name.split(":")[1:])
                made[name] = torch.tensor(
                    [((b - v_threshold).clamp(low, high) == b - v_threshold).sum() for b in blocks]
                )
        return made

    first = reducer.measure_taps(taps(x[:cut]), x[:cut])
    then = reducer.measure_taps(taps(x[cut:]), x[cut:], start=cut)
    check_same(reducer.result(reducer.merge(first, then)), reducer.result(reducer.measure(x)))


@every
def test_summaries_and_reducers_survive_a_copy(reducer):
    summary = reducer.measure(signal(reducer, 8))
    for copied in (copy.deepcopy((reducer, summary)), pickle.loads(pickle.dumps((reducer, summary)))):
        check_same(copied[0].result(copied[1]), reducer.result(summary))
    assert nbytes(summary) > 0


@every
def test_every_entry_of_a_summary_declares_its_rule(reducer):
    declared = rules(reducer.Summary)
    assert list(declared) == list(reducer.Summary._fields)
    assert {r.batch for r in declared.values()} <= {"sum", "min", "max", "cat", "span", "own"}
    closed = reducer.close(reducer.measure(signal(reducer, 1)))
    for name, rule in declared.items():
        if rule.batch == "cat":
            assert len(getattr(closed, name)) == 0


@every
def test_a_signal_without_time_and_batch_is_refused(reducer):
    with pytest.raises(ValueError, match="time first"):
        reducer.measure(torch.zeros(4))
    with pytest.raises(TypeError, match=r"the signal must be a torch.Tensor"):
        reducer.measure([1.0])
    with pytest.raises(ValueError, match="along must be one of 'time', 'batch'"):
        reducer.merge(None, None, "space")
    with pytest.raises(TypeError, match="merges its own summaries"):
        reducer.merge(1, 2)
    with pytest.raises(ValueError, match="needs the"):
        reducer.measure_taps({"h": torch.zeros(1)}, torch.zeros(1, 1))


ordered = [r for r in CASES if "span" in r.Summary._fields]


@pytest.mark.parametrize("reducer", ordered, ids=lambda r: type(r).__name__)
def test_steps_that_are_no_neighbours_are_refused(reducer):
    x = signal(reducer, 2)
    with pytest.raises(ValueError, match="joins neighbours, but the first summary ends before step 4"):
        reducer.merge(reducer.measure(x[:4]), reducer.measure(x[4:]))


@pytest.mark.parametrize("reducer", CASES, ids=NAMES)
def test_other_neurons_are_refused(reducer):
    if isinstance(reducer, SPIKES_ONLY) and isinstance(getattr(reducer, "fan_out", 0), torch.Tensor):
        pytest.skip("the tensor fan_out refuses them first")
    a, b = reducer.measure(torch.ones(4, 2, 3)), reducer.measure(torch.ones(4, 2, 4), start=4)
    per_neuron = any(isinstance(v, torch.Tensor) and v.shape[-1:] == (3,) for v in a) or isinstance(
        reducer, reduce.Raw | reduce.Packed
    )
    if per_neuron and not isinstance(reducer, reduce.Quantile):
        with pytest.raises(ValueError, match=r"cannot merge|cannot go on"):
            reducer.merge(a, b)


def test_a_new_reducer_registers_itself_and_merges_by_its_rules():
    assert issubclass(registry["Rate"], Reducer)
    assert "StepReducer" not in registry
