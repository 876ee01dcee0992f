"""A convolution or linear layer and the batch normalisation after it, as one layer."""

from __future__ import annotations

import copy
import sys
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from ..base import StepModule
from ..errors import BiasError, check_module, check_number, check_real, dims
from ..internals import has_own_hooks
from ..layer.norm import SyncBatchNorm, is_plain
from ..layer.stateless import Stateless

__all__ = [
    "fuse_convbn",
    "fuse_convbn2d",
    "fuse_linearbn",
    "fused_conv2d_bias_of_convbn2d",
    "fused_conv2d_weight_of_convbn2d",
    "scale_fused_conv2d_bias_of_convbn2d",
    "scale_fused_conv2d_weight_of_convbn2d",
]

Scale = float | Tensor
M = TypeVar("M", bound=nn.Module)

PAIRS: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
    nn.ConvTranspose3d: nn.BatchNorm3d,
}
"""The layers that a normalisation can be folded into, and the normalisation of their outputs."""


def fused_conv2d_weight_of_convbn2d(conv2d: nn.Conv2d, bn2d: _BatchNorm) -> Tensor:
    r"""The weight of the one convolution: $W \gamma / \sqrt{\mathrm{var} + \epsilon}$ per output channel.

    Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only inference*
    (CVPR 2018), equation 14.

    >>> conv, bn = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)
    >>> conv.weight.data.fill_(3.0), bn.running_var.fill_(4.0), bn.running_mean.fill_(2.0)
    (tensor([[[[3.]]]]), tensor([4.]), tensor([2.]))
    >>> fused_conv2d_weight_of_convbn2d(conv, bn).item(), fused_conv2d_bias_of_convbn2d(conv, bn).item()
    (1.5, -1.0)
    """
    _check_convbn2d(conv2d, bn2d)
    return _weight(conv2d, bn2d)


def fused_conv2d_bias_of_convbn2d(conv2d: nn.Conv2d, bn2d: _BatchNorm) -> Tensor:
    r"""The bias of the one convolution: $\beta - \mathrm{mean}\, \gamma / \sqrt{\mathrm{var} + \epsilon}$."""
    _check_convbn2d(conv2d, bn2d)
    return _bias(conv2d, bn2d)


@torch.no_grad()
def scale_fused_conv2d_weight_of_convbn2d(
    conv2d: nn.Conv2d, bn2d: _BatchNorm, k: Scale | None = None, b: Scale | None = None
) -> None:
    r"""Change the weight of `conv2d` so that the weight of the pair, $w$, becomes $k w + b$.

    With $g = \gamma / \sqrt{\mathrm{var} + \epsilon}$ the convolution gets $k W + b / g$. ValueError if $b$ is given
    and $g$ is zero in a channel, which no weight can shift.
    """
    _check_convbn2d(conv2d, bn2d)
    _check_scales("scale_fused_conv2d_weight_of_convbn2d", k=k, b=b)
    gain = _per_weight(conv2d, gain_and_shift(bn2d)[0])
    if b is not None and bool((gain == 0).any()):
        raise ValueError(
            "scale_fused_conv2d_weight_of_convbn2d: the batch normalisation multiplies a channel by zero, so that b "
            "cannot be added to its weight. Give k alone."
        )
    conv2d.weight.copy_(conv2d.weight * (1 if k is None else k) + (0 if b is None else b / gain))


@torch.no_grad()
def scale_fused_conv2d_bias_of_convbn2d(
    conv2d: nn.Conv2d, bn2d: _BatchNorm, k: Scale | None = None, b: Scale | None = None
) -> None:
    r"""Change `bn2d` so that the bias of the pair, $b_0$, becomes $k b_0 + b$.

    $\beta$ and the running mean are multiplied by k, then b is added to $\beta$.
    """
    _check_convbn2d(conv2d, bn2d)
    _check_scales("scale_fused_conv2d_bias_of_convbn2d", k=k, b=b)
    if bn2d.bias is None:
        raise ValueError("scale_fused_conv2d_bias_of_convbn2d needs a BatchNorm2d with a bias; it has affine=False.")
    assert bn2d.running_mean is not None
    if k is not None:
        bn2d.bias.mul_(k)
        bn2d.running_mean.mul_(k)
    if b is not None:
        bn2d.bias.add_(b)


def _check_scales(owner: str, **given: Scale | None) -> None:
    """Refuse what would leave the pair with NaN, infinity or a part of a number, before any of it is changed."""
    for name, held in given.items():
        if isinstance(held, Tensor):
            check_real(f"{owner}, of {name}", held)
            if not (held.is_meta or bool(held.isfinite().all())):
                raise ValueError(f"{owner}: {name} must be finite, but got {held}.")
        elif held is not None:
            check_number(owner, name, held, least=-sys.float_info.max, most=sys.float_info.max)


def fuse_convbn2d(conv2d: nn.Conv2d, bn2d: _BatchNorm) -> nn.Conv2d:
    """A new convolution that gives what the pair gives in eval; of the class and the step mode of `conv2d`.

    BiasError (a ValueError and an AssertionError) if the convolution has a bias of its own, which `fuse_convbn` folds
    in; the errors of `fuse_convbn` where that refuses, but for two step modes.

    >>> conv, bn = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3).eval()
    >>> x = torch.rand(1, 2, 5, 5)
    >>> torch.allclose(fuse_convbn2d(conv, bn)(x), bn(conv(x)), atol=1e-6)
    True
    """
    _check_convbn2d(conv2d, bn2d)
    return fused_pair(conv2d, bn2d)


def fuse_convbn(conv: M, bn: _BatchNorm) -> M:
    r"""A new convolution that gives what `conv` and then `bn` give in eval; of the class and step mode of `conv`.

    $$W' = g W, \quad b' = \beta + g\,(b - \mathrm{mean}), \qquad g = \gamma / \sqrt{\mathrm{var} + \epsilon}$$

    per output channel, with any stride, padding, dilation and groups.

    - `conv`: a Conv1d, 2d, 3d or ConvTranspose1d, 2d, 3d, of PyTorch or of this library, with or without a bias.
    - `bn`: the BatchNorm of as many dimensions, of PyTorch or of this library (tdBN and SyncBatchNorm too).

    TypeError or ValueError for another pair, a weight that is computed anew at each call (standardised or
    parametrized), hooks on either (they would see something else), no running statistics, two step modes.

    >>> conv, bn = nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1, eps=0.0).eval()
    >>> conv.weight.data.fill_(3.0), conv.bias.data.fill_(1.0), bn.running_var.fill_(4.0)
    (tensor([[[3.]]]), tensor([1.]), tensor([4.]))
    >>> fused = fuse_convbn(conv, bn)  # (3 x + 1) / 2
    >>> fused.weight.item(), fused.bias.item()
    (1.5, 0.5)
    """
    if isinstance(conv, nn.Linear):
        raise TypeError("fuse_convbn takes a convolution, but got a Linear. fuse_linearbn(linear, bn) fuses that.")
    _check(conv, bn)
    return fused_pair(conv, bn)


def fuse_linearbn(linear: M, bn: _BatchNorm) -> M:
    r"""A new linear layer that gives what `linear` and then `bn` give in eval; as `fuse_convbn`.

    - `bn`: a BatchNorm1d of `[N, C]`. In `[N, L, C]` the features are not what it normalises: no single layer is that.

    >>> linear, bn = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0).eval()
    >>> linear.weight.data.fill_(3.0), linear.bias.data.fill_(1.0), bn.running_mean.fill_(2.0)
    (tensor([[3.]]), tensor([1.]), tensor([2.]))
    >>> fuse_linearbn(linear, bn)(torch.tensor([[1.0]])).item()  # 3 + 1 - 2
    2.0
    """
    check_module("fuse_linearbn", linear)
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"fuse_linearbn takes a Linear, but got {type(linear).__name__}. fuse_convbn takes the others.")
    _check(linear, bn)
    return fused_pair(linear, bn)


def gain_and_shift(bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """What a normalisation with running statistics does to a channel in eval: `gain * x + shift`, float32 at least."""
    assert bn.running_var is not None
    assert bn.running_mean is not None
    dtype = torch.promote_types(bn.running_var.dtype, torch.float32)
    gain = torch.rsqrt(bn.running_var.to(dtype) + bn.eps)
    gain = gain if bn.weight is None else bn.weight * gain
    shift = -bn.running_mean * gain
    return gain, shift if bn.bias is None else bn.bias + shift


def _per_weight(conv: Any, gain: Tensor) -> Tensor:
    """A number for each output channel as one for each weight; `[in, out/groups, *]` if the layer is transposed."""
    ones = (1,) * (conv.weight.ndim - 2)
    if not getattr(conv, "transposed", False):
        return gain.view(-1, 1, *ones)
    each = gain.view(conv.groups, 1, -1).expand(-1, conv.in_channels // conv.groups, -1)
    return each.reshape(conv.in_channels, -1, *ones)


def _weight(conv: Any, bn: _BatchNorm) -> Tensor:
    return (conv.weight * _per_weight(conv, gain_and_shift(bn)[0])).to(conv.weight.dtype)


def _bias(conv: Any, bn: _BatchNorm) -> Tensor:
    gain, shift = gain_and_shift(bn)
    return (shift if conv.bias is None else conv.bias * gain + shift).to(conv.weight.dtype)


@torch.no_grad()
def fused_pair(conv: M, bn: _BatchNorm) -> M:
    """The one layer, of a pair that has been checked."""
    fused: Any = copy.deepcopy(conv)
    learns = fused.weight.requires_grad
    fused.weight, fused.bias = (nn.Parameter(held, learns) for held in (_weight(conv, bn), _bias(conv, bn)))
    return fused


def fusion_obstacle(conv: nn.Module, bn: nn.Module) -> TypeError | ValueError | None:
    """Why the two cannot be one layer in their place in a network, as the error to raise; None if they can."""
    obstacle = _obstacle_of_numbers(conv, bn)
    return _obstacle_of_modes(conv, bn) if obstacle is None else obstacle


def _obstacle_of_numbers(conv: nn.Module, bn: nn.Module) -> TypeError | ValueError | None:
    """Why there is no weight and bias that stand for the two; None if there is."""
    kind = next((kind for kind in PAIRS if isinstance(conv, kind)), None)
    if kind is None or not isinstance(bn, (PAIRS[kind], nn.SyncBatchNorm, SyncBatchNorm)):
        wanted = f"a {kind.__name__} and the {PAIRS[kind].__name__}" if kind else "a convolution and the normalisation"
        return TypeError(f"The fusion takes {wanted} after it, but got {type(conv).__name__} and {type(bn).__name__}.")
    held: Any = conv
    if not _applies_its_weight(conv, kind):
        return ValueError(
            f"The fusion takes a layer that applies its weight as it is, but {type(conv).__name__} computes it "
            "anew at each call (standardised, parametrized, or in a forward of its own)."
        )
    if not is_plain(bn):
        return ValueError(f"The fusion takes a plain batch normalisation, but {type(bn).__name__} does more than that.")
    if bn.running_var is None:
        return ValueError("The fusion takes a BatchNorm with running statistics; it has track_running_stats=False.")
    outputs = held.out_features if kind is nn.Linear else held.out_channels
    if bn.num_features != outputs:
        return ValueError(
            f"The fusion takes a BatchNorm of the layer's {outputs} output channels, "
            f"but got one of {bn.num_features}; the weight has the shape {dims(held.weight.shape)}."
        )
    hooked = [type(module).__name__ for module in (conv, bn) if has_own_hooks(module)]
    if hooked:
        return ValueError(
            f"{', '.join(sorted(hooked))} has hooks, which would see something else, or do something else, after the "
            "fusion. Remove them first."
        )
    return None


def _applies_its_weight(conv: nn.Module, kind: Any) -> bool:
    plain = type(conv).forward is Stateless.forward and getattr(type(conv), "torch_class", None) is kind
    own = "forward" in vars(conv) or is_parametrized(conv)
    return not own and (plain or type(conv).forward is kind.forward)


def _obstacle_of_modes(conv: nn.Module, bn: nn.Module) -> ValueError | None:
    """A sequence must be one to both; only PyTorch's Linear takes it for what it is."""
    modes = [module.step_mode if isinstance(module, StepModule) else "s" for module in (conv, bn)]
    if modes[0] == modes[1] or (type(conv) is nn.Linear and modes[1] == "m"):
        return None
    return ValueError(
        f"The fusion takes two layers of one step mode, but {type(conv).__name__} works with {modes[0]!r} and "
        f"{type(bn).__name__} with {modes[1]!r}. functional.set_step_mode(net, 's' or 'm') switches a whole network."
    )


def _check(conv: nn.Module, bn: nn.Module) -> None:
    check_module("the fusion", conv)
    check_module("the fusion", bn)
    obstacle = fusion_obstacle(conv, bn)
    if obstacle is not None:
        raise obstacle


def _check_convbn2d(conv2d: nn.Conv2d, bn2d: _BatchNorm) -> None:
    """The step modes may differ: a user's own loop, or a container, may fold time for one of the two."""
    check_module("the fusion", conv2d)
    check_module("the fusion", bn2d)
    if not isinstance(conv2d, nn.Conv2d):
        raise TypeError(
            "The fusion takes a Conv2d and the BatchNorm2d after it, "
            f"but got {type(conv2d).__name__} and {type(bn2d).__name__}."
        )
    obstacle = _obstacle_of_numbers(conv2d, bn2d)
    if obstacle is not None:
        raise obstacle
    if conv2d.bias is not None:
        raise BiasError(
            "The fusion takes a Conv2d with bias=False: the normalisation's own bias takes its place. "
            "fuse_convbn folds both into one."
        )
