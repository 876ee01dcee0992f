"""The front of the flight recorder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import check_module, check_switches, check_whole
from ...recording.budget import Budget
from ...recording.budget import budget as as_budget
from ..probe.single import GradScale
from .recorder import FlightRecorder
from .steps import SIGNALS
from .triggers import Step

__all__ = ["FlightRecorder", "flight_recorder"]


def flight_recorder(
    net: nn.Module,
    keep: int | str = "20 steps",
    on: str | Callable[[Step], Any] | Iterable[Any] = ("nonfinite", "silent", "loss jump", "exception", "signal"),
    to: str | os.PathLike[str] = "flight",
    *,
    signals: Iterable[str] = SIGNALS,
    samples: int = 1,
    budget: Budget | int | str = "256 MB",
    at_most: int = 8,
    evaluation: bool = False,
    report: bool = True,
    dt: float | None = None,
    scaler: GradScale | None = None,
) -> FlightRecorder:
    """Keep the last steps of a training in memory, and write a recording of them when something goes wrong.

    A step is a forward pass over a sequence and its backward pass. Of each the spikes of all neurons are kept, a bit
    each, and of some samples the potentials before the reset and the gradients. What was written is read by
    `spikescope.open_recording`: a run a step, with its number and loss in `notes`, and the trigger in
    `head["flight"]`.

    - `keep`: how many steps. `budget`: bytes that they may take; over it the oldest go.
    - `on`: what has them written down. `'nonfinite'`: the input, a potential or gradient that is kept, the loss, or a
      weight after an update; on a CPU more than half a million weights are looked at in turn, all of them within `keep`
      steps, and at once where a number that came of them or the loss is not finite. `'silent'`: a layer that fired has
      not for three steps. `'loss jump'`: a loss far above the last ones. `'exception'`: one ends the `with` block.
      `'signal'`: SIGUSR1 comes; a handler of yours runs too. A function: it is given a `Step` at the end of each, and
      what it gives, if it is true, is the reason.
    - `to`: the folder of these recordings, which are numbered. After `at_most` of them no more are written, but for
      signals and `dump()`.
    - `signals`: some of `'spike'`, `'h'` and `'grad_output'`. `samples`: how many samples, the first of a batch; where
      the input is not finite, the sample in which that begins.
    - `evaluation`: keep steps in evaluation mode too. `report`: write the page of each recording beside it.
    - `scaler`: divides gradients by its scale; that they overflow is then no accident.

    Of a CUDA graph nothing is seen, neither while it is captured nor in a replay, which calls no Python: the last steps
    are those that ran without it.

    What follows from a cause is not written down again: nothing is, but for signals and `dump()`, before `keep` steps
    have passed without a trigger. Where the disk is full a warning says so, and the training goes on.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(2, 3), spikescope.neuron.IFNode(step_mode="m"))
    >>> with tempfile.TemporaryDirectory() as place, flight_recorder(net, to=place) as recorder:
    ...     for step in range(30):
    ...         _ = net(torch.ones(4, 1, 2))
    ...         spikescope.functional.reset_net(net)
    ...     recording = spikescope.open_recording(recorder.dump())
    >>> [note["step"] for note in recording.notes][:3], recording["1"]["h"].runs[0]
    ([10, 11, 12], Run(index=0, steps=4, samples=1))
    """
    check_module("flight_recorder", net)
    check_switches("flight_recorder", evaluation=evaluation, report=report)
    samples = check_whole("flight_recorder", "samples", samples)
    at_most = check_whole("flight_recorder", "at_most", at_most, 0)
    limits = as_budget(budget)
    if limits.policy not in ("error", "drop oldest"):
        raise ValueError(f"flight_recorder: over the budget the oldest steps go; leave out {limits.policy!r}.")
    wanted = (signals,) if isinstance(signals, str) else tuple(signals)
    if not wanted or not set(wanted) <= set(SIGNALS):
        raise ValueError(f"flight_recorder: signals are some of {', '.join(map(repr, SIGNALS))}, but got {signals!r}.")
    return FlightRecorder(
        net,
        _steps(keep),
        on,
        Path(to),
        signals=wanted,
        samples=samples,
        limit=limits.bytes,
        at_most=at_most,
        evaluation=evaluation,
        report=report,
        dt=dt,
        scaler=scaler,
    )


def _steps(keep: int | str) -> int:
    found = re.fullmatch(r"\s*(\d+)\s*(steps?)?\s*", str(keep)) if isinstance(keep, (int, str)) else None
    number = int(found[1]) if found and not isinstance(keep, bool) else 0
    if number < 1:
        raise ValueError(f"flight_recorder: keep is a number of steps, as 20 or '20 steps', but got {keep!r}.")
    return number
