"""How the weights move: too far in an update, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from ..code import module_of
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_FEW = 32
"""Updates from which on there is a typical one: optimizers that divide by the size of the gradient, as Adam, begin with
their largest steps, whatever their rate, and what a warm-up is for is no fault of the rate."""

_TWICE = 2.0
"""An update larger than the weight leaves little of it, and the weight large: from then on updates of the same size are
small parts of it, and no typical one tells. A good rate may give one as large as the weight now and then; and Adam,
whose first steps are alike, far larger ones to the small weights of a wide layer."""

_WITHIN, _FACTOR, _LARGE = 10, 4.0, 20.0
"""Of so many updates one that makes a weight this factor as large, and so many times as large as weights begin, is no
learning: of Adam's first ones, which at a good rate may do the first, the second is true of rates far above."""

FAST = Cause(
    "learning rate too high",
    20,
    "In a typical update a weight moves by a large part of itself, or in one by more than twice itself; the number is "
    "that part. Or in few updates a weight grows far beyond weights as they begin; the number is in their usual norm.",
    "Lower the learning rate, or let it rise over the first updates.",
    {
        "non-finite weights": "anywhere",
        "non-finite output": "anywhere",
        "non-finite state": "anywhere",
        "non-finite gradient": "anywhere",
        "runs away upwards": "anywhere",
        "runs away downwards": "anywhere",
        "never near the threshold": "anywhere",
        "driven below rest": "anywhere",
        "silent layer": "anywhere",
        "silent neurons": "anywhere",
        "saturated neurons": "anywhere",
        "outside the surrogate": "anywhere",
        "vanishing gradient in depth": "anywhere",
        "exploding gradient in depth": "anywhere",
        "vanishing gradient in time": "anywhere",
        "exploding gradient in time": "anywhere",
        "synchrony": "anywhere",
    },
)

STILL = Cause(
    "weights not updated",
    210,
    "Weights that get a gradient never move, while others do; the number counts their layers.",
    "Give them to the optimizer; if they are to stay as they are, requires_grad_(False) saves the work.",
    {},
)


@register(FAST, STILL)
def judge(seen: Seen) -> Iterator[Finding]:
    """What the updates tell."""
    yield from _fast(seen)
    still = [name for name in seen.weights.still() if seen.arrival.moves(name)]
    if still:
        module = module_of(still[0].rpartition(".")[0])
        words = f"{', '.join(still[:8])} never moved"
        line = f'optimizer.add_param_group({{"params": list({module}.parameters())}})'
        yield STILL.found(still[0].rpartition(".")[0], len(still), 0, Evidence(words), line)


def _fast(seen: Seen) -> Iterator[Finding]:
    """The weight that moves too far: within several updates, in one, or typically."""
    weights, limit = seen.weights, seen.limits.update
    typical, farthest, grown = weights.fastest(), weights.farthest(), weights.grown(_WITHIN, _FACTOR)
    twice, large = max(limit, _TWICE), max(limit, _LARGE)
    if grown is not None and grown[1] > large:
        (name, number), most, words = grown, large, f"grows within {_WITHIN} updates to {{:.3g}} times its usual norm"
    elif farthest is not None and farthest[1] > twice:
        (name, number), most, words = farthest, twice, "moves by {:.2g} of its norm in an update"
    elif typical is not None and len(weights.moves[typical[0]]) >= _FEW and typical[1] > limit:
        (name, number), most, words = typical, limit, "moves by {:.2g} of its norm in a typical update"
    else:
        return
    unit, values, aim = "part of its norm", weights.moves[name], limit / 10
    if most == large:
        unit, values, aim = "its norm, in the usual one", weights.sizes[name], 1.0
    labels = tuple(f"update {update + 1}" for update in range(len(values)))
    evidence = Evidence(f"{name} {words.format(number)}", unit, labels, tuple(values), limit=most)
    less = f"{aim / number:.1g}" if number < 1e30 else "1e-3"
    yield FAST.found(name.rpartition(".")[0], number, most, evidence, f'optimizer.param_groups[0]["lr"] *= {less}')


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Updates that nobody made."""
    if seen.weights.held and not any(seen.weights.moves.values()):
        yield "the learning rate: no update of the weights while it was watched"
