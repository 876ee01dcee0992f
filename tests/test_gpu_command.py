"""`make gpu`, rehearsed: small, on the CPU and in Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench.cases import scaling
from bench.gpu import __main__ as gpu
from bench.gpu import ranks

from sample import sample

ROOT = Path(__file__).parents[1]


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    run = [sys.executable, "-m", "bench.gpu", *arguments]
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400)


@pytest.mark.parametrize("part", sample(["tests", "rows", "step", "ranks"], "step"))
def test_a_part_runs_to_its_end_and_writes_its_file(part, tmp_path):
    pytest.importorskip("triton")
    done = command("--rehearse", "--part", part, "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = tmp_path.iterdir()
    report = json.loads(file.read_text())
    assert (report["part"], report["end"], report["rehearsed"]) == (part, "whole", True)
    assert report["rows"]
    assert not [row for row in report["rows"] if "error" in row]
    assert f"== {part}: {len(report['rows'])} rows" in done.stdout
    if part == "tests":
        assert report["rows"][-1]["outcome"].split(", ")[0].endswith(" passed")
    elif not any(row.get("ratio") for row in report["rows"]):
        assert any(row.get("rival") == "rival absent" for row in report["rows"])


def test_a_part_that_fails_takes_no_other_with_it_and_the_status_is_that_of_the_tests(tmp_path):
    """Without a GPU and without a rehearsal every part ends at once, and says why."""
    done = command("--part", "step,tests", "--output", str(tmp_path))
    if "There is no GPU" not in done.stderr:
        pytest.skip("there is a GPU")
    assert done.returncode == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("parts", "status"), [("rows,step", 0), ("tests,rows", 1), ("rows,tests,step", 1)])
def test_the_status_is_that_of_the_tests_alone(parts, status, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--part", parts])
    monkeypatch.setattr(gpu, "_run", lambda part, *given: {"tests": 1}.get(part, 2))
    assert gpu.main() == status


def test_an_unknown_part_is_refused_in_words(tmp_path):
    done = command("--part", "all", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "no parts are called all; there are tests, rows, step, ranks" in done.stderr


@pytest.mark.parametrize("name", ["gradients", "gradients in shards"])
def test_gradients_that_are_no_numbers_are_not_as_one(name, monkeypatch):
    """Of two numbers of which one is none, Python's `max` gives the first."""
    found = {"gradients": 0.0, "gradients in shards": 0.0, "counts": True, "sent": 1}
    found |= dict.fromkeys(("together", "apart", "alone"), 1.0)
    rows, sizes = [], (lambda full, small: small)
    part = SimpleNamespace(device=torch.device("cpu"), size=sizes, row=lambda **row: rows.append(row))
    monkeypatch.setattr(ranks, "together", lambda *given: found)
    ranks._ranks(part, 2)
    assert rows[0]["outcome"] == "as one"
    found[name] = float("nan")
    ranks._ranks(part, 2)
    assert rows[2]["outcome"] == "OTHERWISE"


def test_the_largest_difference_of_gradients_is_no_number_where_one_of_them_is_none():
    one, none = torch.ones(2), torch.full((2,), float("nan"))
    assert scaling._off([one, one], [one, 2 * one]) == 0.5
    assert scaling._off([one, none], [one, one]) != scaling._off([one, none], [one, one])
