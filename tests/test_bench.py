"""The benchmarks, rehearsed: each group of rows runs to its end, and one that fails takes no other with it."""

import importlib
import json
import sys

import pytest
from bench import __main__ as bench
from bench.cases import analysis, steady
from bench.harness import Options, Row

from sample import sample


@pytest.mark.parametrize("group", sample(bench.GROUPS, "steady", "latency", "recurrent"))
def test_a_group_runs_to_its_end(group):
    rows = list(importlib.import_module(f"bench.cases.{group}").rows(Options(quick=True)))
    assert rows
    assert {row.group for row in rows} == {group}


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
