"""Penalties on how much neurons fire and on the work that their spikes make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import ShapeError, check_bound, check_choice, check_number, check_switches, check_tensor, dims
from .spike_loss import widened

__all__ = ["rate_regularization", "synaptic_operations", "synops_regularization"]

_MEAN_OVER = {"neuron": (0, 1), "sample": (0,), "layer": None}


def rate_regularization(spike_seq: Tensor, low: float = 0.0, high: float = 1.0, rate_of: str = "neuron") -> Tensor:
    r"""A penalty on firing rates outside of `low` to `high`; zero between.

    $$L = \mathrm{mean}_i \left(\max(0,\, r_i - r_{high})^2 + \max(0,\, r_{low} - r_i)^2\right)$$

    - `spike_seq`: the spikes of a layer, `[T, N, *]`, with their graph.
    - `low`, `high`: rates in spikes a step.
    - `rate_of`: whose rates $r_i$ are: `'neuron'`, each neuron's over time and batch; `'sample'`, each neuron's over
      time, for every sample; `'layer'`, the one of all neurons.

    A lower bound wakes silent neurons, as far as the surrogate reaches. The result is float32 at least.
    Zenke and Vogels, *The remarkable robustness of surrogate gradient learning* (Neural Computation 2021).

    >>> spike_seq = torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]])  # rates 1, 0, 0.5
    >>> rate_regularization(spike_seq, low=0.2, high=0.6)  # (0.4^2 + 0.2^2 + 0) / 3
    tensor(0.0667)
    """
    check_tensor("rate_regularization", "spike_seq", spike_seq)
    check_choice("rate_regularization", "rate_of", rate_of, _MEAN_OVER)
    if spike_seq.ndim < 2 or not spike_seq.numel():
        raise ShapeError(
            "rate_regularization takes spikes [T, N, *] of at least one step, sample and neuron, but got "
            f"{dims(spike_seq.shape, 'TN')}."
        )
    check_bound("rate_regularization", "low", low)
    check_bound("rate_regularization", "high", high)
    if not low <= high:
        raise ValueError(f"rate_regularization: low must not be above high, but got {low!r} and {high!r}.")
    rate = widened(spike_seq).mean(_MEAN_OVER[rate_of])
    return (torch.relu(rate - high).square() + torch.relu(low - rate).square()).mean()


def synaptic_operations(spike_seq: Tensor, fan_out: float | Tensor) -> Tensor:
    r"""The synaptic operations of every sample: $S_n = \sum_{t,i} s_{t,n,i}\, f_i$, `[T, N, *F]` to `[N]`.

    - `fan_out`: $f$, the synapses that a neuron reaches; a number, or a tensor that broadcasts to `[*F]`.
      `monitor.reduce.fan_out(layer, shape)` gives it for the layer behind, exact at the edges of an image.

    >>> synaptic_operations(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), 10)  # one spike, and two
    tensor([10., 20.])
    """
    check_tensor("synaptic_operations", "spike_seq", spike_seq)
    if spike_seq.ndim < 2:
        raise ShapeError(f"synaptic_operations takes spikes [T, N, *], but got {dims(spike_seq.shape, 'TN')}.")
    counts = widened(spike_seq).sum(0)
    one = counts.shape[1:]
    if isinstance(fan_out, Tensor):
        short = len(one) - fan_out.ndim
        if short < 0 or any(f not in (1, size) for f, size in zip(fan_out.shape, one[short:], strict=True)):
            raise ShapeError(
                f"synaptic_operations: fan_out has the shape {dims(fan_out.shape)}, which does not broadcast to the "
                f"neurons {dims(one)}. monitor.reduce.fan_out(layer, shape) gives it for the layer behind."
            )
        fan_out = fan_out.to(counts)
    else:
        check_number("synaptic_operations", "fan_out", fan_out, least=0)
    return (counts * fan_out).flatten(1).sum(1) if one else counts * fan_out


def synops_regularization(
    spike_seqs: Tensor | Sequence[Tensor],
    fan_outs: float | Tensor | Sequence[float | Tensor],
    target: float,
    only_above: bool = False,
) -> Tensor:
    r"""A penalty on the synaptic operations a sample, relative to a target: $L = (S / S^* - 1)^2$.

    $S$ is the sum of `synaptic_operations` over the layers and its mean over the batch.

    - `spike_seqs`: the spikes `[T, N, *]` of one layer or of several, with their graph, as the records of
      `monitor.OutputMonitor(net, ..., keep_graph=True)`.
    - `fan_outs`: for each layer what `synaptic_operations` takes.
    - `target`: $S^*$, the operations a sample that are wanted, above 0.
    - `only_above`: whether it is a budget, with no penalty under it.

    Sorbaro et al., *Optimizing the energy consumption of spiking neural networks for neuromorphic applications*
    (Frontiers in Neuroscience 2020).

    >>> spike_seq = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])  # 10 and 20 operations; (15 / 12 - 1)^2
    >>> synops_regularization(spike_seq, 10, target=12)
    tensor(0.0625)
    """
    owner = "synops_regularization"
    check_switches(owner, only_above=only_above)
    if not isinstance(spike_seqs, (Tensor, Iterable)):
        raise TypeError(
            f"{owner}: spike_seqs must be the spikes of a layer, or a sequence of those of several, "
            f"but got {type(spike_seqs).__name__}."
        )
    layers = [spike_seqs] if isinstance(spike_seqs, Tensor) else list(spike_seqs)
    reaches = list(fan_outs) if isinstance(fan_outs, Sequence) else [fan_outs]
    if not layers or len(layers) != len(reaches):
        raise ValueError(
            f"{owner} takes a fan_out for each layer, but got the spikes of {len(layers)} layers and {len(reaches)} "
            "fan_outs."
        )
    check_bound(owner, "target", target, above=0)
    each = [synaptic_operations(spikes, reach) for spikes, reach in zip(layers, reaches, strict=True)]
    if len({len(operations) for operations in each}) != 1 or not len(each[0]):
        raise ShapeError(
            f"{owner} takes layers of one batch of at least one sample, but got batches of "
            f"{', '.join(str(len(operations)) for operations in each)}."
        )
    excess = torch.stack([operations.mean() for operations in each]).sum() / target - 1
    return (torch.relu(excess) if only_above else excess).square()
