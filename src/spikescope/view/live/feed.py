"""What the thread of the training does for the view: it keeps a step now and then, so rarely that it costs nothing."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...monitor.flight.potentials import potentials
from ...monitor.flight.ring import Frame, Ring
from ...monitor.flight.steps import Steps
from ...monitor.probe.single import GradScale
from ...spikes import PackedSpikes
from ..document import Document, of_network, show_sample, versions
from ..document.parts import course_of, rate_course_of

__all__ = ["Feed"]

RATE = 10.0
"""Steps that are kept in a second, at most."""
UNSEEN = 1.0
"""Seconds between two that are kept while nobody looks."""
SHARE = 0.003
"""Of the time of the training that keeping may take; threads that draw and send have the rest of a hundredth."""
POINTS = 512
"""Of the courses; where there are more, every second one goes."""


class Count(NamedTuple):
    """The spikes of each neuron of a layer in one step of training, and of how many values each is the sum."""

    spikes: Tensor
    values: int


class Feed:
    """Keeps steps of a network's training, and says what was seen of them.

    `wants`, `given`, `over` and `loss` are of the thread of the training, all else is of the view's.
    """

    def __init__(
        self,
        net: nn.Module,
        keep: int,
        limit: int | None = None,
        evaluation: bool = False,
        scaler: GradScale | None = None,
        title: str = "",
    ) -> None:
        self.net, self.title = net, title
        self.ring = Ring(keep, limit)
        self.watched = False  # whether somebody looks
        self._due = self._spent = 0.0
        self._loss: Tensor | float | None = None
        self._keeps = False
        self._lock = threading.Lock()
        self._counts: OrderedDict[int, dict[str, Count]] = OrderedDict()
        self._courses: dict[str, list[float]] = {"step": [], "loss": []}
        self._rates: dict[str, list[float]] = {}
        self._stride, self._seen = 1, 0
        self._pace: tuple[float, int] | None = None
        self._speed = self._rate = math.nan  # steps a second; spikes of a neuron in a step of what was taken up last
        self.steps = Steps(net, self.ring, self, evaluation=evaluation, scaler=scaler, caller="live")

    # of the thread of the training

    def wants(self) -> bool:
        """Whether the step that begins is one to keep."""
        now = time.monotonic()
        self._keeps = now >= self._due
        if self._keeps:
            self._due = now + (1 / RATE if self.watched else UNSEEN)
        return self._keeps

    def given(self, x: Tensor | None, call: int | None) -> int | None:
        """The first sample will do."""
        return None

    def over(self) -> None:
        """A step is over: the next is kept when the cost of this one is made up for."""
        if not self._keeps:
            return
        if self._loss is not None:
            held = self._loss
            self.ring.tell({"loss": held.item() if isinstance(held, Tensor) else float(held)})
        spent = self.steps.milliseconds / 1e3
        self._due = max(self._due, time.monotonic() + (spent - self._spent) / SHARE)
        self._spent, self._keeps, self._loss = spent, False, None

    def loss(self, loss: Tensor | float) -> None:
        """The loss of this step."""
        if self._keeps:
            self._loss = loss.detach() if isinstance(loss, Tensor) else loss

    # of the thread of the view

    def look(self) -> None:
        """Take up the steps that were kept since."""
        with self._lock:
            frames = self.ring.lent()
            for frame in frames:
                if frame.number not in self._counts:
                    self._take(frame)
            kept = {frame.number for frame in frames}
            for number in [held for held in self._counts if held not in kept]:
                del self._counts[number]
            now, count = time.monotonic(), self.steps.count
            if self._pace is None or now - self._pace[0] > 1:
                if self._pace is not None:
                    self._speed = (count - self._pace[1]) / (now - self._pace[0])
                self._pace = now, count

    def _take(self, frame: Frame) -> None:
        """The counts of a step, and a point of the courses."""
        counts = {}
        for name, entries in frame.of("spike").items():
            parts = [_counted(entry.values) for entry in entries]
            counts[name] = Count(sum(part.spikes for part in parts), sum(part.values for part in parts))  # type: ignore[arg-type]
        self._counts[frame.number] = counts
        rates = {name: (float(held.spikes.sum()), held.values * held.spikes.numel()) for name, held in counts.items()}
        values = sum(count for _, count in rates.values())
        self._rate = sum(spikes for spikes, _ in rates.values()) / values if values else math.nan
        self._seen += 1
        if self._seen % self._stride:
            return
        self._courses["step"].append(frame.number)
        self._courses["loss"].append(frame.told.get("loss", math.nan))
        for name, (spikes, count) in rates.items():
            known = self._rates.setdefault(name, [math.nan] * (len(self._courses["step"]) - 1))
            known.append(spikes / max(1, count))
        if len(self._courses["step"]) >= POINTS:
            self._stride *= 2
            for course in (*self._courses.values(), *self._rates.values()):
                del course[::2]

    @property
    def newest(self) -> int | None:
        """The number of the last step that was taken up."""
        return next(reversed(self._counts), None)

    def numbers(self) -> list[int]:
        """The steps that are kept."""
        with self._lock:
            return list(self._counts)

    def pulse(self) -> dict[str, Any]:
        """A few numbers of the last step."""
        with self._lock:
            last = next(reversed(self._counts), None)
            loss = self._courses["loss"][-1] if self._courses["loss"] else math.nan
            rate = math.nan if last is None else self._rate
        shown = {"step": last, "loss": loss, "rate": rate, "speed": self._speed}
        return {
            name: None if isinstance(held, float) and not math.isfinite(held) else held for name, held in shown.items()
        }

    def document(self, number: int | None = None) -> Document | None:
        """What was seen of a step, the last by default, and of those before it; None where it is not kept any more."""
        frames = {frame.number: frame for frame in self.ring.lent()}
        with self._lock:
            last = next(reversed(self._counts), None) if number is None else number
            counts = {held: rows for held, rows in self._counts.items() if last is not None and held <= last}
            steps, losses = list(self._courses["step"]), list(self._courses["loss"])
            rates = {name: list(held) for name, held in self._rates.items()}
        if number is not None and (number not in frames or number not in counts):
            return None
        frame = frames.get(last) if last is not None else None
        found = of_network(
            self.net, activity=_activity(counts), gradients=_norms(frame), title=self.title, source="live"
        )
        found["facts"] = [["step of training", "none yet" if last is None else f"{last:,}"]]
        found["facts"].append(["map and table", _seen_in(counts)])
        found["unjudged"].append("what is wrong: a live view counts; monitor.health(net) around some steps judges")
        if frame is not None:
            self._show(found, frame)
        if found["flow"] is not None:
            more = "of the first sample of the batch, as are the gradients in the map and the table"
            found["flow"]["note"] = "; ".join(filter(None, [found["flow"]["note"], more]))
        if any(not math.isnan(held) for held in losses):
            found["courses"].append(course_of("Loss", "update", "as it was told", steps, {"training": losses}))
        if rates and len(steps) > 1:
            found["courses"].append(rate_course_of("Firing rate", "update", "each step by itself", steps, rates))
        found["versions"] = versions()
        found["notes"] += [*self.steps.errors, *self.steps.members.changes()]
        return found

    def _show(self, found: Document, frame: Frame) -> None:
        """The first sample of the batch."""
        spikes = {
            name: PackedSpikes.concat([held.values for held in entries if isinstance(held.values, PackedSpikes)])
            for name, entries in frame.of("spike").items()
            if all(isinstance(held.values, PackedSpikes) for held in entries)
        }
        charged: dict[str, Tensor] = {}
        for label, modules in (("current", self.steps.followed), ("h", self.steps.modules.get("h", {}))):
            for name, entries in frame.of(label).items():
                x_seq = torch.cat([held.values for held in entries if isinstance(held.values, Tensor)])
                if label == "current" and frame.first:
                    continue
                module: Any = modules[name]
                charged[name] = potentials(module, frame.learned.get(name, {}), x_seq) if label == "current" else x_seq
        show_sample(found, self.net, spikes, charged, words=f"the first sample of step {frame.number:,}")


def _seen_in(steps: Collection[int]) -> str:
    """What rates and silent shares of the map and the table are of."""
    if len(steps) > 1:
        return f"all of {len(steps)} steps that are kept, {min(steps):,} to {max(steps):,}"
    return "this step" if steps else "nothing yet"


def _counted(values: Tensor | PackedSpikes) -> Count:
    steps, samples = values.shape[:2]
    if isinstance(values, PackedSpikes):
        return Count(values.count("neuron").cpu().to(torch.int32), steps * samples)
    return Count((values != 0).sum((0, 1), dtype=torch.int32).cpu(), steps * samples)


def _activity(counts: dict[int, dict[str, Count]]) -> dict[str, dict[str, Any]]:
    """The rate of each neuron over some steps, and the share of those that never fired."""
    found: dict[str, dict[str, Any]] = {}
    names = dict.fromkeys(name for rows in counts.values() for name in rows)
    for name in names:
        held = [rows[name] for rows in counts.values() if name in rows]
        held = [one for one in held if one.spikes.shape == held[-1].spikes.shape]
        spikes = torch.stack([one.spikes for one in held]).sum(0, dtype=torch.float64)
        silent = float((spikes == 0).double().mean()) if spikes.numel() else math.nan
        found[name] = {"rate": spikes / max(1, sum(one.values for one in held)), "silent share": silent}
    return found


def _norms(frame: Frame | None) -> dict[str, Tensor]:
    """The norm of the gradient of the first sample at each step, by layer."""
    found = {}
    for name, entries in (frame.of("grad_output") if frame is not None else {}).items():
        parts = [
            held.values.flatten(1).double().norm(dim=1).cpu() for held in entries if isinstance(held.values, Tensor)
        ]
        found[name] = torch.cat(parts)
    return found
