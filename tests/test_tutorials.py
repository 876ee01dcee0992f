"""The code of every tutorial runs, and prints what the page shows: words exactly, numbers up to other hardware."""

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))
NUMBER = r"\d+\.\d+(?:e-?\d+)?"
BLOCK = r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?"


def words_and_numbers(text):
    return re.sub(NUMBER, "#", text).split(), [float(number) for number in re.findall(NUMBER, text)]


def test_there_are_pages():
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_prints_what_the_page_shows(page, capsys, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    scope = {}
    for code, shown in re.findall(BLOCK, page.read_text(), flags=re.DOTALL):
        exec(code, scope)
        words, numbers = words_and_numbers(capsys.readouterr().out)
        wanted, about = words_and_numbers(shown)
        assert words == wanted, code
        assert numbers == pytest.approx(about, rel=0.05, abs=0.02), code
