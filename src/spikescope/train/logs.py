"""Where a training sends its curves besides the run folder: TensorBoard and trackers of experiments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from torch import nn

from ..errors import missing_extra
from ..monitor import Log, Sink, TensorBoard
from ..report.views import Epoch
from ..warn import warn

__all__ = ["LOGS", "Logs"]

Opened = tuple[Sink, Callable[[], Any]]  # where numbers go, and how that ends


def _tensorboard(folder: Path, project: str, config: Mapping[str, Any]) -> Opened:
    sink = TensorBoard(folder / "tensorboard")
    return sink, sink.close


def _wandb(folder: Path, project: str, config: Mapping[str, Any]) -> Opened:
    import wandb

    run = wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(config))
    return Log(run), run.finish


def _trackio(folder: Path, project: str, config: Mapping[str, Any]) -> Opened:
    import trackio

    run = trackio.init(project=project, name=folder.name, config=dict(config))
    return Log(run), trackio.finish


def _mlflow(folder: Path, project: str, config: Mapping[str, Any]) -> Opened:
    import mlflow

    mlflow.set_experiment(project)
    mlflow.start_run(run_name=folder.name)
    mlflow.log_params(dict(config))
    return Log(mlflow), mlflow.end_run


def _aim(folder: Path, project: str, config: Mapping[str, Any]) -> Opened:
    import aim

    run = aim.Run(repo=str(folder.parent), experiment=project)
    run.name, run["recipe"] = folder.name, dict(config)
    return Log(run), run.close


LOGS: Mapping[str, Callable[[Path, str, Mapping[str, Any]], Opened]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
    "aim": _aim,
}
"""What `--log` takes. The settings of each, such as whether it needs a network, are those of its own environment."""


class Logs:
    """Sends each epoch of a training to trackers, by name or as `name:project`; a sink of your own is one, too.

    One that fails is warned of once and left: the training goes on, and the run folder has all numbers.
    """

    def __init__(self, wanted: Sequence[str | Sink], folder: Path, config: Mapping[str, Any]) -> None:
        for held in wanted:
            if isinstance(held, str) and held.partition(":")[0] not in LOGS:
                raise ValueError(f"There is no log {held!r}; there is {', '.join(LOGS)}, each also as NAME:PROJECT.")
        self._sinks: dict[str, Sink] = {}
        with ExitStack() as opened:
            for held in wanted:
                if not isinstance(held, str):
                    self._sinks[type(held).__name__] = held
                    continue
                name, _, project = held.partition(":")
                try:
                    self._sinks[name], end = LOGS[name](folder, project or "spikescope", _flat(config))
                except ImportError as error:
                    raise missing_extra(name, name, f"The log {name!r}") from error
                opened.callback(end)
            self._opened = opened.pop_all()

    def epoch(self, epoch: Epoch, net: nn.Module) -> None:
        """Send the numbers of an epoch: of the training, of the spikes of each layer, and of its weights."""
        self._write(epoch.epoch, rows_of(epoch, net))

    def _write(self, step: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                sink.write(step, rows)
            except Exception as error:  # of a service, a network, a disk: nothing that ends a training
                del self._sinks[name]
                warn(f"The log {name} is off: {type(error).__name__}: {error} The training goes on.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._opened.close()
        except Exception as error:
            warn(f"A log did not end well: {type(error).__name__}: {error}")


def rows_of(epoch: Epoch, net: nn.Module) -> dict[str, dict[str, float]]:
    """The numbers of an epoch by layer; those of the training stand under `training`.

    >>> epoch = Epoch(1, 0.5, 0.75, 0.625, 0.5, 1.5, ())
    >>> rows_of(epoch, nn.Sequential(nn.Linear(2, 2)))["training"]["test accuracy"]
    0.5
    """
    kinds = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
    told = {kind.replace("_", " "): getattr(epoch, kind) for kind in kinds}
    rows = {"training": {name: number for name, number in told.items() if not math.isnan(number)}}
    for layer in epoch.layers:
        rows[layer.name] = {"rate": layer.rate, "silent share": layer.silent}
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1:
            rows.setdefault(name, {})["weight norm"] = float(weight.detach().double().norm())
    return rows


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options as trackers take them: numbers and texts."""
    return {name: held if isinstance(held, (bool, int, float, str)) else str(held) for name, held in config.items()}
