"""A callback of Lightning: every batch from rest, rates to the logger, findings at the end. Needs the package."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    from ..errors import missing_extra

    raise missing_extra("lightning", "lightning", "Callbacks of Lightning") from None

from .companion import Companion

__all__ = ["SpikingCallback"]


class SpikingCallback(Callback):  # type: ignore[misc]
    """Lets a LightningModule with a network of spikes be trained, validated, tested and asked as any other.

    - `net`: the path of the network in the module, `''` for the module itself.
    - `rates`, `health`: as `Companion` has them. Rates are logged as `train_rate/LAYER`, `val_silent/LAYER` and so on.

    `findings` is the table of the last look at a batch of training. A step that runs the network twice does so in one
    state; where each run is a sample of its own, wrap the network in `neighbours.Classifier`.
    """

    def __init__(self, net: str = "", *, rates: bool = True, health: bool = True) -> None:
        self.net, self.rates, self.health = net, rates, health
        self.findings = ""
        self._companion: Companion | None = None
        self._trained: dict[str, float] = {}

    def _begin(self, module: Any, training: bool = False) -> None:
        if self._companion is None:
            self._companion = Companion(module.get_submodule(self.net), rates=self.rates, health=self.health)
        self._companion.begin(training)

    def _end(self) -> None:
        if self._companion is not None:
            self._companion.end()
            self.findings = self._companion.findings or self.findings

    def _counted(self, stage: str) -> dict[str, float]:
        held = {} if self._companion is None else self._companion.epoch()
        return {f"{stage}_{name}": value for name, value in held.items()}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin from rest."""
        self._begin(pl_module, training=True)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Keep the findings."""
        self._end()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Set aside what was counted in training: a validation comes within its epoch."""
        self._trained = self._counted("train")

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Begin from rest."""
        self._begin(pl_module)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Begin from rest."""
        self._begin(pl_module)

    def on_predict_batch_start(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Begin from rest."""
        self._begin(pl_module)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what was counted."""
        held = self._counted("val")
        if not trainer.sanity_checking:
            pl_module.log_dict(held)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what was counted."""
        pl_module.log_dict(self._counted("test"))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what was counted."""
        pl_module.log_dict(self._trained or self._counted("train"))
        self._trained = {}

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take all off the network."""
        if self._companion is not None:
            self._companion.close()
            self._companion = None
