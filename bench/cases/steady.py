"""A long run with every reducer on: memory that stays where it was, and a time per step that stays too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.monitor import Budget, OutputMonitor, record
from spikescope.monitor.reduce import registry

from ..harness import Options, Row, subprocess_json

__all__ = ["rows"]

RUN, CHUNK = 100, 20  # steps of a sequence, and of a call
GROWING = ("Raw", "Packed")  # they keep the signal itself; recorders with a budget do that here
SHARES = (0.1, 0.5, 1.0)
BUDGET = "1 MB"


def rows(options: Options) -> Iterator[Row]:
    """Memory of the process when a share of the steps is done, beyond what it held before the first."""
    if not Path("/proc/self/status").exists():
        yield Row("steady", "every reducer", "memory", "MB", None, note="needs /proc, as Linux has it")
        return
    steps = options.size(100_000, 2_000)
    seen = subprocess_json("bench.cases.steady", str(steps))
    case = f"training, {steps:,} steps, {len(registry)} reducers"
    for share, megabytes, kilobytes, taken in zip(SHARES, *seen, strict=True):
        note = (
            f"{taken:.0f} us a step so far; summaries {kilobytes:.1f} kB, records at most {BUDGET} each of 2 recorders"
        )
        yield Row("steady", case, f"memory at {100 * share:.0f} %", "MB", megabytes, note=note)


def _resident() -> float:
    """What this process holds now, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def _train(steps: int) -> list[list[float]]:
    """Memory in MB, summaries in kB and microseconds a step, at each share of the steps."""
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(12, 16), neuron.LIFNode(), layer.Linear(16, 4), neuron.IFNode())
    functional.set_step_mode(net, "m")
    made = {name: kind(**kind.example) for name, kind in registry.items() if name not in GROWING}
    of = {
        signal: {name: held for name, held in made.items() if not held.signals or signal in held.signals}
        for signal in ("spike", "v", "grad_output")
    }
    seen: list[list[float]] = []
    with ExitStack() as monitors:
        recordings = [monitors.enter_context(record(net, held, signal=signal)) for signal, held in of.items()]
        for policy in ("drop oldest", "spill"):
            monitors.enter_context(OutputMonitor(net, neuron.LIFNode, budget=Budget(BUDGET, policy)))
        _sequence(net)
        before, begun = _resident(), time.perf_counter()
        marks = {max(1, round(share * steps / RUN)) for share in SHARES}
        for done in range(1, steps // RUN + 1):
            _sequence(net)
            if done in marks:
                taken = (time.perf_counter() - begun) / (done * RUN) * 1e6
                held = sum(recording.cost().bytes for recording in recordings) / 1024
                seen.append([round(_resident() - before, 2), round(held, 1), round(taken, 1)])
    return [list(column) for column in zip(*seen, strict=True)]


def _sequence(net: nn.Module) -> None:
    """One training step on a new sequence."""
    functional.reset_net(net)
    loss = torch.zeros(())
    for _ in range(RUN // CHUNK):
        loss = loss + net(torch.rand(CHUNK, 3, 12) * 2).mean()
    loss.backward()
    net.zero_grad()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(_train(int(sys.argv[1]))))
