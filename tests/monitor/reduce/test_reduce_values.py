"""What each reducer results in, against closed forms, NumPy and SciPy, and Elephant where it has the definition."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import surrogate
from spikescope.errors import ShapeError
from spikescope.monitor import reduce
from spikescope.monitor.reduce.quantile import Quantile
from spikescope.monitor.reduce.support import support

pytest.importorskip("elephant")  # and what it brings

import scipy.stats
from elephant.statistics import cv, fanofactor, isi, mean_firing_rate


def spikes(shape, seed=0, rate=0.4):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def found(reducer, x):
    return reducer.result(reducer.measure(x))


def times(train):
    return train.nonzero().flatten().numpy()


def test_counts_and_rates_are_sums_and_means():
    x = spikes((7, 3, 4, 5, 2))
    assert torch.equal(found(reduce.Count(), x), x.sum((0, 1)).long())
    assert torch.equal(found(reduce.Count("channel"), x), x.sum((0, 1, 3, 4)).long())
    assert torch.equal(found(reduce.Count("layer"), x), x.sum().long())
    torch.testing.assert_close(found(reduce.Rate("neuron"), x), x.double().mean((0, 1)))
    torch.testing.assert_close(found(reduce.Rate("channel"), x), x.double().mean((0, 1, 3, 4)))
    torch.testing.assert_close(found(reduce.Rate("layer"), x), x.double().mean())
    torch.testing.assert_close(found(reduce.RateOverTime(), x), x.double().mean((1, 2, 3, 4)))


def test_the_rate_is_that_of_elephant():
    train = spikes((50, 1, 1))
    expected = mean_firing_rate(times(train.flatten()), t_start=0, t_stop=50)
    assert found(reduce.Rate(), train).item() == pytest.approx(expected, rel=1e-12)


def test_counts_stay_exact_where_float16_stops():
    assert found(reduce.Count(), torch.ones(4099, 1, 1, dtype=torch.float16)).item() == 4099
    assert found(reduce.Count("layer"), torch.ones(3, 1, 70001, dtype=torch.bfloat16)).item() == 210003


@pytest.mark.parametrize(
    "reducer",
    [reduce.Count(), reduce.Rate(), reduce.SaturatedShare(), reduce.RateOverTime(), reduce.Fano(), reduce.Fano(2)],
)
@pytest.mark.parametrize("value", [0.3, -0.7, math.inf, math.nan])
def test_a_signal_that_is_no_spikes_is_refused(reducer, value):
    with pytest.raises(ValueError, match=f"{type(reducer).__name__} counts spikes, which are whole numbers"):
        found(reducer, torch.full((3, 1, 2), value))


def test_halves_that_are_whole_together_are_no_spikes():
    with pytest.raises(
        ValueError, match=r"Fano counts spikes, which are whole numbers, but the signal summed up to 0\.5"
    ):
        found(reduce.Fano(window=1), torch.full((2, 1, 1), 0.5))


def test_silent_and_saturated_neurons():
    x = torch.zeros(4, 2, 5)
    x[1, 1, 0] = 1
    x[2, 0, 1] = -1
    x[:, :, 2] = 1
    assert found(reduce.SilentShare(), x) == pytest.approx(2 / 5)
    assert found(reduce.SaturatedShare(), x.abs()) == pytest.approx(1 / 5)
    assert found(reduce.SaturatedShare(threshold=0.125), x.abs()) == pytest.approx(3 / 5)


def test_moments_are_those_of_scipy_also_far_from_zero():
    x = (100 + normal((5, 70, 41, 9))).double() ** 1.1
    flat = x.flatten().numpy()
    got = found(reduce.Moments(), x)
    assert got.mean == pytest.approx(flat.mean(), rel=1e-13)
    assert got.var == pytest.approx(flat.var(), rel=1e-12)
    assert got.skew == pytest.approx(scipy.stats.skew(flat), rel=1e-9)
    assert got.kurtosis == pytest.approx(scipy.stats.kurtosis(flat), rel=1e-9)
    assert math.isnan(found(reduce.Moments(), torch.ones(3, 1, 1)).skew)


def test_norms_and_extremes():
    x = normal((5, 7, 11, 3))
    assert found(reduce.Norm(), x) == pytest.approx(np.linalg.norm(x.double().numpy()), rel=1e-14)
    steps = np.linalg.norm(x.double().numpy().reshape(5, -1), axis=1)
    np.testing.assert_allclose(found(reduce.GradientNorm(), x).numpy(), steps, rtol=1e-14)
    assert found(reduce.MinMax(), x) == (x.min().item(), x.max().item())
    x[1, 2, 3, 0] = math.nan
    assert all(math.isnan(v) for v in found(reduce.MinMax(), x))


def test_norms_of_large_signals_however_small_or_large_their_values():
    x = normal((2, 1, 3 * 2**16 + 5)).double()
    for scale in (1.0, 1e-22, 1e-37, 1e18, 1e25):
        held = (x * scale).float()
        held[0, 0, : 2**16] = 0.0
        wanted = np.linalg.norm(held.double().numpy().reshape(2, -1), axis=1)
        np.testing.assert_allclose(found(reduce.GradientNorm(), held).numpy(), wanted, rtol=1e-6)
    held[1, 0, 7] = math.nan
    assert found(reduce.GradientNorm(), held).isnan().tolist() == [False, True]


def test_large_half_precision_values_do_not_overflow():
    x = torch.full((2, 1, 9), 60000.0, dtype=torch.float16)
    assert found(reduce.Norm(), x) == pytest.approx(math.sqrt(18) * x[0, 0, 0].item(), rel=1e-14)
    assert found(reduce.NonFinite(), x) == (False, 0, -1)
    assert found(reduce.NonFinite(), torch.full((2, 1, 9), 3e38)) == (False, 0, -1)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_first_step_that_is_not_finite_is_found(bad):
    x = normal((6, 2, 3))
    x[3, 1, 2] = x[5, 0, 0] = bad
    check = reduce.NonFinite()
    assert found(check, x) == (True, 2, 3)
    assert check.result(check.merge(check.measure(x[:2]), check.measure(x[2:], start=2))) == (True, 2, 3)
    x[3, 0, 2] = -bad
    assert found(check, x).number == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
def test_the_histogram_is_that_of_numpy(dtype):
    edges = (-1.0, -0.3, 0.1, 0.2, 1.0)
    x = (normal((9, 5, 31)) * (3 if dtype == torch.int64 else 1)).to(dtype)
    x[0, 0, :5] = torch.tensor(edges).to(dtype)
    got = found(reduce.Histogram(edges), x)
    held = x.double().numpy()
    assert got.counts.tolist() == np.histogram(held, edges)[0].tolist()
    assert (got.below, got.above, got.nan) == ((held < -1).sum(), (held > 1).sum(), 0)


def test_edges_between_two_numbers_of_the_dtype_part_them_rightly():
    exact = 1 + 2**-30  # float32 has 1 and 1 + 2**-23 next to it
    got = found(reduce.Histogram((0.5, exact, 2.0)), torch.tensor([[[1.0, 1 + 2**-23]]]))
    assert got.counts.tolist() == [1, 1]


def test_what_no_bin_holds_is_counted():
    x = torch.tensor([[[math.nan, math.inf, -math.inf, 0.0, 0.5, 1e-20, -3.0]]])
    got = found(reduce.Histogram((0.0, 1.0)), x)
    assert (got.counts.tolist(), got.below, got.above, got.nan) == ([3], 2, 1, 1)
    logs = found(reduce.LogHistogram(low=-2, high=1, per_decade=2), x)
    assert (logs.zeros, logs.below, logs.above, logs.nan) == (1, 1, 2, 1)
    assert logs.counts.tolist() == np.histogram([0.5, 3.0], logs.edges.numpy())[0].tolist()
    assert logs.edges.tolist() == pytest.approx(np.logspace(-2, 1, 7), rel=1e-14)


def test_quantiles_are_exact_up_to_the_capacity_and_near_beyond():
    x = normal((10, 4, 25))
    q = (0.1, 0.5, 0.9)
    np.testing.assert_allclose(
        found(Quantile(q, capacity=1000), x).numpy(), np.quantile(x.double().numpy(), q), rtol=1e-12
    )
    # 2000 of 40000: the deviation of a quantile is at most sqrt(q (1 - q) / 2000) / density, 0.04 at 0.1; five of them
    large = normal((40, 10, 100))
    near = found(Quantile(q, capacity=2000), large).numpy()
    np.testing.assert_allclose(near, np.quantile(large.numpy(), q), atol=0.2)


def test_one_quantile_is_given_as_a_number():
    assert found(Quantile(q=0.5), torch.tensor([[[4.0, 1.0, 3.0]]])).tolist() == [3.0]
    assert Quantile(q=1) == Quantile(q=(1,))


def test_the_sample_is_uniform_over_merged_chunks_and_repeats_with_its_seed():
    def mean_share(reducer):
        first = reducer.measure(torch.zeros(3, 10, 100))
        return reducer.merge(first, reducer.measure(torch.ones(1, 10, 100), start=3)).values.mean().item()

    shares = [mean_share(Quantile(capacity=400, seed=seed)) for seed in range(30)]
    # a share of 1/4 with the deviation sqrt(3 / 16 / 400 / 30) = 0.004
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)
    assert mean_share(Quantile(capacity=400, seed=3)) == shares[3]
    state = torch.get_rng_state()
    mean_share(Quantile(capacity=400))
    assert torch.equal(torch.get_rng_state(), state)


def test_intervals_are_those_of_elephant():
    x = spikes((60, 1, 6), rate=0.3)
    x[:, :, 4] = 0
    x[1:, :, 5] = 0
    got = found(reduce.InterSpikeInterval(), x)
    for i in range(6):
        held = isi(times(x[:, 0, i]))
        assert got.number[i] == len(held)
        if len(held):
            assert got.mean[i].item() == pytest.approx(held.mean(), rel=1e-12)
            assert got.cv[i].item() == pytest.approx(cv(held), rel=1e-9)
        else:
            assert math.isnan(got.mean[i])
            assert math.isnan(got.cv[i])
    assert torch.equal(found(reduce.IsiCv(), x).nan_to_num(-1), got.cv.nan_to_num(-1))


def test_intervals_of_samples_are_pooled():
    x = spikes((40, 3, 2), rate=0.3)
    got = found(reduce.InterSpikeInterval(), x)
    for i in range(2):
        held = np.concatenate([np.diff(times(x[:, n, i])) for n in range(3)])
        assert got.cv[i].item() == pytest.approx(held.std() / held.mean(), rel=1e-9)


def test_a_regular_train_has_no_variation_however_late_it_is():
    x = torch.zeros(3000, 1, 1)
    x[::100] = 1
    isis = reduce.InterSpikeInterval()
    got = isis.result(isis.measure(x, start=10**6))
    assert (got.mean.item(), got.cv.item()) == (100.0, 0.0)


def test_the_latency_is_the_index_of_the_first_spike():
    x = spikes((9, 6, 5), rate=0.15)
    got = found(reduce.FirstSpikeLatency(), x)
    for i in range(5):
        held = [times(x[:, n, i])[0] for n in range(6) if x[:, n, i].any()]
        assert got.fired[i].item() == pytest.approx(len(held) / 6)
        assert got.mean[i].item() == pytest.approx(np.mean(held))


def test_the_fano_factor_is_that_of_elephant():
    x = spikes((30, 8, 4), rate=0.3)
    x[:, :, 3] = 0
    whole, windows = found(reduce.Fano(), x), found(reduce.Fano(window=7), x)
    for i in range(4):
        trials = [times(x[:, n, i]) for n in range(8)]
        expected = fanofactor(trials) if i < 3 else math.nan
        assert whole[i].item() == pytest.approx(expected, rel=1e-12, nan_ok=True)
        counts = x[:28, :, i].double().view(4, 7, 8).sum(1).numpy()
        expected = counts.var() / counts.mean() if i < 3 else math.nan
        assert windows[i].item() == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_windows_that_a_run_does_not_fill_are_left_out():
    x = torch.ones(5, 1, 1)
    assert math.isnan(found(reduce.Fano(window=6), x))
    assert found(reduce.Fano(window=5), x).item() == 0


def test_synchrony_is_the_ratio_of_variances():
    x = normal((50, 3, 4, 5)).double()
    flat = x.flatten(2).numpy()
    expected = math.sqrt(flat.mean(2).var(0).mean() / flat.var(0).mean())
    assert found(reduce.Synchrony(), x) == pytest.approx(expected, rel=1e-12)
    independent = found(reduce.Synchrony(), spikes((4000, 1, 25)))
    assert independent == pytest.approx(1 / 5, rel=0.1)
    assert found(reduce.Synchrony(), spikes((50, 2, 1)).expand(50, 2, 9)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("value", [0.1, -65.3, 1e5 / 3])
def test_where_nothing_changes_in_time_synchrony_is_nan(value):
    chi = reduce.Synchrony()
    for steps in (13, 1301):
        assert math.isnan(found(chi, torch.full((steps, 2, 7), value, dtype=torch.float64)))
    together = torch.full((13, 2, 7), value, dtype=torch.float64)
    together[:, 1] += normal((13, 1)).double() * value * 1e-4  # of one sample, all neurons alike
    assert found(chi, together) == pytest.approx(1, rel=1e-3)
    together[3, 0, 0] = math.nan
    assert math.isnan(found(chi, together))


LAYERS = [
    (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 8)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), (4, 7, 5)),
    (nn.Conv2d(3, 5, 3, padding=2, dilation=2), (3, 6, 6)),
    (nn.Conv2d(2, 2, 3, padding="same", padding_mode="circular"), (2, 5, 5)),
    (nn.Conv3d(2, 4, 2, groups=2), (2, 3, 4, 3)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 4, 5)),
    (nn.Linear(6, 9), (6,)),
    (nn.Linear(6, 9), (4, 6)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_the_fan_out_is_what_one_spike_changes(layer, shape):
    """A spike reaches as many synapses as the outputs that it adds up to, with ones for weights."""
    got = reduce.fan_out(layer, shape)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        if layer.bias is not None:
            layer.bias.zero_()
        one_each = torch.eye(math.prod(shape)).view(-1, *shape)
        reached = layer(one_each).flatten(1).sum(1).view(shape)
    torch.testing.assert_close(got, reached.double())


def test_asking_for_the_fan_out_leaves_the_network_alone():
    layer = nn.Conv2d(2, 3, 3)
    weight = layer.weight.detach().clone()
    calls = []
    layer.register_forward_hook(lambda *a: calls.append(a))
    with torch.no_grad():
        reduce.fan_out(layer, (2, 5, 5))
    assert not calls
    assert layer.weight.grad is None
    assert torch.equal(layer.weight, weight)


def test_the_fan_out_is_the_same_in_inference_mode():
    layer = nn.Conv1d(1, 2, 3, padding=1)
    wanted = reduce.fan_out(layer, (1, 4))
    with torch.inference_mode():
        assert torch.equal(reduce.fan_out(layer, (1, 4)), wanted)


def test_synaptic_operations_are_spikes_times_fan_out():
    layer = nn.Conv2d(2, 3, 3, padding=1)
    x = spikes((4, 3, 2, 5, 5))
    got = found(reduce.SynOps(reduce.fan_out(layer, (2, 5, 5))), x)
    expected = (x.double() * reduce.fan_out(layer, (2, 5, 5))).sum().item()
    assert got.total == expected
    assert got.per_sample == pytest.approx(expected / 3)
    assert found(reduce.SynOps(7), x).total == 7 * x.sum().item()


def test_shapes_that_no_layer_takes_are_refused():
    with pytest.raises(ShapeError, match=r"takes an input shape \[2, \*, \*\]"):
        reduce.fan_out(nn.Conv2d(2, 3, 3), (3, 5, 5))
    with pytest.raises(ShapeError, match=r"takes an input shape \[\*, 6\]"):
        reduce.fan_out(nn.Linear(6, 9), (7,))
    with pytest.raises(TypeError, match="fan_out knows Linear, Conv1d"):
        reduce.fan_out(nn.ReLU(), (7,))
    with pytest.raises(ShapeError, match="does not broadcast to the neurons"):
        reduce.SynOps(torch.ones(4)).measure(torch.ones(1, 1, 3))


def test_the_support_share_counts_potentials_near_the_threshold():
    h = normal((4, 3, 7))
    reducer = reduce.SupportShare(-0.25, 0.5, v_threshold=torch.linspace(-1, 1, 7))
    off = h - torch.linspace(-1, 1, 7)
    assert found(reducer, h) == ((off >= -0.25) & (off <= 0.5)).float().mean().item()


def test_the_support_of_a_surrogate():
    low, high = support(lambda x: 1 / (1 + x * x), 0.2, "Cauchy")
    assert (low, high) == pytest.approx((-2, 2), rel=1e-9)
    atan = reduce.SupportShare.of(surrogate.ATan(alpha=3.0), share=0.1)
    assert atan.high == pytest.approx(3 / (math.pi * 3 / 2), rel=1e-9)  # 1 / (1 + (pi a x / 2)^2) = 0.1
    assert math.isinf(reduce.SupportShare.of(surrogate.DeterministicPass()).high)
    one_sided = reduce.SupportShare.of(surrogate.LeakyKReLU())
    assert one_sided.low == pytest.approx(0, abs=1e-12)
    assert one_sided.high == math.inf
    with pytest.raises(ValueError, match="in several places"):
        reduce.SupportShare.of(surrogate.SquarewaveFourierSeries(n=4, T_period=3))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: reduce.Count("sample"), "per must be one of 'neuron', 'channel', 'layer'"),
        (lambda: reduce.Rate("step"), "per must be one of"),
        (lambda: reduce.SaturatedShare(0), "threshold must be above 0"),
        (lambda: reduce.Histogram((1.0, 0.0)), "edges must be at least two finite, rising numbers"),
        (lambda: reduce.Histogram((1.0,)), "edges must be at least two"),
        (lambda: reduce.Histogram((0.0, math.inf)), "edges must be at least two finite"),
        (lambda: reduce.LogHistogram(3, 2), "low must be under high"),
        (lambda: Quantile(q=(1.5,)), "q must be at least 0 and at most 1"),
        (lambda: Quantile(q=-0.5), "q must be at least 0 and at most 1"),
        (lambda: Quantile(capacity=0), "capacity must be a whole number of at least 1"),
        (lambda: reduce.Fano(window=0), "window must be a whole number of at least 1"),
        (lambda: reduce.SupportShare(1.0, 1.0), "low must be under high"),
        (lambda: reduce.SupportShare.of(surrogate.ATan(), share=1.0), "share must be from 0 to below 1"),
    ],
)
def test_bad_arguments_are_refused_in_words(make, text):
    with pytest.raises(ValueError, match=text):
        make()
    with pytest.raises(TypeError, match="must be whole numbers"):
        reduce.LogHistogram(1e-6, 1)


def test_a_long_run_step_by_step_takes_nearly_linear_time_and_memory():
    raw, total = reduce.Raw(), None
    for t in range(2000):
        new = raw.measure(torch.full((1, 1, 2), float(t)), start=t)
        total = new if total is None else raw.merge(total, new)
    assert len(total.pieces) <= 11
    assert raw.result(total)[:, 0, 0].tolist() == list(range(2000))


def test_runs_of_other_lengths_and_starts_merge_step_by_step():
    course = reduce.RateOverTime()
    short = course.measure(torch.ones(2, 1, 3), start=3)
    merged = course.merge(course.measure(torch.zeros(4, 2, 3)), short, "batch")
    assert course.result(merged).tolist() == pytest.approx([0, 0, 0, 1 / 3, 1])


def test_a_trial_that_is_cut_off_at_its_start_counts_once():
    x = spikes((9, 4, 2))
    fano = reduce.Fano()
    a, b = fano.measure(x[:3], start=5), fano.measure(x[3:], start=8)
    assert torch.equal(fano.result(fano.merge(a, b)), fano.result(fano.measure(x, start=5)))


def test_operations_of_other_samples_do_not_merge_along_time():
    work = reduce.SynOps(3)
    with pytest.raises(ShapeError, match="cannot merge along time: samples is 2 and 4"):
        work.merge(work.measure(torch.ones(1, 2, 3)), work.measure(torch.ones(1, 4, 3)))
