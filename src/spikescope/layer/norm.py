"""Batch normalisation over time and batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..base import StepModule
from ..errors import check_rank, check_tensor
from ..sockets import place_sockets
from .fold import apply_folded, expand_time, frame_of, is_expanded

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]

_STORED = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_SETTINGS = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_OF_NORM = frozenset((*_STORED, *_SETTINGS, "reset_parameters", "reset_running_stats"))


class BatchNorm(StepModule, nn.Module):
    r"""Base of the batch normalisations: PyTorch's own as the child `norm`, and time folded into the batch around it.

    $$y = \gamma\,\frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta$$

    with mean and variance per channel over T, N and space in `step_mode='m'`, over N and space in `'s'`.

    The child is why `torch.nn.SyncBatchNorm.convert_sync_batchnorm` works: it replaces `norm` by one that
    synchronises, which still gets `[T*N, C, *]`. Everything of PyTorch that looks for batch norms among
    `net.modules()` finds the child. `weight`, `running_var`, `momentum`, ... are read and assigned here as well, and
    the names in the `state_dict` are those of PyTorch, without `norm`.

    Ioffe and Szegedy, *Batch normalization* (ICML 2015).
    """

    _version = 2  # as PyTorch's: with num_batches_tracked
    norm_class: ClassVar[type[_BatchNorm]]
    shapes: ClassVar[tuple[str, ...]]  # of one step

    norm: _BatchNorm

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        step_mode: str = "s",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm = self.norm_class(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        place_sockets(self)
        self.step_mode = step_mode
        self.register_state_dict_post_hook(_hide_child)

    def forward(self, x: Tensor) -> Tensor:
        """One step `[N, C, *]` or one sequence `[T, N, C, *]`, by `step_mode`."""
        owner, time = type(self).__name__, self._step_mode == "m"
        check_tensor(owner, "the input", x)
        shapes = [f"[T, {shape}]" if time else f"[{shape}]" for shape in self.shapes]
        check_rank(owner, x, tuple(shape.count(",") + 1 for shape in shapes), " or ".join(shapes), self._step_mode)
        if not time:
            return self.norm(x)
        if is_expanded(x, self, self.norm) and self._knows_one_frame(x[0]):
            return expand_time(self._one_frame(frame_of(x), x.shape[0]), x.shape[0])
        return apply_folded(self.norm, x)

    def _knows_one_frame(self, frame: Tensor) -> bool:
        """Whether the statistics of T equal frames follow from one: not across processes, nor from a single value."""
        return type(self.norm) is self.norm_class and frame.numel() > frame.shape[1]

    def _one_frame(self, frame: Tensor, T: int) -> Tensor:
        """The output for one frame; the running statistics become those of T frames.

        Mean and variance are the same, but the running variance takes the unbiased one, with n/(n - 1): n is T times
        as large. The buffers are changed after the fact, so that autograd must not have them: it gets copies.
        """
        norm = self.norm
        if not (norm.training and norm.track_running_stats) or norm.running_var is None or norm.running_mean is None:
            return norm(frame)
        copies = {"running_mean": norm.running_mean.clone(), "running_var": norm.running_var.clone()}
        y: Tensor = torch.func.functional_call(norm, copies, (frame,))
        norm.running_mean.copy_(copies["running_mean"])
        few = frame.numel() // frame.shape[1]
        many = T * few
        ratio = many / (many - 1) * ((few - 1) / few)
        taken: Tensor | float | None = norm.momentum
        if taken is None and norm.num_batches_tracked is not None:
            taken = 1 / norm.num_batches_tracked.to(norm.running_var.dtype)  # the plain average of all batches
        norm.running_var.mul_((1 - ratio) * (1 - (taken or 0.0))).add_(copies["running_var"], alpha=ratio)
        return y

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode!r}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.norm, name) if name in _OF_NORM else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_NORM:
            setattr(self.norm, name, value)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        """Hand the entries with PyTorch's names on to `norm`, and report those that are missing under these names."""
        counted = (local_metadata.get("version") or 0) >= 2  # older ones had no num_batches_tracked
        for name, held in self.norm.state_dict().items():
            inner = f"{prefix}norm.{name}"
            if prefix + name in state_dict:
                state_dict[inner] = state_dict.pop(prefix + name)
            elif inner not in state_dict:
                state_dict[inner] = held
                if counted or name != "num_batches_tracked":
                    missing_keys.append(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *args)


def _hide_child(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any]) -> None:
    """Name the entries of `norm` as if they were the module's own."""
    child = f"{prefix}norm."
    for key in [key for key in state_dict if key.startswith(child)]:
        state_dict[prefix + key.removeprefix(child)] = state_dict.pop(key)


class BatchNorm1d(BatchNorm):
    """`torch.nn.BatchNorm1d` on `[N, C]` or `[N, C, L]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> layer = BatchNorm1d(1, step_mode="m")
    >>> layer(torch.tensor([[[1.0]], [[3.0]]])).detach().flatten()  # mean 2, variance 1 over T
    tensor([-1.0000,  1.0000])
    """

    norm_class = nn.BatchNorm1d
    shapes = ("N, C", "N, C, L")


class BatchNorm2d(BatchNorm):
    """`torch.nn.BatchNorm2d` on `[N, C, H, W]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> layer = BatchNorm2d(3, step_mode="m")
    >>> layer(torch.rand(4, 2, 3, 5, 5)).mean((0, 1, 3, 4)).abs().max() < 1e-6
    tensor(True)
    >>> list(layer.state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    norm_class = nn.BatchNorm2d
    shapes = ("N, C, H, W",)


class BatchNorm3d(BatchNorm):
    """`torch.nn.BatchNorm3d` on `[N, C, D, H, W]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> BatchNorm3d(2, step_mode="m")(torch.rand(4, 1, 2, 3, 3, 3)).shape
    torch.Size([4, 1, 2, 3, 3, 3])
    """

    norm_class = nn.BatchNorm3d
    shapes = ("N, C, D, H, W",)
