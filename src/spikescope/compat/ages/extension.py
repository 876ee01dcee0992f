"""The neurons of the former C++ extension: they take the name and the slope of their surrogate.

The defaults are those of 0.0.0.0.12. `detach_input`, which 0.0.0.0.4 had as the second argument of a leaky neuron, is
told by its type; `detach_input=True` is `decay_input=False`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ... import neuron
from ...errors import check_choice
from ...surrogate import ATan, Sigmoid
from .made import aged, signature_of
from .neurons import BaseNode

__all__ = [
    "BaseNode",
    "IFNode",
    "LIFNode",
    "MultiStepIFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "ParametricLIFNode",
]

SURROGATES = {"ATan": ATan, "Sigmoid": Sigmoid}
_FIRE = "v_threshold v_reset surrogate_function alpha detach_reset"


def _read(node: Any, given: dict[str, Any], stated: Collection[str]) -> dict[str, Any]:
    check_choice(type(node).__name__, "surrogate_function", given["surrogate_function"], SURROGATES)
    if "detach_input" in given:
        given["decay_input"] = not given.pop("detach_input")
    made = SURROGATES[given["surrogate_function"]](given.pop("alpha"))
    return given | {"surrogate_function": made}


def of_extension(base: type[Any], first: str = "", **defaults: Any) -> tuple[type[Any], type[Any]]:
    """`base` as the extension calls it, for single steps and, as `MultiStep...`, for sequences.

    >>> of_extension(neuron.LIFNode, "tau detach_input", tau=100.0)[0](10.0, True).decay_input
    False
    """
    own = {"surrogate_function": "ATan", "alpha": 2.0, "detach_input": False, **defaults}
    made = []
    for name, mode in ((base.__name__, "s"), (f"MultiStep{base.__name__}", "m")):
        signature = signature_of(base, f"{first} {_FIRE}", "step_mode backend store_v_seq", **own, step_mode=mode)
        about = f"`neuron.{base.__name__}` with the name and slope of its surrogate, in step_mode={mode!r}."
        optional = {"detach_input": bool} if "detach_input" in first else None
        made.append(aged(base, name, signature, module=__name__, about=about, optional=optional, read=_read))
    return made[0], made[1]


IFNode, MultiStepIFNode = of_extension(neuron.IFNode)
LIFNode, MultiStepLIFNode = of_extension(neuron.LIFNode, "tau detach_input", tau=100.0)
ParametricLIFNode, MultiStepParametricLIFNode = of_extension(neuron.ParametricLIFNode, "init_tau detach_input")
