"""The benchmarks, rehearsed: each group of rows runs to its end, and one that fails takes no other with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import __main__ as bench
from bench.cases import analysis, steady
from bench.harness import Options, Row, compete

from sample import sample

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("groups", ["steady,latency,recurrent", *sample(bench.GROUPS)])
def test_a_group_runs_to_its_end(groups, tmp_path):
    """In a process of its own: what other libraries are imported as is the business of that process."""
    file, environment = tmp_path / "rows.json", {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    run = [sys.executable, "-m", "bench", "--quick", "--rows", groups, "--output", str(file)]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {row["group"] for row in json.loads(file.read_text())["rows"]} == {*groups.split(",")}


def test_a_group_that_fails_takes_no_other_with_it(tmp_path, monkeypatch, capsys):
    def fails(options):
        yield Row("steady", "so far", "time", "ms", 1.0)
        raise ValueError("a long story\nthe disk is full")

    monkeypatch.setattr(steady, "rows", fails)
    monkeypatch.setattr(analysis, "rows", lambda options: [Row("analysis", "after it", "time", "ms", 2.0)])
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--rows", "steady,analysis", "--output", str(file)])
    with pytest.raises(SystemExit, match="failed, the others are whole: steady"):
        bench.main()
    rows = json.loads(file.read_text())["rows"]
    assert [(row["case"], row["ours"]) for row in rows] == [("so far", 1.0), ("steady", None), ("after it", 2.0)]
    assert rows[1]["note"] == "the disk is full"
    assert "ValueError" in capsys.readouterr().err


def test_what_prepares_something_at_its_second_call_is_measured_warm():
    calls = [0]

    def work():
        calls[0] += 1
        if calls[0] == 2:
            time.sleep(5e-3)

    compete({"ours": work}, Options(quick=True))
    assert calls[0] > 500  # of 3 rounds of as many calls as two milliseconds take
