"""Every example learns something, in its short form."""

import importlib.util
from pathlib import Path

import pytest

from pictures import leave_undrawn
from sample import WHOLE, sample

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
LEAST = {  # the accuracy that the short form reaches with room to spare; chance is 0.1, or 0.5 for the sequence task
    "conversion": 0.90,
    "gestures": 0.40,
    "online_digits": 0.60,
    "sequence": 0.80,
    "stdp_digits": 0.50,
}
LONG = ("gestures",)
"""What the tutorial of event data does at less length: from files of a camera to a network that is trained on them."""


def test_every_example_has_its_least_accuracy():
    assert {path.stem for path in EXAMPLES} == set(LEAST)


@pytest.mark.parametrize(
    "path", sample(EXAMPLES, *(path for path in EXAMPLES if path.stem not in LONG)), ids=lambda path: path.stem
)
def test_the_short_form_learns(path, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)  # for the pictures
    if not WHOLE:
        leave_undrawn(monkeypatch)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main(["--quick"]) >= LEAST[path.stem]
