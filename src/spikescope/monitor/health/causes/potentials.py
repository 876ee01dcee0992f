"""Potentials that run away, stay far from the threshold, or lie where the surrogate passes nothing on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...choose.kinds import is_foreign
from ..code import scaled_weights, shifted_bias, widened
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_INHIBITED = -0.1

_SILENT = {
    "silent layer": "after",
    "silent neurons": "after",
    "never near the threshold": "after",
    "outside the surrogate": "after",
    "vanishing gradient in depth": "before",
    "vanishing gradient in time": "before",
}

UP = Cause(
    "runs away upwards",
    90,
    "A potential is far above the threshold; the number is its distance from rest, in that of the threshold.",
    "Scale the weights and the input down, add a normalisation before the layer, or let the neuron leak faster.",
    {
        "saturated neurons": "after",
        "outside the surrogate": "here",
        "rate too high": "after",
        "runs away upwards": "after",
        "vanishing gradient in depth": "before",
        "exploding gradient in depth": "before",
    },
)

DOWN = Cause(
    "runs away downwards",
    91,
    "A potential is far below rest; the number is its distance from there, in that of the threshold.",
    "Scale the weights and the input down, or put a normalisation before the layer: a higher gain drives it further.",
    {**_SILENT, "driven below rest": "here", "runs away downwards": "after"},
)

BELOW = Cause(
    "driven below rest",
    100,
    "No neuron of the layer fires, and what they are given is below zero on the whole: a higher gain drives them "
    "further down. The number is the mean input, in distances of the threshold from rest.",
    "Raise the bias, or put a normalisation before the layer.",
    _SILENT,
)

FAR = Cause(
    "never near the threshold",
    101,
    "No neuron of the layer fires, and no potential comes nearer to the threshold than half of its distance from rest. "
    "The number is the largest one at the end of a call, in that distance.",
    "Raise the gain of the weights, or put a normalisation before the layer.",
    _SILENT,
)

OUTSIDE = Cause(
    "outside the surrogate",
    150,
    "At nearly all potentials the surrogate has less than a tenth of its largest gradient, so that little is learned. "
    "The number is the share of potentials where it has more.",
    "Widen the surrogate, or bring potentials near the threshold by a normalisation.",
    {"vanishing gradient in depth": "before", "vanishing gradient in time": "before"},
)


@register(UP, DOWN, BELOW, FAR, OUTSIDE)
def judge(seen: Seen) -> Iterator[Finding]:
    """What states and potentials tell."""
    limits, spoiled = seen.limits, seen.origin.spoiled()
    activity = seen.activity()
    near = {} if seen.near is None else seen.near.sound()
    for name, state in seen.origin.states.items():
        if name in spoiled or name not in seen.places:
            continue
        if state.reach > limits.exploding:
            upwards = state.top >= -state.bottom
            cause = UP if upwards else DOWN
            line = scaled_weights(seen, name, 1 / state.reach)
            yield cause.found(name, state.reach, limits.exploding, _extent(seen, name), line)
        elif activity.get(name, {}).get("silent") != 1:
            continue
        elif (drive := seen.origin.drive(name)) < _INHIBITED:
            words = "the mean input of the neurons, in distances of the threshold from rest"
            evidence = Evidence(words, "threshold - rest", ("mean input", "threshold"), (drive, 1.0))
            line = shifted_bias(seen, name, (1 - drive) * state.scale)
            yield BELOW.found(name, drive, _INHIBITED, evidence, line)
        elif near.get(name, math.nan) == 0:
            top = max(state.top, 0.0)
            line = scaled_weights(seen, name, min(2 / top, 1e6) if top > 0 else 10)
            yield FAR.found(name, top, 0.5, _extent(seen, name), line)
    for name, share in ({} if seen.potentials is None else seen.potentials.sound()).items():
        if share < limits.support and name not in spoiled:
            words = f"{share:.1%} of the potentials are inside the surrogate"
            yield OUTSIDE.found(name, share, limits.support, Evidence(words), widened(seen, name))


def _extent(seen: Seen, name: str) -> Evidence:
    """The extent of the potentials of a neuron."""
    state = seen.state(name)
    words = f"potentials from {state.bottom:.3g} to {state.top:.3g}, in distances of the threshold from rest"
    labels = ("least", "largest", "threshold")
    return Evidence(words, "threshold - rest", labels, (state.bottom, state.top, 1.0))


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Neurons without one threshold, or whose surrogate has no one interval."""
    judged = set() if seen.potentials is None else set(seen.potentials._tracks)
    left = [name for name in seen.places if name in seen.origin.crowds and name not in judged]
    left = [name or "the network" for name in left if not is_foreign(seen.modules[name])]
    if left:
        yield f"where the surrogate passes gradients on: not one threshold or one interval in {', '.join(left[:8])}"
    foreign = [name or "the network" for name in seen.places if is_foreign(seen.modules[name])]
    if foreign:
        yield f"potentials before the reset, which other libraries do not tell: of {', '.join(foreign[:8])}"
