"""What layers represent: how many dimensions they use, and how alike two of them see the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, check_choice
from ..spikes import PackedSpikes
from .gather import values_of
from .registry import measure
from .source import Array, Spikes

__all__ = [
    "Similarities",
    "by_step",
    "cka",
    "cka_matrix",
    "participation_ratio",
    "representational_similarity",
    "similarity_matrix",
]

Values = Spikes | Tensor
"""Spikes, whose rates count; or real values `[T, N, *]`, whose mean over time counts; or `[N, F]` as they are."""


class Similarities(NamedTuple):
    """What `cka_matrix` results in: `value[i, j]` is of `rows[i]` and `columns[j]`."""

    value: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def by_step(spikes: Tensor | PackedSpikes) -> dict[str, Tensor | PackedSpikes]:
    """Each step of `[T, N, *]` as if it were a layer, for `cka_matrix` over time.

    >>> list(by_step(torch.zeros(3, 2, 4)))
    ['step 1', 'step 2', 'step 3']
    """
    return {f"step {t + 1}": spikes[t : t + 1] for t in range(len(spikes))}


@measure("number", "dimensions", "Gao et al. 2017")
def participation_ratio(values: Values) -> float:
    r"""How many dimensions the responses to the samples use: $(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$.

    $\lambda$ are the eigenvalues of the covariance of the neurons over samples: 1 where all vary as one, F where F
    neurons vary alike and apart. Responses are rates of spikes, or means over time of real values. NaN where nothing
    varies.

    >>> participation_ratio(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    2.0
    """
    held = _centred(values_of("participation_ratio", values))
    alike = _alike(held, held)
    return float((held * held).sum() ** 2 / alike) if alike > 0 else float("nan")


@measure("matrix", "similarity", "the complement of Kriegeskorte et al. 2008")
def similarity_matrix(values: Values, by: Literal["correlation", "cosine"] = "correlation") -> Tensor:
    """How alike the responses to each two samples are, `[N, N]`: Pearson's correlation over neurons, or the cosine.

    Responses as in `participation_ratio`. NaN for a sample to which all neurons respond alike, or by the cosine not at
    all. Sort the samples by class to see blocks.

    >>> similarity_matrix(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 1.0, -1.0]
    """
    check_choice("similarity_matrix", "by", by, ("correlation", "cosine"))
    return torch.from_numpy(_similarities(values_of("similarity_matrix", values), by))


def _similarities(held: Array, by: str) -> Array:
    held = held - held.mean(1, keepdims=True) if by == "correlation" and held.shape[1] else held
    squares = (held * held).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = held @ held.T / np.sqrt(np.outer(squares, squares))
    return np.clip(made, -1.0, 1.0)


@measure("number", "rank correlation", "Kriegeskorte et al. 2008", takes=("spikes", "other"))
def representational_similarity(values: Values, other: Values) -> float:
    """How alike two layers see the samples: Spearman's correlation of their `similarity_matrix`, above the diagonals.

    The layers may have other neurons, the samples are the same. Pairs of samples that one of the matrices has no value
    for are left out. NaN where fewer than two are left, or all of one layer are alike.

    >>> layer = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 1.0, 0.3]])
    >>> round(representational_similarity(layer, 2 * layer), 12)
    1.0
    """
    owner = "representational_similarity"
    pair = [_similarities(values_of(owner, held), "correlation") for held in (values, other)]
    _check_samples(owner, *map(len, pair))
    above = np.triu_indices(len(pair[0]), 1)
    a, b = (held[above].round(12) for held in pair)  # what differs by rounding alone shares a rank
    seen = ~(np.isnan(a) | np.isnan(b))
    a, b = (_centred(_ranks(held[seen])[:, None])[:, 0] for held in (a, b))
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


@measure("number", "from 0 to 1", "Kornblith et al. 2019", takes=("spikes", "other"))
def cka(values: Values, other: Values) -> float:
    r"""Linear centred kernel alignment of two layers: $\langle K,L\rangle/\sqrt{\langle K,K\rangle\langle L,L\rangle}$.

    $K = X X^\top$ and $L = Y Y^\top$, of which the products are summed, with the responses X and Y `[N, F]` to the same
    samples, without their means. 1 where one is a rotation and scaling of the other, 0 where they have nothing linear
    in common; of fewer samples than neurons it comes out too high. NaN where one does not vary.

    >>> layer = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    >>> round(cka(layer, 3 * layer.flip(1)), 12)
    1.0
    """
    x, y = (_centred(values_of("cka", held)) for held in (values, other))
    _check_samples("cka", len(x), len(y))
    return _ratio(_alike(x, y), _alike(x, x), _alike(y, y))


@measure("matrix", "CKA", "Kornblith et al. 2019", takes=("layers",))
def cka_matrix(layers: Mapping[str, Values], others: Mapping[str, Values] | None = None) -> Similarities:
    """`cka` of each two layers: of one network, of two, or with `by_step` of the steps of a layer.

    - `layers`: by their names, such as the recording `monitor.record(net, "packed")`. `others`: those of another
      network on the same samples; None takes the same.

    NaN where a layer does not vary.

    >>> held = cka_matrix({"a": torch.eye(3), "b": torch.ones(3, 2)})
    >>> held.rows, held.value.tolist()
    (('a', 'b'), [[1.0, nan], [nan, nan]])
    """
    owner = "cka_matrix"
    for side in (layers, {} if others is None else others):
        if not isinstance(side, Mapping):
            raise TypeError(f"{owner} takes layers by their names, {{'conv1': spikes}}, but got {type(side).__name__}.")
    rows = {name: _centred(values_of(owner, held)) for name, held in layers.items()}
    columns = rows if others is None else {name: _centred(values_of(owner, held)) for name, held in others.items()}
    _check_samples(owner, *(len(held) for held in (*rows.values(), *columns.values())))
    own = [{name: _alike(held, held) for name, held in side.items()} for side in (rows, columns)]
    value = [[_ratio(_alike(x, y), own[0][a], own[1][b]) for b, y in columns.items()] for a, x in rows.items()]
    shaped = torch.tensor(value, dtype=torch.float64, device="cpu").reshape(len(rows), len(columns))
    return Similarities(shaped, tuple(map(str, rows)), tuple(map(str, columns)))


def _centred(held: Array) -> Array:
    return held - held.mean(0) if len(held) else held


def _alike(x: Array, y: Array) -> float:
    r"""$\|Y^\top X\|_F^2$, by the neurons or by the samples, whichever are fewer."""
    if len(x) * (x.shape[1] + y.shape[1]) < x.shape[1] * y.shape[1]:
        return float(((x @ x.T) * (y @ y.T)).sum())
    return float(((y.T @ x) ** 2).sum())


def _ratio(both: float, x: float, y: float) -> float:
    return float(both / np.sqrt(x * y)) if x > 0 and y > 0 else float("nan")


def _ranks(held: Array) -> Array:
    """The ranks of numbers; those that are equal share the mean of theirs."""
    _, place, number = np.unique(held, return_inverse=True, return_counts=True)
    last = np.cumsum(number)
    return np.asarray((last - (number - 1) / 2)[place], dtype=np.float64)


def _check_samples(owner: str, *samples: int) -> None:
    if len(set(samples)) > 1:
        raise ShapeError(f"{owner} compares responses to the same samples, but got {', '.join(map(str, samples))}.")
