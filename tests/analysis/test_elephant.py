"""The definitions of Elephant, train by train, on random trains and those at the ends: none, one, all steps."""

import warnings

import numpy as np
import pytest
import torch
from analysis_cases import TRAINS, bursty, drawn

from spikescope import analysis

pytest.importorskip("elephant")  # and what it brings

import quantities as pq
from elephant import kernels, spike_train_correlation, spike_train_dissimilarity, statistics
from elephant.conversion import BinnedSpikeTrain
from neo import SpikeTrain

EXACT = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}


def train(steps, shift=0.0):
    """Zeros and ones as spike times in seconds, a step a second."""
    return SpikeTrain((np.flatnonzero(steps) + shift) * pq.s, t_start=0 * pq.s, t_stop=float(len(steps)) * pq.s)


def columns(x):
    """The trains of `[T, N, *F]`, in order."""
    return [train(held) for held in x.flatten(1).T.numpy()]


def each(x, function):
    """A function of every train, `[N, *F]`."""
    return torch.tensor([float(function(held)) for held in columns(x)], dtype=torch.float64).reshape(x.shape[1:])


@pytest.fixture(autouse=True)
def quiet():
    """Elephant warns where it gives NaN."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def variation(function, **options):
    """Of the intervals of a train; NaN where Elephant takes too few for an error."""
    return lambda held: function(np.diff(held.magnitude), with_nan=True, **options)


OF_ONE = {
    "mean_firing_rate": (lambda held: statistics.mean_firing_rate(held).item(), {}),
    "cv": (lambda held: statistics.cv(np.diff(held.magnitude)), {}),
    "cv2": (variation(statistics.cv2), {}),
    "lv": (variation(statistics.lv), {}),
    "lvr": (lambda held: statistics.lvr(np.diff(held.magnitude) * pq.ms, R=3.0 * pq.ms, with_nan=True), {"R": 3.0}),
}


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("name", OF_ONE)
def test_of_single_trains(name, trains):
    x = TRAINS[trains]
    oracle, options = OF_ONE[name]
    held = getattr(analysis, name)(x, per="train", **options)
    torch.testing.assert_close(held, each(x, oracle), **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
def test_intervals(trains):
    x = TRAINS[trains]
    held = analysis.isi(x)
    for number, steps in enumerate(columns(x)):
        wanted = statistics.isi(steps).magnitude
        assert held.length[held.train == number].tolist() == wanted.tolist()


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("window", [None, 4, 7])
def test_the_fano_factor(trains, window):
    x = TRAINS[trains]
    width = window or len(x)
    whole = len(x) // width
    if not whole:
        assert analysis.fanofactor(x, window=window).isnan().all()
        return
    windows = x[: whole * width].reshape(whole, width, x.shape[1], -1)
    wanted = [
        statistics.fanofactor([np.flatnonzero(windows[w, :, n, f]) for w in range(whole) for n in range(x.shape[1])])
        for f in range(windows.shape[3])
    ]
    wanted = torch.tensor(wanted, dtype=torch.float64).reshape(x.shape[2:])
    torch.testing.assert_close(analysis.fanofactor(x, window=window), wanted, **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("bin_size", [1, 3])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("output", ["counts", "mean", "rate"])
def test_the_time_histogram(trains, bin_size, binary, output):
    x = TRAINS[trains]
    x = x[: len(x) // bin_size * bin_size]  # elephant takes whole bins alone
    if not len(x):
        return
    held = [train(steps, shift=0.5) for steps in x.flatten(1).T.numpy()]
    wanted = statistics.time_histogram(held, bin_size * pq.s, output=output, binary=binary).magnitude[:, 0]
    found = analysis.time_histogram(x, bin_size=bin_size, output=output, binary=binary)
    torch.testing.assert_close(found, torch.from_numpy(np.asarray(wanted, dtype=np.float64)), **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("sigma", [0.7, 2.0, 3.3])
@pytest.mark.parametrize("kernel", ["gaussian", "rectangular", "triangular"])
def test_the_instantaneous_rate(trains, sigma, kernel):
    x = TRAINS[trains]
    made = {"gaussian": "GaussianKernel", "rectangular": "RectangularKernel", "triangular": "TriangularKernel"}[kernel]
    held = [train(steps, shift=0.5) for steps in x.flatten(1).T.numpy()]
    oracle = getattr(kernels, made)(sigma * pq.s)
    wanted = statistics.instantaneous_rate(held, 1.0 * pq.s, kernel=oracle).magnitude
    if len(wanted) != len(x):  # of a kernel longer than the train it gives the length of the kernel
        return
    wanted = torch.from_numpy(wanted).reshape(x.shape)
    found = analysis.instantaneous_rate(x, sigma=sigma, kernel=kernel, per="neuron")
    torch.testing.assert_close(found, wanted.mean(1), **EXACT)
    layer = analysis.instantaneous_rate(x, sigma=sigma, kernel=kernel)
    torch.testing.assert_close(layer, wanted.flatten(1).mean(1), **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("bin_size", [1, 4])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", ["covariance", "correlation_coefficient"])
def test_matrices_of_neurons(name, trains, bin_size, binary):
    x = TRAINS[trains]
    x = x[: len(x) // bin_size * bin_size, :1].flatten(2)  # elephant knows no trials
    if len(x) <= bin_size:
        return
    binned = BinnedSpikeTrain([train(held, 0.5) for held in x[:, 0].T.numpy()], bin_size=bin_size * pq.s)
    oracle = getattr(spike_train_correlation, name)
    found = getattr(analysis, name)(x, bin_size=bin_size, binary=binary)
    for fast in (False, True):  # its two ways round otherwise
        wanted = torch.from_numpy(np.atleast_2d(oracle(binned, binary=binary, fast=fast)))
        alive = x.std(0)[0] > 0 if name == "correlation_coefficient" and not fast else torch.ones(x.shape[2]).bool()
        torch.testing.assert_close(found[alive][:, alive], wanted[alive][:, alive], **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("window", ["full", (-7, 3), (1, 5), (-6, -2)])
@pytest.mark.parametrize("border_correction", [False, True])
def test_cross_correlation_histograms(trains, window, border_correction):
    x = TRAINS[trains].flatten(2)
    y = x.flip(2)
    if len(x) < 8:
        return
    found = analysis.cross_correlation_histogram(x, y, window, border_correction, per="neuron")
    wanted = torch.zeros_like(found.value)
    for n in range(x.shape[1]):
        for f in range(x.shape[2]):
            pair = [BinnedSpikeTrain(train(z[:, n, f].numpy(), 0.5), bin_size=1 * pq.s) for z in (x, y)]
            limits = "full" if window == "full" else list(window)
            held, lags = spike_train_correlation.cross_correlation_histogram(
                *pair, window=limits, border_correction=border_correction, method="memory"
            )
            assert lags.tolist() == found.lag.tolist()
            wanted[:, f] += torch.from_numpy(held.magnitude[:, 0])
    torch.testing.assert_close(found.value, wanted, **EXACT)
    layer = analysis.cross_correlation_histogram(x, y, window, border_correction)
    torch.testing.assert_close(layer.value, wanted.sum(1), **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("dt", [0.5, 1.5, 4.0, 100.0])
def test_spike_time_tiling(trains, dt):
    x = TRAINS[trains]
    y = x.roll(1, 0) if trains != "one spike" else x.roll(3, 0)
    pairs = zip(x.flatten(1).T.numpy(), y.flatten(1).T.numpy(), strict=True)
    oracle = spike_train_correlation.spike_time_tiling_coefficient
    wanted = [float(oracle(train(a, 0.5), train(b, 0.5), dt=dt * pq.s)) for a, b in pairs]
    wanted = torch.tensor(wanted, dtype=torch.float64).reshape(x.shape[1:])
    found = analysis.spike_time_tiling_coefficient(x, y, dt=dt, per="train")
    torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("cost", [0.0, 0.1, 0.5, 1.0, 3.0, np.inf])
def test_victor_purpura(trains, cost):
    x = TRAINS[trains]
    held = columns(x)
    oracle = spike_train_dissimilarity.victor_purpura_distance
    wanted = torch.from_numpy(np.asarray(oracle(held, cost_factor=cost * pq.Hz), dtype=np.float64))
    if cost == np.inf:  # elephant then moves no spike at all, not even by 0 steps
        same = x.flatten(1).T @ x.flatten(1)
        wanted = wanted - 2 * same.double()
    found = analysis.victor_purpura_distance(x, x, cost_factor=cost, pairs="all")
    torch.testing.assert_close(found, wanted, **EXACT)
    beside = analysis.victor_purpura_distance(x, x.roll(1, 1), cost_factor=cost)
    turned = torch.arange(found.shape[0]).reshape(x.shape[1:]).roll(1, 0).flatten()
    torch.testing.assert_close(beside.flatten(), found[torch.arange(found.shape[0]), turned], **EXACT)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("tau", [0.3, 2.0, 50.0, np.inf])
def test_van_rossum(trains, tau):
    x = TRAINS[trains]
    wanted = spike_train_dissimilarity.van_rossum_distance(columns(x), time_constant=tau * pq.s)
    wanted = torch.from_numpy(np.asarray(wanted, dtype=np.float64))
    found = analysis.van_rossum_distance(x, x, time_constant=tau, pairs="all")
    # Elephant takes the difference of two large numbers last, and the root makes 1e-8 of a rounding of 1e-16
    torch.testing.assert_close(found**2, wanted**2, rtol=1e-12, atol=1e-11)
    beside = analysis.van_rossum_distance(x, x.roll(1, 1), time_constant=tau)
    turned = torch.arange(found.shape[0]).reshape(x.shape[1:]).roll(1, 0).flatten()
    torch.testing.assert_close(beside.flatten(), found[torch.arange(found.shape[0]), turned], **EXACT)


def test_many_trains_at_random():
    x, y = bursty((300, 2, 12), seed=4), drawn((300, 2, 12), 0.1, seed=9)
    for name, (oracle, options) in OF_ONE.items():
        for held in (x, y):
            torch.testing.assert_close(
                getattr(analysis, name)(held, per="train", **options), each(held, oracle), **EXACT
            )
