"""The parts of an update: the schedule of the learning rate, the optimizer, the mixing of samples, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import ShapeError, dims
from ..functional import temporal_efficient_training_cross_entropy
from ..layer import GroupNorm, LayerNorm
from .recipe import Recipe

__all__ = ["learning_rate", "loss_of", "make_optimizer", "mix", "running_average"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, LayerNorm, GroupNorm)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    r"""The learning rate after `epoch` epochs, a number with a fraction: it follows from nothing else.

    With the warm-up over $W$ epochs and $u = (epoch - W) / (E - W)$, cosine is
    $lr_{min} + (lr - lr_{min})(1 + \cos \pi u) / 2$, step falls by `lr_gamma` every `lr_step_size` epochs,
    exp each epoch.

    >>> recipe = Recipe(model="m:f", data="d:f", epochs=10, lr=1.0, lr_warmup_epochs=2, lr_warmup_decay=0.5)
    >>> [learning_rate(recipe, epoch) for epoch in (0, 1, 2, 6, 10)]
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """
    warm = recipe.lr_warmup_epochs
    if epoch < warm:
        share = epoch / warm if recipe.lr_warmup_method == "linear" else 0.0
        return recipe.lr * (recipe.lr_warmup_decay + (1 - recipe.lr_warmup_decay) * share)
    after = epoch - warm
    if recipe.lr_scheduler == "cosine":
        share = min(after / max(recipe.epochs - warm, 1e-9), 1.0)
        return recipe.lr_min + (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * share)) / 2
    if recipe.lr_scheduler == "step":
        return recipe.lr * recipe.lr_gamma ** (int(after) // recipe.lr_step_size)
    return recipe.lr * recipe.lr_gamma ** int(after) if recipe.lr_scheduler == "exp" else recipe.lr


def make_optimizer(net: nn.Module, recipe: Recipe) -> Optimizer:
    """The optimizer of a recipe over the parameters of `net` that learn, those of norms in a group of their own."""
    norms: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for module in net.modules():
        for held in module.parameters(recurse=False):
            if held.requires_grad and held not in seen:
                seen.add(held)
                (norms if isinstance(module, _NORMS) else others).append(held)
    decay = recipe.weight_decay if recipe.norm_weight_decay is None else recipe.norm_weight_decay
    groups = [{"params": others, "weight_decay": recipe.weight_decay}, {"params": norms, "weight_decay": decay}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("The network has no parameters that learn; was requires_grad switched off?")
    if recipe.opt == "adam":
        return Adam(groups, lr=recipe.lr)
    if recipe.opt == "adamw":
        return AdamW(groups, lr=recipe.lr)
    if recipe.opt == "rmsprop":  # with the reference's smoothing
        return RMSprop(groups, lr=recipe.lr, momentum=recipe.momentum, eps=0.0316, alpha=0.9)
    return SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.opt == "sgd_nesterov")


def running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    r"""What an `AveragedModel` averages by: step $k$ keeps the share $\min(decay, (1 + k) / (10 + k))$ of the average.

    A decay for long trainings alone would leave that of a short one at the weights that it began with.
    """

    def average(averages: Any, weights: Any, number: Tensor) -> None:
        k = int(number)
        get_ema_multi_avg_fn(min(decay, (1 + k) / (10 + k)))(averages, weights, number)

    return average


def mix(x: Tensor, y: Tensor, classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    r"""Mixup or cutmix of a batch, one of them by lot where both are asked for; the classes become shares `[N, K]`.

    A sample $i$ meets its predecessor $j$ in the batch with $\lambda \sim Beta(\alpha, \alpha)$: mixup is
    $\lambda x_i + (1 - \lambda) x_j$; cutmix takes a rectangle of the share $1 - \lambda$ from $x_j$, the same at all
    steps. Zhang et al., *mixup* (ICLR 2018); Yun et al., *CutMix* (ICCV 2019). Without either, `y` stays as it is.
    """
    ways = [way for way, alpha in (("mixup", recipe.mixup_alpha), ("cutmix", recipe.cutmix_alpha)) if alpha > 0]
    if not ways:
        return x, y
    way = ways[int(torch.randint(len(ways), (), device="cpu"))]
    given = recipe.mixup_alpha if way == "mixup" else recipe.cutmix_alpha
    alpha = torch.tensor(given, dtype=torch.float64, device="cpu")
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = x.roll(1, 0)
    if way == "cutmix" and x.dim() < 4:
        raise ShapeError(f"cutmix cuts rectangles out of images [N, C, H, W], but the batch is {dims(x.shape)}.")
    if way == "mixup":
        x = share * x + (1 - share) * other
    else:
        height, width = x.shape[-2:]
        tall, wide = (int(size * math.sqrt(1 - share)) for size in (height, width))
        top, left = (int(torch.randint(size, (), device="cpu")) for size in (height, width))
        rows = slice(max(top - tall // 2, 0), min(top + (tall + 1) // 2, height))
        columns = slice(max(left - wide // 2, 0), min(left + (wide + 1) // 2, width))
        x = x.clone()
        x[..., rows, columns] = other[..., rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    target = F.one_hot(y, classes).to(torch.float32)
    return x, share * target + (1 - share) * target.roll(1, 0)


def loss_of(scores: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    """The loss of the scores of each step `[T, N, K]` for classes `[N]` or shares of them `[N, K]`."""
    smooth = recipe.label_smoothing
    if recipe.loss == "tet":
        return temporal_efficient_training_cross_entropy(scores, target, label_smoothing=smooth)
    mean = scores.mean(0)
    if recipe.loss == "ce":
        return F.cross_entropy(mean, target, label_smoothing=smooth)
    shares = target if target.dim() == 2 else F.one_hot(target, mean.shape[1]).to(mean.dtype)
    return F.mse_loss(mean, (1 - smooth) * shares + smooth / mean.shape[1])
