"""A result as plain values: words, numbers with names, lists and dicts, a line of text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ...spikes import PackedSpikes
from ..reduce import Bins, LogBins

__all__ = ["means", "plain", "scalars", "spelled", "words"]


def words(name: str) -> str:
    """A class name as words.

    >>> words("SilentShare"), words("SynOps")
    ('silent share', 'syn ops')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def spelled(name: str, known: Iterable[str]) -> str:
    """The one of `known` that a name is but for capitals, spaces, hyphens and underscores; else the name itself.

    >>> spelled("synops", ["rate", "syn ops"]), spelled("Non-Finite", ["non finite"]), spelled("rates", ["rate"])
    ('syn ops', 'non finite', 'rates')
    """
    return next((held for held in known if _letters(held) == _letters(name)), name)


def _letters(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def scalars(value: Any, name: str = "") -> dict[str, float]:
    """A result as numbers with names: of a tensor the mean, the minimum and the maximum of all but NaN.

    NaN stands where there is nothing to tell, as the interval between the spikes of a neuron that fired once. Of a
    histogram there are the number and the median of the values in its bins, and how many are elsewhere.

    >>> import torch
    >>> scalars(0.5, "rate"), scalars(torch.tensor([0.0, 1.0]), "rate")
    ({'rate': 0.5}, {'rate.mean': 0.5, 'rate.min': 0.0, 'rate.max': 1.0})
    """
    if isinstance(value, PackedSpikes):
        return {name: value.rate()}
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return {name: float(value)}
        held = value.detach().double().flatten()
        if not len(held):
            return dict.fromkeys((f"{name}.mean", f"{name}.min", f"{name}.max"), math.nan)
        held = held[~held.isnan()] if not held.isnan().all() else held
        return {f"{name}.mean": held.mean().item(), f"{name}.min": held.min().item(), f"{name}.max": held.max().item()}
    if isinstance(value, (Bins, LogBins)):
        value = {"inside": int(value.counts.sum()), "median": _median(value), **_elsewhere(value)}
    if (fields := _fields(value)) is not None:
        return {key: held for field, item in fields.items() for key, held in scalars(item, f"{name}.{field}").items()}
    return {name: float(value)}


def _median(held: Bins | LogBins) -> float:
    """The median of the values in the bins, as if they lay evenly in each."""
    counts, edges = held.counts.tolist(), held.edges.tolist()
    left = sum(counts) / 2
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        if left and left <= count:
            return low + left / count * (high - low)
        left -= count
    return math.nan


def _elsewhere(held: Bins | LogBins) -> dict[str, int]:
    """How many values are in no bin."""
    return {name: number for name, number in held._asdict().items() if isinstance(number, int)}


def plain(value: Any) -> Any:
    """A result as numbers, lists and dicts. NaN and infinity, which JSON does not have, are None.

    >>> import torch
    >>> plain(torch.tensor([1.0, float("nan")]))
    [1.0, None]
    """
    if isinstance(value, PackedSpikes):
        return {"shape": list(value.shape), "spikes": int(value.count()), "rate": plain(value.rate())}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if (fields := _fields(value)) is not None:
        return {str(key): plain(item) for key, item in fields.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def means(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, of each tensor the mean alone."""
    numbers = {key: held for label, value in row.items() for key, held in scalars(value, label).items()}
    spread = {key for key in numbers if f"{key.removesuffix('.mean')}.min" in numbers and key.endswith(".mean")}
    dropped = {f"{key.removesuffix('.mean')}.{end}" for key in spread for end in ("min", "max")}
    return {
        key.removesuffix(".mean") if key in spread else key: held for key, held in numbers.items() if key not in dropped
    }


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The parts of a mapping or a named tuple."""
    if isinstance(value, Mapping):
        return value
    return value._asdict() if isinstance(value, tuple) and hasattr(value, "_asdict") else None
