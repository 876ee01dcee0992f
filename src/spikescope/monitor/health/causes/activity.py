"""How much neurons fire: never, always, all at once, more than the energy allows."""

from __future__ import annotations

from collections.abc import Iterator

from ....hooks import may_change_output
from ...choose.kinds import most_spikes
from ..code import shifted_bias, statistics_anew, threshold_at, varied_weights
from ..finding import Evidence, Finding
from ..registry import Cause, register, unjudged
from ..watch.seen import Seen

_CROWD = 8  # neurons from which on a layer can be in synchrony
_FADED, _ENOUGH = 0.1, 50  # of the rate in training; spikes that were to be expected, of which a tenth is no chance

SILENT = Cause(
    "silent layer",
    102,
    "No neuron of the layer ever fires.",
    "Lower v_threshold, raise the gain of the weights, or put a normalisation before the layer.",
    {
        "silent layer": "after",
        "silent neurons": "after",
        "never near the threshold": "after",
        "driven below rest": "after",
        "outside the surrogate": "after",
        "vanishing gradient in depth": "before",
        "weights not updated": "after",  # no spike reaches them, so their gradient is zero
    },
)

QUIET = Cause(
    "silent neurons",
    120,
    "Many neurons of the layer never fire; the number is their share.",
    "Raise the bias or the gain of the weights, or put a normalisation before the layer; or make it smaller.",
    {},
)

SATURATED = Cause(
    "saturated neurons",
    121,
    "Many neurons of the layer fire at nearly every step, or, where a step can hold several spikes, give nearly as "
    "many as they can, and tell nothing of time; the number is their share.",
    "Raise v_threshold, lower the gain of the weights, or add a penalty on the firing rate.",
    {
        "saturated neurons": "after",
        "silent neurons": "after",
        "rate too high": "after",
        "outside the surrogate": "here",
        "vanishing gradient in depth": "before",
    },
)

FADED = Cause(
    "silent in evaluation",
    104,
    "Neurons that fire in training hardly do in evaluation; the number is the rate there, as a part of that in "
    "training.",
    "The statistics that a normalisation keeps for evaluation are not those of its batches: train longer, raise its "
    "momentum, or take them anew. If there is none before the layer, see what else differs: dropout, the data.",
    {"silent in evaluation": "after"},
)

TOGETHER = Cause(
    "synchrony",
    122,
    "The neurons of the layer fire in the same steps, as if they were one; the number is 1 if all do, and small if "
    "they are independent.",
    "Look at the weights before the layer, which may all be alike, and at the input: break the symmetry by "
    "initialising them at random.",
    {"synchrony": "after", "silent neurons": "after", "saturated neurons": "after"},
)

COSTLY = Cause(
    "rate too high",
    220,
    "The neurons of the layer fire more often than was wanted for the energy; the number is their mean rate.",
    "Raise v_threshold, or add a penalty on the firing rate to the loss.",
    {"rate too high": "after"},
)


@register(SILENT, QUIET, SATURATED, FADED, TOGETHER, COSTLY)
def judge(seen: Seen) -> Iterator[Finding]:
    """What the spikes tell."""
    limits, rows = seen.limits, seen.activity()
    crowds = {name: seen.origin.crowds[name] for name in rows}
    for name, row in rows.items():
        if row["silent"] >= limits.silent:
            cause = SILENT if row["silent"] == 1 else QUIET
            words = f"{row['silent']:.0%} of the neurons never fired"
            quiet = cause is QUIET
            line = shifted_bias(seen, name, seen.state(name).scale) if quiet else threshold_at(seen, name, 0.5)
            yield cause.found(name, row["silent"], limits.silent, _shares(rows, "silent", words, limits.silent), line)
        if row["saturated"] >= limits.saturated and not _height_unknown(seen, name):
            several = most_spikes(seen.modules[name]) > 1
            words = (
                f"{row['saturated']:.0%} of the neurons {'gave' if several else 'fired in'} "
                f"{limits.saturated_rate:.0%} of the {'spikes that they can' if several else 'steps'} or more"
            )
            line = threshold_at(seen, name, 2.0)
            yield SATURATED.found(
                name, row["saturated"], limits.saturated, _shares(rows, "saturated", words, limits.saturated), line
            )
        crowd = crowds[name]
        part = crowd.rates[1] / crowd.rates[0] if crowd.expected >= _ENOUGH else 1.0
        if part < _FADED:
            words = f"{crowd.rates[0]:.3g} spikes of a neuron in a step in training, {crowd.rates[1]:.3g} in evaluation"
            evidence = Evidence(words, "spikes per step", ("training", "evaluation"), crowd.rates)
            yield FADED.found(name, part, _FADED, evidence, statistics_anew(seen, name))
        if crowd.neurons >= _CROWD and crowd.seen > 1 and crowd.synchrony > limits.synchrony:
            line = varied_weights(seen, name)
            values = tuple(held.synchrony for held in crowds.values())
            evidence = Evidence("the neurons fire together", "synchrony", tuple(crowds), values, limit=limits.synchrony)
            yield TOGETHER.found(name, crowd.synchrony, limits.synchrony, evidence, line)
        if limits.rate is not None and crowd.rate > limits.rate:
            values = tuple(held.rate for held in crowds.values())
            evidence = Evidence(
                "spikes of a neuron in a step", "spikes per step", tuple(crowds), values, limit=limits.rate
            )
            yield COSTLY.found(name, crowd.rate, limits.rate, evidence, threshold_at(seen, name, 1.5, limits.rate))


def _shares(rows: dict[str, dict[str, float]], kind: str, words: str, limit: float) -> Evidence:
    values = tuple(row[kind] for row in rows.values())
    return Evidence(words, "share of the neurons", tuple(rows), values, limit=limit)


def _height_unknown(seen: Seen, name: str) -> bool:
    """Whether a hook may have scaled spikes of which a step holds several, so that no value says how many it is."""
    return most_spikes(seen.modules[name]) > 1 and may_change_output(seen.modules[name])


@unjudged
def scaled(seen: Seen) -> Iterator[str]:
    """Neurons of which nobody knows how many spikes a value is."""
    if names := [repr(name) for name in seen.activity() if _height_unknown(seen, name)]:
        yield (
            f"whether {', '.join(names)} {'is' if len(names) == 1 else 'are'} saturated: a step holds several spikes, "
            "and a hook may change how high they are; take it off to have it judged"
        )


@unjudged
def unknown(seen: Seen) -> Iterator[str]:
    """Rates that nobody asked for."""
    if seen.limits.rate is None:
        yield "a rate too high for the energy: health(net, rate=0.2) says which is"
