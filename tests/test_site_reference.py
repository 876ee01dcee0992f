"""The made pages of the site: every public name, every entry of the registries, and pictures of what really happens."""

import re
from importlib import import_module

import pytest
from website.made import api, bench, gallery, pages, tables
from website.made.plot import Line, plot
from website.made.text import fields_said, markdown, signature
from website.made.words import WORDS

import spikescope
from spikescope import analysis, monitor, neuron, surrogate
from spikescope.monitor.health.registry import causes
from spikescope.recording.export.base import registry as formats


@pytest.fixture(scope="module")
def made():
    return {language: pages(language) for language in ("en", "zh")}


@pytest.mark.parametrize("room", spikescope.__all__)
def test_every_public_name_of_ours_is_in_the_reference(room):
    module = getattr(spikescope, room)
    public = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    ours = {name for name in public if getattr(getattr(module, name), "__module__", "").startswith("spikescope")}
    assert ours
    assert ours <= set(api.names(module))


def test_a_page_says_of_each_name_what_it_takes_and_where_it_is(made):
    for room in api.rooms():
        text = made["en"][f"reference/api/{room}.md"]
        for name in api.names(import_module(f"spikescope.{room}")):
            assert f"\n## {name} {{#{name}}}\n" in text, f"{room}.{name}"
    text = made["en"]["reference/api/neuron.md"]
    assert "class LIFNode(\n    tau=2.0,\n    decay_input=True,\n" in text
    assert re.search(r'href="../../source/neuron/integrate.py.html#L-\d+"', text)
    assert 'href="../../../source/' in made["zh"]["reference/api/neuron.md"]
    assert (
        "- `v_threshold`: $V_{th}$; a potential equal to it fires." in text.split("## LIFNode {")[1].split("\n## ")[0]
    )


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("neurons", lambda: neuron.registry),
        ("surrogates", lambda: surrogate.registry),
        ("reducers", lambda: monitor.reduce.registry),
        ("findings", causes),
        ("measures", lambda: analysis.registry),
        ("exports", lambda: [f"to_{name}" for name in formats]),
        ("backends", lambda: neuron.registry),
        (
            "benchmarks",
            lambda: {row["case"] for group, held in bench.newest().items() for row in bench.rows_of(group, held)},
        ),
    ],
)
def test_a_page_of_a_registry_has_all_of_it(made, page, wanted):
    assert wanted()
    for language, texts in made.items():
        missing = [name for name in wanted() if name not in texts[f"reference/{page}.md"]]
        assert not missing, f"{page} in {language} lacks {missing}"


def test_the_name_of_a_reducer_is_the_one_that_record_takes():
    with pytest.raises(ValueError, match="no reducer 'nothing'") as refused:
        monitor.record(spikescope.neuron.IFNode(), "nothing")
    for name in monitor.reduce.registry:
        assert f"'{tables.spoken(name)}'" in str(refused.value), name


@pytest.mark.parametrize("cls", neuron.registry.values(), ids=neuron.registry)
def test_a_neuron_fires_in_its_picture_and_is_drawn(cls):
    drawn = gallery.neuron_plot(cls, "en")
    assert "<polyline" in drawn
    assert "nan" not in drawn
    if not issubclass(cls, neuron.ReadOut):
        assert drawn.count('class="spike"') >= 5


@pytest.mark.parametrize("cls", surrogate.registry.values(), ids=surrogate.registry)
def test_a_surrogate_is_drawn_with_its_slope(cls):
    drawn = gallery.surrogate_plot(cls, "en")
    assert drawn.count("<polyline") == 2
    assert "nan" not in drawn


def test_auto_takes_kernels_on_a_cpu_for_all_that_the_documents_say():
    loops = [name for name, cls in neuron.registry.items() if "eager" in tables.planned(cls, "en")[0]]
    assert loops == []


def test_the_words_are_there_in_both_languages():
    for key, held in WORDS.items():
        assert set(held) == {"en", "zh"}, key
        assert held["zh"], key


def test_a_docstring_becomes_markdown():
    assert (
        markdown("A.\n- `a`: b\n  c\n\n>>> 1\n1\n\nEnd.") == "A.\n\n- `a`: b\n  c\n\n\n```pycon\n>>> 1\n1\n```\n\nEnd."
    )
    assert markdown(">>> 1\n1") == "```pycon\n>>> 1\n1\n```"


def test_a_signature_is_a_line_or_a_line_each():
    def short(a, *, b: int = 1, **c):
        pass

    def long(a_rather_long_name, another_rather_long_name=None, a_third_rather_long_name=(), a_fourth_of_them="x"):
        pass

    assert signature("f", short) == "f(a, *, b: int = 1, **c)"
    assert signature("f", long).startswith("f(\n    a_rather_long_name,\n    another_rather_long_name=None,\n")


def test_arguments_of_bases_are_told():
    assert fields_said(neuron.LIFNode)["v_reset"].startswith("$V_{reset}$, the hard reset")
    assert fields_said(neuron.LIFNode)["tau"] == "the membrane time constant in steps, above 1."


def test_a_plot_says_its_range_and_escapes_its_words():
    drawn = plot([Line("a<b", [0, 1], [-2.0, 2.0])], "t", "x", level=1.0, ticks=[0.5])
    assert "a&lt;b" in drawn
    assert "\N{MINUS SIGN}2<" in drawn
    assert drawn.count('class="spike"') == 1
