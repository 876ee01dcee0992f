"""Options of analyses that do not fit are refused in words, of each analysis in the registry."""

import inspect
import math

import pytest
import torch
from analysis_cases import drawn, given_to

from spikescope import analysis
from spikescope.analysis import registry

ODD = ("x", None, [], -1, math.nan, 0.5, True)
FITS = {  # what looks odd, and is told in the docstring to fit
    ("victor_purpura_distance", "cost_factor"): (0.5,),
    ("van_rossum_distance", "time_constant"): (0.5,),
    ("lvr", "R"): (0.5,),
    ("spike_time_tiling_coefficient", "dt"): (0.5,),
    ("instantaneous_rate", "sigma"): (0.5,),
    ("fanofactor", "window"): (None,),
    ("correlogram", "neurons"): (None, []),
    ("cka_matrix", "others"): (None,),
}
OPTIONS = [
    (name, option.name)
    for name in sorted(registry)
    for option in inspect.signature(registry[name].function).parameters.values()
    if option.name not in ("spikes", "values", "other", "labels", "feature", "events", "layers")
    and not isinstance(option.default, bool)
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_an_option_that_does_not_fit_is_refused_in_words(name, option):
    x = drawn((9, 4, 3), 0.5)
    args, options = given_to(registry[name], x, x, 4, 9)
    for odd in (held for held in ODD if held not in FITS.get((name, option), ())):
        with pytest.raises((ValueError, TypeError), match=rf"^{name}\b.*(got|takes)"):
            registry[name].function(*args, **{**options, option: odd})


@pytest.mark.parametrize("name", [held for held in sorted(registry) if len(registry[held].takes) > 1])
def test_companions_that_are_no_numbers_are_refused_in_words(name):
    x = drawn((6, 3, 2), 0.5)
    args, options = given_to(registry[name], x, x, 3, 6)
    for odd in ([[1], [1, 2], 3], object()):
        with pytest.raises((ValueError, TypeError), match=rf"^{name}\b"):
            registry[name].function(args[0], odd, **options)


def test_whole_numbers_are_not_made_of_others():
    x = drawn((6, 3, 2), 0.5)
    with pytest.raises(ValueError, match="events must be whole numbers"):
        analysis.peri_event(x, [1.5])
    with pytest.raises(ValueError, match="neurons must be whole numbers"):
        analysis.correlogram(x, 2, neurons=[0.5])


def test_coincidences_of_trains_without_an_axis_of_neurons():
    x, y = drawn((30, 4), 0.3), drawn((30, 4), 0.3, seed=1)
    wanted = analysis.spike_time_tiling_coefficient(x.unsqueeze(-1), y.unsqueeze(-1), dt=2.0)
    assert torch.equal(analysis.spike_time_tiling_coefficient(x, y, dt=2.0), wanted[0])


@pytest.mark.parametrize("name", [held for held in sorted(registry) if registry[held].takes == ("spikes",)])
def test_spikes_are_real_numbers(name):
    with pytest.raises(TypeError, match=f"{name} takes real numbers"):
        registry[name].function(torch.ones(6, 2, 3, dtype=torch.complex64), **registry[name].example)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([-1, 2], "step -1, but a run has 6 steps"),
        ([[-1, 2]], "sample -1, but there are 2 samples"),
        ([[3, 2]], "sample 3"),
    ],
)
def test_the_event_that_is_not_there_is_named(events, words):
    with pytest.raises(ValueError, match=words):
        analysis.peri_event(torch.zeros(6, 2, 1), events)
