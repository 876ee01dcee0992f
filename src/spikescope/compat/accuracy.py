"""The share of right answers, in percent, as training programs of image classification count it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError, dims

__all__ = ["accuracy"]


def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """For each k the percentage of samples whose class is among the k with the highest scores.

    - `output`: scores `[N, C]`. `target`: classes `[N]`, or weights of classes `[N, C]`, of which the largest counts.

    >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    >>> accuracy(scores, torch.tensor([2, 0]), topk=(1, 2))
    [tensor(50.), tensor(100.)]
    """
    classes = target.argmax(1) if target.ndim == 2 else target
    if output.ndim != 2 or classes.shape != output.shape[:1]:
        raise ShapeError(
            "accuracy takes scores [N, C] and classes [N] or [N, C], but got "
            f"{dims(output.shape)} and {dims(target.shape)}. Scores of a sequence come first to their mean: y.mean(0)."
        )
    with torch.inference_mode():
        best = output.topk(max(topk), dim=1).indices
        hit = best == classes.unsqueeze(1)
        return [hit[:, :k].sum(dtype=torch.float32) * (100.0 / len(classes)) for k in topk]
