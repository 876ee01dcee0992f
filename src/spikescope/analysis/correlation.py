"""How neurons go together: in bins of time, from trial to trial, and as a whole layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import check_switches
from .binning import binned
from .formulas import chi, synchrony_sums
from .gather import check_labels, classes_of, trials
from .registry import measure
from .source import Array, Spikes, chunks, grown

__all__ = ["correlation_coefficient", "covariance", "noise_correlation", "synchrony"]

MOST = 20_000
"""Neurons of a layer that a matrix is made of: it takes 8 bytes for each pair."""


class _Moments(NamedTuple):
    """Sums over observations: their number, of each neuron, of each product of two."""

    number: int
    total: Array
    products: Array

    def add(self, counts: Array) -> _Moments:
        """With the observations `[n, size]`; whole numbers, and so exact however they are grouped."""
        held = counts.astype(np.float64)
        return _Moments(self.number + len(held), self.total + held.sum(0), self.products + held.T @ held)

    def covariance(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.scatter() / np.float64(self.number) / np.float64(self.number - 1))

    def scatter(self) -> Array:
        """The number of observations times the sums of the products of their differences from the mean: whole."""
        return np.asarray(self.number * self.products - np.outer(self.total, self.total))


def _moments(owner: str, spikes: Spikes, bin_size: int, binary: bool) -> _Moments:
    check_switches(owner, binary=binary)
    made = _Moments(0, np.zeros(0), np.zeros((0, 0)))
    for *_, counts, shape in binned(owner, spikes, bin_size, "any"):
        bins, samples, size = counts.shape
        if not made.number:
            check_size(owner, shape.numel())
            made = _Moments(0, np.zeros(size), np.zeros((size, size)))
        if bins:
            made = made.add((np.minimum(counts, 1) if binary else counts).reshape(bins * samples, size))
    return made


def check_size(owner: str, size: int) -> None:
    """Refuse a layer that is too large for a matrix."""
    if size > MOST:
        raise ValueError(
            f"{owner} makes a matrix of all pairs of neurons, but got {size:,} of them, which takes "
            f"{8 * size * size / 1e9:,.0f} GB. Choose up to {MOST:,}, for example spikes.flatten(2)[..., :1000]."
        )


def _normalised(covariance: Array) -> Tensor:
    """Each entry divided by the deviations of both; NaN where one does not vary."""
    variance = covariance.diagonal()
    with np.errstate(divide="ignore", invalid="ignore"):
        varies = np.where(variance > 0, variance, np.nan)
        made = covariance / np.sqrt(np.outer(varies, varies))
    return torch.from_numpy(np.clip(made, -1.0, 1.0))


@measure("matrix", "spikes squared", "Elephant `covariance`", bin_size=4)
def covariance(spikes: Spikes, bin_size: int = 1, binary: bool = False) -> Tensor:
    r"""The covariance of the spike counts of each two neurons over bins: $\frac{1}{n - 1} \sum_k \delta_i \delta_j$.

    `[F, F]`, neurons flattened; $\delta$ are the counts without their mean. The bins of all samples and runs are the n
    observations; no bin reaches over an end. `binary`: a neuron counts once in a bin. NaN for fewer than two bins. A
    layer of more than 20,000 neurons is a ValueError.

    >>> covariance(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    return torch.from_numpy(_moments("covariance", spikes, bin_size, binary).covariance())


@measure("matrix", "correlation", "Elephant `correlation_coefficient`", bin_size=3)
def correlation_coefficient(spikes: Spikes, bin_size: int = 1, binary: bool = False) -> Tensor:
    """Pearson's correlation of the spike counts of each two neurons over bins, `[F, F]`: `covariance` over deviations.

    NaN where a neuron does not vary, with itself too. Arguments as in `covariance`.

    >>> correlation_coefficient(torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0]]]))[0].tolist()
    [1.0, -1.0, nan]
    """
    return _normalised(_moments("correlation_coefficient", spikes, bin_size, binary).covariance())


@measure("matrix", "correlation", "Cohen and Kohn 2011", takes=("spikes", "labels"))
def noise_correlation(spikes: Spikes, labels: Any) -> Tensor:
    r"""The correlation of what each two neurons do from trial to trial beyond their mean responses, `[F, F]`.

    $$r_{ij} = \mathrm{corr}(C_i - \bar C_i^{(c)}, C_j - \bar C_j^{(c)})$$

    of the spike counts C of each sample, with the mean of its class c taken off, over all samples. NaN where a neuron
    responds to each class in the same way each time. `labels`: one for each sample.

    >>> counts = torch.tensor([[0.0, 0, 1, 1], [1.0, 1, 1, 0]]).T.view(1, 4, 2)
    >>> noise_correlation(counts, [0, 0, 1, 1])[0].tolist()  # the first never differs within a class
    [nan, nan]
    """
    owner = "noise_correlation"
    _, place = classes_of(owner, labels)
    held: dict[int, _Moments] = {}
    samples, size = 0, 0
    for _, counts, shape in trials(owner, spikes):
        size = shape.numel()
        check_size(owner, size)
        own = place[samples : samples + len(counts)]
        samples += len(counts)
        for at in np.unique(own) if len(own) == len(counts) else ():
            empty = _Moments(0, np.zeros(size), np.zeros((size, size)))
            held[int(at)] = held.get(int(at), empty).add(counts[own == at])
    check_labels(owner, place, samples)
    within = sum((moments.scatter() / moments.number for moments in held.values()), np.zeros((size, size)))
    return _normalised(within)


@measure("number", "from 0 to 1", "Golomb 2007")
def synchrony(spikes: Spikes) -> float:
    r"""How much the M neurons of a sample act together: $\chi$, 1 if all alike, about $1/\sqrt{M}$ if independent.

    $$\chi^2 = \frac{\mathrm{Var}_t\left(\frac{1}{M} \sum_i x_i(t)\right)}{\frac{1}{M} \sum_i \mathrm{Var}_t(x_i)}$$

    Both variances are taken over the run of each sample and averaged over samples before they are divided. NaN where
    nothing changes in time.

    >>> synchrony(torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 1.0]]]))
    1.0
    """
    none = torch.zeros((), dtype=torch.float64, device="cpu")
    together, single, run, steps, sums, crowd = none, none, -1, 0, np.zeros((0, 0)), np.zeros(0)
    for chunk in chunks("synchrony", spikes, "any"):
        if chunk.run != run:
            together, single = _with(together, single, sums, crowd, steps)
            run, steps, sums, crowd = chunk.run, 0, np.zeros((0, chunk.size)), np.zeros(0)
        last = chunk.first + chunk.samples
        steps, sums, crowd = max(steps, chunk.start + chunk.steps), grown(sums, last), grown(crowd, last)
        sums[chunk.first : last] += chunk.counts
        crowd[chunk.first : last] += (chunk.together**2).sum(1)
    return chi(*_with(together, single, sums, crowd, steps))


def _with(together: Tensor, single: Tensor, sums: Array, crowd: Array, steps: int) -> tuple[Tensor, Tensor]:
    """Both variances with those of a run added."""
    held = torch.from_numpy(sums)
    more = synchrony_sums(held, held.sum(1), torch.from_numpy(crowd), max(1, steps))  # a spike is its own square
    return together + more[0], single + more[1]
