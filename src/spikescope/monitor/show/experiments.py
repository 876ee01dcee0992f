"""Results as curves of an experiment: in whatever takes numbers by name and a step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

from .plain import scalars
from .sinks import check_rows

__all__ = ["Log"]


def _whole(method: str) -> Callable[[Any, dict[str, float], int], None]:
    """All numbers of a step at once."""

    def write(target: Any, numbers: dict[str, float], step: int) -> None:
        getattr(target, method)(numbers, step=step)

    return write


def _tracked(target: Any, numbers: dict[str, float], step: int) -> None:
    for name, number in numbers.items():
        target.track(number, name=name, step=step)


def _curves(target: Any, numbers: dict[str, float], step: int) -> None:
    for name, number in numbers.items():
        target.add_scalar(name, number, step)


FORMS: Mapping[str, Callable[[Any, dict[str, float], int], None]] = {
    "log_metrics": _whole("log_metrics"),  # MLflow, the loggers of Lightning
    "log": _whole("log"),  # W&B, trackio, Accelerate
    "track": _tracked,  # Aim
    "add_scalar": _curves,  # writers of TensorBoard
}
"""The methods by which a target takes numbers; the first that it has is used."""


class Log:
    """Sends the results of a step to a tracker of experiments, as numbers with names such as `rate.mean/conv1`.

    - `target`: what takes them, by one of the methods `log_metrics(numbers, step=)`, `log(numbers, step=)`,
      `track(number, name=, step=)` and `add_scalar(name, number, step)`: a run of W&B, trackio or Aim, the module
      `mlflow`, a logger of Lightning, an `Accelerator`, a `SummaryWriter`; or a function of the numbers and the step.
    - `prefix`: what the names begin with.

    Of a tensor there are the mean, the minimum and the maximum, as in the table of `Csv`. The target stays open: it is
    that of whoever made it.

    >>> Log(lambda numbers, step: print(step, numbers)).write(3, {"conv1": {"rate": 0.25}, "": {"loss": 1.5}})
    3 {'rate/conv1': 0.25, 'loss/network': 1.5}
    """

    def __init__(self, target: Any, *, prefix: str = "") -> None:
        form = next((write for method, write in FORMS.items() if callable(getattr(target, method, None))), None)
        if isinstance(target, (logging.Logger, logging.LoggerAdapter)) or (form is None and not callable(target)):
            raise TypeError(
                f"Log takes what has one of the methods {', '.join(FORMS)}, or a function of numbers and step, but got "
                f"{type(target).__name__}. Console prints tables; Csv and JsonLines write files."
            )
        self.target, self.prefix = target, prefix
        self._form = form or (lambda target, numbers, step: target(numbers, step))

    def write(self, step: int, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Send them."""
        check_rows("Log", values)
        numbers = {
            f"{self.prefix}{quantity}/{layer or 'network'}": number
            for layer, row in values.items()
            for label, value in row.items()
            for quantity, number in scalars(value, label).items()
        }
        self._form(self.target, numbers, step)

    def close(self) -> None:
        """The target is not its own and stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
