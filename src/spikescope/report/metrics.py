"""The epochs that a run has written into its folder."""

from __future__ import annotations

import json
import os
import warnings

from ..files import open_regular
from .views import Epoch

__all__ = ["read_metrics"]


def read_metrics(path: str | os.PathLike[str]) -> list[Epoch]:
    """The epochs in a `metrics.jsonl`.

    A last line that was cut off, as by the end of a process, is left out with a warning; another line that is not an
    epoch is a ValueError that names file and line.
    """
    with open_regular(path) as file:
        lines = file.read().split(b"\n")
    epochs = []
    for number, line in enumerate(lines, 1):
        last = number == len(lines)  # what follows the last end of a line
        if last and not line:
            break
        try:
            epochs.append(Epoch.from_row(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if not last:
                raise ValueError(f"{path}: line {number} is not an epoch: {_reason(error)}.") from error
            warnings.warn(
                f"{path} ends in the middle of line {number}, which is left out: its epoch was not written to its end.",
                RuntimeWarning,
                stacklevel=2,
            )
    return epochs


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
