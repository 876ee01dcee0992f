"""Transforms of events and of frames, for the `transform` of a data set.

Those of frames take tensors and arrays `[T, 2, H, W]` (any axes before the last two); those of events take dicts,
structured arrays or open .npz files, and give dicts. What is random comes from PyTorch's generator, which loaders seed
in each worker, but for `random_temporal_delete`, which as in SpikingJelly comes from NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import check_choice, check_number, check_whole
from .batches import where_it_is
from .events import Array, check_inside, columns
from .faults import OptionError
from .frames.integrate import (
    check_count,
    check_positive,
    integrate_events_by_fixed_duration,
    integrate_events_by_fixed_frames_number,
)

__all__ = [
    "CenterCrop",
    "Compose",
    "EventDrop",
    "FlipHorizontally",
    "NeuromorphicAugment",
    "RandomTemporalDelete",
    "Roll",
    "ToFrames",
    "ToTensor",
    "random_temporal_delete",
]


def random_temporal_delete(x_seq: Any, T_remain: int, batch_first: bool) -> Any:
    """Keep `T_remain` of the steps of `[T, N, *]` (or `[N, T, *]`), drawn without repetition and in order.

    >>> np.random.seed(0)
    >>> random_temporal_delete(torch.arange(5), 3, batch_first=False)
    tensor([0, 1, 2])

    Paper: W. Fang et al., Deep residual learning in spiking neural networks, NeurIPS 2021.
    """
    steps = x_seq.shape[1 if batch_first else 0]
    if not 0 < T_remain <= steps:
        raise OptionError(f"T_remain must be from 1 to the number of steps, {steps}, but got {T_remain!r}.")
    kept = np.random.choice(steps, T_remain, replace=False)  # noqa: NPY002  # the generator that the caller seeds
    kept.sort()
    return x_seq[:, kept] if batch_first else x_seq[kept]


class RandomTemporalDelete(nn.Module):
    """`random_temporal_delete` as a module."""

    def __init__(self, T_remain: int, batch_first: bool) -> None:
        super().__init__()
        self.T_remain, self.batch_first = T_remain, batch_first

    def forward(self, x_seq: Any) -> Any:
        """Keep `T_remain` steps."""
        return random_temporal_delete(x_seq, self.T_remain, self.batch_first)

    def extra_repr(self) -> str:
        """The two options."""
        return f"T_remain={self.T_remain}, batch_first={self.batch_first}"


def _uniform() -> float:
    return float(torch.rand((), device="cpu"))


def _whole(low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), device="cpu"))


def _taken(events: Any) -> dict[str, Array]:
    return dict(zip("txyp", columns(events), strict=True))


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, sample: Any) -> Any:
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class ToTensor:
    """Frames as a tensor of float32."""

    def __call__(self, frames: Any) -> torch.Tensor:
        return where_it_is(frames, torch.float32)


class ToFrames:
    """Events to frames `[T, 2, H, W]` while loading: by `frames_number` and `split_by`, or by `duration` (time bins).

    >>> events = {"t": np.array([0, 7]), "x": np.array([0, 1]), "y": np.array([0, 0]), "p": np.array([1, 1])}
    >>> ToFrames(1, 2, duration=5)(events)[:, 1, 0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        H: int,
        W: int,
        frames_number: int | None = None,
        split_by: str = "number",
        duration: float | None = None,
    ) -> None:
        if (frames_number is None) == (duration is None):
            raise OptionError("ToFrames: give one of frames_number and duration.")
        if frames_number is not None:
            check_count("ToFrames: frames_number", frames_number)
            check_choice("ToFrames", "split_by", split_by, ("time", "number"), OptionError)
        else:
            check_positive("ToFrames: duration", duration)
        self.H, self.W = check_count("ToFrames: H", H), check_count("ToFrames: W", W)
        self.frames_number, self.split_by, self.duration = frames_number, split_by, duration

    def __call__(self, events: Any) -> Array:
        if self.frames_number is not None:
            return integrate_events_by_fixed_frames_number(events, self.split_by, self.frames_number, self.H, self.W)
        assert self.duration is not None
        return integrate_events_by_fixed_duration(events, self.duration, self.H, self.W)


class FlipHorizontally:
    """Left becomes right, with probability `p`: of frames, or of events of a sensor of `W` columns."""

    def __init__(self, p: float = 0.5, W: int | None = None) -> None:
        check_number("FlipHorizontally", "p, a probability,", p, least=0, most=1)
        self.p, self.W = p, None if W is None else check_count("FlipHorizontally: W", W)

    def __call__(self, sample: Any) -> Any:
        if _uniform() >= self.p:
            return sample
        if self.W is not None:
            events = _taken(sample)
            check_inside("x", events["x"], self.W)
            return {**events, "x": (self.W - 1 - events["x"]).astype(events["x"].dtype)}
        return sample.flip(-1) if isinstance(sample, torch.Tensor) else np.flip(sample, -1).copy()


class Roll:
    """Move frames by up to `most` pixels either way, around the edges."""

    def __init__(self, most: int = 5) -> None:
        self.most = check_whole("Roll", "most, in pixels,", most, 0)

    def __call__(self, frames: Any) -> Any:
        shifts = _whole(-self.most, self.most), _whole(-self.most, self.most)
        return frames.roll(shifts, (-2, -1)) if isinstance(frames, torch.Tensor) else np.roll(frames, shifts, (-2, -1))


class CenterCrop:
    """The middle `[h, w]` of frames `[*, H, W]`."""

    def __init__(self, height: int, width: int) -> None:
        self.height = check_count("CenterCrop: height", height)
        self.width = check_count("CenterCrop: width", width)

    def __call__(self, frames: Any) -> Any:
        H, W = frames.shape[-2:]
        if self.height > H or self.width > W:
            raise OptionError(f"CenterCrop: {self.height} x {self.width} is larger than the frames, {H} x {W}.")
        top, left = (H - self.height) // 2, (W - self.width) // 2
        return frames[..., top : top + self.height, left : left + self.width]


class EventDrop:
    """Drop events in one of four ways, drawn alike: none, of a span of time, of a rectangle, at random.

    Paper: F. Gu et al., EventDrop: data augmentation for event-based learning, IJCAI 2021.
    """

    def __init__(self, H: int, W: int, most: float = 0.9) -> None:
        self.H, self.W = check_count("EventDrop: H", H), check_count("EventDrop: W", W)
        check_number("EventDrop", "most, the largest share,", most, least=0, most=1)
        self.most = most

    def __call__(self, events: Any) -> dict[str, Array]:
        held = _taken(events)
        t, way, share = held["t"], _whole(0, 3), self.most * _uniform()
        if way == 0 or not len(t):
            return held
        if way == 1:
            span = float(t[-1] - t[0])
            start = float(t[0]) + _uniform() * span * (1 - share)
            kept = (t < start) | (t > start + share * span)
        elif way == 2:
            side = share**0.5
            left, top = _uniform() * (1 - side) * self.W, _uniform() * (1 - side) * self.H
            inside_x = (held["x"] >= left) & (held["x"] < left + side * self.W)
            kept = ~(inside_x & (held["y"] >= top) & (held["y"] < top + side * self.H))
        else:
            kept = torch.rand(len(t), device="cpu").numpy() >= share
        return {name: values[kept] for name, values in held.items()}


class NeuromorphicAugment:
    """Frames flipped with probability a half, then one of: rolled, turned, cut out, sheared, each mildly.

    Paper: Y. Li et al., Neuromorphic data augmentation for training spiking neural networks, ECCV 2022.
    """

    def __init__(self, roll: int = 5, degrees: float = 15.0, cut: int = 8, shear: float = 8.0) -> None:
        for name, angle in (("degrees", degrees), ("shear", shear)):
            check_number("NeuromorphicAugment", f"{name}, an angle,", angle, least=-1e6, most=1e6)
        self.roll, self.degrees, self.shear = Roll(roll), degrees, shear
        self.cut = check_whole("NeuromorphicAugment", "cut, in pixels,", cut, 0)
        self.flip = FlipHorizontally(0.5)

    def __call__(self, frames: Any) -> torch.Tensor:
        x = self.flip(where_it_is(frames, torch.float32))
        way = _whole(0, 3)
        if way == 0:
            rolled: torch.Tensor = self.roll(x)
            return rolled
        if way == 1:
            angle = np.deg2rad((2 * _uniform() - 1) * self.degrees)
            return _warp(x, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if way == 2:
            return _cut_out(x, _whole(min(1, self.cut), self.cut))
        return _warp(x, [[1.0, np.tan(np.deg2rad((2 * _uniform() - 1) * self.shear))], [0.0, 1.0]])


def _cut_out(x: torch.Tensor, side: int) -> torch.Tensor:
    H, W = x.shape[-2:]
    top, left = _whole(0, H - 1), _whole(0, W - 1)
    x = x.clone()
    x[..., max(0, top - side // 2) : top + (side + 1) // 2, max(0, left - side // 2) : left + (side + 1) // 2] = 0
    return x


def _warp(x: torch.Tensor, matrix: Sequence[Sequence[float]]) -> torch.Tensor:
    """Frames seen through a linear map about the middle, each pixel the nearest one: counts stay whole."""
    H, W = x.shape[-2:]
    rows, cols = torch.meshgrid(
        *(torch.arange(size, device=x.device) - (size - 1) / 2 for size in (H, W)), indexing="ij"
    )
    (a, b), (c, d) = matrix
    from_col = (a * cols + b * rows + (W - 1) / 2).round().long()
    from_row = (c * cols + d * rows + (H - 1) / 2).round().long()
    inside = (from_row >= 0) & (from_row < H) & (from_col >= 0) & (from_col < W)
    return x[..., from_row.clamp(0, H - 1), from_col.clamp(0, W - 1)] * inside
