"""Values that are not finite: in the input, in weights, in what a layer gives, in a state, in a gradient."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..code import module_of, reset_of
from ..finding import Evidence, Finding
from ..registry import Cause, register
from ..watch.seen import Seen

_SPOILED = {
    "non-finite weights": "anywhere",
    "non-finite output": "anywhere",
    "non-finite state": "anywhere",
    "non-finite gradient": "anywhere",
    "runs away upwards": "anywhere",
    "runs away downwards": "anywhere",
    "silent layer": "after",
    "silent neurons": "after",
    "outside the surrogate": "after",
}

INPUT = Cause(
    "non-finite input",
    10,
    "The network was given a value that is NaN or infinite.",
    "Look at the data: an empty recording, a division by a deviation of zero, a logarithm of zero.",
    {**_SPOILED, "learning rate too high": "anywhere"},
)

WEIGHTS = Cause(
    "non-finite weights",
    30,
    "Weights of a layer are NaN or infinite; the number counts them.",
    "They are lost: load the last good checkpoint or initialise them anew. Lower the learning rate, and check the "
    "gradients for what is not finite before each update.",
    _SPOILED,
)

OUTPUT = Cause(
    "non-finite output",
    31,
    "A layer gave a value that is NaN or infinite, though its weights are finite; the number is the step.",
    "Look at what this layer computes: a division by zero, a logarithm or root at zero, an overflow of half precision.",
    _SPOILED,
)

STATE = Cause(
    "non-finite state",
    32,
    "The state of a neuron is NaN or infinite, which its spikes hide; the number is the step after which it was seen.",
    "Scale weights and input down, add a normalisation before the layer, or lower the learning rate; then reset the "
    "state.",
    _SPOILED,
)


@register(INPUT, WEIGHTS, OUTPUT, STATE)
def judge(seen: Seen) -> Iterator[Finding]:
    """The first value that is not finite, where it is."""
    if (place := seen.inputs.bad) is not None:
        words = f"the input is not finite at {place}"
        yield INPUT.found("", place.step, 0, Evidence(words, place=str(place)), "x = torch.nan_to_num(x)")
    if (origin := seen.origin.first()) is not None:
        name, place = origin
        bad = _bad_weights(seen.modules[name])
        if bad:
            line = f"{module_of(name)}.reset_parameters()"
            yield WEIGHTS.found(name, bad, 0, Evidence(f"{bad} of its weights are not finite"), line)
        words = f"the output is not finite at {place}"
        yield OUTPUT.found(
            name, place.step, 0, Evidence(words, place=str(place)), f"# look at {module_of(name)}.forward"
        )
    for name, place in seen.origin.broken_states().items():
        words = f"the state is not finite after {place}"
        yield STATE.found(name, place.step, 0, Evidence(words, place=str(place)), reset_of(seen))


def _bad_weights(module: nn.Module) -> int:
    """How many weights and numbers of a module are not finite."""
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(int((~part.detach().isfinite()).sum()) for part in held if part.is_floating_point())
