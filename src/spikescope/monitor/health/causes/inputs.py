"""What is wrong with the input: nothing in it, all alike, out of range, time and batch in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator

from ...choose.kinds import in_sequences, is_foreign
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_LARGEST = 1e-2  # below which all values count as too small
_UNLIKE = 0.5

_STARVED = {
    "never near the threshold": "anywhere",
    "silent layer": "anywhere",
    "silent neurons": "anywhere",
    "outside the surrogate": "anywhere",
    "vanishing gradient in depth": "anywhere",
    "vanishing gradient in time": "anywhere",
    "driven below rest": "anywhere",
    "synchrony": "anywhere",
}
_FLOODED = {
    "learning rate too high": "anywhere",
    "runs away upwards": "anywhere",
    "runs away downwards": "anywhere",
    "driven below rest": "anywhere",
    "saturated neurons": "anywhere",
    "silent neurons": "anywhere",
    "silent layer": "anywhere",
    "outside the surrogate": "anywhere",
    "vanishing gradient in depth": "anywhere",
    "exploding gradient in depth": "anywhere",
    "vanishing gradient in time": "anywhere",
    "exploding gradient in time": "anywhere",
    "synchrony": "anywhere",
    "rate too high": "anywhere",
    "non-finite gradient": "anywhere",
}

ZERO = Cause(
    "input all zero",
    11,
    "Every value that the network was given is zero.",
    "Look at the loader: an empty recording, a crop without events, an integer division by 255.",
    _STARVED,
)

CONSTANT = Cause(
    "input constant",
    85,
    "Every value that the network was given is the same number.",
    "Look at the loader: a fill value, a normalisation by the wrong axis, one sample that is repeated.",
    {"synchrony": "anywhere", "silent neurons": "anywhere", "saturated neurons": "anywhere"},
)

SWAPPED = Cause(
    "time and batch swapped",
    13,
    "Neighbours along the second axis are alike, as steps of one sample are, and those along the first differ, as "
    "samples do: the input seems to be [N, T, ...] where [T, N, ...] is wanted. The number is the ratio of these "
    "differences.",
    "Bring time to the front.",
    {**_STARVED, **_FLOODED, "state carried over": "anywhere", "state carried over in evaluation": "anywhere"},
)

MODE = Cause(
    "sequence in single steps",
    12,
    "The network runs in single steps, and the first axis of what it was given has the size of the time, which is then "
    "taken for the batch. The number is of steps.",
    "Switch the network to sequences.",
    {**_STARVED, **_FLOODED, "not watched": "anywhere"},
)

SCALE = Cause(
    "input not normalised",
    14,
    "The input is far from the order of one, to which thresholds are made. The number is the root of its mean square, "
    "or, where all is too small, its largest value.",
    "Divide the input by its scale, such as 255 for bytes, or subtract its mean and divide by its deviation.",
    {**_STARVED, **_FLOODED},
)


@register(ZERO, CONSTANT, SWAPPED, MODE, SCALE)
def judge(seen: Seen) -> Iterator[Finding]:
    """The range and the order of what was given."""
    held = seen.inputs
    if not held.calls or held.bad is not None or held.low > held.high:
        return
    values = (held.low, held.mean, held.high, held.rms)
    evidence = Evidence(
        f"values from {held.low:.3g} to {held.high:.3g}, mean {held.mean:.3g}",
        "value",
        ("least", "mean", "largest", "rms"),
        values,
    )
    size = max(abs(held.low), abs(held.high))
    if size == 0:
        yield ZERO.found("", 0, 0, evidence, "print(x.abs().amax())  # follow it through the loader")
        return
    if _in_single_steps(seen):
        whole = "x".join(map(str, held.shapes[0]))
        words = f"{evidence.words}; the input is {whole}, and is one step"
        yield MODE.found("", held.shapes[0][0], 1, Evidence(words), 'functional.set_step_mode(net, "m")')
    if held.low == held.high:
        yield CONSTANT.found("", held.low, held.low, evidence, "print(x.unique())  # follow it through the loader")
    elif _swapped(seen):
        shape = "x".join(map(str, held.shapes[0]))
        words = f"{evidence.words}; the input is {shape}, and its second axis goes like time"
        order = Evidence(words, "mean difference", ("first axis", "second axis"), (1.0, held.unlike))
        yield SWAPPED.found("", held.unlike, _UNLIKE, order, "x = x.transpose(0, 1)")
    if held.rms > seen.limits.scale:
        line = "x = x / 255" if held.low >= 0 and 100 < held.high <= 255 else f"x = x / {held.rms:.3g}"
        yield SCALE.found("", held.rms, seen.limits.scale, evidence, line)
    elif size < _LARGEST and held.low != held.high:
        yield SCALE.found("", size, _LARGEST, evidence, f"x = x / {size:.3g}")


def _ordered(seen: Seen) -> bool:
    """Whether the first two axes of the input are those that the first neuron takes for time and batch."""
    shapes = [seen.origin.shapes[name][:2] for name in seen.places if name in seen.origin.shapes]
    neurons = [seen.modules[name] for name in seen.places if name in seen.origin.states]
    first = all(in_sequences(held) and not is_foreign(held) for held in neurons)  # theirs may be in another order
    held = seen.inputs
    return bool(shapes) and first and bool(held.shapes) and shapes[0] == held.shapes[0][:2]


def _in_single_steps(seen: Seen) -> bool:
    """Whether all steps came as one: no sequence of steps was longer, and the first axis is as long as the time."""
    steps, shapes, single = seen.limits.steps, seen.inputs.shapes, seen.origin.single()
    longest = max((held.longest for held in single), default=0)
    return steps is not None and steps > longest == 1 and all(s[0] == steps and len(s) > 2 for s in shapes if s)


def _swapped(seen: Seen) -> bool:
    """Whether the data say that time is the second axis, or the shape does, where the number of steps is known."""
    if not _ordered(seen):
        return False
    first, second = seen.inputs.shapes[0][:2]
    if seen.limits.steps is not None:
        return first != seen.limits.steps == second
    return seen.inputs.unlike < _UNLIKE


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Inputs that no tensor tells."""
    if seen.ran and not seen.inputs.calls:
        yield "inputs: the network was called with no tensor"
    elif seen.ran and _ordered(seen) and seen.limits.steps is None and seen.inputs.unlike != seen.inputs.unlike:
        yield "time and batch swapped: one has length 1, or nothing changes over it; health(net, steps=T) can tell"
