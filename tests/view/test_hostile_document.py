"""A document in which any one value is hostile, though of its type: it is drawn, or refused with the place."""

import copy
from typing import Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from spikescope.view.document.check import misfit
from spikescope.view.document.shape import FORMAT, VERSION, Document, Finding, Number
from spikescope.view.page import page

HOSTILE = {
    int: (-1, 0, 10**9, 2**63, 10**400),
    float: (None, "nan", "inf", -1, 5e-324, 1e308),
    str: ("", "\ud800", "</script>"),
    bool: (),
}


def filled(form):
    """A value of a type of the document with two items in every list."""
    if get_origin(form) is NotRequired:
        (form,) = get_args(form)
    if form == Number:
        return 0.5
    if is_typeddict(form):
        parts = get_type_hints(form, include_extras=True)
        return {name: [] if of == list[Finding] and form is Finding else filled(of) for name, of in parts.items()}
    if get_origin(form) is list:
        return [filled(*get_args(form)) for _ in range(2)]
    if get_origin(form) is Literal:
        return get_args(form)[0]
    return filled(get_args(form)[0]) if get_args(form) else {int: 1, str: "a", bool: True}[form]


WHOLE = filled(Document) | {"format": FORMAT, "version": VERSION}


def items(held):
    """The parts of a dict, the first item of a list."""
    return list(held.items() if isinstance(held, dict) else enumerate(held[:1]))


def holders(held, place):
    """Each dict and list within a value, with its place."""
    if isinstance(held, (dict, list)):
        yield held, place
        for name, one in items(held):
            yield from holders(one, f"{place}.{name}")


def changed():
    """Documents with one hostile value, each with its place."""
    document = copy.deepcopy(WHOLE)
    for held, place in list(holders(document, "data")):
        for name, one in items(held):
            given = ([], 3 * one, one[:1]) if isinstance(one, list) else HOSTILE.get(type(one), ())
            for value in given if name not in ("format", "version") else ():
                held[name] = value
                yield document, f"{place}.{name} = {value!r:.20}"
            held[name] = one


def test_it_is_drawn_or_refused_with_the_place():
    assert misfit(WHOLE, Document, "data") is None
    drawn = refused = 0
    for document, what in changed():
        wrong = misfit(document, Document, "data")
        refused += wrong is not None
        if wrong is None:
            drawn += 1
            try:
                page([document])
            except Exception as error:
                pytest.fail(f"{what}: {error!r}")
        else:
            assert wrong.startswith("data.")
    assert drawn > 250
    assert refused > 80


@pytest.mark.parametrize(
    ("part", "given", "words"),
    [
        ("facts", [["a"]], "data.facts.0 has a length of 1, but a pair of 2"),
        ("layers", [{"name": "a", "kind": "b", "role": "neurons", "neurons": -1}], "data.layers.0.neurons is -1"),
        ("image", {"words": "", "rows": [[1, 2**60]]}, "data.image.rows.0.1 is 1152921504606846976"),
        ("flow", {"layers": ["a"], "norms": [], "note": ""}, "data.flow.norms has a length of 0, but layers of 1"),
    ],
)
def test_the_place_is_the_one(part, given, words):
    assert misfit(WHOLE | {part: given}, Document, "data") == words


def test_lines_of_a_course_have_a_value_for_each_place():
    (course, other), line = copy.deepcopy(WHOLE["courses"]), [{"name": "a", "values": [1]}]
    held = WHOLE | {"courses": [course, other | {"series": line}]}
    assert misfit(held, Document, "data") == "data.courses.1.series.0.values has a length of 1, but x of 2"


def test_findings_without_end_are_refused():
    found = WHOLE["findings"][0]
    for _ in range(5000):
        found = found | {"consequences": [found]}
    assert misfit(WHOLE | {"findings": [found]}, Document, "data") == "data goes too deep"
