"""The flight recorder: what it adds to a training step, what it holds, and how long it takes to write 100 MB.

Two networks alike train on the same data, a step each in turns, and now the one begins and now the other. A recorder
watches one of them with a full ring, as it does in all steps of a training but the first; at half time the other, so
that where in memory a network lies makes no difference. The median of the ratios of neighbours is reported with their
quartiles and how far it may be off, and beside it the time that the recorder took note of itself. The losses of both
must be equal, bit by bit.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikescope import functional, monitor
from spikescope.monitor.flight.front import FlightRecorder
from spikescope.recording import Moment, open_recording
from spikescope.spikes import PackedSpikes

from ..harness import Options, Row, added, seconds
from .published import kit_of, resnet18
from .training import _nets, _training

__all__ = ["rows"]

Work = tuple[str, Sequence[tuple[nn.Module, Callable[[], float]]], int]
"""What trains: its name, two networks alike with a step of each, and how many turns are taken."""

SIZE = 100_000_000
"""Bytes that are written."""


class _Whole(nn.Module):
    """A network and how it runs over a sequence, from rest."""

    def __init__(self, net: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.run = net, run

    def forward(self, image: Tensor) -> Tensor:
        functional.reset_net(self.net)
        return self.run(image)


def _small(options: Options) -> Work:
    """The network of the rows of training: two layers of neurons in a short step, where a call of Python counts."""
    channels = 8 if options.quick else 32
    image, target = torch.rand(32, 1, 28, 28), torch.randint(10, (32,))
    steps = [(net, _training(net, image, target)) for net in (_nets(channels)["ours"] for _ in range(2))]
    return f"conv SNN C={channels}, T=4, batch 32", steps, 200


def _published(options: Options) -> Work:
    """One of 17 layers that papers use."""
    size = 32 if options.quick else 64
    image, target, steps = torch.rand(4, 3, size, size), torch.randint(10, (4,)), []
    for _ in range(2):
        torch.manual_seed(0)
        net = _Whole(*resnet18(kit_of("spikescope"), sew=True))
        steps.append((net, _training(net, image, target)))
    return f"SEW-ResNet18, T=4, batch 4, {size} x {size}", steps, 40


def _overhead(options: Options, work: Work) -> Iterator[Row]:
    case, made, turns = work
    nets, steps = zip(*made, strict=True)
    keep, rounds = (2, 2) if options.quick else (20, turns)
    for signals in (("spike",), ("spike", "h", "grad_output")):
        found: list[Turn] = []
        held = 0
        with tempfile.TemporaryDirectory() as place:
            for watched in (0, 1):
                with monitor.flight_recorder(
                    nets[watched], f"{keep} steps", to=place, signals=signals, report=False
                ) as recorder:
                    for _ in range(keep + 1):
                        assert steps[0]() == steps[1]()
                    found += [_turn(steps, watched, number % 2, recorder) for number in range(rounds)]
                    held = recorder.ring.nbytes // keep
        share, note = added([turn.watched / turn.without for turn in found])
        own = statistics.median(turn.own for turn in found)
        note += f", {own:.2f} ms in its own code, {held / 1e3:.0f} kB a step"
        equal = all(turn.equal for turn in found)
        words = "equal" if equal else "losses differ"
        what, measured = f"keeping {', '.join(signals)}", share if equal else None
        yield Row("flight", case, what, "% of the step", measured, agreement=words, note=note)


class Turn(NamedTuple):
    """Seconds of a step with and without a recorder, its own milliseconds, and whether both gave the same loss."""

    watched: float
    without: float
    own: float
    equal: bool


def _turn(steps: Sequence[Callable[[], float]], watched: int, first: int, recorder: FlightRecorder) -> Turn:
    """A step of each of both, the watched one among them."""
    before, taken, losses = recorder.milliseconds, [0.0, 0.0], [0.0, 0.0]
    for place in (first, 1 - first):

        def step(place: int = place) -> None:
            losses[place] = steps[place]()

        taken[place] = seconds(step, 1)
    own = recorder.milliseconds - before
    return Turn(taken[watched], taken[1 - watched], own, losses[0] == losses[1])


def _writing(options: Options) -> Iterator[Row]:
    """A ring of 100 MB, half of it spikes and half of it numbers, on its way to disk."""
    size = options.size(SIZE, SIZE // 100)
    net = _nets(8)["ours"]
    name = next(name for name, held in net.named_modules() if type(held).__name__ == "LIFNode")
    with tempfile.TemporaryDirectory() as place:
        recorder = monitor.flight_recorder(net, to=Path(place) / "flight", budget="unlimited", report=False)
        ring, part = recorder.ring, size // 40
        for number in range(20):
            spikes = PackedSpikes(torch.randint(256, (4, part // 4), dtype=torch.uint8), torch.Size((4, 1, part * 2)))
            ring.keep("spike", spikes, Moment(name, number, number, 0, 4, 1))
            ring.keep("grad_output", torch.randn(4, 1, part // 16), Moment(name, number, number, 0, 4, 1))
            if number < 19:
                ring.begin()
        begin = time.perf_counter()
        path = recorder.dump()
        taken = time.perf_counter() - begin
        recorder.close()
        assert path is not None
        found = open_recording(path)
        whole = len(found[name]["spike"].runs) == len(found[name]["grad_output"].runs) == 20
    words = "read again" if whole else "not whole"
    yield Row("flight", f"{ring.nbytes / 1e6:.0f} MB", "writing it", "s", taken if whole else None, agreement=words)


def rows(options: Options) -> Iterator[Row]:
    """What it adds, and what writing takes."""
    for made in (_small, _published):
        yield from _overhead(options, made(options))
    yield from _writing(options)
