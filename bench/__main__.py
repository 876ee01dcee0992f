"""Run the benchmarks and keep their results: python -m bench [--rows lif,neurons] [--quick]."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from spikescope import functional

from . import chart
from .harness import Options, Row, as_json, run_info, table
from .rivals import missing

GROUPS = {
    "lif": "(a) LIF layer, float32, sigmoid surrogate, hard reset",
    "neurons": "(b) every pointwise neuron: fused kernel against its own eager loop",
    "linear": "(c) Linear + LIF, batch 16",
    "gpu": "(d) LIF in fp16 on a GPU",
    "host": "(d) what a call on a GPU takes of the host, without one",
    "training": "(e) training step of a convolutional SNN",
    "published": "(u) networks of papers: a training step, and what of it is no convolution and no product",
    "recurrent": "(w) parallel neurons and recurrent layers",
    "learning": "(v) local rules: a sequence through a layer, and what is learned from it",
    "long": "(f) long sequences",
    "startup": "(g) first call of a kernel",
    "memory": "(h) peak memory",
    "lean": "(q) memory and time of a training step that keeps bits",
    "scaling": "(z) two processes: efficiency, and what goes over the wire",
    "taps": "(i) taps",
    "kept": "(a, e, i, m, r, x, y) again, in a process that keeps its heap: without the page faults of fresh memory",
    "latency": "(j) one step of a small layer",
    "expanded": "(k) a frame shown T times",
    "norm": "(n) batch normalisation in the kernel of the neuron",
    "layers": "(n) batch normalisation and max-pooling against those of PyTorch",
    "monitors": "(m) what watching costs",
    "reducers": "(m) every reducer, beside the forward pass that it watches and one sum over its signal",
    "streaming": "(r) recordings on disk: what streaming adds to a training step",
    "recordings": "(r) recordings on disk: memory, opening, cutting",
    "report": "(w) reports: size and time to write",
    "flight": "(x) the flight recorder",
    "live": "(y) the live view",
    "steady": "(l) a long training with every reducer on",
    "analysis": "(s) statistics of trains",
    "events": "(p) event data: parsing, frames, a whole conversion (SPIKESCOPE_BENCH_EVENTS events)",
    "exports": "(t) recordings to files of other programs",
    "online": "(o) online learning: memory against T",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(GROUPS), help="groups, separated by commas: " + ", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="small sizes and three rounds: a smoke run, not a result")
    parser.add_argument("--threads", type=int, default=None, help="threads of PyTorch")
    parser.add_argument("--keep-heap", action="store_true", help="functional.keep_heap() first, for all contenders")
    parser.add_argument("--output", type=Path, default=None, help="the JSON file to write")
    given = parser.parse_args()
    unknown = [name for name in given.rows.split(",") if name not in GROUPS]
    if unknown:
        parser.error(f"no rows are called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    return given


def _destination(info: dict[str, Any], whole: bool) -> Path:
    """bench/results/<date>-<machine>.json for a whole run; a part or a smoke run is no result and is kept apart."""
    if not whole:
        return Path(tempfile.gettempdir()) / "spikescope-bench.json"
    machine = info["machine"]
    name = f"{machine['gpu'] or machine['processor']} {machine['cores']} cores"
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(r\)|\(tm\)", "", name.lower())).strip("-")
    return Path(__file__).parent / "results" / f"{datetime.now(UTC):%Y-%m-%d}-{slug}.json"


def main() -> None:
    """Run the groups asked for, print each as it is done, and write the file."""
    given = _arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.keep_heap and not functional.keep_heap():
        print("The C library cannot be told to keep its heap: --keep-heap changes nothing.")
    options = Options(quick=given.quick)
    info = run_info(sys.argv[1:])
    print(json.dumps(info, indent=1))
    if info["machine"]["load"] > 0.5:
        print(f"The machine is busy (load {info['machine']['load']}): threads wait for each other, figures are worse.")
    for name, reason in missing().items():
        print(f"{name}: {reason}")
    absent = {"missing": missing(), "quick": given.quick}
    whole = not given.quick and given.rows == ",".join(GROUPS)
    target = given.output or _destination(info, whole)
    part = target.with_suffix(".part.json")  # what there is so far: a whole run takes an hour or more
    rows: list[Row] = []
    failed: list[str] = []
    for group in given.rows.split(","):
        start = time.perf_counter()
        made: list[Row] = []
        rows_of = importlib.import_module(f".cases.{group}", __package__).rows
        try:
            made += rows_of(options)
        except Exception as error:  # which takes none of the other groups with it
            traceback.print_exc()
            failed.append(group)
            made.append(Row(group, group, "failed", "", None, note=str(error).strip().rpartition("\n")[2]))
        rows += made
        print(f"\n{GROUPS[group]}   [{time.perf_counter() - start:.0f} s]\n{table(made)}", flush=True)
        part.write_text(as_json(info | absent, rows))
    part.replace(target)
    print(f"\nwritten to {target}")
    if whole and not given.output:
        chart.write(target)
    if failed:
        sys.exit(f"These groups failed, the others are whole: {', '.join(failed)}")


if __name__ == "__main__":
    main()
