"""What is wrong with a network while it trains, as data: where, how much, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor, nn

from ...display import Displayed, Overview, laid_out
from ...errors import check_module
from ...neuron import Neuron
from ...neuron.nonlinear import LIAFNode
from ...neuron.readout import ReadOut
from ...neuron.spiking import is_binary
from ..choose.modules import named, where
from ..probe.group import closed_with
from ..probe.single import GradScale
from ..record import Recording, record
from ..reduce import GradientNorm, SaturatedShare, SilentShare, SupportShare
from ..reduce.pieces import whole
from .signs import Origin, Threshold

__all__ = ["Finding", "Health", "health"]

ADVICE = {
    "silent layer": "Lower v_threshold, raise the gain of the weights, or put a normalisation before the layer.",
    "silent neurons": "Lower v_threshold or raise the gain of the weights; else the layer may be smaller.",
    "saturated neurons": "Raise v_threshold, lower the gain of the weights, or add a penalty on the firing rate.",
    "outside the surrogate": "Widen the surrogate (a smaller alpha), or bring potentials near v_threshold by a norm.",
    "vanishing gradient in depth": "Widen the surrogate, add a normalisation or residual connections.",
    "exploding gradient in depth": "Clip gradients, narrow the surrogate, or scale the weights down.",
    "vanishing gradient in time": "Raise tau, or let the loss see every step.",
    "exploding gradient in time": "Use detach_reset=True, clip gradients, or cut the graph with functional.detach_net.",
    "non-finite gradient": "The number counts steps. Lower the learning rate or the loss scale, and clip gradients.",
    "non-finite output": "The number is the step. Look at the weights and the inputs of this layer; lower the learning "
    "rate.",
    "state carried over": "The number counts runs that began with the state of the one before, and no reset was seen. "
    "Call functional.reset_net before each batch; where the state is meant to go on, as of a stream, nothing is wrong.",
    "non-finite state": "The number is the step after which it was seen; spikes hide it. Scale weights and input "
    "down, or add a normalisation; lower the learning rate.",
    "exploding state": "The number is the largest distance of a potential from rest, in that of the threshold. "
    "Scale the weights and the input down, add a normalisation, or let the neuron leak faster.",
    "not watched": "The number counts probes that an error has ended; spikes, gradients and potentials raise theirs.",
}


INHIBITED = (
    "The potentials lie below rest, where a higher gain drives them further down: raise the bias, or put a "
    "normalisation before the layer."
)
"""The advice on silence that is not a lack of input."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the layer, what it is, the number that tells, its threshold, and what may help."""

    layer: str
    kind: str
    number: float
    threshold: float
    advice: str


@dataclass(frozen=True)
class Thresholds:
    """When a number is a finding; see `health`."""

    silent: float
    saturated: float
    saturated_rate: float
    support: float
    vanishing: float
    exploding: float


def health(
    net: nn.Module,
    *,
    silent: float = 0.5,
    saturated: float = 0.1,
    saturated_rate: float = 0.95,
    support: float = 0.01,
    vanishing: float = 1e-3,
    exploding: float = 1e3,
    scaler: GradScale | None = None,
) -> Health:
    """Watch a network for what keeps it from learning, while the `with` block runs.

    - `silent`: findings from this share of neurons on that never fired; all of them are a silent layer.
    - `saturated`: likewise, of neurons that fired in at least `saturated_rate` of the steps.
    - `support`: findings below this share of potentials at which the surrogate has over a tenth of its largest
      gradient. Surrogates without such an interval and neurons with several thresholds are not judged.
    - `vanishing`, `exploding`: findings below and above these ratios of gradient norms: in depth of a layer to the
      last one, in time of the first step to the last. They need a backward pass. Above `exploding` is a finding, too,
      how far a potential is from rest, in units of the distance of the threshold.

    Two things are findings at any number. A state that goes on from sequence to sequence, which a forgotten reset
    leaves: not where functional.detach_net cut it, nor within one graph, nor once a reset was seen; single steps tell
    where a sequence begins by a backward pass over several of them before it. And the first layer and step at which a
    value was not finite: the first neuron that such a value reached and the layers after it are not judged.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with health(net) as watch:
    ...     _ = net(torch.full((4, 1, 3), 0.1))
    >>> watch.findings[0].kind, watch.findings[0].number
    ('silent layer', 1.0)
    """
    check_module("health", net)
    shares = {"silent": silent, "saturated": saturated, "saturated_rate": saturated_rate, "support": support}
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ValueError(f"health: {name} is a share, above 0 and at most 1, but got {share}.")
    if not 0 <= vanishing < 1 < exploding:
        raise ValueError(
            f"health: vanishing must be below 1 and exploding above, but got vanishing={vanishing}, "
            f"exploding={exploding}."
        )
    return Health(net, Thresholds(silent, saturated, saturated_rate, support, vanishing, exploding), scaler)


class Health(Displayed):
    """What `health` gives: findings at any time, and the recordings that they come from."""

    def __init__(self, net: nn.Module, limits: Thresholds, scaler: GradScale | None) -> None:
        firing = where(lambda name, held: isinstance(held, Neuron) and not isinstance(held, (ReadOut, LIAFNode)))
        supports = _supports(net)
        self._limits = limits
        self._kept: list[Finding] | None = None  # of a copy
        reducers = {"silent": SilentShare(), "saturated": SaturatedShare(limits.saturated_rate)}
        self.spikes = record(net, reducers, firing)
        self.gradients = record(net, GradientNorm(), firing, "grad_output", scaler=scaler)
        self.potentials: Recording | None = None
        self._thresholds: list[Threshold] = []
        if supports:
            chosen = where(lambda name, held: name in supports)
            self.potentials = record(net, lambda name, held: supports[name], chosen, "h")
            held = zip(self.potentials._probes, self.potentials._tracks.values(), strict=True)
            self._thresholds = [Threshold(probe, track) for probe, track in held]
        self._thresholds_closed = closed_with(self, self._thresholds)
        self._origin = Origin(net, {probe.name: probe for probe in self.gradients._probes})

    @property
    def findings(self) -> list[Finding]:
        """What is wrong so far, by kind, and of each kind from the first layer to the last.

        What is not finite comes first: from the first neuron that it reached on, it spoils what comes after it.
        """
        if self._kept is not None:
            return list(self._kept)
        broken = [*self._not_finite(), *self._exploding(), *self._carried_over()]
        return [*broken, *self._activity(), *self._support(), *self._depth(), *self._time(), *self._not_watched()]

    def _activity(self) -> Iterator[Finding]:
        limits, spoiled = self._limits, self._origin.spoiled()
        for name, row in self.spikes.sound().items():
            if name in spoiled:
                continue
            state = self._origin.states[name]
            if row["silent"] >= limits.silent and state.reach <= limits.exploding:
                kind = "silent layer" if row["silent"] == 1 else "silent neurons"
                found = _finding(name, kind, row["silent"], limits.silent)
                yield replace(found, advice=INHIBITED) if state.below else found
            if row["saturated"] >= limits.saturated:
                yield _finding(name, "saturated neurons", row["saturated"], limits.saturated)

    def _support(self) -> Iterator[Finding]:
        spoiled = self._origin.spoiled()
        for name, share in ({} if self.potentials is None else self.potentials.sound()).items():
            far = self._origin.states[name].reach > self._limits.exploding
            if share < self._limits.support and name not in spoiled and not far:
                yield _finding(name, "outside the surrogate", share, self._limits.support)

    def _depth(self) -> Iterator[Finding]:
        norms = {name: float(norm.square().nansum().sqrt()) for name, norm in self.gradients.sound().items()}
        bad = self._bad_steps()
        last = next(reversed(norms), "")
        for name, norm in list(norms.items())[:-1]:
            if norms[last] > 0 and not (bad[name] or bad[last]):
                yield from self._judged(name, norm / norms[last], "depth")

    def _time(self) -> Iterator[Finding]:
        bad = self._bad_steps()
        for name, norm in self.gradients.sound().items():
            if len(norm) > 1 and norm[-1] > 0 and not bad[name]:
                yield from self._judged(name, float(norm[0] / norm[-1]), "time")

    def _bad_steps(self) -> dict[str, int]:
        """In how many steps the gradient of each layer was not finite."""
        tracks = self.gradients._tracks
        squares = {name: whole(tracks[name].summary("gradient norm").pieces)[:, 0] for name in self.gradients.sound()}
        return {name: int((~held.isfinite()).sum()) for name, held in squares.items()}

    def _judged(self, name: str, ratio: float, axis: str) -> Iterator[Finding]:
        limits = self._limits
        if name in self._origin.spoiled():
            return
        if ratio < limits.vanishing:
            yield _finding(name, f"vanishing gradient in {axis}", ratio, limits.vanishing)
        elif math.isfinite(ratio) and ratio > limits.exploding:
            yield _finding(name, f"exploding gradient in {axis}", ratio, limits.exploding)

    def _not_finite(self) -> Iterator[Finding]:
        if (origin := self._origin.first()) is not None:
            name, step = origin
            yield _finding(name, "non-finite output", step, 0)
        for name, step in self._origin.broken_states().items():
            yield _finding(name, "non-finite state", step, 0)
        bad = self._bad_steps()
        for name in [name for name, steps in bad.items() if steps][-1:]:  # the backward pass begins at the end
            yield _finding(name, "non-finite gradient", bad[name], 0)

    def _exploding(self) -> Iterator[Finding]:
        spoiled, limit = self._origin.spoiled(), self._limits.exploding
        for name, state in self._origin.states.items():
            if state.reach > limit and name not in spoiled:
                yield _finding(name, "exploding state", state.reach, limit)

    def _carried_over(self) -> Iterator[Finding]:
        carried = self._origin.carried
        runs = {name: number for name, number in carried.items() if number}
        if len(runs) > 1 and len(runs) == len(carried):  # one mistake, of the whole network
            runs = {"": max(runs.values())}
        for name, number in runs.items():
            yield _finding(name, "state carried over", number, 0)

    def _not_watched(self) -> Iterator[Finding]:
        watching = (self.spikes, self.gradients, self.potentials, self._origin)
        failed = Counter(name for held in watching if held is not None for name in held.errors)
        for name, probes in failed.items():
            yield _finding(name, "not watched", probes, 0)

    def table(self) -> str:
        """The findings as text, each with its advice."""
        found = self.findings
        if not found:
            return self._nothing()
        return "\n".join([laid_out(_cells(found)), "", *_advice(found)])

    def _nothing(self) -> str:
        if self._kept is None and not self.spikes.sound():
            return "Nothing was seen: run the network while health watches it."
        return "No findings."

    def overview(self) -> Overview:
        found = self.findings
        if not found:
            return Overview("Health", remarks=[self._nothing()])
        return Overview(f"Health: {len(found)} finding{'' if len(found) == 1 else 's'}", _cells(found), _advice(found))

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: it holds the findings, but listens to nothing."""
        return {"_kept": self.findings}

    def close(self) -> None:
        """Stop for good; the findings stay. A second time does nothing."""
        if self._kept is not None:
            return
        for held in (self.spikes, self.gradients, self.potentials, self._origin):
            if held is not None:
                held.close()
        self._thresholds_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _cells(found: list[Finding]) -> list[list[str]]:
    rows = [[f.layer or "(network)", f.kind, f"{f.number:.3g}", f"{f.threshold:.3g}"] for f in found]
    return [["layer", "finding", "number", "threshold"], *rows]


def _advice(found: list[Finding]) -> list[str]:
    return [f"{kind}: {text}" for kind, text in dict.fromkeys((f.kind, f.advice) for f in found)]


def _finding(layer: str, kind: str, number: float, threshold: float) -> Finding:
    return Finding(layer, kind, number, threshold, ADVICE[kind])


def _supports(net: nn.Module) -> dict[str, SupportShare]:
    """Where the surrogate of each neuron that has one threshold lets a gradient through."""
    found = {}
    for name, module in named(net).items():
        if is_binary(module):
            held: Any = module
            if type(held.v_threshold) is Tensor and held.v_threshold.numel() > 1:
                continue  # of one batch, as set_threshold_margin gives it
            try:
                found[name] = SupportShare.of(held.surrogate_function, held.v_threshold)
            except ValueError:  # its gradient is large in several places, or nowhere
                continue
    return found
