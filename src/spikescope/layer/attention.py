"""Attention over time, channels and space: gates between 0 and 1 that a layer reads off the whole sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..base import MultiStepModule
from ..errors import ShapeError, check_choice, check_floating, check_switches, check_whole, dims

__all__ = ["MultiDimensionalAttention", "TemporalWiseAttention"]


def _check_reduction(owner: str, size_name: str, size: int, name: str, reduction: int) -> tuple[int, int]:
    """Both numbers; refuses a reduction that leaves nothing."""
    size, reduction = check_whole(owner, size_name, size), check_whole(owner, name, reduction)
    if reduction > size:
        raise ValueError(
            f"{owner}: {name} must not be above {size_name}, or no hidden unit is left of {size_name} / {name}, but "
            f"got {name}={reduction} and {size_name}={size}."
        )
    return size, reduction


def _check_sequence(owner: str, x_seq: Tensor, wanted: dict[str, int | None]) -> None:
    """Refuse an input that has not these axes, or another size where one is given."""
    check_floating(owner, x_seq)
    fits = x_seq.ndim == len(wanted) and all(
        size is None or size == came for size, came in zip(wanted.values(), x_seq.shape, strict=True)
    )
    if not fits:
        axes = ", ".join(name if size is None else f"{name}={size}" for name, size in wanted.items())
        raise ShapeError(f"{owner} takes a whole sequence [{axes}], but got {dims(x_seq.shape, 'TN')}.")


def _gate(excite: Callable[[Tensor], Tensor], x_seq: Tensor, axis: int) -> Tensor:
    r"""The gate along `axis`, $\sigma(M(\text{mean}) + M(\max))$ of what is pooled over all axes but this and N."""
    rest = tuple(other for other in range(x_seq.ndim) if other not in (1, axis))
    pooled = (x_seq.mean(rest), x_seq.amax(rest))
    mean, most = (each.T if axis == 0 else each for each in pooled)  # [N, K]
    score = torch.sigmoid(excite(mean) + excite(most))
    shape = [size if other in (1, axis) else 1 for other, size in enumerate(x_seq.shape)]
    return (score.T if axis == 0 else score).reshape(shape)


class TemporalWiseAttention(MultiStepModule, nn.Module):
    r"""Weighs the frames of a sequence by how much there is in them: $y_t = s_t x_t$.

    $$s = \sigma\left(W_2\,\text{ReLU}(W_1 \bar x) + W_2\,\text{ReLU}(W_1 \hat x)\right)$$

    with the mean $\bar x_t$ and the maximum $\hat x_t$ of each frame, both `[T]` for each sample. It belongs between a
    convolution and its neurons. It looks at all steps at once, so there is no `step_mode='s'`.

    - `T`: the number of steps. `reduction`: by how much $W_1$ narrows, to `T // reduction`; at most `T`.
    - `dimension`: the axes of one step, 4 for `[N, C, H, W]` or 2 for `[N, L]`.

    Yao et al., *Temporal-wise attention spiking neural networks for event streams classification* (ICCV 2021).

    >>> layer = TemporalWiseAttention(T=2, reduction=1, dimension=2)
    >>> weights = {"sharedMLP.0.weight": torch.eye(2), "sharedMLP.2.weight": torch.eye(2)}
    >>> _ = layer.load_state_dict(weights)
    >>> x_seq = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]])
    >>> layer(x_seq).detach().flatten()  # s = sigmoid(2 + 3), sigmoid(0)
    tensor([0.9933, 2.9799, 0.0000, 0.0000])
    """

    def __init__(self, T: int, reduction: int = 16, dimension: int = 4) -> None:
        super().__init__()
        owner = type(self).__name__
        T, reduction = _check_reduction(owner, "T", T, "reduction", reduction)
        check_choice(owner, "dimension", dimension, (2, 4))
        self.T, self.dimension = T, int(dimension)
        hidden = T // reduction
        self.sharedMLP = nn.Sequential(  # the name in the state_dict of trained networks
            nn.Linear(T, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, T, bias=False)
        )

    def forward(self, x_seq: Tensor) -> Tensor:
        """A sequence `[T, N, C, H, W]` or `[T, N, L]`."""
        axes = "CHW" if self.dimension == 4 else "L"
        _check_sequence(type(self).__name__, x_seq, {"T": self.T, "N": None, **dict.fromkeys(axes)})
        return x_seq * _gate(self.sharedMLP, x_seq, 0)

    def extra_repr(self) -> str:
        return f"T={self.T}, dimension={self.dimension}"


class AxisAttention(nn.Module):
    """The gate along the axis 0 (time) or 2 (channels) of `[T, N, C, H, W]`, from `size` pooled values."""

    def __init__(self, size: int, reduction: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        hidden = size // reduction
        self.sharedMLP = nn.Sequential(  # convolutions of one point: weights of trained networks have this shape
            nn.Conv3d(size, hidden, 1, bias=False), nn.ReLU(), nn.Conv3d(hidden, size, 1, bias=False)
        )

    def forward(self, x_seq: Tensor) -> Tensor:
        return _gate(lambda pooled: self.sharedMLP(pooled[..., None, None, None]).flatten(1), x_seq, self.axis)


class SpatialAttention(nn.Module):
    """The gate at each point of `[T, N, C, H, W]`, from mean and maximum over time and channels."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x_seq: Tensor) -> Tensor:
        pooled = torch.stack((x_seq.mean((0, 2)), x_seq.amax((0, 2))), 1)
        return torch.sigmoid(self.conv(pooled)).unsqueeze(0)


class MultiDimensionalAttention(MultiStepModule, nn.Module):
    r"""Gates over time, then channels, then space, each from what the one before has left.

    $$x' = g_T(x) \odot x \qquad x'' = g_C(x') \odot x' \qquad y = \text{ReLU}(g_S(x'') \odot x'')$$

    $g_T$ and $g_C$ are those of `TemporalWiseAttention` over frames and over channels;
    $g_S = \sigma(f^{k \times k}[\bar x, \hat x])$ convolves mean and maximum over time and channels. It belongs
    between a convolution and its neurons, and looks at all steps at once: there is no `step_mode='s'`.

    - `T`, `C`: the numbers of steps and channels; `reduction_t`, `reduction_c`: by how much they narrow inside.
    - `kernel_size`: k, odd. `use_temporal`, `use_channel`, `use_spatial`: which gates there are, at least one. Without
      that over time a sequence may have any number of steps, and without that over channels any number of these.

    Yao et al., *Attention spiking neural networks* (TPAMI 2023, arXiv 2209.13929).

    >>> layer = MultiDimensionalAttention(T=4, C=8, reduction_t=2, reduction_c=4)
    >>> y = layer(torch.rand(4, 2, 8, 5, 5))
    >>> y.shape, bool((y >= 0).all())
    (torch.Size([4, 2, 8, 5, 5]), True)
    """

    def __init__(
        self,
        T: int,
        C: int,
        reduction_t: int = 16,
        reduction_c: int = 16,
        kernel_size: int = 3,
        use_temporal: bool = True,
        use_channel: bool = True,
        use_spatial: bool = True,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_switches(owner, use_temporal=use_temporal, use_channel=use_channel, use_spatial=use_spatial)
        if not (use_temporal or use_channel or use_spatial):
            raise ValueError(f"{owner}: at least one of use_temporal, use_channel and use_spatial must be True.")
        kernel_size = check_whole(owner, "kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"{owner}: kernel_size must be odd, so that the output keeps its size; got {kernel_size}.")
        T, reduction_t = _check_reduction(owner, "T", T, "reduction_t", reduction_t if use_temporal else 1)
        C, reduction_c = _check_reduction(owner, "C", C, "reduction_c", reduction_c if use_channel else 1)
        self.T, self.C = T, C
        self.ta = AxisAttention(T, reduction_t, 0) if use_temporal else None
        self.ca = AxisAttention(C, reduction_c, 2) if use_channel else None
        self.sa = SpatialAttention(kernel_size) if use_spatial else None

    def forward(self, x: Tensor) -> Tensor:
        """A sequence `[T, N, C, H, W]`."""
        steps, channels = None if self.ta is None else self.T, None if self.ca is None else self.C
        _check_sequence(type(self).__name__, x, {"T": steps, "N": None, "C": channels, "H": None, "W": None})
        for gate in (self.ta, self.ca, self.sa):
            if gate is not None:
                x = gate(x) * x
        return torch.relu(x)

    def extra_repr(self) -> str:
        return f"T={self.T}, C={self.C}"
