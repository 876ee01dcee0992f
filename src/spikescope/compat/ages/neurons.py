"""The neurons of the clock-driven interface: arguments of all its ages, and `MultiStep...` for whole sequences.

The defaults are those of 0.0.0.0.12. What has no meaning here is taken and does nothing: `cupy_fp32_inference` and
`lava_s_cale`. An argument that later came into the middle, `decay_input`, is told by its type.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ... import neuron
from .made import aged, say_once, signature_of
from .watched import ClockDriven
from .wide import Wide

__all__ = [
    "AdaptiveBaseNode",
    "BaseNode",
    "EIFNode",
    "IFNode",
    "IzhikevichNode",
    "LIAFNode",
    "LIFNode",
    "MultiStepEIFNode",
    "MultiStepIFNode",
    "MultiStepIzhikevichNode",
    "MultiStepLIAFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "MultiStepQIFNode",
    "ParametricLIFNode",
    "QIFNode",
]

_SWITCHES = ("step_mode", "backend", "store_v_seq")
_OTHERS = ("cupy_fp32_inference", "lava_s_cale", "monitor_state")
_FIRST_AGE = {  # what had another default in 0.0.0.0.4, and which
    "tau": "100.0",
    "surrogate_function": "Sigmoid(alpha=1.0)",
}


def _order(base: type[Any]) -> str:
    """The arguments of `base` without the switches that came later."""
    return " ".join(name for name in base.arguments.parameters if name not in _SWITCHES)


def _read(node: Any, given: dict[str, Any], stated: Collection[str]) -> dict[str, Any]:
    """The arguments of our neuron; a note where the first age had another default."""
    for name, then in _FIRST_AGE.items():
        if name in given and name not in stated:
            now = "Sigmoid(alpha=4.0)" if name == "surrogate_function" else given[name]
            say_once(
                f"default {name}",
                f"{type(node).__name__} of clock_driven: {name} is {now} where none is given, as in 0.0.0.0.12; in "
                f"0.0.0.0.4 it was {then}. Code of that age should give it.",
            )
    return {name: held for name, held in given.items() if name not in _OTHERS}


def _watch(node: Any, given: dict[str, Any]) -> None:
    if given["monitor_state"]:
        node.set_monitor(True)


def _no_course(node: Any, given: dict[str, Any]) -> None:
    node.v_seq = None  # before the first run, as there
    _watch(node, given)


def single_step(base: type[Any], module: str = __name__, **options: Any) -> type[Any]:
    """`base` as the clock-driven interface calls it, a step at a time.

    >>> single_step(neuron.LIFNode)(2.0, 0.5, None).v_threshold  # without decay_input, as up to 0.0.0.0.8
    0.5
    """
    keywords = "step_mode backend store_v_seq monitor_state"
    defaults = {"cupy_fp32_inference": False, "monitor_state": False}
    signature = signature_of(base, f"{_order(base)} cupy_fp32_inference", keywords, **defaults)
    about = f"`neuron.{base.__name__}` with the arguments of the clock-driven interface."
    return aged(
        base,
        base.__name__.replace("IntegrateAndFire", "BaseNode"),
        signature,
        module=module,
        about=about,
        optional={"decay_input": bool} if "decay_input" in signature.parameters else None,
        read=_read,
        after=_watch,
        mixins=(ClockDriven,),
        **options,
    )


def multi_step(base: type[Any], module: str = __name__) -> type[Any]:
    """`base`, made by `single_step`, under the name `MultiStep...`, with sequences and `v_seq` as the default.

    >>> node = multi_step(IFNode)(v_reset=None)
    >>> node(torch.full((3, 1), 0.75)).flatten(), node.v_seq.flatten()
    (tensor([0., 1., 1.]), tensor([0.7500, 0.5000, 0.2500]))
    """
    order = _order(base)
    defaults = {"lava_s_cale": 64, "monitor_state": False, "step_mode": "m", "store_v_seq": True}
    signature = signature_of(base, f"{order} backend lava_s_cale", "step_mode store_v_seq monitor_state", **defaults)

    return aged(
        base,
        f"MultiStep{base.__name__}",
        signature,
        module=module,
        about=f"`neuron.{base.__name__}` with sequences `[T, N, *]` as the default, and `v_seq` kept.",
        optional={"decay_input": bool} if "decay_input" in order else None,
        read=_read,
        after=_no_course,
    )


BaseNode = single_step(neuron.IntegrateAndFire, kind=Wide, members={"stands_for": neuron.IntegrateAndFire})
BaseNode.abstract = True
AdaptiveBaseNode = neuron.AdaptBaseNode
IFNode = single_step(neuron.IFNode)
LIFNode = single_step(neuron.LIFNode)
ParametricLIFNode = single_step(neuron.ParametricLIFNode)
QIFNode = single_step(neuron.QIFNode)
EIFNode = single_step(neuron.EIFNode)
IzhikevichNode = single_step(neuron.IzhikevichNode)
LIAFNode = single_step(neuron.LIAFNode)

MultiStepIFNode = multi_step(IFNode)
MultiStepLIFNode = multi_step(LIFNode)
MultiStepParametricLIFNode = multi_step(ParametricLIFNode)
MultiStepQIFNode = multi_step(QIFNode)
MultiStepEIFNode = multi_step(EIFNode)
MultiStepIzhikevichNode = multi_step(IzhikevichNode)
MultiStepLIAFNode = multi_step(LIAFNode)
