"""The live view: what it adds to a training that somebody looks at, and the bytes that go out.

Blocks of steps without and with the view are timed in turns; the client reads all it is sent, in a process of its own.
The steps of a busy machine differ by more than the view takes, so that its work is told besides by the clocks of the
threads that do it: what it spends in the thread of the training, and the processor time of all threads of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import spikescope

from ..harness import Options, Row, added, thread_seconds
from .training import _nets, _training

__all__ = ["rows"]

READER = """
import sys, urllib.request
url = sys.argv[1]
page = urllib.request.urlopen(url).read()
events = urllib.request.urlopen(url.replace("/?", "/events?"))
while events.read1(1 << 16):
    pass
"""


def _block(step: Callable[[], Any], length: float) -> tuple[float, int]:
    """Seconds of a step, over a block of so many seconds; and the steps."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < length:
        step()
        count += 1
    return (time.perf_counter() - begin) / count, count


def rows(options: Options) -> Iterator[Row]:
    """The share of a step, what the thread of the training spends, and the bytes a second."""
    channels = 8 if options.quick else 32
    net = _nets(channels)["ours"]
    step = _training(net, torch.rand(32, 1, 28, 28), torch.randint(10, (32,)))
    length = 0.5 if options.quick else 15.0
    ratios, own, beside, sent, spikes = [], [], [], [], 0.0
    for _ in range(2 if options.quick else 4):
        step()
        without, _ = _block(step, length)
        with spikescope.live(net, quiet=True) as view:
            reader = subprocess.Popen([sys.executable, "-c", READER, view.url])
            until = time.monotonic() + 30
            while not view.clients and time.monotonic() < until:
                step()
            before, out, clocks = view.milliseconds, view.sent, thread_seconds()
            watched, count = _block(step, length)
            own.append((view.milliseconds - before) / 1e3 / (watched * count))
            beside.append(sum(at - clocks.get(ident, at) for ident, at in thread_seconds().items()) / (watched * count))
            sent.append((view.sent - out) / (watched * count))
            rates = [row for row in view.document()["layers"] if isinstance(row.get("rate"), float)]
            spikes = sum(float(row["rate"] or 0) * row["neurons"] for row in rates) * 4 * 32 / watched
        reader.wait(30)
        ratios.append(watched / without)
    case = f"conv SNN C={channels}, T=4, batch 32, one client"
    share, note = added(ratios)
    yield Row("live", case, "looking", "% of the step", share, note=note)
    inside, outside = 100 * statistics.median(own), 100 * statistics.median(beside)
    note = (
        f"{inside:.2f} % in the thread of the training, {outside:.2f} % of a processor in its own, over {length:.3g} s "
        "with the first drawing of the page"
    )
    yield Row("live", case, "its own work, by the clocks of threads", "% of the step", inside + outside, note=note)
    note = f"of {spikes / 1e6:.1f} million spikes a second"
    yield Row("live", case, "bytes out", "kB/s", statistics.median(sent) / 1e3, note=note)
