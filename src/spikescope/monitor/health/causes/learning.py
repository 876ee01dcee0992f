"""How the weights move: too far in an update, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from ..code import module_of
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_FEW = 3
"""Updates from which on there is a typical one: optimizers that divide by the size of the gradient, as Adam, begin with
their largest steps, and what a warm-up is for is no fault of the rate."""

_WHOLE = 1.0
"""An update as large as the weight leaves little of it, and the weight large: from then on updates of the same size are
small parts of it, and no typical one tells."""

FAST = Cause(
    "learning rate too high",
    20,
    "In a typical update a weight moves by a large part of itself, or in one by more than all of itself; the number is "
    "that part.",
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
    found, limit = seen.weights.fastest(), seen.limits.update
    if found is None or len(seen.weights.moves[found[0]]) < _FEW or found[1] <= limit:
        found, limit = seen.weights.farthest(), max(limit, _WHOLE)
    if found is not None and found[1] > limit:
        name, part = found
        moves = seen.weights.moves[name]
        evidence = Evidence(
            f"{name} moves by {part:.2g} of its norm in an update",
            "part of its norm",
            tuple(str(update + 1) for update in range(len(moves))),
            tuple(moves),
            limit=limit,
        )
        factor = f"{seen.limits.update / 10 / part:.1g}" if part < 1e30 else "1e-3"
        line = f'optimizer.param_groups[0]["lr"] *= {factor}'
        yield FAST.found(name.rpartition(".")[0], part, limit, evidence, line)
    still = [name for name in seen.weights.still() if seen.arrival.moves(name)]
    if still:
        module = module_of(still[0].rpartition(".")[0])
        words = f"{', '.join(still[:8])} never moved"
        line = f'optimizer.add_param_group({{"params": list({module}.parameters())}})'
        yield STILL.found(still[0].rpartition(".")[0], len(still), 0, Evidence(words), line)


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Updates that nobody made."""
    if seen.weights.held and not any(seen.weights.moves.values()):
        yield "the learning rate: no update of the weights seen"
