"""A recording as it is read: modules by name, what is known of each call, and what is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..display import Displayed, Overview
from ..errors import did_you_mean
from .export import Exports
from .overview import overview_of
from .signal import Layer

__all__ = ["StoredRecording"]


class StoredRecording(Displayed, Exports, Mapping[str, Layer]):
    """The name of a module to its signals: what `open_recording` gives.

    - `head`: what is needed to read it and to run the network again: versions, the class and fields of each module, the
      subset that was recorded, the seed if it was given.
    - `notes`: of each run what `recording.note` was told, as `{"run": 0, "label": [3, 1]}`.
    - `damage`: what is not as it was written, in words; the rest can be read.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        head: Mapping[str, Any],
        notes: list[dict[str, Any]],
        damage: tuple[str, ...] = (),
    ) -> None:
        self._layers, self.head = dict(layers), dict(head)
        self.notes, self.damage = notes, list(damage)

    @property
    def dt(self) -> float | None:
        """The seconds of a step, if they were given."""
        given = self.head.get("dt")
        return None if given is None else float(given)

    @property
    def nbytes(self) -> int:
        """What the signals take."""
        return sum(signal.nbytes for layer in self._layers.values() for signal in layer.values())

    def __getitem__(self, name: Any) -> Layer:
        if not isinstance(name, str):
            layer = next(iter(self._layers), "1")
            signal = next(iter(self._layers.get(layer, ())), "spike")
            raise KeyError(
                f"Layers are named by text, and {name!r} is none; the runs of a signal are "
                f"recording[{layer!r}][{signal!r}][0]. See recording.keys()."
            )
        if name not in self._layers:
            there = ", ".join(map(repr, self._layers)) or "nothing"
            raise KeyError(f"{name!r} was not recorded; there is {there}.{did_you_mean(name, self._layers)}")
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def report(self, to: str | os.PathLike[str] = "report.html", second: Any = None, **options: Any) -> Path:
        """Write one page that shows it, or it beside a `second` recording: see `view.report`, which has the options."""
        import spikescope  # by the front door: the page stands above, and is asked for by name alone

        return spikescope.view.report(self, second, to, **options)

    def overview(self) -> Overview:
        return overview_of(self)
