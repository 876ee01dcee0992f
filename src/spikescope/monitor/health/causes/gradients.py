"""Gradients that vanish, explode, are not finite or do not arrive, over depth and over time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import nn

from ....neuron.readout import NonSpikingIFNode, ReadOut
from ..code import gain_of, leaks, module_of, scaled_weights, widened
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

BROKEN = Cause(
    "non-finite gradient",
    160,
    "The gradient of a layer's spikes is NaN or infinite; the number counts steps.",
    "Lower the learning rate or the loss scale, and clip gradients. If it is the last layer, look at the loss: a "
    "logarithm or a root at zero.",
    {"non-finite gradient": "before"},
    backwards=True,
)

CUT = Cause(
    "no gradient arrives",
    161,
    "A layer ran and its weights learn, but no backward pass reached them, though it reached others. The number counts "
    "such weights.",
    "Something between this layer and the next one that learns cuts the graph: detach(), .data, no_grad, item(), or a "
    "comparison without a surrogate.",
    {"vanishing gradient in depth": "before"},
    backwards=True,
)

FADES = Cause(
    "vanishing gradient in depth",
    170,
    "The gradient of a layer is a small part of that of the last layer; the number is that part.",
    "Widen the surrogate, raise the gain of the weights behind the layer, add a normalisation or residual connections.",
    {"vanishing gradient in depth": "before"},
    backwards=True,
)

GROWS = Cause(
    "exploding gradient in depth",
    180,
    "The gradient of a layer is a large multiple of that of the last layer; the number is how large.",
    "Scale the weights behind the layer down, narrow the surrogate, or clip gradients.",
    {"exploding gradient in depth": "before"},
    backwards=True,
)

FORGETS = Cause(
    "vanishing gradient in time",
    190,
    "The gradient of the first step is a small part of that of the last one; the number is that part.",
    "Let the loss see every step; in a layer before the last one, raise tau of the neurons behind it that have one.",
    {"vanishing gradient in time": "before"},
    backwards=True,
)

REMEMBERS = Cause(
    "exploding gradient in time",
    200,
    "The gradient of the first step is a large multiple of that of the last one; the number is how large.",
    "Scale weights of feedback down, clip gradients, or cut the graph with functional.detach_net.",
    {"exploding gradient in time": "before"},
    backwards=True,
)


@register(BROKEN, CUT, FADES, GROWS, FORGETS, REMEMBERS)
def judge(seen: Seen) -> Iterator[Finding]:
    """What the backward passes tell."""
    norms, bad = seen.norms(), seen.bad_steps()
    for name in [name for name, steps in bad.items() if steps][-1:]:  # the backward pass begins at the end
        words = f"the gradient is not finite in {bad[name]} steps"
        line = "# look at the loss, such as torch.log(p.clamp_min(1e-6))"
        yield BROKEN.found(name, bad[name], 0, Evidence(words), line)
    yield from _cut(seen)
    spoiled = seen.origin.spoiled()
    sound = {name: norm for name, norm in norms.items() if name not in spoiled and not bad[name]}
    yield from _depth(seen, sound)
    for name, norm in sound.items():
        if len(norm) > 1 and norm[-1] > 0:
            yield from _time(seen, name, norm)


def _cut(seen: Seen) -> Iterator[Finding]:
    """Weights that no gradient reached, of layers that ran."""
    counts = seen.arrival.counts
    if not any(counts.values()):
        return
    missed = [name for name, number in counts.items() if not number and name.rpartition(".")[0] in seen.places]
    layers = sorted({name.rpartition(".")[0] for name in missed}, key=seen.places.__getitem__)
    if layers:
        words = f"no gradient arrived at {', '.join(missed[:8])}"
        line = f"# behind {module_of(layers[-1])}: look for .detach(), .data, torch.no_grad() or a comparison"
        yield CUT.found(layers[-1], len(missed), 0, Evidence(words), line)


def _depth(seen: Seen, norms: dict[str, Any]) -> Iterator[Finding]:
    limits = seen.limits
    size = {name: float(norm.square().nansum().sqrt()) for name, norm in norms.items()}
    last = next(reversed(size), "")
    if not size or not size[last] > 0:
        return
    ratios = {name: held / size[last] for name, held in size.items()}
    evidence = Evidence(
        "the gradient of each layer, in that of the last", "ratio", tuple(ratios), tuple(ratios.values())
    )
    names = list(size)
    for name, behind in pairwise(names):
        ratio, step = ratios[name], size[name] / size[behind] if size[behind] else math.nan
        between = f"# between {module_of(name)} and {module_of(behind)}, where it changes {step:.2g} times"
        gain = gain_of(seen, behind)
        if ratio < limits.vanishing:
            line = widened(seen, behind) if _dead(seen, behind) else between
            line = scaled_weights(seen, behind, 1 / gain) if 0 < gain < 0.1 else line
            yield FADES.found(name, ratio, limits.vanishing, evidence, line)
        elif math.isfinite(ratio) and ratio > limits.exploding:
            line = scaled_weights(seen, behind, 1 / gain) if gain > 10 else between
            yield GROWS.found(name, ratio, limits.exploding, evidence, line)


def _dead(seen: Seen, name: str) -> bool:
    """Whether few potentials of a neuron lie where its surrogate passes a gradient on."""
    shares = {} if seen.potentials is None else seen.potentials.sound()
    return bool(shares.get(name, 1.0) < 0.1)


def _time(seen: Seen, name: str, norm: Any) -> Iterator[Finding]:
    limits, ratio = seen.limits, float(norm[0] / norm[-1])
    halfway = float(norm[(len(norm) - 1) // 2] / norm[-1])  # of what fades through time
    # where nobody fires at first, a product of spikes, as in attention, has no gradient there alone
    steps = tuple(f"step {step}" for step in range(len(norm)))
    evidence = Evidence("the gradient at each step", "L2 norm", steps, tuple(norm.double().tolist()))
    if ratio < limits.vanishing and halfway < math.sqrt(limits.vanishing):
        yield FORGETS.found(name, ratio, limits.vanishing, evidence, *_seeing_more(seen, name))
    elif math.isfinite(ratio) and ratio > limits.exploding:
        yield REMEMBERS.found(name, ratio, limits.exploding, evidence, _weaker(seen, name))


def _seeing_more(seen: Seen, name: str) -> tuple[str, str]:
    """The line, and the advice, that let more of the early steps reach the loss: by the read-out, where one ends it."""
    behind = [place for place, at in seen.places.items() if at > seen.places[name]]
    readers = [place for place in behind if isinstance(seen.modules[place], ReadOut)]
    if not readers:
        return "# let the loss see every step: y.mean(0), not y[-1]", ""
    place = readers[-1]
    reader: Any = seen.modules[place]
    if reader.decode == "mean-mem" or (reader.decode == "last-mem" and isinstance(reader, NonSpikingIFNode)):
        between = f"# between {module_of(name)} and {module_of(place)}"
        if any(leaks(seen.modules[other]) for other in behind if seen.places[other] < seen.places[place]):
            return f"{between}: raise tau", "The read-out weighs all steps alike: raise tau of what lies before it."
        line = f"{between}: no neuron has a tau; look for what weighs the steps, or cuts the state"
        return line, "The read-out weighs all steps alike, and no neuron before it leaks."
    line = f"{module_of(place)}.decode = 'mean-mem'"
    other = ", or raise its tau" if leaks(reader) else ""
    return line, f"The read-out tells the loss of few steps: let it decode the mean of all{other}."


def _weaker(seen: Seen, name: str) -> str:
    """Less feedback, where there is some around the neuron."""
    around: Any = seen.modules.get(name.rpartition(".")[0])
    if name and isinstance(getattr(around, "rc", None), nn.Linear):
        return f"{module_of(name.rpartition('.')[0])}.rc.weight.data.mul_(0.5)"
    return "# before each update: torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)"


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Backward passes that did not come."""
    if seen.ran and not seen.learned:
        yield "gradients: no backward pass seen"
