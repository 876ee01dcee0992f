"""Batch normalisation over time and batch, of one process or of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..base import StepModule, input_of
from ..dynamics import normalized
from ..errors import check_module, check_rank, check_tensor
from ..internals import is_patched, made_by_conversion
from ..sockets import place_sockets
from .fold import apply_folded, frame_of, is_expanded, repeat_in_time
from .norm_handover import hand_over
from .one_sample import strided_alike
from .stateless import noted
from .sync import synchronized_norm

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]

_MOST_AXES = 64  # what PyTorch can hold


class BatchNorm(StepModule, _BatchNorm):
    r"""Base of the batch normalisations: PyTorch's own, with time folded into the batch.

    $$y = \gamma\,\frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta$$

    with mean and variance per channel over T, N and space in `step_mode='m'`, over N and space in `'s'`.

    They are PyTorch's classes, with its arguments, names and `state_dict`. What
    `functional.convert_sync_batchnorm` makes of them takes the statistics over all processes too, and so does what
    `torch.nn.SyncBatchNorm.convert_sync_batchnorm` makes: both keep class, step mode and hooks.

    Ioffe and Szegedy, *Batch normalization* (ICML 2015).
    """

    shapes: ClassVar[tuple[str, ...]]  # of one step
    synchronized: bool = False
    process_group: Any = None
    with_neuron: bool = False  # whether the neuron behind it may normalise its input itself; see `hand_over`

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
        **kwargs: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype, **kwargs)
        place_sockets(self)
        self.step_mode = step_mode

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        alone = self.with_neuron and len(args) == 1 and not (kwargs or torch.compiler.is_compiling() or is_patched())
        if alone and _is_as_written(self) and hand_over(self, args[0]):
            return args[0]
        return super().__call__(*args, **kwargs)

    def forward(self, input: Tensor | None = None, **named: Tensor) -> Tensor:
        """One step `[N, C, *]` or one sequence `[T, N, C, *]`, by `step_mode`."""
        if input is None or named:
            input = input_of(type(self).__name__, input, named)
        assert input is not None
        self._check_axes(input)
        if self._step_mode == "s":
            return self.normalize(input)
        if is_expanded(input, self) and self._knows_one_frame(input[0]):
            T = input.shape[0]
            return repeat_in_time(self._one_frame(frame_of(input), T), T)
        return apply_folded(self.normalize, input)

    def normalize(self, x: Tensor) -> Tensor:
        """The normalisation of one batch `[N, C, *]`, of this process or, if `synchronized`, of all."""
        if self.synchronized:
            return synchronized_norm(self, x)
        if not self.training:
            return strided_alike(partial(_BatchNorm.forward, self), x)
        self._check_input_dim(x)
        running = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return self._by_batch(x, running, self._count())

    super_forward = normalize  # as SpikingJelly calls it

    def _count(self) -> float:
        """Count the batch. What the running statistics take of it."""
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / float(self.num_batches_tracked)
        return 0.0 if self.momentum is None else self.momentum

    def _by_batch(self, x: Tensor, running: tuple[Tensor | None, Tensor | None], taken: float) -> Tensor:
        """The normalisation by the moments of the batch, of which the running ones take a share."""
        y = normalized(x, self.weight, self.bias, running, taken, self.eps)
        if y is not None:
            return y
        return strided_alike(lambda x: F.batch_norm(x, *running, self.weight, self.bias, True, taken, self.eps), x)

    def _check_axes(self, x: Tensor) -> None:
        time = self._step_mode == "m"
        check_tensor(type(self).__name__, "the input", x)
        shapes = [f"[T, {shape}]" if time else f"[{shape}]" for shape in self.shapes]
        least = [shape.count(",") + ("*" not in shape) for shape in shapes]
        ranks = tuple(range(least[0], _MOST_AXES)) if "*" in shapes[0] else tuple(least)
        check_rank(type(self).__name__, x, ranks, " or ".join(shapes), self._step_mode)

    def _knows_one_frame(self, frame: Tensor) -> bool:
        """Whether the statistics of T equal frames follow from one: not across processes, nor from a single value."""
        return not self.synchronized and frame.numel() > frame.shape[1]

    def _one_frame(self, frame: Tensor, T: int) -> Tensor:
        """The output for one frame; the running statistics become those of T frames.

        Mean and variance are the same, but the running variance takes the unbiased one, with n/(n - 1): n is T times
        as large. The buffers are changed after the fact, so that autograd must not have them: it gets copies.
        """
        if not (self.training and self.track_running_stats) or self.running_var is None or self.running_mean is None:
            return self.normalize(frame)
        self._check_input_dim(frame)
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        taken = self._count()
        y = self._by_batch(frame, (mean, variance), taken)
        self.running_mean.copy_(mean)
        few = frame.numel() // frame.shape[1]
        many = T * few
        ratio = many / (many - 1) * ((few - 1) / few)
        self.running_var.mul_((1 - ratio) * (1 - taken)).add_(variance, alpha=ratio)
        return y

    def extra_repr(self) -> str:
        return noted(super().extra_repr(), self)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """The modules inside. PyTorch's conversion asks for them last: what it has made becomes one of this kind."""
        made = made_by_conversion(self)
        if made is not None:
            group = made.process_group
            vars(made).clear()
            vars(made).update(vars(self))
            made.__class__ = type(self)
            _synchronize(made, group)
        return super().named_children()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any], *args: Any
    ) -> None:
        """The entries, also under the names of when PyTorch's module was a child named `norm`."""
        _move(state_dict, f"{prefix}norm.", prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The state of a pickle, also of when PyTorch's module was a child named `norm`."""
        child = state["_modules"].pop("norm", None)
        if child is not None:
            for name in ("_parameters", "_buffers"):
                state[name] = {**vars(child)[name], **state[name]}
            settings = {name: held for name, held in vars(child).items() if name not in state}
            state = {**settings, **state, "_state_dict_hooks": vars(child)["_state_dict_hooks"]}
        super().__setstate__(state)


def _hide_child(*args: Any) -> None:
    """What pickles of when there was a child named `norm` look for."""


def is_plain(norm: nn.Module) -> bool:
    """Whether a batch normalisation does that and no more: a class with a forward of its own may."""
    return type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward, BatchNorm.forward, _Plain.forward)


def does_no_more(norm: BatchNorm) -> bool:
    """Whether the class has the computation of a batch normalisation, and none of its own that may be seen later."""
    return is_plain(norm) and type(norm).normalize is BatchNorm.normalize


_OWN = frozenset(("forward", "normalize"))


def _is_as_written(norm: BatchNorm) -> bool:
    """Whether a call runs the methods that stand here, which nobody has replaced, in the class or on the instance."""
    cls = type(norm)
    return (
        cls.forward is BatchNorm.forward
        and cls.normalize is BatchNorm.normalize
        and norm._compiled_call_impl is None
        and _OWN.isdisjoint(norm.__dict__)
    )


def _move(state_dict: dict[str, Any], old: str, new: str) -> None:
    """Rename the entries of a `state_dict` that begin with `old`, where the new name is not taken."""
    for key in [key for key in state_dict if key.startswith(old)]:
        state_dict.setdefault(new + key.removeprefix(old), state_dict.pop(key))


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` on `[N, C]` or `[N, C, L]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> layer = BatchNorm1d(1, step_mode="m")
    >>> layer(torch.tensor([[[1.0]], [[3.0]]])).detach().flatten()  # mean 2, variance 1 over T
    tensor([-1.0000,  1.0000])
    """

    shapes = ("N, C", "N, C, L")


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` on `[N, C, H, W]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> layer = BatchNorm2d(3, step_mode="m")
    >>> layer(torch.rand(4, 2, 3, 5, 5)).mean((0, 1, 3, 4)).abs().max() < 1e-6
    tensor(True)
    >>> [name for name, _ in layer.named_parameters()]
    ['weight', 'bias']
    """

    shapes = ("N, C, H, W",)


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` on `[N, C, D, H, W]`; over time and batch with `step_mode='m'`. See `BatchNorm`.

    >>> BatchNorm3d(2, step_mode="m")(torch.rand(4, 1, 2, 3, 3, 3)).shape
    torch.Size([4, 1, 2, 3, 3, 3])
    """

    shapes = ("N, C, D, H, W",)


class SyncBatchNorm(BatchNorm):
    """Batch normalisation of `[N, C, *]` whose statistics are those of all processes; also over time with `'m'`.

    The arguments are those of `torch.nn.SyncBatchNorm` and `step_mode`. It works on every device and backend (PyTorch's
    refuses tensors of a CPU), and with parts of different sizes. In a process alone it is a `BatchNorm`. Networks get
    them by `functional.convert_sync_batchnorm(net)`.

    >>> layer = SyncBatchNorm(1, step_mode="m")
    >>> layer(torch.tensor([[[1.0]], [[3.0]]])).detach().flatten()
    tensor([-1.0000,  1.0000])
    """

    shapes: ClassVar[tuple[str, ...]] = ("N, C, *",)
    synchronized = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        step_mode: str = "s",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, step_mode, device, dtype, **kwargs)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        """Of what the rank is has been checked."""

    def _check_non_zero_input_channels(self, input: Tensor) -> None:
        """A tensor without channels is normalised to itself."""

    @classmethod
    def convert_sync_batchnorm(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """`functional.convert_sync_batchnorm`, where PyTorch has it."""
        return convert_sync_batchnorm(module, process_group)


class SyncBatchNorm1d(SyncBatchNorm, BatchNorm1d):
    shapes = BatchNorm1d.shapes


class SyncBatchNorm2d(SyncBatchNorm, BatchNorm2d):
    shapes = BatchNorm2d.shapes


class SyncBatchNorm3d(SyncBatchNorm, BatchNorm3d):
    shapes = BatchNorm3d.shapes


class _Plain(_BatchNorm):
    """A normalisation of PyTorch, without a step mode, whose statistics are those of all processes."""

    process_group: Any = None

    def forward(self, input: Tensor) -> Tensor:
        return synchronized_norm(self, input)


class PlainSyncBatchNorm1d(_Plain, nn.BatchNorm1d):
    """What becomes of a `torch.nn.BatchNorm1d`."""


class PlainSyncBatchNorm2d(_Plain, nn.BatchNorm2d):
    """What becomes of a `torch.nn.BatchNorm2d`."""


class PlainSyncBatchNorm3d(_Plain, nn.BatchNorm3d):
    """What becomes of a `torch.nn.BatchNorm3d`."""


_SYNCHRONIZED: dict[type[nn.Module], type[nn.Module]] = {
    BatchNorm1d: SyncBatchNorm1d,
    BatchNorm2d: SyncBatchNorm2d,
    BatchNorm3d: SyncBatchNorm3d,
    nn.BatchNorm1d: PlainSyncBatchNorm1d,
    nn.BatchNorm2d: PlainSyncBatchNorm2d,
    nn.BatchNorm3d: PlainSyncBatchNorm3d,
}


def _synchronize(norm: Any, process_group: Any) -> None:
    """Let a normalisation take its statistics over a process group."""
    norm.__class__ = _SYNCHRONIZED.get(type(norm), type(norm))
    norm.process_group = process_group
    if isinstance(norm, BatchNorm) and not norm.synchronized:
        norm.synchronized = True  # a normalisation that does more, as one that depends on a threshold, keeps its class


def convert_sync_batchnorm(net: nn.Module, process_group: Any = None) -> nn.Module:
    """Let the batch normalisations of `net` take their statistics over all processes of a group. Gives `net` back.

    - `process_group`: as `torch.distributed.new_group` gives it; None for all processes.

    The modules change in place: parameters, step modes, hooks and monitors stay. It works on every device and backend,
    also before the process group is there, and in a process alone changes no number. What
    `torch.nn.SyncBatchNorm.convert_sync_batchnorm` makes of the layers of this library is the same; of PyTorch's own
    layers it makes some that work on a GPU alone.

    >>> net = nn.Sequential(spikescope.layer.BatchNorm2d(3, step_mode="m"))
    >>> [type(module).__name__ for module in convert_sync_batchnorm(net)]
    ['SyncBatchNorm2d']
    """
    check_module("convert_sync_batchnorm", net)
    for module in net.modules():
        if isinstance(module, BatchNorm) or type(module) in _SYNCHRONIZED or isinstance(module, _Plain):
            _synchronize(module, process_group)
    return net
