"""A recording of chosen steps: what does not go by their order is measured, all else is refused in words."""

import itertools
import pickle
import re

import numpy as np
import pytest
import torch
from analysis_cases import bursty, given_to, same

import spikescope
from spikescope import analysis, monitor, neuron
from spikescope.analysis import registry
from spikescope.monitor import Subset
from spikescope.view.document.recorded import of_recording

MEASURES = sorted(registry)
CHOSEN = {"every third": slice(0, None, 3), "scattered": {1, 2, 5, 11, 17, 23}.__contains__, "later": slice(8, None)}
T = 24


class Given(neuron.IFNode):
    """A layer whose spikes are its input."""

    def multi_step_forward(self, x_seq):
        return x_seq.clone()


def recorded(folder, x, time):
    net = torch.nn.Sequential(Given(step_mode="m"))
    with monitor.record(net, "spike", to=folder, subset=Subset(time=time)):
        net(x)
    return spikescope.open_recording(folder)["0"]["spike"]


@pytest.fixture(scope="module")
def spikes(tmp_path_factory):
    """Of each choice the two signals, and the steps that they hold as tensors."""
    made, x = {}, bursty((T, 4, 5), 3)
    y = x.flip(0).roll(1, 2)
    for name, time in CHOSEN.items():
        folder = tmp_path_factory.mktemp("chosen")
        kept = [t for t in range(T) if Subset(time=time).wants(t)]
        signals = [recorded(folder / str(i), held, time) for i, held in enumerate((x, y))]
        made[name] = signals, [x[kept], y[kept]]
    return made


def measured(name, a, b, steps, by_step=None, **options):
    args, example = given_to(registry[name], a, b, 4, steps)
    if by_step is not None:
        args[registry[name].takes.index("feature")] = by_step
    return registry[name].function(*args, **(example | options))


def settings(name):
    """The options to try, with bins of one step where there are some, in which steps are by themselves."""
    yield {}
    for key in ("bin_size", "window"):
        if isinstance(registry[name].example.get(key), int):
            yield {key: 1}


FORMS = {
    "signal": lambda held: held,
    "blocks": lambda held: list(held.blocks()),
    "blocks of a part": lambda held: list(held.blocks(sample=slice(None, None, 1), step=slice(0, None))),
    "events": lambda held: held.events(),
    "events with entries replaced": lambda held: held.events()._replace(neuron_shape=(5,)),
    "events by pickle": lambda held: pickle.loads(pickle.dumps(held.events())),
    "events of blocks": lambda held: spikescope.recording.events_of(held.blocks()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("choice", CHOSEN)
@pytest.mark.parametrize("name", MEASURES)
def test_what_goes_by_the_order_of_steps_is_refused_where_they_are_no_neighbours(spikes, name, choice, form):
    signals, dense = spikes[choice]
    steps = len(dense[0])
    given = [FORMS[form](held) for held in signals]
    for options in settings(name):
        wanted = measured(name, *dense, steps, **options)
        ordered = not all(close(measured(name, *held, steps, **options), wanted) for held in shuffled(dense))
        if (ordered and choice != "later") or "events" in registry[name].takes:
            with pytest.raises(ValueError, match=rf"{name} goes by the time .*\(time="):
                measured(name, *given, steps, **options)
        else:
            assert same(measured(name, *given, steps, **options), wanted)


def shuffled(dense):
    """The steps in other orders, in which each has other neighbours."""
    for seed in range(8):
        order = torch.randperm(len(dense[0]), generator=torch.Generator().manual_seed(seed))
        yield [held[order] for held in dense]


def close(a, b):
    """Whether two results are equal up to the order in which sums are made."""
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), 1e-9, 1e-9, equal_nan=True)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, nan_ok=True) if isinstance(a, float) else a == b


def test_a_feature_of_each_recorded_step_goes_with_it(spikes):
    signals, dense = spikes["scattered"]
    feature = np.random.default_rng(0).normal(size=(len(dense[0]), 4))
    wanted = measured("tuning_curves", *dense, len(dense[0]), feature)
    assert same(measured("tuning_curves", *signals, len(dense[0]), feature), wanted)


def test_a_raster_by_class_of_them_is_refused(spikes):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="raster_by_class goes by the time"):
        spikescope.report.raster_by_class(spikes["scattered"][0][0], [0, 1, 0, 1])


def test_two_choices_are_no_pair(tmp_path):
    x = bursty((12, 2, 3), 1)
    made = []
    for place, time in enumerate((slice(0, None, 2), slice(1, None, 2), slice(1, 12, 2))):
        recorded(tmp_path / str(place), x, time)
        made.append(spikescope.open_recording(tmp_path / str(place)))
    words = (
        r"compare: '0' has spike of other steps of a run in the first, time=slice\(0, None, 2\), than .*\(1, None, 2\)"
    )
    with pytest.raises(ValueError, match=words):
        analysis.compare(made[0], made[1])
    assert analysis.compare(made[0], made[0]).same


BOUNDS = [slice(a, b, c) for a in (None, 0, 3) for b in (None, 3, 4, 9, 10) for c in (None, 1, 2, 5)]


def test_one_choice_of_steps_has_one_form():
    """Of slices that pick the same steps of runs of any length, and of those that do not."""
    from spikescope.recording.steps import are_neighbours, chosen_steps, steps_alike

    steps = [tuple(range(*held.indices(40))) for held in BOUNDS]
    words = [chosen_steps({"subset": {"time": str(held)}}) for held in BOUNDS]
    for (held, told), (other, also) in itertools.product(zip(steps, words, strict=True), repeat=2):
        if told and also:
            assert steps_alike(told, also) == (held == other)
        else:  # the first steps, of which a run may have fewer
            assert steps_alike(told, also) == (told == also)
    for held, told in zip(steps, words, strict=True):
        assert are_neighbours(told) == (held == tuple(range(held[0], held[-1] + 1)) if held else True)
        assert bool(told) == (bool(held) and held != tuple(range(len(held))))


def test_equal_choices_in_other_words_are_compared(tmp_path):
    x = bursty((12, 2, 3), 1)
    for index, (one, other) in enumerate(
        [(slice(0, None, 2), slice(None, None, 2)), (slice(5, None), slice(5, None, 1)), (slice(3, 9), slice(3, 9, 1))]
    ):
        places = [tmp_path / f"{index}{side}" for side in "ab"]
        for place, time in zip(places, (one, other), strict=True):
            recorded(place, x, time)
        assert analysis.compare(*map(spikescope.open_recording, places)).same


def test_two_predicates_are_no_pair(tmp_path):
    x = bursty((12, 2, 3), 1)
    choices = {"even": lambda step: step % 2 == 0, "odd": lambda step: step % 2 == 1, "set": {1, 3, 6}.__contains__}
    held = {}
    for name, time in {**choices, "again": {1, 3, 6}.__contains__, "slice": slice(0, None, 2)}.items():
        recorded(tmp_path / name, x, time)
        held[name] = spikescope.open_recording(tmp_path / name)
    for one, other in (("even", "odd"), ("set", "again"), ("even", "set")):
        with pytest.raises(ValueError, match=r"of steps that predicates chose, .* Record both with a slice of steps"):
            analysis.compare(held[one], held[other])
    with pytest.raises(ValueError, match="of other steps of a run"):
        analysis.compare(held["even"], held["slice"])


def test_a_page_says_which_steps_it_shows(tmp_path):
    recorded(tmp_path / "run.spk", bursty((12, 2, 3), 1), slice(0, None, 3))
    held = of_recording(spikescope.open_recording(tmp_path / "run.spk"))
    assert any("those of time=slice(0, None, 3) were recorded" in note for note in held["notes"])


@pytest.mark.parametrize(
    "whole", [np.int64, np.uint8, torch.tensor, np.array], ids=["int64", "uint8", "tensor", "array"]
)
def test_numbers_of_others_choose_the_same_steps(tmp_path, whole):
    x = bursty((12, 2, 3), 1)
    for place, (first, last, apart) in enumerate([(0, 9, 1), (0, 9, 2), (3, 9, 1)]):
        time, plain = slice(whole(first), whole(last), whole(apart)), slice(first, last, apart)
        assert Subset(time=time).time == plain
        signal = recorded(tmp_path / str(place), x, time)
        assert torch.equal(signal.read(), x[plain])
        assert signal.chosen == ("" if (first, apart) == (0, 1) else f"time=slice({first}, {last}, {apart})")
    for wrong in (slice(0, 2.5), slice("0", None), slice(None, None, np.float64(2))):
        with pytest.raises(TypeError, match="Subset: the bounds of time are whole numbers, but got"):
            Subset(time=wrong)


def test_numbers_of_numpy_in_the_heads_of_recordings_are_numbers():
    from spikescope.recording.steps import are_neighbours, chosen_steps

    assert not chosen_steps({"subset": {"time": "slice(np.int64(0), np.int64(9), None)"}})
    later = chosen_steps({"subset": {"time": "slice(np.int64(4), None, np.uint8(1))"}})
    assert later == "time=slice(4, None, 1)"
    assert are_neighbours(later)
    assert re.fullmatch(r"time=slice\(0, None, 2\)", chosen_steps({"subset": {"time": "slice(0, None, np.int32(2))"}}))
