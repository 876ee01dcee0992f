"""Neurons for exploration: coloured noise on what comes in and goes out, drawn for a whole episode at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...base import MultiStepModule
from ...errors import ShapeError, StateError, check_floating, check_sequence, check_switches, dims
from ...surrogate import Surrogate
from ..readout import NonSpikingIFNode
from .hooks import AroundNode
from .intra_layer import Population, current_based
from .reading import ReadByHooks

__all__ = [
    "NoisyBaseNode",
    "NoisyCUBALIFNode",
    "NoisyILCBaseNode",
    "NoisyILCCUBALIFNode",
    "NoisyNonSpikingBaseNode",
    "NoisyNonSpikingIFNode",
    "powerlaw_psd_gaussian",
]

Generator = np.random.Generator | np.random.RandomState


def powerlaw_psd_gaussian(
    exponent: float, size: int | Iterable[int], fmin: float = 0.0, random_state: int | Generator | None = None
) -> Any:
    r"""Gaussian noise along the last axis, of variance 1 about its mean, whose power falls as $f^{-\beta}$.

    Timmer and Koenig, *On generating power law noise* (Astronomy and Astrophysics 1995).

    - `exponent`: $\beta$; 0 is white, 1 pink, 2 red.
    - `size`: the shape, or the number of samples.
    - `fmin`: the frequency below which the power is flat, in cycles a sample, from 0 to 0.5.
    - `random_state`: a seed, or a generator of NumPy.

    >>> powerlaw_psd_gaussian(1.0, (2, 8), random_state=0).shape
    (2, 8)
    """
    if not 0 <= fmin <= 0.5:
        raise ValueError(f"powerlaw_psd_gaussian: fmin must be from 0 to 0.5 cycles a sample, but got {fmin!r}.")
    if random_state is None or isinstance(random_state, (int, np.integer)):
        random_state = np.random.default_rng(random_state)
    *others, samples = [size] if isinstance(size, (int, np.integer)) else list(size)
    if samples < 2:
        raise ValueError(
            f"powerlaw_psd_gaussian: there must be at least 2 samples along the last axis, but got {samples}; a single "
            "one has no variance."
        )
    frequency = np.fft.rfftfreq(samples)
    flat = int((frequency < max(fmin, 1 / samples)).sum())
    frequency[:flat] = frequency[flat] if flat < len(frequency) else 1.0
    amplitude = frequency ** (-exponent / 2)
    halves = amplitude[1:] * np.where(np.arange(1, len(frequency)) == len(frequency) - 1, (1 + samples % 2) / 2, 1)
    deviation = 2 * math.sqrt((halves**2).sum()) / samples
    shape = (*others, len(frequency))
    real, imaginary = (random_state.normal(scale=amplitude, size=shape) for _ in range(2))
    for place in (0, -1) if samples % 2 == 0 else (0,):  # frequencies that have no phase
        imaginary[..., place] = 0
        real[..., place] *= math.sqrt(2)
    return np.fft.irfft(real + 1j * imaginary, n=samples, axis=-1) / deviation


class _Noise:
    """What the noisy neurons share: noise for the steps of an episode, one decision of `T` steps after the other."""

    num_node: int
    T: int
    beta: float
    is_training: bool
    noises: int  # how many of them a decision needs: of the input, and of the output
    noise_step: int

    def reset_noise(self, num_rl_step: int) -> None:
        """Draw noise for so many decisions, the first of which is next."""
        self._drawn = [self._drawn_noise(num_rl_step) for _ in range(self.noises)]
        self.noise_step = -1

    def _drawn_noise(self, decisions: int) -> Tensor:
        drawn = powerlaw_psd_gaussian(self.beta, (self.num_node, decisions * self.T))
        return torch.from_numpy(drawn).float().view(self.num_node, decisions, self.T).permute(1, 2, 0)

    def get_colored_noise(self) -> Tensor:
        """The noise of the present decision, `[T, num_node]`, of input and output side by side."""
        return torch.cat([held[self.noise_step] for held in self._drawn], dim=1)

    def load_colored_noise(self, cn: Tensor) -> None:
        """Take noise that was kept, `[N, T, ...]` of what `get_colored_noise` gave, from now on."""
        self._loaded = cn.split(self.num_node, dim=-1)

    def cancel_load(self) -> None:
        """Go on with noise of its own."""
        self._loaded = None

    _drawn: list[Tensor]
    _loaded: tuple[Tensor, ...] | None = None

    def _begin(self, x_seq: Tensor) -> list[Tensor]:
        """The noises of a call, `[T, N or 1, num_node]` each; none in evaluation."""
        owner = type(self).__name__
        check_floating(owner, x_seq)
        check_sequence(owner, x_seq)
        if x_seq.shape[-1:] != (self.num_node,) or len(x_seq) < self.T:
            raise ShapeError(
                f"{owner} takes {self.T} steps of {self.num_node} neurons, [{self.T}, N, {self.num_node}], but got "
                f"{dims(x_seq.shape)}."
            )
        if not self.is_training:
            return []
        if self._loaded is not None:
            return [held.transpose(0, 1).to(x_seq) for held in self._loaded]
        drawn = self.__dict__.get("_drawn")
        if drawn is None or self.noise_step + 1 >= len(drawn[0]):
            raise StateError(
                f"{owner}: there is no noise for this decision. Call reset_noise(n) at the start of an episode of n "
                "decisions, or set is_training = False."
            )
        self.noise_step += 1
        return [held[self.noise_step].unsqueeze(1).to(x_seq) for held in drawn]


class NoisyBaseNode(_Noise, AroundNode, MultiStepModule):
    """Base of the spiking neurons with noise on input and output.

    A subclass writes `neuronal_charge(x)`, which assigns `self.v`, and `init_tensor(data)` where it has more states.
    """

    owns_children_step_mode = True
    noises = 2

    def __init__(
        self,
        num_node: int,
        is_training: bool = True,
        T: int = 5,
        sigma_init: float = 0.5,
        beta: float = 0.0,
        v_threshold: float = 0.5,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        *,
        node: nn.Module | None = None,
    ) -> None:
        inner = self._inner(node, v_threshold, v_reset, surrogate_function)
        super().__init__()
        self.node = inner
        self._settle(num_node, is_training, T, sigma_init, beta)

    def _settle(self, num_node: int, is_training: bool, T: int, sigma_init: float, beta: float) -> None:
        check_switches(type(self).__name__, is_training=is_training)
        self.num_node, self.is_training, self.T, self.beta = num_node, is_training, T, beta
        self.sigma_v = self.sigma_s = sigma_init / math.sqrt(num_node)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Spikes of `T` steps, from rest, and noise upon them in training."""
        noises = self._begin(x_seq)
        x_seq = x_seq[: self.T]
        if noises:
            x_seq = x_seq + self.sigma_v * noises[0][: self.T]
        spikes = self._run(x_seq)
        return spikes + self.sigma_s * noises[1][: self.T] if noises else spikes

    def _run(self, x_seq: Tensor) -> Tensor:
        """The spikes of the neuron, from rest."""
        if self._by_hooks():
            self.init_tensor(x_seq[0])
            return torch.stack([self._stepped(x) for x in x_seq])
        self.node.step_mode = "m"
        self.node.reset()
        spikes: Tensor = self.node(x_seq)
        return spikes


class NoisyCUBALIFNode(NoisyBaseNode):
    r"""`CUBALIFNode` with coloured noise: $X_t + \sigma \epsilon_t$ comes in, and $S_t + \sigma \epsilon'_t$ goes out.

    $\sigma$ is `sigma_init` by the root of the number of neurons. Each call is one decision, begins at rest and takes
    `[T, N, num_node]`.

    - `num_node`: the neurons.
    - `is_training`: whether there is noise.
    - `T`: the steps of a decision; `beta`: how the power of the noise falls with the frequency.
    - the others: as in `CUBALIFNode`.

    Chen et al., *Noisy spiking actor network for exploration* (2024).

    >>> node = NoisyCUBALIFNode(3, T=4)
    >>> node.reset_noise(2)  # an episode of two decisions
    >>> node(torch.rand(4, 1, 3)).shape, node(torch.rand(4, 1, 3)).shape
    (torch.Size([4, 1, 3]), torch.Size([4, 1, 3]))
    """

    def __init__(
        self,
        num_node: int,
        c_decay: float = 0.5,
        v_decay: float = 0.75,
        is_training: bool = True,
        T: int = 5,
        sigma_init: float = 0.5,
        beta: float = 0.0,
        v_threshold: float = 0.5,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        node = current_based(c_decay, v_decay, v_threshold, v_reset, surrogate_function)
        super().__init__(num_node, is_training, T, sigma_init, beta, node=node)


class NoisyILCBaseNode(NoisyBaseNode, Population):
    """Base of the populations with noise on input and output; a subclass is written as one of `NoisyBaseNode`."""

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        is_training: bool = True,
        T: int = 5,
        sigma_init: float = 0.5,
        beta: float = 0.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        *,
        node: nn.Module | None = None,
    ) -> None:
        Population.__init__(self, self._inner(node, v_threshold, v_reset, surrogate_function), act_dim, dec_pop_dim)
        self._settle(self.out_pop_dim, is_training, T, sigma_init, beta)
        self._noises: list[Tensor] = []

    def _noisy_input(self, t: int, x: Tensor) -> Tensor:
        return x + self.sigma_v * self._noises[0][t] if self._noises else x

    def _noisy_output(self, t: int, spike: Tensor) -> Tensor:
        return spike + self.sigma_s * self._noises[1][t] if self._noises else spike

    def forward(self, x_seq: Tensor) -> Tensor:
        """Spikes of `T` steps, from rest, and noise upon them in training."""
        self._noises = self._begin(x_seq)
        self.node.step_mode = "s"
        try:
            return Population.forward(self, x_seq[: self.T])
        finally:
            self._noises = []


class NoisyILCCUBALIFNode(NoisyILCBaseNode):
    """`ILCCUBALIFNode` with the noise of `NoisyCUBALIFNode`; what is fed back carries it, too.

    Chen et al., *Noisy spiking actor network for exploration* (2024).
    """

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        c_decay: float = 0.5,
        v_decay: float = 0.75,
        is_training: bool = True,
        T: int = 5,
        sigma_init: float = 0.5,
        beta: float = 0.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        node = current_based(c_decay, v_decay, v_threshold, v_reset, surrogate_function)
        super().__init__(act_dim, dec_pop_dim, is_training, T, sigma_init, beta, node=node)


class NoisyNonSpikingBaseNode(_Noise, ReadByHooks):
    """Base of the read-outs with noise on the input, whose size `sigma` learns.

    A subclass writes `neuronal_charge(x)`, which assigns `self.v`, and `init_tensor(data)` where it has more states.
    """

    noises = 1

    def __init__(
        self,
        num_node: int,
        is_training: bool = True,
        T: int = 5,
        sigma_init: float = 0.5,
        beta: float = 0.0,
        decode: str | None = None,
    ) -> None:
        super().__init__(decode)
        check_switches(type(self).__name__, is_training=is_training)
        self.num_node, self.is_training, self.T, self.beta = num_node, is_training, T, beta
        self.sigma = nn.Parameter(torch.full((num_node,), sigma_init / math.sqrt(num_node)))

    def forward(self, x_seq: Tensor) -> Tensor | list[Tensor]:
        """The decoded potential `[N, *]`, or a list of those of all steps."""
        noises = self._begin(x_seq)
        x_seq = x_seq[: self.T]
        return self._read(x_seq + self.sigma * noises[0][: self.T] if noises else x_seq)


class NoisyNonSpikingIFNode(NoisyNonSpikingBaseNode):
    r"""A read-out that sums its input and coloured noise, $V_t = V_{t-1} + X_t + \sigma \odot \epsilon_t$, from rest.

    - `decode`: `'max-mem'`, `'max-abs-mem'`, `'mean-mem'`, `'last-mem'`, or None for a list of all potentials.
    - the others: as in `NoisyCUBALIFNode`.

    Chen et al., *Noisy spiking actor network for exploration* (2024).

    >>> node = NoisyNonSpikingIFNode(2, is_training=False, T=3, decode="last-mem")
    >>> node(torch.ones(3, 1, 2))
    tensor([[3., 3.]])
    """

    def _read(self, x_seq: Tensor) -> Tensor | list[Tensor]:
        if type(self).neuronal_charge is not ReadByHooks.neuronal_charge:
            return super()._read(x_seq)
        node = NonSpikingIFNode(self.decode or "last-mem", step_mode="m", store_v_seq=self.decode is None)
        read: Tensor = node(x_seq)
        return list(node.v_seq.unbind(0)) if self.decode is None else read
