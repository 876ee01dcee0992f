"""What speaks against a release: version, changelog, citation, documents and matrix must say the same."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from .pythons import ROOT, supported


def objections(root: Path = ROOT) -> list[str]:
    """A line for each thing that does not fit; none where a release may go out."""
    return [*_changelog(root), *_citation(root), *_matrix(root), *_pages(root)]


def unsaid(root: Path = ROOT) -> list[str]:
    """What nobody could say yet, and who publishes has to: addresses that are placeholders."""
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("urls", {})
    return [
        f"project.urls in pyproject.toml has no address for {name} yet, but the placeholder {url}"
        for name, url in urls.items()
        if ".invalid" in url
    ]


def version(root: Path = ROOT) -> str:
    """The version of the package, read without importing it."""
    text = (root / "src" / "spikescope" / "__init__.py").read_text()
    (found,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return str(found)


def _changelog(root: Path) -> Iterator[str]:
    heads = re.findall(r"^## (.+)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if heads and heads[0] == "Unreleased":
        yield "CHANGELOG.md begins with Unreleased; name the version and the day: ## X.Y.Z (YYYY-MM-DD)"
        return
    found = re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", heads[0]) if heads else None
    if found is None:
        yield f"CHANGELOG.md begins with {heads[0] if heads else 'nothing'!r}; wanted is ## X.Y.Z (YYYY-MM-DD)"
    elif found[1] != version(root):
        yield f"CHANGELOG.md begins with {found[1]}, but the package is {version(root)}"


def _citation(root: Path) -> Iterator[str]:
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    said = dict(re.findall(r"^([a-z-]+): (.+)$", text, re.MULTILINE))
    if said.get("version") != version(root):
        yield f"CITATION.cff says version {said.get('version')}, but the package is {version(root)}"
    day = re.search(
        r"^## \S+ \((\d{4}-\d\d-\d\d)\)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    if day is not None and said.get("date-released", "").strip("'\"") != day[1]:
        yield f"CITATION.cff says date-released: {said.get('date-released')}, but CHANGELOG.md {day[1]}"


def _matrix(root: Path) -> Iterator[str]:
    path = root / "tests" / "sweeps" / "matrix.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    versions = (root / "src" / "spikescope" / "internals" / "versions.py").read_text()
    (bounds,) = re.findall(r"^OLDEST, NEWEST = \((\d+), (\d+)\), \((\d+), (\d+)\)$", versions, re.MULTILINE)
    page = (root / "docs" / "versions.md").read_text(encoding="utf-8")
    for bound in (".".join(bounds[:2]), ".".join(bounds[2:])):
        if not any(row["torch"].startswith(f"{bound}.") for row in rows):
            yield f"the suite has no line for PyTorch {bound} in tests/sweeps/matrix.json: make matrix"
    for row in rows:
        if row["failed"]:
            yield f"{row['failed']} tests fail on PyTorch {row['torch']}, Python {row['python']}"
        if f"| {row['torch']} |" not in page or row["commit"] not in page:
            yield f"docs/versions.md does not show what was measured on PyTorch {row['torch']}: make matrix ARGS=--page"
    stated = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lowest = stated["requires-python"].removeprefix(">=")  # the one that the suite runs on at every change
    for python in supported(root):
        if python != lowest and not any(row["python"] == python for row in rows):
            yield f"pyproject.toml says that Python {python} is supported, but no line of the matrix was measured on it"


def _pages(root: Path) -> Iterator[str]:
    waiting = (root / "website" / "untranslated.txt").read_text(encoding="utf-8").partition("\n\n")[2].split()
    if waiting:
        yield f"{len(waiting)} pages wait for their twin in Chinese: website/untranslated.txt"
