"""The code of every page runs, prints what the page shows (words exactly, numbers roughly), and draws its pictures."""

import re
from pathlib import Path

import pytest

from pictures import leave_undrawn
from sample import WHOLE, sample

DOCS = Path(__file__).parents[1] / "docs"
FOLDERS = ("start", "tutorials", "guide", "moving", "explanation")
PAGES = sorted(page for folder in FOLDERS for page in DOCS.glob(f"{folder}/*.md") if not page.stem.endswith(".zh"))
PAGES.append(DOCS / "index.md")
NEEDS = {
    "exports": ("pandas", "pyarrow", "xarray", "dask", "neo", "nir", "pynwb"),
    "recording": ("pynwb",),
}
"""Packages of pages that show what other programs take."""

LONG = ("real_training", "online")
"""Pages that train for most of a minute, or by four rules; the commands that they give are those of
tests/train/test_program.py, and examples/online_digits.py trains by the rules.
"""

DRAWN = ("encoding", "monitor", "own_loop")
"""Pages whose pictures the usual run draws: axes of their own, a raster, and the flow of a gradient."""

SHOT = ("report.png",)
"""Pictures that a browser takes: `python docs/shoot.py RUN`."""

NUMBER = r"\d+\.\d+(?:e-?\d+)?"
BLOCK = r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?"
PICTURE = r"!\[[^\]]*\]\(\.\./images/([\w-]+\.png)\)"


def words_and_numbers(text):
    return re.sub(NUMBER, "#", text).split(), [float(number) for number in re.findall(NUMBER, text)]


def test_there_are_pages():
    assert {page.stem for page in PAGES} > {*NEEDS, *LONG}


@pytest.mark.parametrize(
    "page", sample(PAGES, *(page for page in PAGES if page.stem not in LONG)), ids=lambda page: page.stem
)
def test_the_code_prints_and_draws_what_the_page_shows(page, capsys, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    if not WHOLE and page.stem not in DRAWN:
        leave_undrawn(monkeypatch)
    scope = {}
    for code, shown in re.findall(BLOCK, page.read_text(), flags=re.DOTALL):
        exec(code, scope)
        words, numbers = words_and_numbers(capsys.readouterr().out)
        wanted, about = words_and_numbers(shown)
        assert words == wanted, code
        assert numbers == pytest.approx(about, rel=0.05, abs=0.02), code
    for picture in re.findall(PICTURE, page.read_text()):
        assert (DOCS / "images" / picture).exists(), f"draw it with: python docs/draw.py {page.stem}"
        assert picture in SHOT or (tmp_path / picture).exists(), f"no code of {page.name} draws {picture}"
