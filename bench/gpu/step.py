"""Part (c): a whole training step of a convolutional network, watched and not, against SpikingJelly."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import functional, layer, monitor, neuron
from spikescope.spikes import float_spike_to_bool

from .tell import Part, rival

RING = 4
"""Steps that a flight recorder keeps: so few that its ring is full before anything is timed."""


@contextmanager
def _recorded(net: nn.Module, *signals: str) -> Iterator[monitor.FlightRecorder]:
    with (
        tempfile.TemporaryDirectory() as place,
        monitor.flight_recorder(net, RING, to=place, signals=signals, report=False) as recorder,
    ):
        yield recorder


WATCHING: dict[str, Callable[[nn.Module], Any]] = {
    "rate, silent share": lambda net: monitor.record(net, ["rate", "silent share"]),
    "packed spikes": lambda net: monitor.OutputMonitor(net, neuron.Neuron, float_spike_to_bool),
    "flight recorder, spikes": lambda net: _recorded(net, "spike"),
    "flight recorder, all signals": lambda net: _recorded(net, "spike", "h", "grad_output"),
}


def main() -> None:
    """Batch 128 and 512, float32 and bfloat16; the kernels of a step; what a compiled step takes."""
    part, theirs = Part(), rival()
    for batch in (2,) if part.rehearse else (128, 512):
        for amp in (False, True):
            part.attempt(f"batch {batch}, amp {amp}", partial(_steps, part, theirs, batch, amp))
    part.attempt("kernels", partial(_kernels, part))
    for mode in ("default", "reduce-overhead") if not part.rehearse else ():
        part.attempt(f"compiled, {mode}", partial(_compiled, part, mode))


def _net(part: Part, neurons: Any, layers: Any, functions: Any) -> nn.Module:
    """Two blocks of convolution, normalisation, LIF and pooling; the same weights for every library."""
    torch.manual_seed(0)
    C = part.size(64, 2)
    net = nn.Sequential(
        *(layers.Conv2d(1, C, 3, padding=1, bias=False), layers.BatchNorm2d(C), neurons.LIFNode()),
        *(layers.MaxPool2d(2, 2), layers.Conv2d(C, C, 3, padding=1, bias=False), layers.BatchNorm2d(C)),
        *(neurons.LIFNode(), layers.MaxPool2d(2, 2), layers.Flatten(), layers.Linear(C * 49, 10)),
    ).to(part.device)
    functions.set_step_mode(net, "m")
    return net


def _step(
    net: nn.Module, run: Callable[[Tensor], Tensor], functions: Any, x: Tensor, amp: bool
) -> Callable[[], Tensor]:
    """A training step, which gives its loss."""
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    labels = torch.arange(x.shape[1], device=x.device) % 10

    def step() -> Tensor:
        functions.reset_net(net)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
            scores = run(x).mean(0).float()
        loss = nn.functional.cross_entropy(scores, labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def _frames(part: Part, batch: int) -> Tensor:
    return torch.rand(part.size(8, 2), batch, 1, 28, 28, device=part.device)


def _steps(part: Part, theirs: Any, batch: int, amp: bool) -> None:
    x = _frames(part, batch)
    case = f"batch {batch}, {'bfloat16 autocast' if amp else 'float32'}"
    net = _net(part, neuron, layer, functional)
    fused = functional.fuse_bn_neurons(copy.deepcopy(net), training=True)
    step = _step(net, net, functional, x, amp)
    steps = {"ours": step, "ours, normalisation fused": _step(fused, fused, functional, x, amp)}
    if not isinstance(theirs, str):
        other = _net(part, *theirs)
        steps["SpikingJelly"] = _step(other, other, theirs[2], x, amp)
    rows = dict(zip(steps, part.times_in_turn([*steps.values()], 20), strict=True))
    for whose, row in rows.items():
        more = {"ratio": row["event_ms"] / rows["ours"]["event_ms"]} if whose == "SpikingJelly" else {}
        part.row(case=case, whose=whose, **row, peak_mb=_peak(part, steps[whose]), **more)
    if isinstance(theirs, str):
        part.row(case=case, whose="SpikingJelly", rival=theirs)
    for name, watching in WATCHING.items():
        twin = copy.deepcopy(net)
        seen = _step(twin, twin, functional, x, amp)
        with watching(twin) as watcher:
            bare, row = part.times_in_turn([step, partial(_told, seen, watcher)], 20)
        more = {"watching_percent": 100 * (row["event_ms"] / bare["event_ms"] - 1)}
        if isinstance(watcher, monitor.FlightRecorder):
            more["recordings"] = len(watcher.dumps)  # of a sound training none
        part.row(case=case, whose="ours", watched=name, **row, **more)


def _told(step: Callable[[], Tensor], watcher: Any) -> None:
    """A step, and its loss to whoever asks for it."""
    loss = step()
    if isinstance(watcher, monitor.FlightRecorder):
        watcher.loss(loss)


def _peak(part: Part, step: Callable[[], Any]) -> float | None:
    if part.rehearse:
        return None
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def _kernels(part: Part) -> None:
    """The ten kernels that take most of a step."""
    apart = _net(part, neuron, layer, functional)
    for what, net in (("", apart), (", normalisation fused", functional.fuse_bn_neurons(apart, training=True))):
        found = part.kernels(_step(net, net, functional, _frames(part, part.size(512, 2)), False), 3)
        whole, case = sum(found.values()), f"kernels of a step, batch 512, float32{what}"
        for name, ms in sorted(found.items(), key=lambda pair: -pair[1])[:10]:
            part.row(case=case, what=name[:80], event_ms=ms, percent=100 * ms / whole)


def _compiled(part: Part, mode: str) -> None:
    net = _net(part, neuron, layer, functional)
    run = torch.compile(net, mode=None if mode == "default" else mode)

    def marked(x: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        out: Tensor = run(x)
        return out

    row = part.times(_step(net, marked, functional, _frames(part, 128), False), 10)
    part.row(case="batch 128, float32", whose=f"ours, compiled: {mode}", **row)


if __name__ == "__main__":
    main()
