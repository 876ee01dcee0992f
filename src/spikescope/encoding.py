"""Encoders: real numbers to spikes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .base import MemoryModule, StepModule
from .errors import (
    ShapeError,
    StateError,
    UnknownNameError,
    check_choice,
    check_floating,
    check_number,
    check_probability,
    check_switches,
    check_tensor,
    check_whole,
    dims,
)
from .errors import explain_absent as _explain_absent

__all__ = [
    "BiPoissonEncoder",
    "DeltaEncoder",
    "LatencyEncoder",
    "PeriodicEncoder",
    "PoissonEncoder",
    "PopSpikeEncoderDeterministic",
    "PopSpikeEncoderRandom",
    "StatefulEncoder",
    "StatelessEncoder",
    "WeightedPhaseEncoder",
]


def _check_range(owner: str, x: Tensor, highest: float) -> None:
    """Refuse what the code cannot express; compiled code does not look, and on 'meta' there is nothing to see."""
    wide = x.detach().double()  # in the dtype of x the bound might round up
    if not (torch.compiler.is_compiling() or x.is_meta) and not bool(((wide >= 0) & (wide <= highest)).all()):
        raise ValueError(
            f"{owner} encodes values from 0 to {highest:.6g}, but got values from {x.min().item():.6g} to "
            f"{x.max().item():.6g}. Scale them first, for example (x - x.min()) / (x.max() - x.min()) * {highest:.6g}."
        )


def _bernoulli(p: Tensor, generator: torch.Generator | None) -> Tensor:
    """1 with the probability `p`: never at 0, always at 1. Half precision would round the random numbers."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    return (torch.rand(p.shape, generator=generator, device=p.device, dtype=dtype) < p).to(p.dtype)


class StatelessEncoder(StepModule, nn.Module):
    """Base of the encoders that keep nothing: each element of the input is encoded by itself, in both step modes.

    A subclass writes `forward(x)`.
    """

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of `x`, in its shape."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(x).")

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode}"


class StatefulEncoder(MemoryModule):
    """Base of the encoders that turn one input `[N, *]` into `T` steps of spikes `[T, N, *]`.

    `step_mode='s'`: the first call encodes; it and each further call give out one step `[N, *]`, from the start again
    after `T` steps, until `reset()`. Calls after the first may leave the input out. `step_mode='m'`: one call takes
    `[N, *]` and gives all `T` steps. The whole code is `spike`, the next step is `t`.

    A subclass writes `encode(x)`, or `single_step_encode(x)`, which puts the code into `spike`. StateError if a further
    call brings another input than the one that was encoded.
    """

    wide_state = False

    spike: Tensor | None
    source: Tensor | None
    t: int

    def __init__(self, T: int, step_mode: str = "s") -> None:
        super().__init__()
        self._encoded: tuple[weakref.ref[Tensor], int] | None = None  # the input itself, and its version then
        self.T = check_whole(type(self).__name__, "T", T)
        self.register_memory("spike", None)
        self.register_memory("source", None)
        self.register_memory("t", 0)
        self.step_mode = step_mode

    def encode(self, x: Tensor) -> Tensor:
        """The spikes `[T, N, *]` of one input `[N, *]`."""
        raise NotImplementedError(f"{type(self).__name__} defines no encode(x).")

    def single_step_encode(self, x: Tensor) -> None:
        """Put the code of one input into `spike`: what `encode(x)` gives, unless that has put it there itself."""
        made: Tensor | None = self.encode(x)
        if made is not None:
            self.spike = made

    def single_step_forward(self, x: Tensor | None = None) -> Tensor:
        spikes = self.spike
        if spikes is None:
            if x is None:
                raise StateError(f"{type(self).__name__} has nothing to encode yet: give the first call an input.")
            spikes = self._begun(x)
        elif x is not None:
            self._check_same(x)
        t, self.t = self.t, (self.t + 1) % self.T
        return spikes[t]

    def _begun(self, x: Tensor) -> Tensor:
        """The code of a new input."""
        self.single_step_encode(x)
        if self.spike is None:
            raise StateError(f"{type(self).__name__}: encode(x) must give the spikes [T, N, *], but gave None.")
        self.source = x
        self._remember(x)
        return self.spike

    def _check_same(self, x: Tensor) -> None:
        source, known = self.source, self._encoded
        if source is None or torch.compiler.is_compiling():
            return
        if known is not None and known[0]() is x and known[1] == x._version:
            return  # without looking at the values, for which a GPU would have to be waited for
        if x.shape != source.shape or not torch.equal(x, source.to(x)):
            raise StateError(
                f"{type(self).__name__} still gives out the code of the input before, {dims(source.shape)}, and was "
                f"called with another, {dims(x.shape)}. Call reset() before a new input."
            )

    def _remember(self, x: Tensor) -> None:
        if not torch.compiler.is_compiling():
            self._encoded = None if x.is_inference() else (weakref.ref(x), x._version)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_encoded": None}

    def multi_step_forward(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def extra_repr(self) -> str:
        return f"T={self.T}, step_mode={self.step_mode}"


class PoissonEncoder(StatelessEncoder):
    """Rate code: a spike with the probability `x`, from 0 (never) to 1 (always), drawn anew for every element.

    - `generator`: a `torch.Generator` on the device of the input, for a seed of its own.

    Dayan and Abbott, *Theoretical neuroscience* (2001), section 1.4.

    >>> PoissonEncoder()(torch.tensor([0.0, 1.0]))
    tensor([0., 1.])
    >>> encoder = PoissonEncoder("m", torch.Generator().manual_seed(0))
    >>> encoder(torch.full((1000, 1), 0.25)).mean(0)
    tensor([0.2510])
    """

    def __init__(self, step_mode: str = "s", generator: torch.Generator | None = None) -> None:
        super().__init__(step_mode)
        given: Any = generator
        if not (given is None or isinstance(given, torch.Generator)):
            kind = type(given).__name__
            raise TypeError(f"{type(self).__name__}: generator must be a torch.Generator or None, but got {kind}.")
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        if not (torch.compiler.is_compiling() or x.is_meta):
            check_probability(type(self).__name__, x)
        return _bernoulli(x, self.generator)


class BiPoissonEncoder(PoissonEncoder):
    """Rate code with a sign: a spike of the sign of `x` with the probability `|x|`, for `x` from -1 to 1.

    >>> BiPoissonEncoder()(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-1.,  0.,  1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        return super().forward(x.abs()) * x.sign()


class PeriodicEncoder(StatefulEncoder):
    """Gives out a stored spike train again and again, whatever comes in.

    - `spike`: `[T, N, *]`.

    >>> encoder = PeriodicEncoder(torch.tensor([[1.0], [0.0], [1.0]]))
    >>> [encoder().item() for _ in range(5)]
    [1.0, 0.0, 1.0, 1.0, 0.0]
    """

    def __init__(self, spike: Tensor, step_mode: str = "s") -> None:
        check_tensor("PeriodicEncoder", "spike", spike)
        if spike.ndim < 1:
            raise ShapeError("PeriodicEncoder: spike must be a sequence [T, N, *], but got a single number.")
        super().__init__(spike.shape[0], step_mode)
        self.set_reset_value("spike", spike.clone())  # the caller's may be changed in place
        self.reset()

    def encode(self, x: Tensor | None = None) -> Tensor:
        assert self.spike is not None  # it is there from the constructor on
        return self.spike

    def multi_step_forward(self, x: Tensor | None = None) -> Tensor:
        return self.encode(x)


class LatencyEncoder(StatefulEncoder):
    r"""Time-to-first-spike code: one spike for each value from 0 to 1, the earlier the larger the value.

    $$t_f = (T - 1)(1 - x) \qquad\text{or, with 'log',}\qquad t_f = (T - 1) - \ln(\alpha x + 1),\;
      \alpha = e^{T - 1} - 1$$

    rounded to the next step (half to even): 1 fires at step 0, 0 at step T - 1.

    - `T`: the number of steps; with `'log'` at most 700, since $\alpha$ is a float64.
    - `enc_function`: `'linear'` or `'log'`.

    Thorpe, Delorme and Van Rullen, *Spike-based strategies for rapid processing* (Neural Networks 2001).

    >>> LatencyEncoder(4, step_mode="m")(torch.tensor([0.0, 0.4, 1.0]))  # t_f = 3, 1.8, 0
    tensor([[0., 0., 1.],
            [0., 0., 0.],
            [0., 1., 0.],
            [1., 0., 0.]])
    """

    def __init__(self, T: int, enc_function: str = "linear", step_mode: str = "s") -> None:
        super().__init__(T, step_mode)
        check_choice("LatencyEncoder", "enc_function", enc_function, ("linear", "log"), UnknownNameError)
        if enc_function == "log" and T > 700:
            raise ValueError(f"LatencyEncoder: with enc_function='log' T must be at most 700, but got {T}.")
        self.enc_function = enc_function

    def encode(self, x: Tensor) -> Tensor:
        check_floating("LatencyEncoder", x)
        _check_range("LatencyEncoder", x, 1.0)
        wide = x.detach().double()
        if self.enc_function == "linear":
            fires = (self.T - 1) * (1 - wide)
        else:
            fires = self.T - 1 - torch.log(math.expm1(self.T - 1) * wide + 1)
        steps = torch.arange(self.T, device=x.device).view(-1, *[1] * x.ndim)
        return (fires.round() == steps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, enc_function={self.enc_function}, step_mode={self.step_mode}"


class WeightedPhaseEncoder(StatefulEncoder):
    r"""The binary digits of a value in `K` steps: the spike of step k, from 1, weighs $2^{-k}$.

    Values are from 0 to $1 - 2^{-K}$; what is below the last digit is cut off.

    Kim et al., *Deep neural networks with weighted spikes* (Neurocomputing 2018).

    >>> WeightedPhaseEncoder(3, step_mode="m")(torch.tensor([[0.625, 0.3]])).squeeze(1)  # 1/2 + 1/8, and 1/4 + 0.05
    tensor([[1., 0.],
            [0., 1.],
            [1., 0.]])
    """

    def __init__(self, K: int, step_mode: str = "s") -> None:
        K = check_whole(type(self).__name__, "K", K)
        super().__init__(K, step_mode)
        if K > 52:
            raise ValueError(f"WeightedPhaseEncoder: K must be at most 52, the digits of a float64, but got {K}.")
        self.K = K

    def encode(self, x: Tensor) -> Tensor:
        check_floating("WeightedPhaseEncoder", x)
        _check_range("WeightedPhaseEncoder", x, 1 - 2.0**-self.K)
        steps = torch.arange(1, self.K + 1, device=x.device, dtype=torch.float64).view(-1, *[1] * x.ndim)
        shifted = (x.detach().double() * 2.0**steps).floor()  # exact: a power of two times a float
        return (shifted % 2).to(x.dtype)


class DeltaEncoder(MemoryModule):
    r"""Send-on-delta: a spike where the signal has moved by `threshold` from a reference, which then follows.

    $$S_t = [x_t - r_{t-1} \ge \theta] - [r_{t-1} - x_t \ge \theta] \qquad r_t = r_{t-1} + \theta S_t$$

    The reference starts at the first input, which gives no spike; `off_spike=False` leaves the spikes of -1 out, while
    the reference still follows. As long as a signal moves by no more than $\theta$ a step, it stays within $\theta$
    of $r$, its sum of spikes.

    - `threshold`: $\theta$, above 0.

    Miskowicz, *Send-on-delta concept: an event-based data reporting strategy* (Sensors 2006).

    >>> encoder = DeltaEncoder(0.5, step_mode="m")
    >>> encoder(torch.tensor([[0.0], [0.25], [0.75], [1.0], [0.25]])).flatten()  # r = 0, 0, 0.5, 1, 0.5
    tensor([ 0.,  0.,  1.,  1., -1.])
    """

    reference: Tensor | None

    def __init__(self, threshold: float, off_spike: bool = True, step_mode: str = "s") -> None:
        super().__init__()
        check_number("DeltaEncoder", "threshold", threshold, above=0)
        check_switches("DeltaEncoder", off_spike=off_spike)
        self.threshold = threshold
        self.off_spike = off_spike
        self.register_memory("reference", None)
        self.step_mode = step_mode

    def rests_of_samples(self) -> Iterator[tuple[MemoryModule, str, Any]]:
        yield self, "reference", math.nan  # the next input takes its place

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating("DeltaEncoder", x)
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        if not (torch.compiler.is_compiling() or x.is_meta) and not bool(wide.isfinite().all()):
            raise ValueError(
                "DeltaEncoder follows a signal, which must be finite, but got NaN or infinity: no later value would be "
                "told from it. Fill gaps first, for example with x.nan_to_num()."
            )
        held = self.fitting(
            "reference", x.shape, cure="Call reset() before each batch of other samples, of this shape or another."
        )
        reference = wide if held is None else held
        if isinstance(held, Tensor):  # of samples that begin anew it is NaN
            reference = torch.where(held.isnan(), wide, held)
        moved = wide - reference
        on, off = (moved >= self.threshold).to(wide.dtype), (moved <= -self.threshold).to(wide.dtype)
        self.reference = reference + self.threshold * (on - off)
        return (on - off if self.off_spike else on).to(x.dtype)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, off_spike={self.off_spike}, step_mode={self.step_mode}"


_WIDEST = 1e18
"""Of a number that a population prefers: its square is one of float32."""


class _PopulationEncoder(nn.Module):
    """Gaussian tuning curves, `pop_dim` of them over `mean_range` for each of the `obs_dim` numbers."""

    def __init__(self, obs_dim: int, pop_dim: int, spike_ts: int, mean_range: tuple[float, float], std: float) -> None:
        super().__init__()
        owner = type(self).__name__
        self.obs_dim = obs_dim = check_whole(owner, "obs_dim", obs_dim)
        self.pop_dim = pop_dim = check_whole(owner, "pop_dim", pop_dim)
        self.spike_ts = check_whole(owner, "spike_ts", spike_ts)
        if not isinstance(mean_range, (tuple, list)) or len(mean_range) != 2:
            raise ValueError(f"{owner}: mean_range must be (low, high), but got {mean_range!r}.")
        low, high = mean_range
        for name, end in (("low", low), ("high", high)):
            check_number(owner, f"mean_range, its {name} end,", end, least=-_WIDEST, most=_WIDEST)
        if not low < high:
            raise ValueError(f"{owner}: mean_range must be (low, high) with low < high, but got {mean_range!r}.")
        check_number(owner, "std", std, above=0, most=_WIDEST)
        means = torch.linspace(low, high, pop_dim) if pop_dim > 1 else torch.tensor([(low + high) / 2])
        self.mean = nn.Parameter(means.expand(1, obs_dim, pop_dim).clone())
        self.std = nn.Parameter(torch.full((1, obs_dim, pop_dim), float(std)))

    def activity(self, obs: Tensor) -> Tensor:
        """The response of every neuron, from 0 to 1: `[N, obs_dim * pop_dim]`."""
        owner = type(self).__name__
        check_floating(owner, obs)
        if obs.ndim != 2 or obs.shape[1] != self.obs_dim:
            raise ShapeError(f"{owner} takes observations [N, {self.obs_dim}], but got {dims(obs.shape)}.")
        found = torch.exp(-(((obs.unsqueeze(-1) - self.mean) / self.std) ** 2) / 2).flatten(1)
        if not (torch.compiler.is_compiling() or found.is_meta) and bool(found.isnan().any()):
            raise ValueError(
                f"{owner}: a response is NaN: look for NaN in the observations, and for a std of 0 that was learned."
            )
        return found

    def extra_repr(self) -> str:
        return f"obs_dim={self.obs_dim}, pop_dim={self.pop_dim}, spike_ts={self.spike_ts}"


class PopSpikeEncoderDeterministic(_PopulationEncoder):
    r"""Population code: Gaussian responses drive soft-reset integrators. `[N, obs_dim]` to `[T, N, obs_dim * pop_dim]`.

    $$a = e^{-(x - \mu)^2 / 2\sigma^2} \qquad V \leftarrow V + a \qquad S = [V \ge \theta] \qquad
      V \leftarrow V - \theta S$$

    with $\theta = 0.999$. The means $\mu$, spread over `mean_range`, and `std` $\sigma$ are Parameters; a spike passes
    its gradient on to the response unchanged. `spike_ts` is T.

    Tang et al., *Deep reinforcement learning with population-coded spiking neural network* (CoRL 2020).

    >>> encoder = PopSpikeEncoderDeterministic(1, 3, 2, (-1.0, 1.0), 1.0)
    >>> encoder(torch.tensor([[0.0]])).detach()  # responses exp(-1/2) = 0.607, 1, 0.607
    tensor([[[0., 1., 0.]],
    <BLANKLINE>
            [[1., 1., 1.]]])
    """

    def forward(self, obs: Tensor) -> Tensor:
        """All steps of the code."""
        activity = self.activity(obs)
        volts, spikes = torch.zeros_like(activity).detach(), []
        for _ in range(self.spike_ts):
            volts = volts + activity.detach()
            spike = (volts >= 0.999).to(activity.dtype)
            volts = volts - 0.999 * spike
            spikes.append(spike + (activity - activity.detach()))
        return torch.stack(spikes)


class PopSpikeEncoderRandom(_PopulationEncoder):
    """Population code whose Gaussian responses are spike probabilities; see `PopSpikeEncoderDeterministic`.

    - `generator`: a `torch.Generator` on the device of the input, for a seed of its own.

    Tang et al. (CoRL 2020).

    >>> encoder = PopSpikeEncoderRandom(1, 1, 2, (-1.0, 1.0), 1.0)
    >>> encoder(torch.tensor([[0.0]])).detach().flatten()  # the response is 1
    tensor([1., 1.])
    """

    def __init__(
        self,
        obs_dim: int,
        pop_dim: int,
        spike_ts: int,
        mean_range: tuple[float, float],
        std: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(obs_dim, pop_dim, spike_ts, mean_range, std)
        self.generator = generator

    def forward(self, obs: Tensor) -> Tensor:
        """All steps of the code."""
        activity = self.activity(obs).expand(self.spike_ts, -1, -1)
        return _bernoulli(activity.detach(), self.generator) + (activity - activity.detach())


_explain_absent(__name__)
