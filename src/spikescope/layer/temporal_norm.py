"""Normalisations made for spiking networks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..base import MemoryModule, MultiStepModule, input_of
from ..errors import (
    MANY,
    ShapeError,
    StateError,
    check_bound,
    check_floating,
    check_rank,
    check_switches,
    check_tensor,
    check_whole,
    dims,
)
from .norm import BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d
from .one_sample import strided_alike

__all__ = [
    "BatchNormThroughTime",
    "BatchNormThroughTime1d",
    "BatchNormThroughTime2d",
    "BatchNormThroughTime3d",
    "NeuNorm",
    "TemporalEffectiveBatchNorm",
    "TemporalEffectiveBatchNorm1d",
    "TemporalEffectiveBatchNorm2d",
    "TemporalEffectiveBatchNorm3d",
    "ThresholdDependentBatchNorm",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "ThresholdDependentBatchNorm3d",
]


_BEFORE_STEP_MODE = 5  # arguments of a BatchNorm by position


def _in_sequences(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords with the step mode `'m'`, unless there is one among the arguments by position."""
    return kwargs if len(args) > _BEFORE_STEP_MODE else {"step_mode": "m"} | kwargs


class ThresholdDependentBatchNorm(MultiStepModule, BatchNorm):
    r"""Base of the batch normalisations (tdBN) that fit the input to the threshold of the neurons behind.

    $$y = \gamma\,\frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta
      \qquad \gamma = \alpha V_{th} \text{ at the start}$$

    - `alpha`: 1, or $1/\sqrt{n}$ where n branches of a residual block are added.
    - `v_th`: the threshold of the neurons behind.

    The other arguments are those of `BatchNorm`. It needs the whole sequence `[T, N, C, *]`: `step_mode='m'` only.

    Zheng et al., *Going deeper with directly-trained larger spiking neural networks* (AAAI 2021).
    """

    def __init__(self, alpha: float, v_th: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_in_sequences(args, kwargs))
        if not self.affine:
            raise ValueError(
                f"{type(self).__name__} keeps alpha * v_th in its learnable weight and needs affine=True; "
                "layer.BatchNorm1d, 2d and 3d normalise without a weight."
            )
        for name, given in (("alpha", alpha), ("v_th", v_th)):
            check_bound(type(self).__name__, name, given)
        self.alpha = alpha
        self.v_th = v_th
        nn.init.constant_(self.weight, alpha * v_th)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, v_th={self.v_th}, {super().extra_repr()}"


class ThresholdDependentBatchNorm1d(ThresholdDependentBatchNorm, BatchNorm1d):
    """tdBN of `[T, N, C]` or `[T, N, C, L]`; see `ThresholdDependentBatchNorm`.

    >>> layer = ThresholdDependentBatchNorm1d(0.5, 3.0, 1)
    >>> layer(torch.tensor([[[1.0]], [[3.0]]])).detach().flatten()  # 0.5 * 3 * (-1, 1)
    tensor([-1.5000,  1.5000])
    """


class ThresholdDependentBatchNorm2d(ThresholdDependentBatchNorm, BatchNorm2d):
    """tdBN of `[T, N, C, H, W]`; see `ThresholdDependentBatchNorm`."""


class ThresholdDependentBatchNorm3d(ThresholdDependentBatchNorm, BatchNorm3d):
    """tdBN of `[T, N, C, D, H, W]`; see `ThresholdDependentBatchNorm`."""


class TemporalEffectiveBatchNorm(MultiStepModule, BatchNorm):
    r"""Base of the batch normalisations (TEBN) that weigh every time step: $y_t = p_t\,\mathrm{BN}(x)_t$.

    - `T`: the number of time steps; $p \in \mathbb{R}^T$ is the Parameter `scale`, 1 at the start.

    The other arguments are those of `BatchNorm`. It needs the whole sequence `[T, N, C, *]`: `step_mode='m'` only.

    Duan et al., *Temporal effective batch normalization in spiking neural networks* (NeurIPS 2022).
    """

    def __init__(self, T: int, *args: Any, **kwargs: Any) -> None:
        T = check_whole(type(self).__name__, "T, the number of time steps,", T)
        super().__init__(*args, **_in_sequences(args, kwargs))
        self.scale = nn.Parameter(torch.ones(T, device=kwargs.get("device"), dtype=kwargs.get("dtype")))

    def forward(self, input: Tensor | None = None, **named: Tensor) -> Tensor:
        """A sequence `[T, N, C, *]`."""
        x = input_of(type(self).__name__, input, named)
        check_tensor(type(self).__name__, "the input", x)
        T = len(self.scale)
        if x.ndim and x.shape[0] != T:
            raise ShapeError(
                f"{type(self).__name__} was made for T={T} time steps, but got {dims(x.shape, 'TN')}. "
                "It weighs every step, so give it the whole sequence, or make it with that T."
            )
        y = super().forward(x)
        return y * self.scale.to(y.dtype).view(-1, *[1] * (y.ndim - 1))

    def extra_repr(self) -> str:
        return f"T={len(self.scale)}, {super().extra_repr()}"


class TemporalEffectiveBatchNorm1d(TemporalEffectiveBatchNorm, BatchNorm1d):
    """TEBN of `[T, N, C]` or `[T, N, C, L]`; see `TemporalEffectiveBatchNorm`.

    >>> layer = TemporalEffectiveBatchNorm1d(2, 1)
    >>> layer.scale.data.copy_(torch.tensor([0.5, 3.0]))
    tensor([0.5000, 3.0000])
    >>> layer(torch.tensor([[[1.0]], [[3.0]]])).detach().flatten()  # (-1, 1) times the scale
    tensor([-0.5000,  3.0000])
    """


class TemporalEffectiveBatchNorm2d(TemporalEffectiveBatchNorm, BatchNorm2d):
    """TEBN of `[T, N, C, H, W]`; see `TemporalEffectiveBatchNorm`."""


class TemporalEffectiveBatchNorm3d(TemporalEffectiveBatchNorm, BatchNorm3d):
    """TEBN of `[T, N, C, D, H, W]`; see `TemporalEffectiveBatchNorm`."""


class BatchNormThroughTime(MemoryModule):
    r"""Base of the batch normalisations (BNTT) that keep statistics and a weight for every time step.

    $$y_t = \gamma_t\,\frac{x_t - \mathrm{E}[x_t]}{\sqrt{\mathrm{Var}[x_t] + \epsilon}}$$

    - `T`: the number of time steps. `bn_list` holds PyTorch's normalisation of every step, without a bias.

    The other arguments are those of `BatchNorm`. The state `t` counts the steps since the reset; a step beyond T is a
    `StateError`.

    Kim and Panda, *Revisiting batch normalization for training low-latency deep spiking neural networks from scratch*
    (Frontiers in Neuroscience 2021).
    """

    norm_class: ClassVar[type[_BatchNorm]]
    shapes: ClassVar[tuple[str, ...]]  # of one step

    t: int

    def __init__(
        self,
        T: int,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        step_mode: str = "s",
    ) -> None:
        T = check_whole(type(self).__name__, "T, the number of time steps,", T, most=MANY)
        super().__init__()
        self.bn_list = nn.ModuleList(
            self.norm_class(num_features, eps, momentum, affine, track_running_stats) for _ in range(T)
        )
        for norm in self.bn_list:
            norm.register_parameter("bias", None)
        self.register_memory("t", 0)
        self.step_mode = step_mode

    def single_step_forward(self, x: Tensor) -> Tensor:
        owner, T = type(self).__name__, len(self.bn_list)
        check_tensor(owner, "the input", x)
        shapes = [f"[{shape}]" for shape in self.shapes]
        ranks = tuple(shape.count(",") + 1 for shape in shapes)
        check_rank(owner, x, ranks, f"steps of {' or '.join(shapes)}", self._step_mode)
        if self.t >= T:
            raise StateError(
                f"{owner} was made for T={T} time steps and has done them all since the last reset. "
                "Call functional.reset_net(net) before the next sequence, or make it with a larger T."
            )
        y = strided_alike(self.bn_list[self.t], x)
        self.t = self.t + 1
        return y

    def extra_repr(self) -> str:
        return f"T={len(self.bn_list)}, {super().extra_repr()}"


class BatchNormThroughTime1d(BatchNormThroughTime):
    """BNTT of steps `[N, C]` or `[N, C, L]`; see `BatchNormThroughTime`.

    >>> layer = BatchNormThroughTime1d(2, 1, step_mode="m")
    >>> layer(torch.tensor([[[1.0], [3.0]], [[5.0], [1.0]]])).detach().flatten(1)  # each step by itself
    tensor([[-1.0000,  1.0000],
            [ 1.0000, -1.0000]])
    """

    norm_class = nn.BatchNorm1d
    shapes = BatchNorm1d.shapes


class BatchNormThroughTime2d(BatchNormThroughTime):
    """BNTT of steps `[N, C, H, W]`; see `BatchNormThroughTime`."""

    norm_class = nn.BatchNorm2d
    shapes = BatchNorm2d.shapes


class BatchNormThroughTime3d(BatchNormThroughTime):
    """BNTT of steps `[N, C, D, H, W]`; see `BatchNormThroughTime`."""

    norm_class = nn.BatchNorm3d
    shapes = BatchNorm3d.shapes


class NeuNorm(MemoryModule):
    r"""Spikes less a weighted trace of what all channels fired at the same place.

    $$x_t = k\,x_{t-1} + \frac{1 - k}{C^2} \sum_{c} s_{t,c} \qquad y_{t,c} = s_{t,c} - w_c\,x_t$$

    - `in_channels`, `height`, `width`: C, H and W of the spikes `[N, C, H, W]`.
    - `k`: the decay of the trace, from 0 to 1.
    - `shared_across_channels`: one weight `[1, H, W]` for all channels in place of `[C, H, W]`.

    Wu et al., *Direct training for spiking neural networks: faster, larger, better* (AAAI 2019).

    >>> layer = NeuNorm(2, 1, 1, k=0.5)
    >>> _ = layer.load_state_dict({"w": torch.tensor([[[1.0]], [[2.0]]])})
    >>> layer(torch.ones(1, 2, 1, 1)).detach().flatten()  # x = 0.5 / 4 * 2 = 0.25
    tensor([0.7500, 0.5000])
    """

    x: Tensor | float

    def __init__(
        self,
        in_channels: int,
        height: int,
        width: int,
        k: float = 0.9,
        shared_across_channels: bool = False,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        check_bound("NeuNorm", "k", k, least=0, most=1)
        check_switches("NeuNorm", shared_across_channels=shared_across_channels)
        self.in_channels = in_channels = check_whole("NeuNorm", "in_channels", in_channels)
        height = check_whole("NeuNorm", "height", height)
        width = check_whole("NeuNorm", "width", width)
        self.k = k
        self.w = nn.Parameter(torch.empty(1 if shared_across_channels else in_channels, height, width))
        nn.init.kaiming_uniform_(self.w, a=math.sqrt(5))
        self.register_memory("x", 0.0)
        self.step_mode = step_mode

    def single_step_forward(self, in_spikes: Tensor) -> Tensor:
        self._check_spikes(in_spikes)
        place = torch.Size((in_spikes.shape[0], 1, *self.w.shape[1:]))
        held = self.fitting("x", place)
        dtype = torch.promote_types(in_spikes.dtype, torch.float32)
        fired = in_spikes.to(dtype).sum(1, keepdim=True)
        self.x = self.k0 * held + self.k1 * fired
        return (in_spikes - self.w * self.x).to(in_spikes.dtype)

    @property
    def k0(self) -> float:
        """What is left of the trace after a step: `k`."""
        return self.k

    @property
    def k1(self) -> float:
        """What a spike adds to the trace."""
        return (1 - self.k) / self.in_channels**2

    def _check_spikes(self, in_spikes: Tensor) -> None:
        check_floating("NeuNorm", in_spikes)
        wanted = (self.in_channels, *self.w.shape[1:])
        if in_spikes.ndim != 4 or in_spikes.shape[1:] != wanted:
            raise ShapeError(
                f"NeuNorm with step_mode={self.step_mode!r} takes steps of [N, {', '.join(map(str, wanted))}], "
                f"but got steps of {dims(in_spikes.shape)}."
            )

    def extra_repr(self) -> str:
        return f"shape={tuple(self.w.shape)}, k={self.k}, {super().extra_repr()}"
