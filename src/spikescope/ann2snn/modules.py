"""What stands in a converted network where an activation, a pool or a function stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..base import MemoryModule, StepModule
from ..errors import ShapeError, check_floating, check_module, check_sequence, dims
from ..layer.fold import apply_folded, fold_time, unfold_time
from ..neuron import IFNode
from ..neuron.core import wide
from ..surrogate import Sigmoid

__all__ = ["Folded", "ScaledNeuron", "SpikingMaxPool", "VoltageHook", "VoltageScaler"]


def _positive(owner: str, scale: Any) -> Tensor:
    """A scale as a tensor of its own."""
    held = torch.as_tensor(scale).detach().clone()
    held = held if held.is_floating_point() else held.to(torch.get_default_dtype())
    if not (held.numel() and bool((held.isfinite() & (held > 0)).all())):
        raise ValueError(f"{owner}: scale must be finite and above 0, but got {scale!r}.")
    return held


class VoltageScaler(nn.Module, StepModule):
    r"""A multiplication by a fixed number: $y = x \cdot \text{scale}$, of steps and sequences alike.

    >>> VoltageScaler(2.0)(torch.tensor([1.0, 3.0]))
    tensor([2., 6.])
    """

    scale: Tensor

    def __init__(self, scale: float | Tensor = 1.0, step_mode: str = "s") -> None:
        super().__init__()
        self.register_buffer("scale", _positive("VoltageScaler", scale))
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        """Steps and sequences alike."""
        return x * self.scale

    def extra_repr(self) -> str:
        return _shown(self.scale)


def _shown(scale: Tensor) -> str:
    return f"{scale.item():.4g}" if scale.numel() == 1 else dims(scale.shape)


class ScaledNeuron(MemoryModule):
    r"""A ReLU as a spiking neuron: its spikes have the height `scale`, and their mean over time is the activation.

    $$V_0 = \tfrac{1}{2} \qquad H_t = V_{t-1} + x_t / \text{scale} \qquad S_t = \Theta(H_t - 1) \qquad
      V_t = H_t - S_t \qquad y_t = S_t \cdot \text{scale}$$

    After T steps of a constant x the mean output is x rounded to a multiple of scale / T and clipped to 0 and scale:
    $\frac{\text{scale}}{T}\,\mathrm{clip}(\lfloor \tfrac{xT}{\text{scale}} + \tfrac{1}{2} \rfloor, 0, T)$.

    - `scale`: the largest activation that can be told, above 0; a tensor broadcasts to one step, `[C, 1, 1]` for
      one number a channel of `[N, C, H, W]`. It is a buffer.
    - `step_mode`: that of `neuron`, the integrate-and-fire neuron with soft reset inside.

    Bu et al., *Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks* (ICLR
    2022).

    >>> node = ScaledNeuron(scale=2.0, step_mode="m")
    >>> node(torch.full((4, 1), 0.75)).flatten()  # H = 0.875, 1.25, 0.625, 1: 0.75 * 4 / 2 rounds to two spikes
    tensor([0., 2., 0., 2.])
    """

    scale: Tensor
    start: ClassVar[float] = 0.5  # V_0, as a share of the threshold
    inside: ClassVar[type[IFNode]] = IFNode

    def __init__(self, scale: float | Tensor = 1.0, step_mode: str = "s") -> None:
        super().__init__()
        self.register_buffer("scale", _positive("ScaledNeuron", scale))
        self.neuron = self.inside(v_threshold=1.0, v_reset=None, surrogate_function=Sigmoid())
        self.step_mode = step_mode

    @property
    def step_mode(self) -> str:
        """`'s'` for single steps, `'m'` for sequences."""
        return self.neuron.step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        self.neuron.step_mode = value

    def forward(self, x: Tensor) -> Tensor:
        """One step `[N, *]` or one sequence `[T, N, *]`, by `step_mode`."""
        check_floating(type(self).__name__, x)
        if not isinstance(self.neuron.v, Tensor):  # nothing has run since the reset
            self.neuron.v = self.start * self.neuron.v_threshold
        return self.neuron(x / self.scale) * self.scale

    def reset(self) -> None:
        """Start from rest again."""
        self.neuron.reset()

    def rests_of_samples(self) -> Iterator[tuple[MemoryModule, str, Any]]:
        yield self.neuron, "v", self.start * self.neuron.v_threshold

    def extra_repr(self) -> str:
        return ""  # as SpikingJelly: the neuron inside says it


class SpikingMaxPool(MemoryModule):
    r"""Max-pooling of rates: the growth of the largest sum over time in each window.

    $$A_t = \sum_{s \le t} x_s \qquad y_t = \max A_t - \max A_{t-1}$$

    The maximum over the spikes of one step would fire as soon as any of its inputs does. Here the window speaks with
    the input that leads so far, and the sum of $y$ is exactly the maximum of the sums. Of spikes of one height come
    spikes of that height.

    - `pool`: a max-pooling module of PyTorch for one step.

    After the gate of Rueckauer et al., *Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification* (2017); exact sums as in Li and Zeng, *Efficient and accurate conversion of
    spiking neural network with burst spikes* (IJCAI 2022).

    >>> pool = SpikingMaxPool(nn.MaxPool1d(2), step_mode="m")
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).view(3, 1, 1, 2)  # rates 2/3 and 1/3
    >>> pool(x).flatten()
    tensor([1., 0., 1.])
    """

    total: Tensor | float
    largest: Tensor | float

    def __init__(self, pool: nn.Module, step_mode: str = "s") -> None:
        super().__init__()
        check_module("SpikingMaxPool", pool)
        self.pool = pool
        self.register_memory("total", 0.0)  # of the input
        self.register_memory("largest", 0.0)  # of the totals in each window
        self.step_mode = step_mode

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        self.total = self.fitting("total", x.shape) + wide(x)
        largest: Tensor = self.pool(self.total)
        before, self.largest = self.largest, largest
        return (largest - before).to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        check_floating(type(self).__name__, x_seq)
        check_sequence(type(self).__name__, x_seq, least=2)
        total, totals = self.fitting("total", x_seq.shape[1:]), []
        for x in wide(x_seq).unbind(0):  # in the order of single steps, to the last bit
            total = total + x
            totals.append(total)
        if not totals:
            return apply_folded(self.pool, x_seq)
        self.total = total
        largest = apply_folded(self.pool, torch.stack(totals))
        before = torch.as_tensor(self.largest, dtype=largest.dtype, device=largest.device).expand_as(largest[0])
        self.largest = largest[-1]
        return (largest - torch.cat((before.unsqueeze(0), largest[:-1]))).to(x_seq.dtype)


class Folded(StepModule, nn.Module):
    """A function of PyTorch that treats samples independently, with a step mode: `'m'` runs it once on `[T*N, *]`.

    - `function`: called with the arguments of the call.
    - `varies`: of the arguments and keyword arguments, which hold tensors with a batch axis: True or False for each,
      in a structure like theirs.

    >>> flatten = Folded(torch.flatten, ((True, False), {}))
    >>> flatten.step_mode = "m"
    >>> flatten(torch.zeros(4, 2, 3, 5), 1).shape
    torch.Size([4, 2, 15])
    """

    def __init__(self, function: Callable[..., Any], varies: tuple[Any, Any]) -> None:
        super().__init__()
        self.function = function
        self.varies = varies

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One step or one sequence, by `step_mode`."""
        if self._step_mode == "s":
            return self.function(*args, **kwargs)
        sequences: list[Tensor] = []

        def enter(x_seq: Tensor) -> Tensor:
            sequences.append(x_seq)
            return fold_time(x_seq)

        def entered(varies: bool, given: Any) -> Any:
            return pytree.tree_map_only(Tensor, enter, given) if varies else given

        args, kwargs = pytree.tree_map(entered, self.varies, (args, kwargs))
        out = self.function(*args, **kwargs)
        return pytree.tree_map_only(Tensor, lambda y: self._unfolded(y, sequences[0]), out)

    def _unfolded(self, y: Tensor, x_seq: Tensor) -> Tensor:
        T, N = x_seq.shape[:2]
        if not y.ndim or len(y) != T * N:
            raise ShapeError(
                f"{self.extra_repr()} was called on T*N = {T * N} samples and gave {dims(y.shape)}, which mixes them "
                "or has a batch size written into it. Write it so that axis 0 is any number of samples, or run the "
                "network in step_mode='s'."
            )
        return unfold_time(y, T, N)

    def extra_repr(self) -> str:
        return f"{getattr(self.function, '__name__', self.function)}, step_mode={self.step_mode}"


class VoltageHook(nn.Module):
    r"""Measures the activations that pass through it, and hands them on: the `scale` of a neuron comes from here.

    $$\text{scale} \leftarrow (1 - m)\,\text{scale} + m\,s$$

    with the momentum $m$, the measure $s$ of a batch, and the first $s$ as the start.

    - `mode`: `'Max'` measures the largest activation, `'99.9%'` that percentile of all of them (linear between
      neighbours), a number from 0 to 1 that share of the largest.
    - `momentum`: from 0 to 1, or None to keep the largest $s$ instead.

    Diehl et al., *Fast-classifying, high-accuracy spiking deep networks through weight and threshold balancing*
    (IJCNN 2015); percentiles as in Rueckauer et al. (2017).

    >>> hook = VoltageHook(mode="75%", momentum=0.5)
    >>> _ = hook(torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])), hook(torch.tensor([[0.0, 5.0]]))
    >>> hook.scale  # (3 + 3.75) / 2
    tensor(3.3750)
    """

    scale: Tensor

    def __init__(self, scale: float = 1.0, momentum: float | None = 0.1, mode: str | float = "Max") -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"VoltageHook: momentum must be from 0 to 1, or None, but got {momentum!r}.")
        self.share, self.percent = measure_of(mode)
        self.register_buffer("scale", _positive("VoltageHook", scale))
        self.mode = mode
        self.momentum = momentum
        self.num_batches_tracked = 0

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Measure `x` and give it back."""
        check_floating(type(self).__name__, x)
        if x.numel():
            now = wide(x).max() * self.share if self.percent is None else percentile(wide(x), self.percent)
            if not now.isfinite():
                raise ValueError(f"VoltageHook measured an activation of {now.item()}; look for it in the network.")
            self.scale = self._joined(now)
            self.num_batches_tracked += 1
        return x

    def _joined(self, now: Tensor) -> Tensor:
        if not self.num_batches_tracked:
            return now
        return torch.maximum(self.scale, now) if self.momentum is None else torch.lerp(self.scale, now, self.momentum)

    def extra_repr(self) -> str:
        return f"scale={_shown(self.scale)}, momentum={self.momentum}, mode={self.mode}"


def measure_of(mode: str | float) -> tuple[float, float | None]:
    """The share of the maximum, or the percentile, that a mode stands for."""
    if isinstance(mode, str) and mode.lower() == "max":
        return 1.0, None
    if isinstance(mode, str) and mode.endswith("%"):
        try:
            percent = float(mode[:-1])
        except ValueError:
            percent = -1.0
        if 0 <= percent <= 100:
            return 1.0, percent
    if isinstance(mode, (int, float)) and not isinstance(mode, bool) and 0 < mode <= 1:
        return float(mode), None
    raise ValueError(
        "The mode must be 'Max', a percentile such as '99.9%', or the share of the maximum as a number above 0 and up "
        f"to 1, but got {mode!r}."
    )


def percentile(x: Tensor, percent: float) -> Tensor:
    """The percentile of all elements, linear between neighbours; of any number of elements.

    >>> percentile(torch.tensor([4.0, 1.0, 2.0]), 75.0)
    tensor(3.)
    """
    place = (x.numel() - 1) * percent / 100
    below = int(place)
    ordered = x.flatten().sort().values  # torch.quantile takes 16 million at most
    return torch.lerp(ordered[below], ordered[min(below + 1, x.numel() - 1)], place - below)
