"""Causes are registered once, in order, and the guide is their table."""

import re
from pathlib import Path

import pytest

import fresh
from spikescope.monitor import Evidence, Finding
from spikescope.monitor.health import Cause
from spikescope.monitor.health.registry import _joined, causes, register

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "health.md"


def test_every_kind_that_is_explained_is_registered_and_comes_later():
    known = causes()
    assert list(known) == [held.kind for held in sorted(known.values(), key=lambda held: held.rank)]
    for cause in known.values():
        assert set(cause.explains) <= set(known), cause.kind
        assert set(cause.explains.values()) <= {"here", "after", "before", "anywhere"}, cause.kind
        for kind in cause.explains:
            assert known[kind].rank // 10 >= cause.rank // 10, (cause.kind, kind)


def test_a_kind_is_registered_once():
    with pytest.raises(ValueError, match="'silent layer' of finding is registered twice"):
        register(Cause("silent layer", 1, "", "", {}))(lambda seen: [])


def test_what_follows_stands_below_the_first_cause_of_all():
    """A dead layer in the middle explains the layers after it, and the gradients before it."""
    places = {"a": 0, "b": 1, "c": 2}
    made = [
        Finding("b", "never near the threshold", 0.1, 0.5, ""),
        Finding("b", "silent layer", 1.0, 0.5, ""),
        Finding("c", "silent layer", 1.0, 0.5, ""),
        Finding("a", "vanishing gradient in depth", 0.0, 1e-3, ""),
        Finding("c", "rate too high", 0.5, 0.2, ""),
    ]
    first, second = _joined(made, places)
    assert first.layer == "b"
    assert [(held.layer, held.kind) for held in first.consequences] == [
        ("b", "silent layer"),
        ("c", "silent layer"),
        ("a", "vanishing gradient in depth"),
    ]
    assert (second.layer, second.consequences) == ("c", ())
    assert [held.layer for held in first.whole()] == ["b", "b", "c", "a"]


def test_the_guide_lists_every_kind_with_what_it_means_and_what_may_help():
    rows = [[cell.strip() for cell in line.split(" | ")] for line in PAGE.read_text().splitlines()]
    listed = {row[0].removeprefix("| "): row[1:] for row in rows if re.match(r"\| (?!kind)[a-z]", row[0])}
    assert list(listed) == list(causes())
    for kind, (means, advice) in listed.items():
        assert means == causes()[kind].means
        assert advice.removesuffix(" |") == causes()[kind].advice


def test_evidence_is_no_part_of_what_a_finding_is():
    assert Finding("a", "b", 1.0, 2.0, "c", evidence=Evidence("x")) == Finding("a", "b", 1.0, 2.0, "c")


def test_the_order_of_words_does_not_depend_on_what_was_imported_first():
    program = (
        "import torch; from spikescope.monitor.health.causes import {}; from spikescope import monitor, neuron\n"
        "net = torch.nn.Sequential(neuron.IFNode(step_mode='m'))\n"
        "with monitor.health(net) as watch:\n    net(torch.ones(2, 1, 3))\n"
        "print(watch.table())"
    )
    done = fresh.run_at_once(*(["-c", program.format(first)] for first in ("values", "gradients")))
    assert not any(held.returncode for held in done), done
    assert done[0].stdout == done[1].stdout != ""
