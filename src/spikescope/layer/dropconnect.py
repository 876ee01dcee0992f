"""A linear layer whose connections are dropped, and a layer that prints the shape of what passes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import MemoryModule, input_of
from ..errors import ShapeError, check_bound, check_floating, check_sequence, check_switches, check_whole, dims

__all__ = ["DropConnectLinear", "PrintShapeModule"]


class DropConnectLinear(MemoryModule):
    r"""A linear layer that drops connections, for each sample others: $y = f((M \odot W) x + m \odot b)$ in training.

    In eval it is the mean of $f$ over `samples_num` draws from the normal distribution that the sum of the dropped
    connections comes near: mean $(1 - p)(W x + b)$, variance $p (1 - p)(W^2 x^2 + b^2)$.

    - `p`: the probability to drop a connection.
    - `invariant`: whether what is dropped stays so until `reset()`, or is drawn anew at every step.
    - `activation`: $f$, None for the identity; a ReLU as in the paper where it is not given.

    Wan et al., *Regularization of neural networks using DropConnect* (ICML 2013).

    >>> layer = DropConnectLinear(4, 2, p=0.0)
    >>> layer(torch.ones(3, 4)).equal(F.relu(F.linear(torch.ones(3, 4), layer.weight, layer.bias)))
    True
    """

    mask_w: Tensor | None
    mask_b: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        p: float = 0.5,
        samples_num: int = 1024,
        invariant: bool = False,
        activation: Callable[[Tensor], Tensor] | None = nn.ReLU(),  # noqa: B008  # it has no state
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        check_bound("DropConnectLinear", "p", p, least=0, most=1)
        check_switches("DropConnectLinear", bias=bias, invariant=invariant)
        self.in_features = check_whole("DropConnectLinear", "in_features", in_features)
        self.out_features = check_whole("DropConnectLinear", "out_features", out_features)
        self.samples_num = check_whole("DropConnectLinear", "samples_num", samples_num)
        made = nn.Linear(self.in_features, self.out_features, bias)
        self.weight, self.bias = made.weight, made.bias
        self.p, self.invariant, self.activation = p, invariant, activation
        self.register_memory("mask_w", None)
        self.register_memory("mask_b", None)
        self.step_mode = step_mode

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, as `nn.Linear` does."""
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        for name, drawn in made.named_parameters():
            getattr(self, name).data.copy_(drawn.data)

    def forward(self, x: Tensor | None = None, **named: Tensor) -> Tensor:
        """`[N, in_features]`, or a sequence of these."""
        x = input_of(type(self).__name__, x, named)
        check_floating(type(self).__name__, x)
        if self._step_mode == "m":
            check_sequence(type(self).__name__, x)
        wanted = 2 if self._step_mode == "s" else 3
        if x.ndim != wanted or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"DropConnectLinear takes [{'T, ' * (wanted - 2)}N, in_features={self.in_features}], since each sample "
                f"loses connections of its own, but got {dims(x.shape, 'TN'[3 - wanted :])}."
            )
        y: Tensor = super().forward(x)
        return y

    def single_step_forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self._expected(x)
        if not self.invariant or self.fitting("mask_w", torch.Size((len(x), *self.weight.shape))) is None:
            self.mask_w = self._draw(x, self.weight)
            self.mask_b = None if self.bias is None else self._draw(x, self.bias)
        assert self.mask_w is not None
        y = torch.bmm(self.weight * self.mask_w, x.unsqueeze(-1)).squeeze(-1)
        return self._activated(y if self.mask_b is None else y + self.bias * self.mask_b)

    def rests_of_samples(self) -> Iterator[tuple[MemoryModule, str, Any]]:
        for name, held in (("mask_w", self.mask_w), ("mask_b", self.mask_b)):
            if held is not None:
                yield self, name, partial(self._redraw, held)

    def _redraw(self, mask: Tensor) -> Tensor:
        return torch.rand(mask.shape, device=mask.device) > self.p

    def _draw(self, x: Tensor, held: Tensor) -> Tensor:
        return torch.rand((len(x), *held.shape), device=x.device, dtype=held.dtype) > self.p

    def _expected(self, x: Tensor) -> Tensor:
        mean = (1 - self.p) * F.linear(x, self.weight, self.bias)
        squares = None if self.bias is None else self.bias.square()
        variance = self.p * (1 - self.p) * F.linear(x.square(), self.weight.square(), squares)
        drawn = torch.randn((self.samples_num, *mean.shape), device=x.device, dtype=mean.dtype)
        return self._activated(mean + variance.sqrt() * drawn).mean(0)

    def _activated(self, y: Tensor) -> Tensor:
        return y if self.activation is None else self.activation(y)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"p={self.p}, invariant={self.invariant}"
        )


class PrintShapeModule(nn.Module):
    """Prints `ext_str` and the shape of its input, and gives that on.

    >>> _ = PrintShapeModule("after the pool")(torch.ones(2, 3))
    after the pool torch.Size([2, 3])
    """

    def __init__(self, ext_str: str = "PrintShapeModule") -> None:
        super().__init__()
        self.ext_str = ext_str

    def forward(self, x: Tensor) -> Tensor:
        """The input itself."""
        print(self.ext_str, x.shape)
        return x
