"""Reducers on what was recorded: what a live recording of the same runs gives, however the work is cut."""

import copy
import sys
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

from monitor_cases import sequence, spiking_net
from spikescope import functional, monitor, open_recording
from spikescope.monitor.reduce import GradientNorm, Reducer, registry
from spikescope.recording import in_memory

SPIKES = {cls(**cls.example) for cls in registry.values() if not cls.signals or "spike" in cls.signals}
KINDS = sorted(SPIKES, key=lambda reducer: type(reducer).__name__)


def same(a, b):
    if isinstance(a, torch.Tensor):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert torch.allclose(a.double(), b.double(), rtol=1e-12, atol=1e-12, equal_nan=True)
    elif isinstance(a, tuple):
        for left, right in zip(a, b, strict=True):
            same(left, right)
    else:
        assert a == b or (a != a and b != b) or a == pytest.approx(b, rel=1e-12)


@pytest.fixture(scope="module", params=["m", "s"])
def recorded(request, tmp_path_factory):
    """Live results of all reducers, and the recording of the same runs in small files."""
    place = tmp_path_factory.mktemp("recorded")
    net, x = spiking_net(request.param), sequence(T=12, N=3)
    made = {type(held).__name__: held for held in KINDS}
    with (
        monitor.record(net, ["spike", "v", "grad_output"], to=place / "run.spk", budget=60),
        monitor.record(net, made) as live,
        monitor.record(net, "gradient norm", signal="grad_output") as norms,
        monitor.record(net, ["moments", "min max"], signal="v") as potentials,
    ):
        for number in range(4):
            y = net(x - 0.2 * number) if request.param == "m" else torch.stack([net(s - 0.2 * number) for s in x])
            y.sum().backward()
            functional.reset_net(net)
    return place / "run.spk", live, norms, potentials


@pytest.mark.parametrize("reducer", KINDS, ids=lambda reducer: type(reducer).__name__)
def test_every_reducer_gives_what_it_gave_live(recorded, reducer):
    path, live, _, _ = recorded
    found = monitor.reduce(path, reducer)
    assert list(found) == list(live)
    for name in live:
        same(found[name], live[name][type(reducer).__name__])


def test_other_signals_and_chosen_modules(recorded):
    path, _, norms, potentials = recorded
    rec = open_recording(path)
    found = monitor.reduce(rec, GradientNorm, signal="grad_output")
    assert found.courses == {"gradient norm"}
    for name in norms:
        same(found[name], norms[name])
    found = monitor.reduce(rec, ["moments", "min max"], where="3", signal="v")
    assert list(found) == ["3"]
    for label in ("moments", "min max"):
        same(found["3"][label], potentials["3"][label])


def test_several_recordings_count_as_one_with_all_runs(recorded):
    path, live, _, _ = recorded
    found = monitor.reduce([path, open_recording(path)], {"n": "count", "silent": "silent share"})
    for name in live:
        same(found[name]["n"], 2 * live[name]["Count"])
        same(found[name]["silent"], live[name]["SilentShare"])


def test_what_it_cannot_reduce_is_said(recorded):
    path = recorded[0]
    with pytest.raises(LookupError, match=r"nothing recorded of the signal 'h'.*There is 1: spike, v, grad_output; 3:"):
        monitor.reduce(path, "rate", signal="h")
    with pytest.raises(LookupError, match=r"with name '9'\. There is"):
        monitor.reduce(path, "rate", where="9")
    with pytest.raises(ValueError, match="there is no reducer 'gradient norms'"):
        monitor.reduce(path, "gradient norms", signal="v")
    with pytest.raises(TypeError, match="reduce takes a recording, as open_recording"):
        monitor.reduce(3, "rate")
    with pytest.raises(ValueError, match="got no recordings"):
        monitor.reduce([], "rate")
    with pytest.raises(ValueError, match="'gradient norm' says nothing of the signal 'spike'"):
        monitor.reduce(path, "gradient norm")


def test_steps_that_are_lost_are_not_passed_over():
    rec = in_memory({"fc": {"spike": [list(torch.ones(6, 1, 3).split(2))]}})
    signal = rec["fc"]["spike"]
    del signal._pieces[1], signal._first[1]
    with pytest.raises(ValueError, match="The steps 2 to 4 of run 0 of 'spike' of 'fc' are lost"):
        monitor.reduce(rec, "rate")


def test_a_reducer_that_merges_by_itself_needs_no_rules(tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.monitor.reduce.core.registry", {})

    class Held(NamedTuple):
        total: float

    @dataclass(frozen=True)
    class Sum(Reducer):
        Summary = Held

        def chunk(self, x, start):
            return Held(x.sum().item())

        def after(self, a, b):
            return Held(a.total + b.total)

        beside = after

        def result(self, a):
            return a.total

    for time in (None, monitor.every(2)):
        net, path = spiking_net(), tmp_path / f"{time}.spk"
        with monitor.record(net, "spike", to=path, subset=monitor.Subset(time=time)):
            net(sequence(T=6))
        spikes = open_recording(path)["1"]["spike"].read(0)
        assert monitor.reduce(path, Sum())["1"] == spikes.sum().item() > 0


def test_the_room_of_reducers_is_a_room_still():
    assert monitor.reduce.Rate().taps == ("count",)
    assert issubclass(monitor.reduce.registry["Rate"], Reducer)
    assert sys.modules["spikescope.monitor.reduce"] is monitor.reduce
    assert copy.copy(monitor.reduce.Rate()) == monitor.reduce.Rate()


@pytest.mark.slow(keep=1)
def test_workers_of_dask_give_the_same(recorded):
    distributed = pytest.importorskip("distributed", reason="reducers on other machines need spikescope[distributed]")
    path, live, _, _ = recorded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as here,
            distributed.Client(here) as client,
        ):
            one = monitor.reduce(path, ["count", "inter spike interval", "fano"], client=client)
            two = monitor.reduce([path, path], "count", client=client)
            with pytest.raises(ValueError, match="one of these is in memory"):
                monitor.reduce(in_memory({"a": {"spike": [torch.ones(2, 1, 1)]}}), "count", client=client)
    for name in live:
        for label, kind in (("count", "Count"), ("inter spike interval", "InterSpikeInterval"), ("fano", "Fano")):
            same(one[name][label], live[name][kind])
        same(two[name], 2 * live[name]["Count"])
