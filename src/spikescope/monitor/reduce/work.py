"""Synaptic operations: spikes times the synapses that each of them reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...errors import ShapeError, check_number, dims
from .core import SAMPLES, SUM
from .count import CountReducer, check_whole_counts
from .tally import Counts

__all__ = ["SynOps", "SynapticOperations", "fan_out"]

CONVOLUTIONS: tuple[type[nn.Module], ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class SynapticOperations(NamedTuple):
    """What `SynOps` results in."""

    total: float
    per_sample: float


@dataclass(frozen=True, eq=False)
class SynOps(CountReducer):
    """Synaptic operations: each spike counts once for each synapse that it reaches.

    - `fan_out`: synapses of a neuron; a number, or a tensor that broadcasts to `[*F]`, as `fan_out(layer, shape)` of
      the layer behind gives it.

    >>> work = SynOps(fan_out(nn.Linear(2, 10), (2,)))
    >>> work.result(work.measure(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])))  # three spikes of two samples
    SynapticOperations(total=30.0, per_sample=15.0)
    """

    fan_out: float | Tensor

    class Summary(NamedTuple):
        spikes: Annotated[Tensor, SUM]
        total: Annotated[Tensor, SUM]
        samples: Annotated[int, SAMPLES]

    example = {"fan_out": 12}

    def __post_init__(self) -> None:
        if not isinstance(self.fan_out, Tensor):
            check_number("SynOps", "fan_out", self.fan_out, least=0)
        elif not (self.fan_out.is_meta or (self.fan_out >= 0).all()):
            raise ValueError("SynOps: fan_out must be at least 0 for each neuron, but got less, or NaN, for some.")

    def counted(self, counts: Counts) -> Summary:
        spikes, reach = counts.spikes, self.fan_out
        if isinstance(reach, Tensor):
            reach = reach.to(spikes)
            fits = reach.ndim <= spikes.ndim and all(
                held in (1, size) for held, size in zip(reversed(reach.shape), reversed(spikes.shape), strict=False)
            )
            if not fits:
                raise ShapeError(
                    f"SynOps: fan_out has the shape {dims(reach.shape)}, which does not broadcast to the neurons "
                    f"{dims(spikes.shape)}. fan_out(layer, input_shape) gives it for the layer behind."
                )
        return self.Summary(spikes.sum(), (spikes * reach).sum(), counts.samples)

    def result(self, a: Summary) -> SynapticOperations:
        check_whole_counts("SynOps", a.spikes)
        total = a.total.item()
        return SynapticOperations(total, total / a.samples if a.samples else math.nan)


def fan_out(module: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """The synapses of a linear or convolution layer that each of its inputs reaches, of `input_shape` without batch.

    Exact at the edges, for every stride, padding, dilation and group: the layer with ones for weights is linear, and
    the gradient of the sum of its outputs counts the synapses. The sum is the number of operations (MACs) of the
    layer for one dense input. Another kind of layer is a TypeError.

    >>> fan_out(nn.Conv1d(1, 2, kernel_size=3, padding=1), (1, 4))  # the ends reach 2 places of 2 channels
    tensor([[4., 6., 6., 4.]], dtype=torch.float64)
    """
    shape = torch.Size(input_shape)
    if isinstance(module, nn.Linear):
        _check_input(module, shape, shape[-1:] == (module.in_features,), f"[*, {module.in_features}]")
        return torch.full(shape, float(module.out_features), dtype=torch.float64, device="cpu")
    kind = next((kind for kind in CONVOLUTIONS if isinstance(module, kind)), None)
    if kind is None:
        layers: list[type[nn.Module]] = [nn.Linear, *CONVOLUTIONS]
        known = ", ".join(layer.__name__ for layer in layers)
        raise TypeError(
            f"fan_out knows {known} and their subclasses, but got {type(module).__name__}. "
            "Give SynOps the number of synapses of a neuron instead."
        )
    held: Any = module
    axes = len(held.kernel_size)
    fits = len(shape) == axes + 1 and shape[0] == held.in_channels
    _check_input(module, shape, fits, f"[{held.in_channels}" + ", *" * axes + "]")
    with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
        x = torch.zeros((1, *shape), dtype=torch.float64, requires_grad=True, device="cpu")
        (reached,) = torch.autograd.grad(_ones_like(kind, held)(x).sum(), x)
    return reached[0].round()


def _ones_like(kind: Any, held: Any) -> nn.Module:
    """A layer of the same geometry with ones for weights; a fresh one, so that no hook of the network's runs."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    extra = {"output_padding": held.output_padding} if held.transposed else {}
    made: nn.Module = nn.utils.skip_init(
        kind, **{name: getattr(held, name) for name in names}, **extra, bias=False, dtype=torch.float64
    )
    for weight in made.parameters():
        nn.init.ones_(weight)
    return made


def _check_input(module: nn.Module, shape: torch.Size, fits: bool, wanted: str) -> None:
    if not fits:
        raise ShapeError(
            f"fan_out of {type(module).__name__} takes an input shape {wanted}, without time and batch, "
            f"but got {dims(shape)}."
        )
