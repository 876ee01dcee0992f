"""The last steps, as a recording on disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...neuron import PointwiseNeuron
from ...recording import Moment, Writer
from ...spikes import PackedSpikes
from .potentials import potentials
from .ring import Entry, Frame
from .triggers import Trigger

__all__ = ["free_place", "write"]

FILL = 32 << 20
"""Bytes of a file: fewer waits for the disk than a recording that has to lose little."""


def free_place(folder: Path, kind: str) -> Path:
    """The next folder for a recording, numbered: `003-loss-jump.spk`."""
    there = [int(found[1]) for path in folder.glob("*.spk") if (found := re.match(r"(\d+)-", path.name))]
    slug = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-") or "dump"
    return folder / f"{max(there, default=-1) + 1:03d}-{slug}.spk"


def write(
    place: Path,
    frames: Sequence[Frame],
    trigger: Trigger,
    head: Mapping[str, Any],
    followed: Mapping[str, nn.Module],
    missing: Sequence[str] = (),
) -> None:
    """Write a recording of these frames, a run each, or nothing: an OutputError says why.

    - `followed`: the modules whose potentials follow from what came in.
    - `missing`: what is not in it, in words; more of these are found here.
    """
    gone = list(missing)
    gone += [f"of step {held.number} the first {held.cut} values, over the budget" for held in frames if held.cut]
    more = [
        entry
        for run, frame in enumerate(frames)
        for name, module in followed.items()
        if (entry := _followed(name, module, frame, run, gone)) is not None
    ]
    run = next((i for i, frame in enumerate(frames) if frame.number == trigger.step), None)
    told = {"trigger": {**trigger._asdict(), "run": run}, "missing": gone}
    writer = Writer(place, {**head, "flight": told}, fill=FILL)
    try:
        for number, frame in enumerate(frames):
            for entry in frame.entries:
                writer.keep(entry.signal, _at_home(entry.values), _placed(entry.moment, number, frame.first))
            writer.note(number, {"step": frame.number, **frame.told})
        for entry in more:
            writer.keep(entry.signal, entry.values, entry.moment)
        writer.close()
    except BaseException:
        writer.abandon()
        shutil.rmtree(place, ignore_errors=True)
        raise


def _at_home(values: Tensor | PackedSpikes) -> Tensor | PackedSpikes:
    return values.cpu() if isinstance(values, Tensor) else replace(values, bits=values.bits.cpu())


def _placed(moment: Moment, run: int, first: int) -> Moment:
    start, stop = (None if at is None else at - first for at in (moment.start, moment.stop))
    return moment._replace(run=run, start=start, stop=stop)


def _followed(name: str, module: nn.Module, frame: Frame, run: int, missing: list[str]) -> Entry | None:
    """The potentials of a module that follow from what came into it."""
    entries = frame.of("current").get(name)
    assert isinstance(module, PointwiseNeuron)
    if not entries:
        return None
    if not _from_rest(entries):
        missing.append(f"the potentials of {name!r} in step {frame.number}, which did not begin at rest")
        return None
    x_seq = torch.cat([entry.values for entry in entries if isinstance(entry.values, Tensor)])
    try:
        told = potentials(module, frame.learned.get(name, {}), x_seq)
    except (RuntimeError, ValueError, TypeError) as error:  # of fields of a batch, say
        missing.append(f"the potentials of {name!r} in step {frame.number}: {error}")
        return None
    return Entry("h", told.cpu(), entries[0].moment._replace(run=run, start=0, stop=len(told)))


def _from_rest(entries: Sequence[Entry]) -> bool:
    """Whether the entries follow one another from the first step since the reset."""
    at = 0
    for entry in entries:
        if entry.moment.start != at:
            return False
        at = entry.moment.stop or 0
    return True
