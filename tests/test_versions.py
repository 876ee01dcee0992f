"""Which versions of PyTorch run, and that pyproject.toml, the code and the page of results say the same."""

import ast
import json
import logging
import re
from pathlib import Path

import pytest

from spikescope.internals.versions import NEWEST, OLDEST, check_version

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "sweeps" / "matrix.json"
FILES = sorted((ROOT / "src").rglob("*.py"))
MEASURED = json.loads(RESULTS.read_text()) if RESULTS.exists() else []


@pytest.mark.parametrize("version", ["2.6.0", "2.10.1+cu128", "1.13.1"])
def test_an_older_one_is_refused_in_words(version):
    with pytest.raises(ImportError, match=re.escape(f"this is {version}. Install one: pip install")):
        check_version(version)


@pytest.mark.parametrize("version", ["2.16.0", "2.17.0a0+git1234567", "3.0.0.dev20270101"])
def test_a_newer_one_runs_with_a_note(version, caplog):
    with caplog.at_level(logging.WARNING, "spikescope"):
        check_version(version)
    (note,) = caplog.messages
    assert note.startswith(f"PyTorch {version} is newer than any")


@pytest.mark.parametrize("version", ["2.13.0+cpu", "2.11.0+cu130", "2.12.1", "2.15.0+cu132"])
def test_one_that_was_tried_says_nothing(version, caplog):
    with caplog.at_level(logging.WARNING, "spikescope"):
        check_version(version)
    assert not caplog.messages


def test_all_say_the_same_range():
    stated = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert stated[1] == ".".join(map(str, OLDEST))
    pinned = re.search(r"^torch==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tuple(map(int, pinned.groups())) <= NEWEST


def test_the_pinned_triton_is_the_one_that_the_pinned_pytorch_asks_for():
    """A build of PyTorch for GPUs asks for one version of it; with another pin, nothing can be installed at all."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    came = {row["triton"] for row in MEASURED if row["torch"].split("+")[0] == pins["torch"]}
    assert came == {pins["triton"]}


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['torch']}-{row['python']}")
@pytest.mark.parametrize("page", ["versions.md", "versions.zh.md"])
def test_the_page_shows_what_was_measured(row, page):
    cells = (row[name] for name in ("torch", "triton", "numpy", "python", "passed", "failed", "skipped"))
    assert f"| {' | '.join(map(str, cells))} |" in (ROOT / "docs" / page).read_text()
    assert OLDEST <= tuple(int(part) for part in row["torch"].split(".")[:2]) <= NEWEST


def calls_of_torchscript(text):
    named = (ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    return [name for name in named if name.startswith("torch.jit.")]


def test_the_package_itself_uses_nothing_that_is_deprecated_with_torchscript():
    """The suite does not see the warnings of `torch.jit`, since PyTorch raises them of itself: none is to be ours."""
    assert calls_of_torchscript("def f(net, x):\n    return torch.jit.trace(net, x)")
    texts = {path: path.read_text() for path in FILES}
    assert any("torch.jit" in text for text in texts.values())  # in what is said of it
    assert not [path for path, text in texts.items() if "torch.jit" in text and calls_of_torchscript(text)]
