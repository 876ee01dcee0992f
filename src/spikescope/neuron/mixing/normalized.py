"""Neurons that normalise their membrane potential over the batch before they fire."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import check_switches
from ...surrogate import Sigmoid, Surrogate
from ..integrate import IntegrateAndFire, leak

__all__ = ["MPBNBaseNode", "MPBNLIFNode"]


class MPBNBaseNode(IntegrateAndFire, abstract=True):
    """Base of the neurons with a batch normalisation in front of the threshold; a subclass writes `_charged(x)`."""

    vbn: nn.Module
    mu: Tensor | None
    sigma2: Tensor | None

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        mpbn: bool = True,
        out_features: int | None = None,
        out_channels: int | None = None,
        learnable_vth: bool = False,
        bn_momentum: float = 0.1,
        bn_decay_momentum: float = 0.94,
        bn_min_momentum: float = 0.005,
    ) -> None:
        super().__init__(
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate_function=Sigmoid() if surrogate_function is None else surrogate_function,
            detach_reset=detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        check_switches(type(self).__name__, mpbn=mpbn, learnable_vth=learnable_vth)
        if (out_features is None) == (out_channels is None):
            raise ValueError(
                f"{type(self).__name__}: give out_features for a potential [N, F], or out_channels for [N, C, H, W], "
                f"but got out_features={out_features!r} and out_channels={out_channels!r}."
            )
        norm: Any = nn.BatchNorm1d if out_channels is None else nn.BatchNorm2d
        features = out_features if out_channels is None else out_channels
        assert features is not None
        self.per_feature = (1, -1) if out_channels is None else (1, -1, 1, 1)
        self.vbn = norm(features) if mpbn else nn.Identity()
        self.register_buffer("mu", None)
        self.register_buffer("sigma2", None)
        self.gamma = self.beta = self.eps = None
        self.fold_bn = self.normalize_residual = self.running_stats = False
        self.bn_momentum, self.bn_decay_momentum = bn_momentum, bn_decay_momentum
        self.bn_min_momentum = bn_min_momentum
        self.learnable_vth = learnable_vth
        if learnable_vth:
            self.a = nn.Parameter(torch.zeros(features))

    def re_parameterize_v_threshold(self, normalize_residual: bool = False, running_stats: bool = False) -> None:
        """Fold the normalisation into a threshold of each feature, whose statistics are those of the batch in training.

        - `normalize_residual`: whether a potential that did not fire is normalised, too.
        - `running_stats`: whether the statistics run on in training, in place of those of the batch.
        """
        check_switches(type(self).__name__, normalize_residual=normalize_residual, running_stats=running_stats)
        norm: Any = self.vbn
        if isinstance(norm, nn.Identity):
            return
        if self.learnable_vth:
            self.v_threshold = self.a.detach().exp().view(self.per_feature)
            del self.a
            self.learnable_vth = False
        self.fold_bn, self.normalize_residual, self.running_stats = True, normalize_residual, running_stats
        self.mu, self.sigma2, self.eps = norm.running_mean, norm.running_var, norm.eps
        self.gamma, self.beta = norm.weight, norm.bias
        self.vbn = nn.Identity()

    def _charged(self, x: Tensor) -> Tensor:
        """The potential charged by `x`, before it is normalised."""
        raise NotImplementedError("a neuron of this family defines _charged(x)")

    def neuronal_charge(self, x: Tensor) -> None:
        """The normalised potential; where the normalisation is folded, the statistics go on instead."""
        self.v = self.vbn(self._charged(x))
        if self.fold_bn and self.training and not (x.ndim == 2 and len(x) == 1):
            self._follow_statistics(self.v.detach())

    def _follow_statistics(self, v: Tensor) -> None:
        axes = [axis for axis in range(v.ndim) if axis != 1]
        mean, variance = v.mean(axes), v.var(axes, unbiased=True)
        if self.running_stats and self.mu is not None and self.sigma2 is not None:
            mean = self.mu + self.bn_momentum * (mean - self.mu)
            variance = self.sigma2 + self.bn_momentum * (variance - self.sigma2)
            self.bn_momentum = max(self.bn_momentum * self.bn_decay_momentum, self.bn_min_momentum)
        self.mu, self.sigma2 = mean, variance

    def _threshold(self) -> Any:
        if self.fold_bn:
            mu, deviation, gamma, beta = self._folded()
            return (self.v_threshold - beta) * deviation / gamma + mu
        return self.a.exp().view(self.per_feature) if self.learnable_vth else self.v_threshold

    def _folded(self) -> list[Any]:
        """Mean, deviation, slope and shift, as they meet a potential."""
        deviation = (self.sigma2 + self.eps).sqrt()  # type: ignore[operator]
        return [held.view(self.per_feature) for held in (self.mu, deviation, self.gamma, self.beta)]  # type: ignore[union-attr]

    def neuronal_fire(self) -> Tensor:
        """A spike where the normalised potential reaches the threshold."""
        above = self.v - self._threshold()
        if self.normalize_residual:
            mu, deviation, gamma, beta = self._folded()
            self.v = torch.where(above <= 0, (self.v - mu) / deviation * gamma + beta, self.v)
        spike: Tensor = self.surrogate_function(above)
        return spike


class MPBNLIFNode(MPBNBaseNode, abstract=True):
    r"""`LIFNode` with a batch normalisation of $H_t$ in front of the threshold.

    $$S_t = \Theta(\mathrm{BN}(H_t) - V_{th})$$

    `re_parameterize_v_threshold` folds the normalisation into a threshold of each feature,
    $(V_{th} - \beta)\,\sqrt{\sigma^2 + \epsilon} / \gamma + \mu$. It runs in the eager loop, since a normalisation sees
    all samples.

    - `tau`, `decay_input`: as in `LIFNode`; here without `decay_input`.
    - `out_features` or `out_channels`: the size of $H_t$ `[N, F]`, or the channels of `[N, C, H, W]`; one of them.
    - `mpbn`: whether there is a normalisation, `vbn`.
    - `learnable_vth`: whether $V_{th} = e^a$ learns, one for each feature.
    - `bn_momentum`, `bn_decay_momentum`, `bn_min_momentum`: how fast folded statistics run on in training, if they do.

    Guo et al., *Membrane potential batch normalization for spiking neural networks* (ICCV 2023); for the folded one
    *Threshold modulation for online test-time adaptation of spiking neural networks* (2025).

    >>> node = MPBNLIFNode(out_features=3).eval()
    >>> node(torch.tensor([[0.5, 1.0, 2.0]])).tolist()
    [[0.0, 0.0, 1.0]]
    """

    def __init__(self, tau: float = 2.0, decay_input: bool = False, *args: Any, **kwargs: Any) -> None:
        check_switches("MPBNLIFNode", decay_input=decay_input)
        if not tau > 1:
            raise ValueError(f"MPBNLIFNode: tau must be above 1, but got {tau!r}.")
        super().__init__(*args, **kwargs)
        self.tau, self.decay_input = tau, decay_input

    def _charged(self, x: Tensor) -> Tensor:
        return leak(self, self.v, x)


MPBNLIFNode.abstract = False  # it can be made, and is not among the neurons
