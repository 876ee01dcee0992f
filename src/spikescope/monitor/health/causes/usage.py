"""How the network is used: neurons in two places, states that nobody resets, what could not be watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..code import module_of, reset_of
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_CARRIED = {
    "saturated neurons": "anywhere",
    "runs away upwards": "anywhere",
    "runs away downwards": "anywhere",
    "driven below rest": "anywhere",
}

TWICE = Cause(
    "one neuron used twice",
    70,
    "The same object stands in several places, which share one state and mix their sequences. The number is of places.",
    "Give each place a neuron of its own.",
    {
        **_CARRIED,
        "state carried over": "anywhere",
        "state carried over in evaluation": "anywhere",
        "silent layer": "anywhere",
        "silent neurons": "anywhere",
        "not watched": "anywhere",
    },
)

RESET = (
    "Call functional.reset_net before each batch; where the state is meant to go on, as of a stream, nothing is wrong."
)

CARRIED = Cause(
    "state carried over",
    80,
    "Sequences began with the state of the one before, and no reset was seen; the number counts them.",
    RESET,
    _CARRIED,
)

EVALUATED = Cause(
    "state carried over in evaluation",
    81,
    "In evaluation, sequences began with the state of the one before, and no reset was seen; the number counts them.",
    f"What the network says of a sample depends on the one before it. {RESET}",
    _CARRIED,
)

LOST = Cause(
    "not watched",
    300,
    "An error has ended probes; the number counts them. Their spikes, gradients and potentials raise it.",
    "Read the error: watch.spikes.errors, watch.gradients.errors.",
    {},
)


@register(TWICE, CARRIED, EVALUATED, LOST)
def judge(seen: Seen) -> Iterator[Finding]:
    """What the calls of the modules tell."""
    yield from _twice(seen)
    carried = seen.origin.carried(seen.limits.steps)
    runs = {name: number for name, number in carried.items() if number}
    cause = EVALUATED if runs and seen.origin.evaluating() else CARRIED
    evidence = Evidence(
        "sequences that began with an old state", "sequences", tuple(runs), tuple(map(float, runs.values()))
    )
    if len(runs) > 1 and len(runs) == len(carried):  # one mistake, of the whole network
        runs = {"": max(runs.values())}
    advice = cause.advice.replace("functional.reset_net", reset_of(seen).partition("(")[0])
    for name, number in runs.items():
        yield cause.found(name, number, 0, evidence, f"{reset_of(seen)}  # before each batch", advice)
    errors = dict(seen.errors)
    for name, probes in Counter(name for name, _ in seen.errors).items():
        yield LOST.found(name, probes, 0, Evidence(str(errors[name])))


def _twice(seen: Seen) -> Iterator[Finding]:
    uses = seen.origin.uses
    for name, names in uses.shared().items():
        words = f"it is {', '.join(map(module_of, names))}"
        line = "; ".join(f"{module_of(other)} = copy.deepcopy({module_of(name)})" for other in names[1:])
        yield TWICE.found(name, len(names), 1, Evidence(words), line)
    for name, number in uses.twice.items():
        if name not in uses.shared():
            words = f"it ran {number} times as often as the layers with weights"
            line = f"# in forward, the second place: self.other = copy.deepcopy({module_of(name)})"
            yield TWICE.found(name, number, 1, Evidence(words), line)


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Where sequences end."""
    if seen.limits.steps is None and any(held.unknown for held in seen.origin.single()):
        yield "a forgotten reset: single steps do not show where a sequence ends; steps= tells"
