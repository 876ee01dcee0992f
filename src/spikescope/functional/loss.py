"""Losses of spike trains, and the kernels and thresholds they use."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import (
    ShapeError,
    UnknownNameError,
    check_bound,
    check_choice,
    check_module,
    check_number,
    check_tensor,
    dims,
)
from ..fields import Declared

__all__ = [
    "kernel_dot_product",
    "set_threshold_margin",
    "spike_similar_loss",
    "temporal_efficient_training_cross_entropy",
]


def _linear(x: Tensor, y: Tensor) -> Tensor:
    return x @ y.T


def _polynomial(x: Tensor, y: Tensor, d: float) -> Tensor:
    return (x @ y.T) ** d


def _sigmoid(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    return torch.sigmoid(alpha * (x @ y.T))


def _gaussian(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    squared = (x * x).sum(1).unsqueeze(1) + (y * y).sum(1) - 2 * (x @ y.T)
    return torch.exp(squared.clamp(min=0) / (-2 * sigma**2))  # rounding may take a distance of 0 below it


_KERNELS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "linear": (_linear, ()),
    "polynomial": (_polynomial, ("d",)),
    "sigmoid": (_sigmoid, ("alpha",)),
    "gaussian": (_gaussian, ("sigma",)),
}

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce": F.binary_cross_entropy,
}


def kernel_dot_product(x: Tensor, y: Tensor, kernel: str = "linear", *args: float) -> Tensor:
    r"""The kernel of every row of `x` `[N, M]` with every row of `y` `[K, M]`: `[N, K]`.

    - `'linear'`: $x y^T$
    - `'polynomial', d`: $(x y^T)^d$
    - `'sigmoid', alpha`: $\sigma(\alpha\, x y^T)$
    - `'gaussian', sigma`: $\exp(-\lVert x_i - y_j \rVert^2 / 2\sigma^2)$

    Arguments beyond these are ignored. Another name is an UnknownNameError (a ValueError and a NotImplementedError).

    Schoelkopf and Smola, *Learning with kernels* (2002), section 2.3.

    >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    >>> kernel_dot_product(x, y), kernel_dot_product(x, y, "polynomial", 2)
    (tensor([[5., 4.]]), tensor([[25., 16.]]))
    """
    for name, held in (("x", x), ("y", y)):
        check_tensor("kernel_dot_product", name, held)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ShapeError(
            "kernel_dot_product takes x [N, M] and y [K, M] with the same M, "
            f"but got {dims(x.shape)} and {dims(y.shape)}."
        )
    check_choice("kernel_dot_product", "kernel", kernel, _KERNELS, UnknownNameError)
    function, names = _KERNELS[kernel]
    if len(args) < len(names):
        raise TypeError(f"kernel_dot_product: the kernel {kernel!r} takes {', '.join(names)}, but got nothing for it.")
    args = args[: len(names)]
    for name, number in zip(names, args, strict=True):
        check_bound("kernel_dot_product", name, number, above=0 if name == "sigma" else None)
    return function(x, y, *args)


def spike_similar_loss(
    spikes: Tensor, labels: Tensor, kernel_type: str = "linear", loss_type: str = "mse", *args: float
) -> Tensor:
    r"""How far the similarity of the samples' spikes is from the similarity of their labels; a scalar.

    $$L = \ell(P, Q), \quad P_{ij} = k(s_i, s_j), \quad Q_{ij} = \min(l_i \cdot l_j, 1)$$

    with $s_i$ the flattened spikes of sample i; the linear kernel is divided by $\lVert s_i \rVert \lVert s_j \rVert +
    10^{-8}$. It is computed in float32 at least, under autocast too.

    - `spikes`: `[N, M, T]`; `labels`: `[N, C]`, ones at the labels of a sample.
    - `kernel_type`, `args`: see `kernel_dot_product`; `loss_type`: `'mse'`, `'l1'` or `'bce'`.

    Similarity matching as in Nokland and Eidnes, *Training neural networks with local error signals* (ICML 2019).

    >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    >>> spike_similar_loss(spikes, torch.eye(2), "linear", "l1")  # cos = 1/sqrt(2) twice of four: 0.3536
    tensor(0.3536)
    """
    check_choice("spike_similar_loss", "loss_type", loss_type, _LOSSES, UnknownNameError)
    check_choice("spike_similar_loss", "kernel_type", kernel_type, _KERNELS, UnknownNameError)
    check_tensor("spike_similar_loss", "spikes", spikes)
    check_tensor("spike_similar_loss", "labels", labels)
    if spikes.ndim < 2 or labels.ndim != 2 or len(spikes) != len(labels):
        raise ShapeError(
            "spike_similar_loss takes spikes [N, M, T] and labels [N, C] of the same N, "
            f"but got {dims(spikes.shape, 'N')} and {dims(labels.shape, 'N')}."
        )
    if loss_type == "bce" and kernel_type == "polynomial":
        raise ValueError(
            "spike_similar_loss: 'bce' takes probabilities, but the kernel 'polynomial' has no upper bound."
        )
    with torch.autocast(spikes.device.type, enabled=False):
        flat = spikes.flatten(1).to(torch.promote_types(spikes.dtype, torch.float32))
        similar = kernel_dot_product(flat, flat, kernel_type, *args)
        if kernel_type == "linear":
            norm = torch.linalg.vector_norm(flat, dim=1)
            similar = (similar / (torch.outer(norm, norm) + 1e-8)).clamp(max=1)  # rounding may take a cosine above 1
        labels = labels.to(flat.dtype)
        return _LOSSES[loss_type](similar, (labels @ labels.T).clamp(max=1))


def check_cross_entropy(
    owner: str, classes: int, weight: object, ignore_index: object, label_smoothing: object
) -> None:
    """Refuse what PyTorch's cross entropy would not take in words, or take for none: a smoothing below 0, or NaN."""
    if weight is not None:
        check_tensor(owner, "weight", weight)
        assert isinstance(weight, Tensor)
        if weight.shape != (classes,):
            raise ShapeError(
                f"{owner}: weight must be None or a tensor of a number for each of the {classes} classes, "
                f"but got one of the shape {dims(weight.shape)}."
            )
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):
        raise TypeError(f"{owner}: ignore_index must be a whole number, but got {ignore_index!r}.")
    check_number(owner, "label_smoothing", label_smoothing, least=0, most=1)


def temporal_efficient_training_cross_entropy(
    x_seq: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of every time step, averaged over time: $L = \frac 1T \sum_t \mathrm{CE}(x_t, y)$.

    - `x_seq`: scores `[T, N, C, *]`.
    - `target`: class indices `[N, *]`, or probabilities `[N, C, *]`; the same at every step.
    - the rest as in `torch.nn.functional.cross_entropy`; with `reduction='none'` the result is `[N, *]`.

    Deng et al., *Temporal efficient training of spiking neural network via gradient re-weighting* (ICLR 2022).

    >>> x_seq = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]])  # ln 2 = 0.6931 and ln(1 + e^-3) = 0.0486
    >>> temporal_efficient_training_cross_entropy(x_seq, torch.tensor([0]))
    tensor(0.3709)
    """
    owner = "temporal_efficient_training_cross_entropy"
    check_tensor(owner, "x_seq", x_seq)
    check_tensor(owner, "target", target)
    check_choice(owner, "reduction", reduction, ("mean", "sum", "none"))
    one = x_seq.shape[1:]
    if x_seq.ndim < 3 or not len(x_seq) or tuple(target.shape) not in (tuple(one), (one[0], *one[2:])):
        raise ShapeError(
            f"{owner} takes x_seq [T, N, C, *] of at least one step with the target [N, *] (classes) or [N, C, *] "
            f"(probabilities), but got {dims(x_seq.shape, 'TNC')} and {dims(target.shape, 'N')}."
        )
    check_cross_entropy(owner, x_seq.shape[2], weight, ignore_index, label_smoothing)
    each = target.expand(len(x_seq), *target.shape).flatten(0, 1)
    options = int(ignore_index), None, reduction, float(label_smoothing)
    loss = F.cross_entropy(x_seq.flatten(0, 1), each, weight, None, *options)
    if reduction == "none":
        return loss.unflatten(0, (len(x_seq), -1)).mean(0)
    return loss / len(x_seq) if reduction == "sum" else loss


def set_threshold_margin(
    output_layer: nn.Module,
    label_one_hot: Tensor,
    eval_threshold: float = 1.0,
    threshold0: float = 0.9,
    threshold1: float = 1.1,
) -> None:
    """Make the right answer harder in training: a threshold per sample and class on the output neurons.

    In training the threshold becomes `threshold1` where the label is 1 and `threshold0` elsewhere; in eval, the number
    `eval_threshold`. Works on any neuron with a `v_threshold` that is not learnable.

    - `label_one_hot`: `[N, C]`, as the output neurons' input of one step.

    >>> node = spikescope.neuron.IFNode()
    >>> set_threshold_margin(node, torch.tensor([[0, 1]]))
    >>> node(torch.ones(1, 2))  # reaches 0.9, not 1.1
    tensor([[1., 0.]])
    """
    check_module("set_threshold_margin", output_layer)
    check_tensor("set_threshold_margin", "label_one_hot", label_one_hot)
    for name, number in (("eval_threshold", eval_threshold), ("threshold0", threshold0), ("threshold1", threshold1)):
        check_bound("set_threshold_margin", name, number)
    if not isinstance(output_layer, Declared) or "v_threshold" not in type(output_layer).dynamic:
        raise TypeError(
            f"set_threshold_margin takes a neuron with a v_threshold, but {type(output_layer).__name__} has none."
        )
    if isinstance(output_layer.v_threshold, nn.Parameter):
        raise ValueError(
            f"set_threshold_margin would overwrite the learnable v_threshold of {type(output_layer).__name__}. "
            "Give the output layer a number as its threshold."
        )
    if not output_layer.training:
        output_layer.v_threshold = eval_threshold
        return
    dtype = label_one_hot.dtype if label_one_hot.is_floating_point() else torch.get_default_dtype()
    margin = torch.full_like(label_one_hot, threshold0, dtype=torch.promote_types(dtype, torch.float32))
    output_layer.v_threshold = margin.masked_fill(label_one_hot == 1, threshold1)
