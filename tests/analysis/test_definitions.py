"""What Elephant has no definition of, against loops over trains, closed forms, SciPy, scikit-learn and pynapple."""

import math
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from analysis_cases import TRAINS, bursty, drawn
from scipy.stats import spearmanr
from sklearn.metrics import mutual_info_score

from spikescope import analysis, monitor
from spikescope.recording import in_memory

EXACT = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
LABELS = np.array([1, 0, 2, 1, 1, 0, 2, 2, 1, 0])


def of_neurons(x, function):
    """A function of each neuron's trains `[T, N]`, `[*F]`."""
    held = [function(train.numpy()) for train in x.flatten(2).unbind(2)]
    return torch.tensor(np.array(held), dtype=torch.float64).reshape(*x.shape[2:], *np.shape(held[0]))


def intervals(train):
    return np.concatenate([np.diff(np.flatnonzero(sample)) for sample in train.T])


def test_every_analysis_has_an_oracle():
    here = Path(__file__).parent
    text = (here / "test_elephant.py").read_text() + (here / "test_definitions.py").read_text()
    assert [name for name in analysis.registry if name not in text] == []


@pytest.mark.parametrize("trains", TRAINS)
def test_isi_histogram_and_cv_of_all_samples(trains):
    x = TRAINS[trains]
    found = analysis.isi_histogram(x)
    every = np.concatenate([intervals(train.numpy()) for train in x.flatten(2).unbind(2)]).astype(int)
    assert found.number.tolist() == np.bincount(every)[1:].tolist()
    assert found.length.tolist() == list(range(1, 1 + (max(every) if len(every) else 0)))
    wanted = of_neurons(x, lambda train: np.std(held) / np.mean(held) if len(held := intervals(train)) else math.nan)
    torch.testing.assert_close(analysis.cv(x), wanted, **EXACT)


@pytest.mark.parametrize("name", ["cv", "fanofactor", "synchrony"])
@pytest.mark.parametrize("trains", TRAINS)
def test_they_are_the_numbers_of_the_reducers(name, trains):
    x = TRAINS[trains]
    reducer = {"cv": "InterSpikeInterval", "fanofactor": "Fano", "synchrony": "Synchrony"}[name]
    made = monitor.reduce.registry[reducer]()
    wanted = made.result(made.measure(x))
    wanted = wanted.cv if name == "cv" else wanted
    found = getattr(analysis, name)(x)
    found, wanted = (torch.as_tensor(held, dtype=torch.float64) for held in (found, wanted))
    torch.testing.assert_close(found, wanted, **EXACT)


def bursts_of(train, within, least):
    inside = total = 0
    for sample in train.T:
        steps = np.flatnonzero(sample)
        for chain in np.split(steps, np.flatnonzero(np.diff(steps) > within) + 1):
            total += len(chain)
            inside += len(chain) if len(chain) >= least else 0
    return inside / total if total else math.nan


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize(("within", "least"), [(1, 2), (2, 3), (5, 4)])
def test_burst_share(trains, within, least):
    x = TRAINS[trains]
    wanted = of_neurons(x, lambda train: bursts_of(train, within, least))
    torch.testing.assert_close(analysis.burst_share(x, within, least), wanted, **EXACT)


@pytest.mark.parametrize("bin_size", [1, 4])
def test_psth(bin_size):
    x = bursty((22, 10, 2, 3))
    found = analysis.psth(x, LABELS, bin_size, per="neuron")
    whole = len(x) // bin_size * bin_size
    binned = x[:whole].double().unflatten(0, (-1, bin_size)).mean(1)
    wanted = torch.stack([binned[:, label == LABELS].mean(1) for label in range(3)])
    torch.testing.assert_close(found.rate, wanted, **EXACT)
    torch.testing.assert_close(analysis.psth(x, LABELS, bin_size).rate, wanted.flatten(2).mean(2), **EXACT)
    assert found.start.tolist() == list(range(0, whole, bin_size))
    assert (found.classes, found.trials.tolist()) == ((0, 1, 2), [3, 4, 3])


def test_synchrony_is_that_of_the_variances():
    x = bursty((50, 3, 6))
    together = x.double().mean(2).var(0, unbiased=False).mean()
    single = x.double().var(0, unbiased=False).mean()
    assert analysis.synchrony(x) == pytest.approx(math.sqrt(together / single), rel=1e-12)


def test_noise_correlation_is_that_of_the_residuals():
    x = bursty((40, 10, 5))
    counts = x.sum(0).numpy().astype(float)
    for label in range(3):
        counts[label == LABELS] -= counts[label == LABELS].mean(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        wanted = np.corrcoef(counts.T)
    found = analysis.noise_correlation(x, LABELS)
    alive = torch.arange(1, 4)  # the first never fires, the last always
    torch.testing.assert_close(found[alive][:, alive], torch.from_numpy(wanted)[alive][:, alive], **EXACT)
    assert found[0].isnan().all()
    assert found[:, -1].isnan().all()


@pytest.mark.parametrize("labels", [LABELS, list("bacbbaccba"), torch.tensor(LABELS)])
def test_selectivity(labels):
    x = bursty((30, 10, 2, 4))
    rates = np.stack([x[:, label == LABELS].double().mean((0, 1)).flatten() for label in range(3)])
    most = rates.max(0)
    others = (rates.sum(0) - most) / 2
    with np.errstate(invalid="ignore"):
        wanted = torch.from_numpy((most - others) / (most + others)).reshape(2, 4)
    found = analysis.selectivity(x, labels)
    torch.testing.assert_close(found.index, wanted, **EXACT)
    assert found.preferred.flatten().tolist() == rates.argmax(0).tolist()
    assert found.classes == ((0, 1, 2) if not isinstance(labels, list) else ("a", "b", "c"))


def test_selectivity_of_one_class_is_undefined():
    assert analysis.selectivity(drawn((5, 3, 2), 0.5), [0, 0, 0]).index.isnan().all()


def test_mutual_information():
    x = bursty((9, 10, 2, 4))
    counts = x.sum(0).flatten(1).long().numpy()
    bits = [mutual_info_score(LABELS, counts[:, f]) / math.log(2) for f in range(8)]
    found = analysis.mutual_information(x, LABELS)
    torch.testing.assert_close(found.flatten(), torch.tensor(bits, dtype=torch.float64), **EXACT)
    off = []
    for f in range(8):
        met = sum(len(np.unique(counts[label == LABELS, f])) - 1 for label in range(3))
        off.append((met - (len(np.unique(counts[:, f])) - 1)) / (2 * 10 * math.log(2)))
    corrected = analysis.mutual_information(x, LABELS, bias_correction=True)
    torch.testing.assert_close((found - corrected).flatten(), torch.tensor(off, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("by", ["sample", "step"])
@pytest.mark.parametrize("bins", [5, [-1.0, 0.0, 0.5, 4.0]])
def test_tuning_curves(by, bins):
    x = bursty((12, 10, 2, 3))
    rng = np.random.default_rng(0)
    feature = rng.normal(size=10) if by == "sample" else rng.normal(size=(12, 10))
    feature.flat[3] = math.nan
    edges = np.histogram_bin_edges(feature[np.isfinite(feature)], bins) if isinstance(bins, int) else np.array(bins)
    found = analysis.tuning_curves(x, feature, bins)
    full = np.broadcast_to(feature, (12, 10))
    for place, (low, high) in enumerate(pairwise(edges)):
        inside = (full >= low) & ((full < high) | ((place == len(edges) - 2) & (full <= high)))
        assert found.steps[place] == inside.sum()
        wanted = x.double()[torch.from_numpy(inside)].mean(0)
        torch.testing.assert_close(found.rate[place], wanted, **EXACT)
    assert found.edges.tolist() == edges.tolist()


@pytest.mark.parametrize("window", [(-3, 5), (2, 6), (-8, -3), (0, 0), (-30, 30)])
def test_peri_event(window):
    x = bursty((20, 4, 2, 3))
    events = np.array([[0, 3], [1, 19], [1, 19], [3, 0], [2, 10]])
    found = analysis.peri_event(x, events, window)
    for lag, rate, seen in zip(found.lag.tolist(), found.rate, found.events.tolist(), strict=True):
        there = [(step + lag, sample) for sample, step in events if 0 <= step + lag < 20]
        assert seen == len(there)
        wanted = sum(x[step, sample].double() for step, sample in there) / len(there) if there else 0 * rate * math.nan
        torch.testing.assert_close(rate, torch.full_like(rate, math.nan) if not there else wanted, **EXACT)
    same = analysis.peri_event(x, [4, 7], window)
    pairs = [(sample, step) for sample in range(4) for step in (4, 7)]
    torch.testing.assert_close(same.rate, analysis.peri_event(x, pairs, window).rate, **EXACT)


def test_events_around_a_part_of_a_run_have_the_numbers_of_the_run():
    x = bursty((40, 2, 3))
    recorded = in_memory({"fc": {"spike": [x]}})["fc"]["spike"]
    wanted = analysis.peri_event(x[10:30], [[0, 5], [1, 12]], (-3, 4))
    part = {"step": slice(10, 30)}
    for spikes in (recorded.events(**part), list(recorded.blocks(**part))):
        found = analysis.peri_event(spikes, [[0, 15], [1, 22]], (-3, 4))
        assert found.events.tolist() == wanted.events.tolist()
        torch.testing.assert_close(found.rate, wanted.rate, **EXACT)
        for odd in (9, 30):
            with pytest.raises(ValueError, match=f"event at step {odd}, but a run has 20 steps, from 10 on"):
                analysis.peri_event(spikes, [odd])
    with pytest.raises(ValueError, match="the spikes are of chosen samples, from 1 on"):
        analysis.peri_event(recorded.events(sample=slice(1, None)), [[1, 5]])


@pytest.mark.parametrize("bin_size", [1, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_correlograms(bin_size, norm):
    x = bursty((60, 2, 5), seed=2)
    found = analysis.correlogram(x, window=7, neurons=[3, 1, 4, 0], norm=norm, bin_size=bin_size)
    for i, a in enumerate([3, 1, 4, 0]):
        for j, b in enumerate([3, 1, 4, 0]):
            for place, lag in enumerate(found.lag.tolist()):
                pairs = sum(
                    (a != b or s != t) and abs((t - s) - lag) <= bin_size // 2
                    for n in range(2)
                    for s in np.flatnonzero(x[:, n, a])
                    for t in np.flatnonzero(x[:, n, b])
                )
                number = x[..., a].sum().item()
                wanted = pairs / (number * bin_size) if number else math.nan
                rate = x[..., b].mean().item()
                wanted = wanted if not norm else wanted / rate if rate else math.nan
                assert found.value[place, i, j].item() == pytest.approx(wanted, rel=1e-6, nan_ok=True)


def test_correlograms_are_those_of_pynapple():
    nap = pytest.importorskip("pynapple")
    x = drawn((400, 1, 4), 0.2, seed=6)
    epoch = nap.IntervalSet(0.0, 400.0)
    times = {f: nap.Ts(np.flatnonzero(x[:, 0, f]) + 0.5, time_support=epoch) for f in range(4)}
    group = nap.TsGroup(times, time_support=epoch)
    for norm in (False, True):
        found = analysis.correlogram(x, window=10, norm=norm).value
        cross = nap.compute_crosscorrelogram(group, 1.0, 10.0, norm=norm)
        for a, b in cross.columns:
            torch.testing.assert_close(found[:, a, b], torch.from_numpy(cross[(a, b)].to_numpy().copy()), **EXACT)
        auto = nap.compute_autocorrelogram(group, 1.0, 10.0, norm=norm)
        for f in range(4):
            torch.testing.assert_close(found[:, f, f], torch.from_numpy(auto[f].to_numpy().copy()), **EXACT)


def test_participation_ratio_is_that_of_the_eigenvalues():
    for shape in ((30, 9, 5), (30, 5, 9)):
        x = bursty(shape, seed=3)
        values = np.linalg.eigvalsh(np.cov(x.double().mean(0).numpy().T))
        wanted = values.sum() ** 2 / (values**2).sum()
        assert analysis.participation_ratio(x) == pytest.approx(wanted, rel=1e-12)
    assert math.isnan(analysis.participation_ratio(torch.ones(4, 3, 2)))


def test_similarity_matrix_is_that_of_numpy():
    x = bursty((30, 6, 8), seed=3).double()
    found = analysis.similarity_matrix(x)
    torch.testing.assert_close(found, torch.from_numpy(np.corrcoef(x.mean(0).numpy())), **EXACT)
    rates = x.mean(0)
    norm = rates.norm(dim=1)
    torch.testing.assert_close(analysis.similarity_matrix(x, "cosine"), rates @ rates.T / norm[:, None] / norm, **EXACT)


def test_representational_similarity_is_the_rank_correlation_of_scipy():
    x, y = bursty((6, 7, 4), seed=3), drawn((6, 7, 9), 0.4, seed=4)  # few steps: ties
    above = np.triu_indices(7, 1)
    a, b = (np.corrcoef(held.double().mean(0).numpy())[above].round(12) for held in (x, y))
    assert analysis.representational_similarity(x, y) == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    real = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = (np.corrcoef(held.numpy())[above] for held in (real, other))
    assert analysis.representational_similarity(real, other) == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    assert analysis.representational_similarity(real, -3 * real + 1) == pytest.approx(1.0)


@pytest.mark.parametrize("shapes", [((20, 3), (20, 4)), ((5, 30), (5, 40)), ((6, 3), (6, 50))])
def test_cka(shapes):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    a, b = (held - held.mean(0) for held in (x, y))
    wanted = ((b.T @ a).norm() ** 2 / (a.T @ a).norm() / (b.T @ b).norm()).item()
    assert analysis.cka(x, y) == pytest.approx(wanted, rel=1e-12)
    turned = torch.linalg.qr(torch.randn(shapes[0][1], shapes[0][1], generator=generator, dtype=torch.float64)).Q
    assert analysis.cka(x, 3 * x @ turned + 1) == pytest.approx(1.0, rel=1e-12)
    held = analysis.cka_matrix({"x": x, "y": y}, {"y": y})
    torch.testing.assert_close(held.value, torch.tensor([[wanted], [1.0]], dtype=torch.float64), **EXACT)
    assert (held.rows, held.columns) == (("x", "y"), ("y",))


def test_steps_of_a_layer_are_layers():
    x = bursty((4, 9, 5))
    held = analysis.cka_matrix(analysis.by_step(x))
    assert held.rows == ("step 1", "step 2", "step 3", "step 4")
    assert held.value[1, 2].item() == pytest.approx(analysis.cka(x[1], x[2]), rel=1e-12)


def test_real_values_count_by_their_mean_over_time():
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    assert analysis.participation_ratio(x) == analysis.participation_ratio(x.double().mean(0))


def test_spikes_given_to_the_formula_of_counts_are_sent_to_the_measure():
    with pytest.raises(TypeError, match=r"fano takes the Spread of counts .* but got Tensor.*fanofactor\(spikes\)"):
        analysis.fano(torch.ones(4, 2, 3))
