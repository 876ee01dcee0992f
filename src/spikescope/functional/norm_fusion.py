"""A batch normalisation and the neuron after it, as one kernel: for inference, and for training on a GPU."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import check_module, check_switches
from ..internals import has_own_hooks
from ..layer.norm import BatchNorm, is_plain
from ..neuron import PointwiseNeuron
from .fusion import gain_and_shift
from .network_fusion import IN_A_ROW

__all__ = ["fuse_bn_neuron", "fuse_bn_neurons"]

_AXES_AFTER = {"Linear": 0, "Conv1d": 1}  # of a BatchNorm1d that follows one of these


@torch.no_grad()
def fuse_bn_neuron(bn: nn.Module, node: PointwiseNeuron, axes: int | None = None) -> PointwiseNeuron:
    r"""A new neuron that gives what `node` gives after `bn` in eval: its kernel scales and shifts the input itself.

    $$X \gamma / \sqrt{\mathrm{var} + \epsilon} + (\beta - \mathrm{mean}\,\gamma / \sqrt{\mathrm{var} + \epsilon})$$

    It reads the input once instead of three times. The affine map is rounded otherwise than PyTorch's normalisation
    (a few units in the last place), so that a potential right at the threshold may fall on its other side.

    - `bn`: a BatchNorm1d, 2d or 3d, of PyTorch or of this library, with running statistics.
    - `axes`: how many axes follow the channels. It has to be said for a BatchNorm1d: 0 for `[N, C]`, 1 for `[N, C, L]`.

    TypeError or ValueError for anything else, for a normalisation with hooks, and for a neuron that has one fused
    into it already.

    >>> bn, node = nn.BatchNorm1d(2, eps=0.0).eval(), spikescope.neuron.IFNode()
    >>> bn.running_mean.copy_(torch.tensor([1.0, 0.0])), bn.running_var.fill_(4.0)
    (tensor([1., 0.]), tensor([4., 4.]))
    >>> fused = fuse_bn_neuron(bn, node, axes=0)
    >>> fused(torch.tensor([[2.0, 2.0]])), fused.v  # (2 - 1) / 2 and 2 / 2, which fires
    (tensor([[0., 1.]]), tensor([[0.5000, 0.0000]]))
    """
    check_module("fuse_bn_neuron", bn)
    if not isinstance(bn, _BatchNorm) or not isinstance(node, PointwiseNeuron):
        raise TypeError(
            "fuse_bn_neuron takes a batch normalisation and the pointwise neuron after it, "
            f"but got {type(bn).__name__} and {type(node).__name__}."
        )
    if not is_plain(bn):
        raise ValueError(
            f"fuse_bn_neuron takes a plain batch normalisation, but {type(bn).__name__} does more than that."
        )
    if bn.running_var is None or bn.running_mean is None:
        raise ValueError("fuse_bn_neuron takes a normalisation with running statistics, not track_running_stats=False.")
    if has_own_hooks(bn):
        raise ValueError(
            f"fuse_bn_neuron: this {type(bn).__name__} has hooks, which nothing would call after the fusion. Remove "
            "them first."
        )
    if node.x_scale is not None:
        raise ValueError(f"fuse_bn_neuron: this {type(node).__name__} has a normalisation fused into it already.")
    axes = axes if (known := _axes(bn)) is None else known
    if axes is None:
        raise ValueError(
            f"fuse_bn_neuron cannot tell from a {type(bn).__name__} how many axes follow the channels: "
            "give axes=0 for [N, C] or axes=1 for [N, C, L]."
        )
    fused = copy.deepcopy(node)
    fused.x_scale, fused.x_shift = (held.clone().view(-1, *(1,) * axes) for held in gain_and_shift(bn))
    return fused


def _axes(bn: nn.Module) -> int | None:
    """How many axes follow the channels, where the class says it."""
    return 2 if isinstance(bn, nn.BatchNorm2d) else 3 if isinstance(bn, nn.BatchNorm3d) else None


def fuse_bn_neurons(net: nn.Module, training: bool = False) -> nn.Module:
    r"""A copy of `net`, for inference, with every batch normalisation fused into the neuron right after it.

    Only neighbours in an `nn.Sequential` without a forward of its own are known to follow each other; the place of the
    normalisation is taken by an `nn.Identity`. A BatchNorm1d is fused after a Linear or a Conv1d, which tell its axes.
    ValueError if there is nothing to fuse, or if a normalisation is in training mode.

    A normalisation right after a convolution or linear layer costs nothing at all once `fuse_network` has folded it
    into the weights: call that first, and this for those that are left, as behind a pool. This alone is for weights
    that have to stay as they are.

    With `training=True` the copy keeps its normalisations, parameters and names, and is for training and for inference.
    On a GPU such a pair then runs in passes of its own: what the normalisation gives is neither written nor kept for
    the backward pass. Statistics are summed in another order than by PyTorch, and nothing is rounded between the two,
    in half precision either: as with `fuse_bn_neuron`, a potential right at the threshold may fall on its other side.
    Spikes are bit for bit those of a neuron whose `x_scale` and `x_shift` are those of the batch. On a CPU, in compiled
    code, and where a hook or a monitor looks between the two, as `monitor.health`, a flight recorder and a live view
    do, both run as they are. Only normalisations of `spikescope.layer` have this. It is not the default because it does
    not keep the bits of the two.

    >>> net = nn.Sequential(spikescope.layer.BatchNorm2d(3), spikescope.neuron.LIFNode()).eval()
    >>> [type(module).__name__ for module in fuse_bn_neurons(net)]
    ['Identity', 'LIFNode']
    """
    check_module("fuse_bn_neurons", net)
    check_switches("fuse_bn_neurons", training=training)
    net = copy.deepcopy(net)
    if training:
        return _for_training(net)
    count = 0
    for parent in net.modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward not in IN_A_ROW:
            continue
        for place in range(len(parent) - 1):
            bn, node = parent[place], parent[place + 1]
            before = type(parent[place - 1]).__name__ if place else ""
            axes = _AXES_AFTER.get(before) if (known := _axes(bn)) is None else known
            if isinstance(bn, _BatchNorm) and isinstance(node, PointwiseNeuron) and axes is not None:
                if bn.training:
                    raise ValueError(
                        "fuse_bn_neurons takes a network in eval mode, but a normalisation is in training. Call "
                        "net.eval()."
                    )
                parent[place], parent[place + 1] = nn.Identity(), fuse_bn_neuron(bn, node, axes)
                count += 1
    if not count:
        raise ValueError(
            "fuse_bn_neurons found no batch normalisation with a neuron right after it in an nn.Sequential. Fuse such "
            "a pair by hand with fuse_bn_neuron(bn, node)."
        )
    return net


def _for_training(net: nn.Module) -> nn.Module:
    """Let the normalisations of `net` leave their work to the neuron behind them, where they can."""
    rows = [parent for parent in net.modules() if isinstance(parent, nn.Sequential)]
    pairs = [pair for row in rows if type(row).forward is nn.Sequential.forward for pair in pairwise(row)]
    norms = [bn for bn, node in pairs if isinstance(bn, BatchNorm) and isinstance(node, PointwiseNeuron)]
    if not norms:
        raise ValueError(
            "fuse_bn_neurons found no batch normalisation of spikescope.layer with a neuron right after it in an "
            "nn.Sequential. PyTorch's own know no neurons: layer.BatchNorm2d in place of nn.BatchNorm2d takes the same "
            "arguments and weights."
        )
    for bn in norms:
        bn.with_neuron = True
    return net
