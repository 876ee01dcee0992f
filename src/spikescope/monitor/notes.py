"""Notes on the runs of a recording, and whether they can be true of what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..recording import Moment, Writer
from ..spikes import PackedSpikes
from ..warn import warn
from .choose.subset import Subset
from .delivery import Sink

__all__ = ["Notes"]


class Notes(Sink):
    """A sink before a writer: it hands on what comes, and knows of the last runs what was told and how many samples.

    - `every`: one run in so many is recorded. `subset`: whose samples are recorded, and so their notes.
    """

    def __init__(self, writer: Writer, every: int, subset: Subset | None) -> None:
        self._writer, self._every = writer, every
        self._chosen = None if subset is None or subset.samples is None else Subset(samples=subset.samples)
        self._told: dict[int, dict[str, Any]] = {}
        self._waiting: dict[int, list[dict[str, Any]]] = {}  # what is to be cut, until a value of its run comes
        self._whole: dict[int, int] = {}  # by run, how many samples there are
        self._samples: dict[int, set[int]] = {}  # by run, as the signals have them
        self._warned: set[str] = set()

    @property
    def home(self) -> torch.device:
        """The device that the writer wants values on."""
        return self._writer.home

    def keep(self, signal: str, values: Tensor | PackedSpikes, moment: Moment) -> None:
        """Hand a value on, and count its samples; an attribute may have none."""
        if moment.batch is not None and not signal.startswith("attribute"):
            self._samples.setdefault(moment.run * self._every, set()).add(moment.batch)
        self._writer.keep(signal, values, moment)

    def learn(self, name: str, signal: str, shape: Sequence[int], neurons: Sequence[int] | None) -> None:
        """Hand on what a first value shows."""
        self._writer.learn(name, signal, shape, neurons)

    def meet(self, run: int, samples: int) -> None:
        """Know how many samples a run has, and write what waits for it."""
        if self._chosen is not None:
            number = run * self._every
            self._whole.setdefault(number, samples)
            for told in self._waiting.pop(number, ()):
                self._write(number, told)

    def leave(self) -> None:
        """Write what waits for a run that did not come."""
        for number in list(self._waiting):
            for told in self._waiting.pop(number):
                self._write(number, told)

    def take(self, told: Mapping[str, Any], begun: int) -> None:
        """Take notes of the run that was seen last of the `begun` ones, or of the next: see `Streamed.note`."""
        run = begun - 1
        if run < 0 or self._told.get(run, {}).keys() & told.keys() or run + 1 in self._told:
            run += 1
        if "run" in told or not told:
            raise ValueError("note takes what is known by name, as label=y; 'run' is the name of the run itself.")
        plain = {name: _plain(name, value) for name, value in told.items()}
        held = self._told.setdefault(run, {})
        for name in [name for name, value in plain.items() if held.get(name, value) != value]:
            self._warn(
                f"note: {name} of run {run} was told already, and is another now. Was functional.reset_net(net) "
                "forgotten between two batches? A run lasts from reset to reset; the later note is kept."
            )
        held.update(plain)
        if run % self._every == 0:
            if self._chosen is None or run in self._whole:
                self._write(run, plain)
            else:
                self._waiting.setdefault(run, []).append(plain)
        self._compare()
        known: dict[int, Any]
        for known in (self._told, self._samples, self._whole):
            for old in [number for number in known if number < run - self._every]:
                del known[old]

    def close(self, begun: int) -> None:
        """Compare what is left; notes of a run that never came are told of."""
        self._compare()
        self.leave()
        for run, told in self._told.items():
            if 0 < begun <= run:
                self._warn(
                    f"note: {', '.join(told)} was told of run {run}, but the last run is {begun - 1}. Was "
                    "functional.reset_net(net) forgotten between two batches? A run lasts from reset to reset."
                )

    def _compare(self) -> None:
        """Whether a list has as many values as its run has samples."""
        for run, told in self._told.items():
            samples, whole = self._samples.get(run, set()), self._whole.get(run)
            number = " or ".join(map(str, sorted(samples)))
            there = f"{number} samples" if whole is None else f"{whole} samples, of which {number} are recorded"
            for name, value in told.items():
                if samples and isinstance(value, list) and len(value) not in {*samples, whole}:
                    self._warn(
                        f"note: {name} has {len(value)} values, but run {run} has {there}. "
                        "A list has one value a sample."
                    )

    def _write(self, run: int, told: Mapping[str, Any]) -> None:
        """Write notes; of what has a value for each sample of the run, those of the samples that are recorded."""
        whole, held = self._whole.get(run), dict(told)
        if self._chosen is not None and whole is not None:
            places = self._chosen.take(torch.arange(whole, device="cpu"), None)
            assert places is not None  # where no steps are chosen
            for name, value in told.items():
                if isinstance(value, list) and len(value) == whole:
                    held[name] = [value[place] for place in places.tolist()]
        self._writer.note(run // self._every, held)

    def _warn(self, words: str) -> None:
        if words not in self._warned:
            self._warned.add(words)
            warn(words, stacklevel=5)


def _plain(name: str, value: Any) -> Any:
    """A note as numbers, texts and lists."""
    if isinstance(value, (Tensor, np.ndarray)):
        return torch.as_tensor(value, device="cpu").detach().tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(name, one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"note: {name} is numbers, texts, or lists or tensors of them, but got {type(value).__name__}.")
