"""Local rules: a sequence through a layer, and what the learner makes of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import functional, learning, neuron

from ..harness import Options, Row, agreement, measure

__all__ = ["rows"]

T, BATCH, SIZES = 16, 16, (784, 256)
RULES: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "STDPLearner": ({}, ()),
    "MSTDPLearner": ({"batch_size": BATCH}, (0.5,)),
    "MSTDPETLearner": ({"tau_trace": 5.0}, (0.5,)),
}
"""The further arguments of each rule, and of its step."""


def _ours(rule: str, synapse: nn.Module) -> tuple[Any, Any, Any]:
    node = neuron.IFNode(step_mode="m")
    options = RULES[rule][0]
    learner = getattr(learning, rule)("m", synapse=synapse, sn=node, tau_pre=2.0, tau_post=2.0, **options)
    return node, learner, functional.reset_net


def _theirs(rule: str, synapse: Any) -> tuple[Any, Any, Any]:
    """Its rules with a reward take single steps alone, and learn after each."""
    inside, mode = "spikingjelly.activation_based", "m" if rule == "STDPLearner" else "s"
    node = importlib.import_module(f"{inside}.neuron").IFNode(step_mode=mode)
    made = getattr(importlib.import_module(f"{inside}.learning"), rule)
    options = {name: held for name, held in RULES[rule][0].items() if name in signature(made).parameters}
    synapse.step_mode = mode
    learner = made(mode, synapse=synapse, sn=node, tau_pre=2.0, tau_post=2.0, **options)
    return node, learner, importlib.import_module(f"{inside}.functional").reset_net


def _work(make: Callable[..., Any], rule: str, layer: Callable[..., Any], x_seq: Tensor) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    synapse = layer(*SIZES, bias=False)
    synapse.step_mode = "m"
    node, learner, reset = make(rule, synapse)

    def work() -> Tensor:
        with torch.no_grad():
            changes = []
            for x in x_seq if synapse.step_mode == "s" else (x_seq,):
                node(synapse(x))
                changes.append(learner.step(*RULES[rule][1], on_grad=False))
            change: Tensor = sum(changes[1:], changes[0])
        reset(node)
        learner.reset()
        return change

    return work


def rows(options: Options) -> Iterator[Row]:
    """Milliseconds of a sequence and the step of the learner."""
    from spikescope import layer

    x_seq = (torch.rand(T, BATCH, SIZES[0], generator=torch.Generator().manual_seed(0)) > 0.7).float()
    for rule in RULES:
        work = {"ours": _work(_ours, rule, layer.Linear, x_seq)}
        found = {}
        try:
            rivals = importlib.import_module("spikingjelly.activation_based.layer")
            work["spikingjelly"] = _work(_theirs, rule, rivals.Linear, x_seq)
            found = {"spikingjelly": agreement([work["ours"]()], [work["spikingjelly"]()])}
        except Exception as error:  # a rival that cannot be had, or fails, is a remark
            work.pop("spikingjelly", None)
            yield Row(
                "learning", rule, "a sequence", "ms", None, "spikingjelly", note=f"{type(error).__name__}: {error}"
            )
        case = f"{rule}, Linear {SIZES[0]} x {SIZES[1]}, T={T}, batch {BATCH}"
        yield from measure("learning", case, "a sequence and its step", work, found, options)
