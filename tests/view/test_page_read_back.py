"""What is said of a page that is read back as data, and is none or is damaged."""

import pytest

from spikescope.view import report
from spikescope.view.document import json_of, read_data
from spikescope.view.document.shape import empty


@pytest.mark.parametrize("text", ["", "<html></html>", "<script id='spikescope-data'>[]</script>",
                                  '<script id="spikescope-data">[{"format":"other","version":1}]</script>',
                                  '<script id="spikescope-data">{"a"</script>'])  # fmt: skip
def test_a_file_that_is_no_report_is_refused_in_words(tmp_path, text):
    (tmp_path / "page.html").write_text(text)
    with pytest.raises(ValueError, match="is not a report of spikescope"):
        read_data(tmp_path / "page.html")


@pytest.mark.parametrize(
    ("part", "given", "words"),
    [
        ("title", None, "data.title is a NoneType"),
        ("facts", [["a"], 5], "data.facts.1 is an int"),
        ("judged", 1, "data.judged is an int"),
        ("source", "elsewhere", "data.source is 'elsewhere'"),
        ("image", {"words": "", "rows": [[0.5]]}, "data.image.rows.0.0 is a float"),
        ("difference", {}, "data.difference.words is missing"),
        ("layers", [{"name": "a", "kind": "b", "role": "neurons", "rate": "much"}], "data.layers.0.rate is 'much'"),
        ("layers", [{"name": "a", "kind": "b", "role": "neurons", "rate": 10**400}], "data.layers.0.rate is 1000"),
    ],
)
def test_a_report_whose_data_has_another_form_is_refused_with_the_place(tmp_path, part, given, words):
    held = json_of([empty("run", "") | {part: given}])
    (tmp_path / "page.html").write_text(f'<script id="spikescope-data">{held}</script>')
    with pytest.raises(ValueError, match=r"page\.html is damaged: ") as told:
        report(tmp_path / "page.html", to=tmp_path / "again.html")
    assert words in str(told.value)


def test_a_report_without_a_part_is_refused_with_its_name(tmp_path):
    for name in empty("run", "").keys() - {"format", "version"}:
        held = empty("run", "")
        del held[name]
        (tmp_path / "page.html").write_text(f'<script id="spikescope-data">{json_of([held])}</script>')
        with pytest.raises(ValueError, match=f"damaged: data.{name} is missing"):
            read_data(tmp_path / "page.html")


def test_a_report_of_a_later_version_is_refused_in_words(tmp_path):
    text = '<script id="spikescope-data">[{"format":"spikescope report","version":99}]</script>'
    (tmp_path / "page.html").write_text(text)
    with pytest.raises(ValueError, match="does not know"):
        read_data(tmp_path / "page.html")
