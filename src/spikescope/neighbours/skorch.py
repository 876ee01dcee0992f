"""A callback of skorch: every batch from rest, rates into the history. Needs the package."""

from __future__ import annotations

from typing import Any

try:
    from skorch.callbacks import Callback
except ImportError:
    from ..errors import missing_extra

    raise missing_extra("skorch", "skorch", "Callbacks of skorch") from None

from .companion import Companion

__all__ = ["SpikingCallback"]


class SpikingCallback(Callback):  # type: ignore[misc]
    """Writes `train_rate/LAYER`, `valid_silent/LAYER` and so on into the history of a skorch net, an epoch a row.

    - `rates`, `health`: as `Companion` has them. `findings_` is the table of the last look at a batch of training.

    Where skorch predicts it calls no callback: let the module be a `neighbours.Classifier`, which begins each call from
    rest by itself.
    """

    def __init__(self, rates: bool = True, health: bool = True) -> None:
        self.rates, self.health = rates, health

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin to look."""
        self.findings_ = ""
        self.companion_ = Companion(net.module_, rates=self.rates, health=self.health)
        self.training_ = True

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Begin from rest; with the first batch of the validation part, what was counted in training is written."""
        if self.training_ and not training:
            self._write(net, "train")
        self.training_ = training
        self.companion_.begin(training)

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Keep the findings."""
        self.companion_.end()
        self.findings_ = self.companion_.findings

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write what was counted."""
        self._write(net, "train" if self.training_ else "valid")
        self.training_ = True

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Take all off the network."""
        self.companion_.close()

    def _write(self, net: Any, stage: str) -> None:
        for name, value in self.companion_.epoch().items():
            net.history.record(f"{stage}_{name}", value)
