"""Lines of code that change a network, as findings propose them."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ...form import at_path
from ..choose.kinds import is_foreign
from ..choose.signals import threshold_name
from ..foreign.known import adapter_of
from ..reduce import SupportShare
from .trial import best
from .watch.seen import Seen

__all__ = [
    "gain_of",
    "leaks",
    "module_of",
    "reset_of",
    "scaled_weights",
    "shifted_bias",
    "statistics_anew",
    "threshold_at",
    "varied_weights",
    "widened",
]

_WEAK, _USUAL = 0.05, 1.0
"""Gains of weights for independent inputs of size one: far below what layers begin with, and what lets neurons fire."""


def module_of(name: str) -> str:
    """A module as code writes it.

    >>> module_of("features.0.conv"), module_of("")
    ('net.features[0].conv', 'net')
    """
    parts = (f"[{part}]" if part.isdigit() else f".{part}" for part in name.split(".") if part)
    return "net" + "".join(parts)


def leaks(module: Any) -> bool:
    """Whether a neuron has time constants that may be raised.

    >>> leaks(spikescope.neuron.LIFNode()), leaks(spikescope.neuron.IFNode())
    (True, False)
    """
    return is_foreign(module) or any("tau" in name for name in getattr(type(module), "fields", ()))


def reset_of(seen: Seen) -> str:
    """Put the state of the network back."""
    adapters = [adapter_of(seen.modules[name]) for name in seen.origin.states]
    return next((held.reset for held in adapters if held is not None), "functional.reset_net(net)")


def scaled_weights(seen: Seen, name: str, factor: float) -> str:
    """Scale what drives a neuron, by the layer before it: as much as makes it fire, if that could be tried out."""
    tried = best(seen, name, lambda node, x, number: [held * number for held in x])
    factor = factor if tried is None else tried
    found = seen.before(name)
    if found is None:
        return f"x = {factor:.3g} * x"
    place, layer = found
    gain = gain_of(seen, name)
    if 0 < gain < _WEAK:  # it is the weights that are wrong: a larger bias would have all neurons fire by that
        return f"{module_of(place)}.weight.data.mul_({max(factor, _USUAL / gain):.3g})"
    parts = ["weight", *(["bias"] if isinstance(getattr(layer, "bias", None), Tensor) else [])]
    return "; ".join(f"{module_of(place)}.{part}.data.mul_({factor:.3g})" for part in parts)


def gain_of(seen: Seen, name: str) -> float:
    """By how much the layer before a neuron multiplies independent inputs of size one; NaN where that is not known."""
    found = seen.before(name)
    if found is None or found[1].weight.ndim < 2:
        return math.nan
    weight = found[1].weight.detach()
    return float(weight.square().flatten(1).sum(1).mean().sqrt())


def shifted_bias(seen: Seen, name: str, amount: float) -> str:
    """Shift what drives a neuron, by the bias of the layer before it: as much as makes it fire, if that was tried."""
    tried = best(seen, name, lambda node, x, number: [held + number for held in x])
    amount = amount if tried is None else tried
    found = seen.before(name)
    if found is None:
        return f"x = x + {amount:.3g}"
    place, layer = found
    if isinstance(getattr(layer, "bias", None), Tensor):
        return f"{module_of(place)}.bias.data.add_({amount:.3g})"
    return f"{module_of(place)}.bias = torch.nn.Parameter(torch.full(({len(layer.weight)},), {amount:.3g}))"


def statistics_anew(seen: Seen, name: str) -> str:
    """Have the normalisation before a neuron take the statistics for evaluation anew, as the mean over all batches."""
    found = seen.before(name)
    if found is None or not isinstance(getattr(found[1], "running_mean", None), Tensor):
        return f"# run one batch by net.train() and by net.eval(), and see what comes to {module_of(name)}"
    place = module_of(found[0])
    return f"{place}.reset_running_stats(); {place}.momentum = None  # then an epoch by net.train(), without updates"


def varied_weights(seen: Seen, name: str) -> str:
    """Break the symmetry of the weights before a neuron."""
    found = seen.before(name)
    if found is None:
        return f"# look at what drives {module_of(name)}"
    weight, size = f"{module_of(found[0])}.weight", float(found[1].weight.detach().square().mean().sqrt())
    return f"{weight}.data.add_({2 * size:.2g} * torch.randn_like({weight}))"


def threshold_at(seen: Seen, name: str, factor: float, rate: float | None = None) -> str:
    """Another threshold, by a factor, or by one with which the neuron fires, if that could be tried out."""

    def raised(node: Any, x: list[Tensor], number: float) -> list[Tensor]:
        node.v_threshold = node.v_threshold * number
        return x

    tried = best(seen, name, raised, rate)
    if tried is not None and (tried > 1) == (factor > 1):  # not the other way than the advice
        factor = tried
    attribute = threshold_name(seen.modules[name])
    if attribute is None:
        return f"# raise or lower the threshold of {module_of(name)}"
    place, now = f"{module_of(name)}.{attribute}", at_path(seen.modules[name], attribute)
    if isinstance(now, (int, float)):
        return f"{place} = {now * factor:.3g}  # now {now:.3g}"
    if is_foreign(seen.modules[name]) and isinstance(now, Tensor):  # a buffer or a parameter, which stays one
        return f"{place}.data.mul_({factor:.3g})"
    return f"{place} = {place} * {factor:.3g}"


def widened(seen: Seen, name: str) -> str:
    """A surrogate as wide as the distance of the threshold from rest, where one number says how wide it is."""
    held: Any = getattr(seen.modules[name], "surrogate_function", None)
    alpha, wanted = getattr(held, "alpha", None), 2 * seen.state(name).scale
    other = f"{module_of(name)}.surrogate_function = surrogate.ATan(alpha={4 / wanted:.3g})"
    if not isinstance(alpha, (int, float)):
        return other
    try:
        found = SupportShare.of(held, 0.0)
        number = alpha * (found.high - found.low) / wanted  # the width goes with 1 / alpha, or does not
        wider = SupportShare.of(type(held)(alpha=number), 0.0)
    except (TypeError, ValueError):
        return other
    if not wider.high - wider.low > found.high - found.low:
        return other
    return f"{module_of(name)}.surrogate_function.alpha = {number:.3g}  # now {alpha:.3g}"
