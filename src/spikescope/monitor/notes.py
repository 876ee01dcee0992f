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
        self._writer, self._every, self._subset = writer, every, subset
        self._told: dict[int, dict[str, Any]] = {}
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

    def take(self, told: Mapping[str, Any], begun: int) -> None:
        """Take notes of the run that was seen last of the `begun` ones, or of the next: see `Streamed.note`."""
        run = begun - 1
        if run < 0 or self._told.get(run, {}).keys() & told.keys() or run + 1 in self._told:
            run += 1
        if "run" in told or not told:
            raise ValueError("note takes what is known by name, as label=y; 'run' is the name of the run itself.")
        plain = {name: _plain(name, value, self._subset) for name, value in told.items()}
        held = self._told.setdefault(run, {})
        for name in [name for name, value in plain.items() if held.get(name, value) != value]:
            self._warn(
                f"note: {name} of run {run} was told already, and is another now. Was functional.reset_net(net) "
                "forgotten between two batches? A run lasts from reset to reset; the later note is kept."
            )
        held.update(plain)
        if run % self._every == 0:
            self._writer.note(run // self._every, plain)
        self._compare()
        for known in (self._told, self._samples):
            for old in [number for number in known if number < run - self._every]:
                del known[old]

    def close(self, begun: int) -> None:
        """Compare what is left; notes of a run that never came are told of."""
        self._compare()
        for run, told in self._told.items():
            if 0 < begun <= run:
                self._warn(
                    f"note: {', '.join(told)} was told of run {run}, but the last run is {begun - 1}. Was "
                    "functional.reset_net(net) forgotten between two batches? A run lasts from reset to reset."
                )

    def _compare(self) -> None:
        """Whether a list has as many values as its run has samples."""
        for run, told in self._told.items():
            samples = self._samples.get(run, set())
            for name, value in told.items():
                if samples and isinstance(value, list) and len(value) not in samples:
                    self._warn(
                        f"note: {name} has {len(value)} values, but run {run} has "
                        f"{' or '.join(map(str, sorted(samples)))} samples. A list has one value a sample."
                    )

    def _warn(self, words: str) -> None:
        if words not in self._warned:
            self._warned.add(words)
            warn(words, stacklevel=5)


def _plain(name: str, value: Any, subset: Subset | None) -> Any:
    """A note as numbers, texts and lists; of what has a value a sample, those of the samples that are recorded."""
    if isinstance(value, (Tensor, np.ndarray)):
        held = torch.as_tensor(value, device="cpu").detach().tolist()
        return _of_samples(held, subset) if isinstance(held, list) else held
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return _of_samples([_plain(name, one, None) for one in value], subset)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"note: {name} is numbers, texts, or lists or tensors of them, but got {type(value).__name__}.")


def _of_samples(values: list[Any], subset: Subset | None) -> list[Any]:
    if subset is None or subset.samples is None:
        return values
    places = Subset(samples=subset.samples).take(torch.arange(len(values), device="cpu"), None)
    return values if places is None else [values[place] for place in places.tolist()]
