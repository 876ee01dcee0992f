"""What measures the channels of an activation, and what scales them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ann2snn import VoltageScaler
from ...ann2snn.modules import measure_of, percentile
from ...base import StepModule
from ...errors import ShapeError, UnknownNameError, check_bound, check_floating, dims
from ...neuron.core import wide

__all__ = [
    "ChannelVoltageHook",
    "ChannelVoltageScaler",
    "LocalThresholdBalancingHook",
    "Scaler",
    "validate_rate_coding_mode",
]


def validate_rate_coding_mode(mode: str | float) -> None:
    """Refuse a mode that is not one of `VoltageHook`."""
    try:
        measure_of(mode)
    except ValueError as error:
        raise UnknownNameError(str(error)) from None


def channel_axis(owner: str, x: Tensor, channel_dim: int) -> int:
    """Which axis of one step the channels are, counted from the front."""
    check_floating(owner, x)
    axis = channel_dim + x.ndim if channel_dim < 0 else channel_dim
    if x.ndim < 2 or not 0 <= axis < x.ndim:
        raise ShapeError(f"{owner} takes steps that have an axis {channel_dim} of channels, but got {dims(x.shape)}.")
    return axis


def per_channel(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """The values of the channels in a shape that broadcasts to `x`."""
    return values.reshape([-1 if place == axis else 1 for place in range(x.ndim)])


class ChannelVoltageScaler(StepModule, nn.Module):
    r"""A multiplication by a fixed number for each channel: $y_c = x_c \cdot \text{scale}_c$.

    - `scale`: a number for all or `[C]`, above 0; `channel_dim`: the axis of the channels in one step.

    >>> ChannelVoltageScaler(torch.tensor([1.0, 2.0]), step_mode="m")(torch.ones(1, 1, 2)).tolist()
    [[[1.0, 2.0]]]
    """

    scale: Tensor

    def __init__(self, scale: float | Tensor = 1.0, channel_dim: int = 1, step_mode: str = "s") -> None:
        super().__init__()
        held = VoltageScaler(scale).scale
        if held.ndim > 1:
            raise ShapeError(f"ChannelVoltageScaler: scale must be a number or [C], but got {dims(held.shape)}.")
        self.register_buffer("scale", held)
        self.channel_dim = channel_dim
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        """One step or one sequence, by `step_mode`."""
        if not self.scale.ndim:
            return x * self.scale.to(x)
        step = x if self.step_mode == "s" else x.flatten(0, 1)
        axis = channel_axis("ChannelVoltageScaler", step, self.channel_dim)
        if step.shape[axis] != len(self.scale):
            raise ShapeError(
                f"ChannelVoltageScaler has {len(self.scale)} channels, but axis {self.channel_dim} of the step "
                f"{dims(step.shape)} has {step.shape[axis]}."
            )
        return x * per_channel(self.scale, step, axis).to(x)

    def extra_repr(self) -> str:
        return f"scale_shape={tuple(self.scale.shape)}, channel_dim={self.channel_dim}, step_mode={self.step_mode}"


Scaler = VoltageScaler | ChannelVoltageScaler


class ChannelVoltageHook(nn.Module):
    """`ann2snn.VoltageHook` for each channel: `scale` is `[C]`, at least `eps`."""

    scale: Tensor

    def __init__(
        self, mode: str | float = "Max", momentum: float = 0.1, channel_dim: int = 1, eps: float = 1e-6
    ) -> None:
        super().__init__()
        check_bound("ChannelVoltageHook", "eps", eps, above=0)
        self.share, self.percent = measure_of(mode)
        self.mode, self.momentum, self.channel_dim, self.eps = mode, momentum, channel_dim, eps
        self.register_buffer("scale", torch.empty(0, device="cpu"))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Measure `x` and give it back."""
        channels = wide(x).clamp(min=0).movedim(channel_axis("ChannelVoltageHook", x, self.channel_dim), 0).flatten(1)
        if self.percent is None:
            now = channels.amax(1) * self.share
        else:
            now = torch.stack([percentile(channel, self.percent) for channel in channels])
        now = now.clamp(min=self.eps)
        self.scale = torch.lerp(self.scale.to(now), now, self.momentum) if self.scale.numel() else now
        return x

    def compute_threshold(self) -> Tensor:
        """The scale, once something was measured."""
        return measured("ChannelVoltageHook", self.scale)


class LocalThresholdBalancingHook(nn.Module):
    r"""Balances a threshold for each channel, and clips the activations to it.

    $$\theta_c \leftarrow \max(\theta_c + 2\,\overline{\max(x_c - \theta_c, 0)}, \epsilon)$$

    with the mean over samples and places; the fixed point of the error that clipping makes.

    Bu et al., *Inference-scale complexity in ANN-SNN conversion for high-performance and low-power applications* (CVPR
    2025).
    """

    threshold: Tensor

    def __init__(self, channel_dim: int = 1, eps: float = 1e-6) -> None:
        super().__init__()
        check_bound("LocalThresholdBalancingHook", "eps", eps, above=0)
        self.channel_dim, self.eps = channel_dim, eps
        self.register_buffer("threshold", torch.empty(0, device="cpu"))

    def forward(self, x: Tensor) -> Tensor:
        """Balance the threshold by `x`, and give `x` clipped to 0 and the threshold."""
        axis = channel_axis("LocalThresholdBalancingHook", x, self.channel_dim)
        held = x.detach().clamp(min=0).to(torch.promote_types(x.dtype, torch.float32))
        threshold = self.threshold.to(held) if self.threshold.numel() else held.new_zeros(x.shape[axis])
        over = (held - per_channel(threshold, x, axis)).clamp(min=0)
        threshold = threshold + 2 * over.mean([place for place in range(x.ndim) if place != axis])
        self.threshold = threshold.clamp(min=self.eps)
        return torch.minimum(x.clamp(min=0), per_channel(self.threshold, x, axis).to(x.dtype))

    def compute_threshold(self) -> Tensor:
        """The threshold, once it was balanced."""
        return measured("LocalThresholdBalancingHook", self.threshold)


def measured(owner: str, held: Tensor) -> Tensor:
    """The measured values, or an error in words where there are none, or none that a threshold can be."""
    if not held.numel():
        raise ValueError(f"{owner} has measured nothing yet: run the network on data first.")
    if not bool((held.isfinite() & (held > 0)).all()):
        raise ValueError(f"{owner} measured {held.tolist()}, but thresholds must be finite and above 0.")
    return held.detach()
