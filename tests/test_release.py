"""What goes out: extras that exist, a README that reads elsewhere, and a check that finds each disagreement."""

import json
import os
import re
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from release.agree import objections, unsaid, version
from release.build import absolute, missing
from release.pythons import interpreter, supported

from spikescope.recording.export.base import registry as formats

ROOT = Path(__file__).parents[1]
STATED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = STATED["optional-dependencies"]
NAMED = {
    extra
    for path in (*(ROOT / "src").rglob("*.py"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    for told in re.findall(r"spikescope\[([\w,]+)\]", path.read_text())
    for extra in told.split(",")
}
ASKED = {
    extra
    for path in (ROOT / "src").rglob("*.py")
    for extra in re.findall(r'missing_extra\(\s*[^,()]+,\s*"(\w+)"', path.read_text())
}


def test_extras_are_named():
    assert {"train", "report", "triton", "gpu"} <= NAMED | ASKED
    assert {"events", "video", "vision"} <= ASKED


@pytest.mark.parametrize("extra", sorted(NAMED | ASKED | {held.extra for held in formats.values()}))
def test_an_extra_that_is_named_exists(extra):
    assert extra in EXTRAS


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - {"all", "dev", "docs"}))
def test_every_extra_is_on_the_page_that_tells_how_to_install(extra):
    told = (ROOT / "docs" / "start" / "install.md").read_text()
    parts = {part for part in EXTRAS if f"spikescope[{part}" in told or f"`{part}`" in told}
    within = {
        part for whole in parts for part in re.findall(r"\w+", " ".join(EXTRAS[whole]).partition("spikescope[")[2])
    }
    assert extra in parts | within


def test_links_of_the_readme_lead_to_the_site():
    text = "![a](docs/images/b.png) [c](docs/guide/d.md) [e](ARCHITECTURE.md#f) [g](https://h.i) [j](#k) "
    text += "[l](docs/guide/d.zh.md)"
    assert absolute(text, "https://x.y/docs/") == (
        "![a](https://x.y/docs/images/b.png) [c](https://x.y/docs/guide/d.html) "
        "[e](https://x.y/docs/project/architecture.html#f) [g](https://h.i) [j](#k) [l](https://x.y/docs/zh/guide/d.html)"
    )
    readme = absolute((ROOT / "README.md").read_text(), "https://x.y")
    assert not re.findall(r"\]\((?!https?:|#)", readme)


def test_addresses_are_said_once():
    urls = STATED["urls"]
    assert set(urls) == {"Documentation", "Repository"}
    for name in ("README.md", "CITATION.cff", "SECURITY.md"):
        assert not any(url in (ROOT / name).read_text() for url in urls.values())


@pytest.fixture
def agreeing(tmp_path):
    """A repository of which all say the same."""
    pythons = '"Programming Language :: Python :: 3.11", "Programming Language :: Python :: 3.12"'
    files = {
        "src/spikescope/__init__.py": '__version__ = "0.2.0"\n',
        "src/spikescope/internals/versions.py": "OLDEST, NEWEST = (2, 11), (2, 15)\n",
        "CHANGELOG.md": "# Changelog\n\n## 0.2.0 (2026-12-01)\n\n## 0.1.0 (2026-11-01)\n",
        "CITATION.cff": "cff-version: 1.2.0\nversion: 0.2.0\ndate-released: 2026-12-01\n",
        "pyproject.toml": f'[project]\nrequires-python = ">=3.11"\nclassifiers = [{pythons}]\n[project.urls]\n'
        'Documentation = "https://x.y"\n',
        "tests/sweeps/matrix.json": json.dumps(
            [{"torch": f"2.{minor}.0", "python": "3.12", "failed": 0, "commit": "abc1234"} for minor in (11, 15)]
        ),
        "docs/versions.md": "| 2.11.0 | abc1234 |\n| 2.15.0 | abc1234 |\n",
        "website/untranslated.txt": "Pages without a twin.\n\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_nothing_speaks_against_a_release_of_which_all_say_the_same(agreeing):
    assert objections(agreeing) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("CHANGELOG.md", "## 0.2.0 (2026-12-01)", "## Unreleased", "begins with Unreleased"),
        ("CHANGELOG.md", "0.2.0 (2026-12-01)", "0.3.0 (2026-12-01)", "CHANGELOG.md begins with 0.3.0"),
        ("CHANGELOG.md", " (2026-12-01)", "", "wanted is ## X.Y.Z"),
        ("src/spikescope/__init__.py", "0.2.0", "0.2.1", "but the package is 0.2.1"),
        ("CITATION.cff", "version: 0.2.0", "version: 0.1.0", "CITATION.cff says version 0.1.0"),
        ("CITATION.cff", "2026-12-01", "2026-12-02", "date-released: 2026-12-02, but CHANGELOG.md 2026-12-01"),
        ("pyproject.toml", ":: 3.12", ":: 3.13", "Python 3.13 is supported, but no line"),
        ("tests/sweeps/matrix.json", "2.15.0", "2.14.0", "no line for PyTorch 2.15"),
        ("tests/sweeps/matrix.json", '"failed": 0', '"failed": 3', "3 tests fail on PyTorch 2.11.0"),
        ("docs/versions.md", "| 2.15.0 | abc1234 |", "", "does not show what was measured on PyTorch 2.15.0"),
        ("website/untranslated.txt", "\n\n", "\n\ndocs/a.md\n", "1 pages wait for their twin"),
    ],
)
def test_a_disagreement_is_named(agreeing, name, old, new, told):
    path = agreeing / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert any(told in line for line in objections(agreeing))


def test_a_placeholder_is_told_to_who_publishes(agreeing):
    path = agreeing / "pyproject.toml"
    assert unsaid(agreeing) == []
    path.write_text(path.read_text().replace("https://x.y", "https://x.invalid"))
    assert ["no address for Documentation yet" in line for line in unsaid(agreeing)] == [True]
    assert objections(agreeing) == []  # it is no disagreement


def test_the_pythons_that_are_supported_are_read_in_order():
    assert supported() == sorted(supported(), key=lambda name: [int(part) for part in name.split(".")])
    assert STATED["requires-python"] == f">={supported()[0]}"


def test_a_python_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    """A command of pyenv is on the path for every version, and refuses all but the chosen."""
    refusing, kept = tmp_path / "python3.99", tmp_path / "versions" / "3.99.1" / "bin" / "python"
    kept.parent.mkdir(parents=True)
    for path, answer in ((refusing, 127), (kept, 0)):
        path.write_text(f"#!/bin/sh\nexit {answer}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert interpreter("3.99") == interpreter("python3.99") == str(kept)
    kept.unlink()
    assert interpreter("3.99") is None
    assert interpreter(sys.executable) == sys.executable


def test_an_sdist_that_lacks_a_tracked_file_is_found(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as made:
        made.add(__file__, "spikescope-0/tests/a.py")
    tracked = [".gitignore", ".github/workflows/b.yml", "tests/a.py", "tests/data/c.bin"]
    assert missing(tmp_path / "a.tar.gz", tracked) == ["tests/data/c.bin"]


def test_the_citation_says_the_version_of_the_package():
    assert f"\nversion: {version()}\n" in (ROOT / "CITATION.cff").read_text()
