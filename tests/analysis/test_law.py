"""What holds for every analysis: the form of the spikes and the borders of blocks change nothing, nothing warns."""

import inspect
import math

import numpy as np
import pytest
import torch
from analysis_cases import NOTHING, TRAINS, bursty, cut, drawn, events, given_to, same, signal, sliced, tensors

from spikescope import analysis
from spikescope.analysis import registry
from spikescope.spikes import PackedSpikes

MEASURES = sorted(registry)


def measured(name, spikes, other, samples, steps):
    measure = registry[name]
    args, options = given_to(measure, spikes, other, samples, steps)
    return measure.function(*args, **options)


@pytest.mark.parametrize("trains", [*TRAINS, *NOTHING])
@pytest.mark.parametrize("name", MEASURES)
def test_the_form_of_the_spikes_changes_nothing(name, trains):
    x = (TRAINS | NOTHING)[trains]
    y = x.flip(0)
    about = x.shape[1], x.shape[0]
    wanted = measured(name, x, y, *about)
    assert tensors(wanted)
    pack = PackedSpikes.from_dense
    forms = [
        (pack(x), pack(y)),
        (pack(x).to("time"), pack(y).to("time")),
        (x.bool(), y.bool()),
        (events([x]), events([y])),
        (cut([x], np.random.default_rng(0)), cut([y], np.random.default_rng(1), pack=True)),
    ]
    if len(x):  # what has no step is not recorded
        forms.append((signal([x], np.random.default_rng(2)), signal([y], np.random.default_rng(3))))
    for a, b in forms:
        assert same(measured(name, a, b, *about), wanted)


@pytest.mark.parametrize("name", MEASURES)
def test_the_users_default_device_and_dtype_change_nothing(name):
    x = bursty((30, 4, 5), 3)
    held = (x, x.flip(0)), (torch.zeros(30, 4, 5), torch.zeros(30, 4, 5))
    for a, b in held:
        wanted = measured(name, a, b, a.shape[1], a.shape[0])
        with torch.device("meta"):
            found = measured(name, a, b, a.shape[1], a.shape[0])
        assert same(found, wanted)
        torch.set_default_dtype(torch.float16)
        try:
            found = measured(name, a, b, a.shape[1], a.shape[0])
        finally:
            torch.set_default_dtype(torch.float32)
        assert same(found, wanted)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", MEASURES)
def test_where_blocks_end_changes_nothing(name, seed, monkeypatch):
    monkeypatch.setattr(analysis.binning, "ROOM", 1 + 40 * seed)  # and neither does how much is held at a time
    monkeypatch.setattr(analysis.pairs, "AT_ONCE", 3 + 100 * seed)
    monkeypatch.setattr(analysis.intervals, "AT_ONCE", 1 + 7 * seed)
    rng = np.random.default_rng(seed)
    runs = [bursty((30, 4, 5), seed), bursty((30, 3, 5), seed + 50)]
    others = [x.flip(0).roll(1, 2) for x in runs]
    wanted = measured(name, events(runs), events(others), 7, 30)
    for pack in (False, True):
        blocks = cut(runs, rng, pack), cut(others, rng, pack)
        assert same(measured(name, *blocks, 7, 30), wanted)
    assert same(measured(name, sliced(runs, rng), sliced(others, rng), 7, 30), wanted)


@pytest.mark.parametrize("name", MEASURES)
def test_a_part_of_a_run_is_measured_as_that_part_of_its_tensor(name):
    x = bursty((30, 4, 5), 11)
    y = x.flip(0).roll(1, 2)
    wanted = measured(name, x[7:25, 1:3], y[7:25, 1:3], 2, 18)
    a, b = (signal([held], np.random.default_rng(4)) for held in (x, y))
    part = {"step": slice(7, 25), "sample": slice(1, 3)}
    if "events" not in registry[name].takes:  # these have the numbers of the run
        assert same(measured(name, list(a.blocks(**part)), list(b.blocks(**part)), 2, 18), wanted)
        assert same(measured(name, a.events(**part), b.events(**part), 2, 18), wanted)
        one = {"step": slice(28, None, 9), "sample": slice(3, None, 5)}
        forms = ((list(a.blocks(**one)), list(b.blocks(**one))), (a.events(**one), b.events(**one)))
        alone = x[28:29, 3:4], y[28:29, 3:4]
        assert all(outcome(name, *form) == outcome(name, *alone) for form in forms)
    for apart, words in (
        ({"step": slice(1, None, 2)}, "step 3 comes after 1"),
        ({"sample": slice(0, 4, 3)}, "sample 3"),
    ):
        for parts in ((list(a.blocks(**apart)), list(b.blocks(**apart))), (a.events(**apart), b.events(**apart))):
            with pytest.raises(ValueError, match=f"{name} takes each .*{words}"):
                measured(name, *parts, 2, 15)


def outcome(name, a, b):
    """What a measure says of one step of one sample; or of which kind its refusal is, for some take no single one."""
    try:
        return str(tensors(measured(name, a, b, 1, 1)))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", [held for held in MEASURES if "events" not in registry[held].takes])
def test_runs_may_differ_in_length_or_are_refused_in_words(name):
    runs = [drawn((12, 2, 3), 0.4, 1), drawn((20, 3, 3), 0.4, 2)]
    others = [x.flip(0) for x in runs]
    if name == "instantaneous_rate":
        with pytest.raises(ValueError, match="of one length"):
            measured(name, events(runs), events(others), 5, 12)
    else:
        assert tensors(measured(name, events(runs), events(others), 5, 12))


@pytest.mark.parametrize("name", MEASURES)
def test_samples_are_trials_of_their_own(name):
    """In two runs of one length samples count as they do in one."""
    x, y = bursty((25, 5, 4), 7), bursty((25, 5, 4), 8)
    wanted = measured(name, x, y, 5, 25)
    apart = [events([held[:, :2], held[:, 2:]]) for held in (x, y)]
    held = measured(name, *apart, 5, 25)
    for a, b in zip(tensors(held), tensors(wanted), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", MEASURES)
def test_what_is_no_spikes_is_refused_in_words(name):
    good = drawn((5, 2, 3), 0.5)
    args, options = given_to(registry[name], good, good, 2, 5)
    for bad in (3, [[1.0]], "spikes"):
        given = [{"one": bad} if isinstance(args[0], dict) else bad, *args[1:]]
        with pytest.raises(TypeError, match=rf"{name} takes"):
            registry[name].function(*given, **options)
    if name in ("representational_similarity", "cka", "cka_matrix", "participation_ratio", "similarity_matrix"):
        return  # of real values
    for odd in (math.nan, 0.25):
        with pytest.raises(ValueError, match=rf"{name} takes spikes, whole numbers, but got the value {odd}"):
            registry[name].function(torch.full((4, 2, 3), odd), *args[1:], **options)


@pytest.mark.parametrize("name", MEASURES)
def test_a_tensor_whose_numbers_cannot_be_read_is_refused_in_words(name):
    good = drawn((5, 2, 3), 0.5)
    args, options = given_to(registry[name], good, good, 2, 5)
    for bad, cure in ((good.to_sparse(), r"x\.to_dense\(\)"), (good.to("meta"), "on real data")):
        given = [{"one": bad} if isinstance(args[0], dict) else bad, *args[1:]]
        with pytest.raises(TypeError, match=rf"{name} takes a .*tensor.*{cure}"):
            registry[name].function(*given, **options)


@pytest.mark.parametrize("name", [held for held in MEASURES if registry[held].takes != ("spikes",)])
def test_companions_that_do_not_fit_are_refused_in_words(name):
    x = drawn((6, 3, 2), 0.5)
    wrong = given_to(registry[name], x, x[:, :2], 2, 6)[0]
    if "events" in registry[name].takes:
        wrong[1] = [9]
    with pytest.raises(ValueError, match=name):
        registry[name].function(
            x if isinstance(wrong[0], torch.Tensor) else wrong[0], *wrong[1:], **registry[name].example
        )


@pytest.mark.parametrize("name", MEASURES)
def test_blocks_out_of_order_are_refused_in_words(name):
    measure = registry[name]
    if "layers" in measure.takes:
        return
    x = drawn((6, 2, 3), 0.5)
    blocks = [cut([x], np.random.default_rng(0))[-1], cut([x], np.random.default_rng(0))[0]]
    args, options = given_to(measure, blocks, x, 2, 6)
    with pytest.raises(ValueError, match="in the order of runs and time"):
        measure.function(*args, **options)
    with pytest.raises(ValueError, match="got no block"):
        measure.function([], *args[1:], **options)


@pytest.mark.parametrize("name", MEASURES)
def test_each_says_what_is_undefined_and_whose_definition_it_is(name):
    measure = registry[name]
    text = inspect.getdoc(measure.function)
    still = (TRAINS["empty"], TRAINS["all spikes"], *NOTHING.values())
    results = [measured(name, x, x, x.shape[1], len(x)) for x in still]
    assert any(held.isnan().any() for result in results for held in tensors(result)) == ("NaN" in text)
    assert ">>> " in text
    assert measure.source
    assert measure.unit
    assert name in analysis.__dict__


def test_a_name_that_there_is_not_is_refused_in_words():
    with pytest.raises(ValueError, match="no analysis 'cv3'"):
        analysis.named("cv3")
    assert analysis.named(analysis.cv) is analysis.named("cv") is registry["cv"]


@pytest.mark.parametrize("name", MEASURES)
def test_events_of_no_run_are_refused_in_words(name):
    nothing = events([])
    assert nothing.runs == ()
    with pytest.raises(ValueError, match=rf"{name}.* got the events of no run"):
        measured(name, nothing, nothing, 1, 1)
