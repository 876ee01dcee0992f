"""How many neurons of a layer fire, and whether they do it all at once."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from .watcher import Rule, Watcher, either, most, total

__all__ = ["Crowd"]


class Crowd(Watcher):
    r"""The share of neurons that fire in each step of each sample: its mean, and how far it goes up and down.

    $$\chi^2 = \frac{\mathrm{Var}(p)}{\bar p (1 - \bar p)}$$ is 1 where all fire in the same steps, and 1 / M for M
    neurons that fire independently.
    """

    joins: ClassVar[dict[str, Rule | None]] = {
        "neurons": most,
        "axes": most,
        "_fired": either,
        "_shares": total,
        "_more": total,
        "_scaled": either,
        "_squares": total,
    }

    def __init__(self) -> None:
        self.neurons = 0
        self.axes = 0  # of F, where it has channels
        self._fired: Tensor | None = None  # of each channel, the first axis of F
        self._shares = [0.0, 0.0, 0.0, 0.0]  # their sum and number in training, then those in evaluation
        self._more = [0.0, 0.0]  # spikes of a neuron beside the first in a step: in training, and in evaluation
        self._scaled = False  # whether values were no numbers of spikes: then one that is not 0 is one spike
        self._squares = 0.0

    def look(self, value: Any, sequence: bool, training: bool, most: int = 1) -> None:
        """The spikes of a call, `[T, N, *F]` or `[N, *F]`, at `most` so many of a neuron in a step."""
        axes = 2 if sequence else 1
        if not isinstance(value, Tensor) or value.ndim <= axes or not value.numel():
            return
        spikes = value.flatten(axes)
        share = (spikes != 0).mean(-1, dtype=torch.float64)
        fired = (value != 0).flatten(0, axes - 1).flatten(2).any(-1).any(0) if value.ndim > axes + 1 else None
        if fired is not None and (self._fired is None or self._fired.shape == fired.shape):
            self._fired = fired if self._fired is None else self._fired | fired
            self.axes = value.ndim - axes
        self.neurons = spikes.shape[-1]
        place = 0 if training else 2
        self._shares[place] += share.sum().item()
        self._shares[place + 1] += share.numel()
        if most > 1 and not self._scaled:
            number = spikes.double().abs()
            self._scaled = not bool(((number == number.round()) & (number <= most)).all())
            self._more[place // 2] += (number.mean(-1) - share).sum().item()
        self._squares += (share * share).sum().item()

    @property
    def seen(self) -> int:
        """Steps of samples."""
        return int(self._shares[1] + self._shares[3])

    @property
    def silent_channels(self) -> float | None:
        """The share of channels that never fired, of a layer that has several places in each; else None."""
        return None if self._fired is None else 1 - self._fired.double().mean().item()

    @property
    def rate(self) -> float:
        """Spikes of a neuron in a step, of either sign."""
        (training, _, evaluation, _), more = self._shares, 0.0 if self._scaled else sum(self._more)
        return (training + evaluation + more) / self.seen if self.seen else math.nan

    @property
    def rates(self) -> tuple[float, float]:
        """The rate in training and in evaluation; NaN where it did not run so."""
        training, steps, evaluation, others = self._shares
        more = [0.0, 0.0] if self._scaled else self._more
        in_training = (training + more[0]) / steps if steps else math.nan
        return in_training, (evaluation + more[1]) / others if others else math.nan

    @property
    def expected(self) -> float:
        """How many spikes there would have been in evaluation at the rate of training; NaN without training."""
        return self.rates[0] * self._shares[3] * self.neurons

    @property
    def synchrony(self) -> float:
        """Chi; NaN where nobody, or everybody, always fires."""
        mean = (self._shares[0] + self._shares[2]) / self.seen if self.seen else math.nan
        alone = mean * (1 - mean)
        together = self._squares / self.seen - mean * mean if self.seen else 0.0
        return math.sqrt(max(together, 0.0) / alone) if alone > 1e-6 else math.nan
