"""Losses of what the output neurons do: how often they fire, when they fire first, how high their potential is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError, check_bound, check_choice, check_tensor, dims
from ..internals import readable
from .loss import check_cross_entropy, temporal_efficient_training_cross_entropy

__all__ = [
    "count_cross_entropy",
    "count_mse_loss",
    "first_spike_cross_entropy",
    "first_spike_mse_loss",
    "first_spike_time",
    "membrane_cross_entropy",
    "membrane_mse_loss",
    "rate_cross_entropy",
    "rate_mse_loss",
]


def rate_cross_entropy(
    spike_seq: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of the firing rates: $L = \mathrm{CE}\left(\frac 1T \sum_t s_t,\, y\right)$.

    Rates lie in 0 to 1, so that the loss of C classes cannot fall under $\ln(1 + (C - 1)/e)$;
    `count_cross_entropy` has scores that grow with T.

    - `spike_seq`: `[T, N, C, *]`; `target`: classes `[N, *]`, or probabilities `[N, C, *]`.
    - the rest as in `torch.nn.functional.cross_entropy`; with `reduction='none'` the result is `[N, *]`.

    >>> spike_seq = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # rates 1 and 1/2: ln(1 + e^-0.5)
    >>> rate_cross_entropy(spike_seq, torch.tensor([0]))
    tensor(0.4741)
    """
    rates = _checked("rate_cross_entropy", spike_seq, target, reduction).mean(0)
    return _cross_entropy(
        "rate_cross_entropy", rates.unsqueeze(0), target, weight, ignore_index, reduction, label_smoothing
    )


def count_cross_entropy(
    spike_seq: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of the spike counts: $L = \mathrm{CE}\left(\sum_t s_t,\, y\right)$. Else `rate_cross_entropy`.

    >>> spike_seq = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # counts 2 and 1: ln(1 + e^-1)
    >>> count_cross_entropy(spike_seq, torch.tensor([0]))
    tensor(0.3133)
    """
    counts = _checked("count_cross_entropy", spike_seq, target, reduction).sum(0)
    return _cross_entropy(
        "count_cross_entropy", counts.unsqueeze(0), target, weight, ignore_index, reduction, label_smoothing
    )


def rate_mse_loss(
    spike_seq: Tensor,
    target: Tensor,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    r"""The squared distance of the firing rates from wanted ones: $L = \mathrm{mean}_c\,(r_c - r^*_c)^2$.

    - `spike_seq`: `[T, N, C, *]`; `target`: classes `[N, *]`, or shares $p$ of the right class `[N, C, *]`.
    - `correct_rate`, `incorrect_rate`: $r^*$ of the right class and of the others, in spikes a step; of a share $p$ it
      is the mixture of both.

    Shrestha and Orchard, *SLAYER: Spike layer error reassignment in time* (NeurIPS 2018), count loss.

    >>> spike_seq = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # rates 1/2 and 1/2; wanted 0.9 and 0.1
    >>> rate_mse_loss(spike_seq, torch.tensor([0]), 0.9, 0.1)
    tensor(0.1600)
    """
    x_seq = _checked("rate_mse_loss", spike_seq, target, reduction)
    return F.mse_loss(x_seq.mean(0), _wanted(x_seq, target, correct_rate, incorrect_rate), reduction=reduction)


def count_mse_loss(
    spike_seq: Tensor,
    target: Tensor,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    r"""The squared distance of the spike counts from wanted ones, $\mathrm{mean}_c\,(n_c - T r^*_c)^2$.

    It is $T^2$ times `rate_mse_loss`, which says what the arguments are.

    >>> spike_seq = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # counts 1 and 1; wanted 1.8 and 0.2
    >>> count_mse_loss(spike_seq, torch.tensor([0]), 0.9, 0.1)
    tensor(0.6400)
    """
    x_seq = _checked("count_mse_loss", spike_seq, target, reduction)
    wanted = len(x_seq) * _wanted(x_seq, target, correct_rate, incorrect_rate)
    return F.mse_loss(x_seq.sum(0), wanted, reduction=reduction)


def first_spike_time(spike_seq: Tensor) -> Tensor:
    r"""The step of the first spike of every neuron, `[T, *]` to `[*]`, as a number with a gradient; T if silent.

    $$t_1 = \sum_{t=0}^{T-1} \prod_{u \le t} (1 - s_u)$$

    the number of steps before which nothing has come. Of spikes 0 and 1 it is the time itself; of spikes between, the
    expected time if these are probabilities. The gradient is the change by a whole spike: a spike at $t < t_1$ would
    come $t_1 - t$ steps earlier; without the spike at $t_1$ the next would be the first; later ones do not count.

    The result is float32 at least. ValueError for values outside of 0 to 1.

    >>> spike_seq = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    >>> time = first_spike_time(spike_seq)
    >>> time.detach(), torch.autograd.grad(time[0], spike_seq)[0][:, 0]
    (tensor([1., 4.]), tensor([-1., -2., -0., -0.]))
    """
    check_tensor("first_spike_time", "spike_seq", spike_seq)
    if not spike_seq.ndim:
        raise ShapeError(f"first_spike_time takes spikes [T, *] with time first, but got {dims(spike_seq.shape)}.")
    if readable(spike_seq) and not bool(((spike_seq >= 0) & (spike_seq <= 1)).all()):
        raise ValueError(
            "first_spike_time takes spikes of 0 and 1, or probabilities between, but got values from "
            f"{spike_seq.min().item():.4g} to {spike_seq.max().item():.4g}."
        )
    return (1 - widened(spike_seq)).cumprod(0).sum(0)


def first_spike_cross_entropy(
    spike_seq: Tensor,
    target: Tensor,
    tau: float = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of who fires first: $L = \mathrm{CE}(-t_1 / \tau,\, y)$ with `first_spike_time` $t_1$.

    - `tau`: how many steps earlier make a class e times as likely. The rest as in `rate_cross_entropy`.

    Mostafa, *Supervised learning based on temporal coding in spiking neural networks* (IEEE TNNLS 2018).

    >>> spike_seq = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])  # times 0 and 2: ln(1 + e^-2)
    >>> first_spike_cross_entropy(spike_seq, torch.tensor([0]))
    tensor(0.1269)
    """
    _checked("first_spike_cross_entropy", spike_seq, target, reduction)
    check_bound("first_spike_cross_entropy", "tau", tau, above=0)
    scores = first_spike_time(spike_seq) / -tau
    return _cross_entropy(
        "first_spike_cross_entropy", scores.unsqueeze(0), target, weight, ignore_index, reduction, label_smoothing
    )


def first_spike_mse_loss(
    spike_seq: Tensor,
    target: Tensor,
    correct_time: float = 0.0,
    incorrect_time: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The squared distance of the first spikes from wanted times, in parts of T.

    $$L = \mathrm{mean}_c \left(\frac{t_c - t^*_c}{T}\right)^2$$

    with `first_spike_time` $t_c$.

    - `spike_seq`: `[T, N, C, *]`; `target`: classes `[N, *]`, or shares of the right class `[N, C, *]`.
    - `correct_time`, `incorrect_time`: $t^*$ of the right class and of the others, in steps; None is T, silence.

    >>> spike_seq = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])  # times 1 and 1; wanted 0 and 2
    >>> first_spike_mse_loss(spike_seq, torch.tensor([0]))
    tensor(0.2500)
    """
    x_seq = _checked("first_spike_mse_loss", spike_seq, target, reduction)
    T = len(x_seq)
    wanted = _wanted(x_seq, target, correct_time, T if incorrect_time is None else incorrect_time)
    return F.mse_loss(first_spike_time(x_seq) / T, wanted / T, reduction=reduction)


def membrane_cross_entropy(
    v_seq: Tensor,
    target: Tensor,
    over_time: str = "each",
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of the potentials of the output neurons.

    - `v_seq`: `[T, N, C, *]`, as a neuron with `store_v_seq=True` keeps it; of neurons that do not fire, best.
    - `over_time`: `'each'`, the mean of the losses of every step (`temporal_efficient_training_cross_entropy`), or
      `'max'`, the loss of $\max_t v_t$; steps of the same maximum share the gradient.
    - `target` and the rest as in `rate_cross_entropy`.

    Cramer et al., *The Heidelberg spiking data sets* (IEEE TNNLS 2022), loss of the maximum over time.

    >>> v_seq = torch.tensor([[[0.0, 3.0]], [[2.0, 1.0]]])  # maxima 2 and 3: ln(1 + e)
    >>> membrane_cross_entropy(v_seq, torch.tensor([0]), "max")
    tensor(1.3133)
    """
    check_choice("membrane_cross_entropy", "over_time", over_time, ("each", "max"))
    x_seq = _checked("membrane_cross_entropy", v_seq, target, reduction)
    scores = x_seq if over_time == "each" else x_seq.amax(0, keepdim=True)
    return _cross_entropy("membrane_cross_entropy", scores, target, weight, ignore_index, reduction, label_smoothing)


def membrane_mse_loss(
    v_seq: Tensor,
    target: Tensor,
    correct_potential: float = 1.0,
    incorrect_potential: float = 0.0,
    over_time: str = "each",
    reduction: str = "mean",
) -> Tensor:
    r"""The squared distance of the potentials from wanted ones, at each step or of the maximum over time.

    $$L = \mathrm{mean}_{t,c}\,(v_{t,c} - v^*_c)^2 \quad \text{or} \quad \mathrm{mean}_c\,(\max_t v_{t,c} - v^*_c)^2$$

    - `v_seq`, `over_time`: see `membrane_cross_entropy`; `target`: see `rate_mse_loss`.
    - `correct_potential`, `incorrect_potential`: $v^*$ of the right class and of the others.

    >>> v_seq = torch.tensor([[[0.0, 0.0]], [[2.0, 1.0]]])  # (1 + 0 + 1 + 1) / 4, and (1 + 1) / 2
    >>> membrane_mse_loss(v_seq, torch.tensor([0])), membrane_mse_loss(v_seq, torch.tensor([0]), over_time="max")
    (tensor(0.7500), tensor(1.))
    """
    check_choice("membrane_mse_loss", "over_time", over_time, ("each", "max"))
    x_seq = _checked("membrane_mse_loss", v_seq, target, reduction)
    x_seq = x_seq if over_time == "each" else x_seq.amax(0, keepdim=True)
    wanted = _wanted(x_seq, target, correct_potential, incorrect_potential).expand_as(x_seq)
    squares = F.mse_loss(x_seq, wanted, reduction="none").mean(0)
    return squares if reduction == "none" else squares.sum() if reduction == "sum" else squares.mean()


def _cross_entropy(
    owner: str,
    scores: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """The mean over the steps of `scores` `[T, N, C, *]`; shares get their dtype, and classes the one PyTorch takes."""
    target = target.to(scores.dtype if target.is_floating_point() else torch.int64)
    check_cross_entropy(owner, scores.shape[2], weight, ignore_index, label_smoothing)
    weight = None if weight is None else weight.to(scores.dtype)
    return temporal_efficient_training_cross_entropy(
        scores, target, weight, int(ignore_index), reduction, float(label_smoothing)
    )


def widened(x: Tensor) -> Tensor:
    """In float32 at least: half precision cannot count far."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _checked(owner: str, x_seq: Tensor, target: Tensor, reduction: str) -> Tensor:
    """The sequence in a dtype to compute with, if it and the target fit."""
    check_tensor(owner, "the sequence", x_seq)
    check_tensor(owner, "target", target)
    check_choice(owner, "reduction", reduction, ("mean", "sum", "none"))
    one = tuple(x_seq.shape[1:])
    classes = not target.is_floating_point()
    if x_seq.ndim < 3 or not len(x_seq) or tuple(target.shape) != ((one[0], *one[2:]) if classes else one):
        raise ShapeError(
            f"{owner} takes a sequence [T, N, C, *] of at least one step with a target of classes [N, *] or of "
            f"floating point shares [N, C, *], but got {dims(x_seq.shape, 'TNC')} and {dims(target.shape, 'N')} of "
            f"{target.dtype}."
        )
    return widened(x_seq)


def _wanted(x_seq: Tensor, target: Tensor, correct: float, incorrect: float) -> Tensor:
    """`[N, C, *]`: `correct` at the class, `incorrect` elsewhere, a mixture where there is a share of the class."""
    if not target.is_floating_point():
        classes = x_seq.shape[2]
        if readable(target) and not bool(((target >= 0) & (target < classes)).all()):
            raise ValueError(
                f"The target must be classes from 0 to {classes - 1}, but got {target.min()} to {target.max()}."
            )
        shape = (-1, *(1,) * (target.ndim - 1))
        target = torch.arange(classes, device=target.device).view(shape) == target.unsqueeze(1)
    return incorrect + (correct - incorrect) * target.to(x_seq.dtype)
