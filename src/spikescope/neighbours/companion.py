"""What the loop of somebody else calls for a network of spikes: before a batch, after it, and after an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Self, TypeVar

from torch import distributed, nn

from .. import monitor
from ..errors import check_module
from ..functional import reset_net
from ..monitor.sync import sync

__all__ = ["Companion"]

Batch = TypeVar("Batch")


class Companion:
    """Begins every batch from rest, counts spikes over an epoch, and looks for what is wrong in its first batch.

    - `net`: the network, in a wrapper or not; its place in the loop is `begin` before the first forward pass of a
      batch, in training and in testing, `end` after its backward pass and update, `epoch` after the last batch.
    - `rates`: count the spikes of all neurons. `health`: look at the first batch of an epoch that is trained on.

    `batches(loader)` does both around each batch. Where several processes train, `epoch` is of all, and all call it.

    >>> net = nn.Sequential(nn.Linear(4, 3), spikescope.neuron.LIFNode(step_mode="m"))
    >>> companion = Companion(net)
    >>> for x in companion.batches(torch.rand(6, 8, 2, 4)):
    ...     net(x).sum().backward()
    >>> sorted(companion.epoch())
    ['rate/1', 'silent/1']
    """

    def __init__(self, net: nn.Module, *, rates: bool = True, health: bool = True) -> None:
        check_module("Companion", net)
        self.net = net
        self.findings = ""
        self._rates, self._health = rates, health
        self._recording: monitor.Recording | None = None
        self._watch: monitor.Health | None = None
        self._looked = False

    def begin(self, training: bool = True) -> None:
        """Before a batch: its first forward pass begins from rest."""
        reset_net(self.net)
        if self._rates and self._recording is None:
            self._recording = _recording(self.net)
            self._rates = self._recording is not None
        if self._health and training and not self._looked:
            self._looked = True
            try:
                self._watch = monitor.health(self.net)
            except LookupError:  # no neurons
                self._health = False

    def end(self) -> None:
        """After a batch."""
        if self._watch is not None:
            self._watch.close()
            self.findings, self._watch = self._watch.table(), None

    def batches(self, loader: Iterable[Batch], training: bool = True) -> Iterator[Batch]:
        """The batches of a loader, each from rest."""
        for batch in loader:
            self.begin(training)
            try:
                yield batch
            finally:
                self.end()

    def epoch(self) -> dict[str, float]:
        """Rate and silent share of each layer since the last call, as numbers by name for any logger; counts anew."""
        self._looked = False
        held, self._recording = self._recording, None
        if held is None:
            return {}
        with closing(held):
            joined = distributed.is_available() and distributed.is_initialized()
            results = sync(held) if joined else held
            return {
                f"{label}/{name or 'net'}": float(value)
                for name, row in results.items()
                for label, value in (("rate", row["rate"].double().mean()), ("silent", row["silent share"]))
            }

    def close(self) -> None:
        """Stop looking, and let the network rest."""
        self.end()
        if self._recording is not None:
            self._recording.close()
            self._recording = None
        reset_net(self.net)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _recording(net: nn.Module) -> monitor.Recording | None:
    try:
        return monitor.record(net, ("rate", "silent share"))
    except LookupError:  # it has no neurons
        return None
