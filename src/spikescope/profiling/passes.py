"""The passes of a profile: forwards, forwards and backwards, under clocks, and counting spikes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..functional import reset_net
from ..monitor import SpikeCounter, record
from ..neuron import Neuron
from .clock import Clock

__all__ = ["PRECISIONS", "Counted", "counted", "infer", "step", "under_clock"]

PRECISIONS = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def infer(net: nn.Module, run: Callable[[Tensor], Any], x: Tensor, amp: str) -> None:
    """A forward pass from rest without gradients."""
    reset_net(net)
    with torch.no_grad(), _precision(x, amp):
        run(x)


def step(net: nn.Module, run: Callable[[Tensor], Any], x: Tensor, amp: str) -> None:
    """A forward and a backward pass from rest."""
    _begin(net)
    _loss(run, x, amp).backward()


def under_clock(net: nn.Module, x: Tensor, amp: str, wait: Callable[[], None]) -> Clock:
    """The same with the time of each module taken."""
    _begin(net)
    clock = Clock(wait)
    with clock.watching(net):
        loss = _loss(net, x, amp)
    clock.run_backward(loss)
    return clock


class Counted(NamedTuple):
    """Of one pass: the samples, and by layer the spikes of all of them; spikes a neuron and step; the silent share."""

    samples: int
    spikes: dict[str, float]
    rate: float
    silent: float


def counted(net: nn.Module, x: Tensor) -> Counted:
    """The spikes of a forward pass from rest."""
    reset_net(net)
    neurons = [module for module in net.modules() if isinstance(module, Neuron)]
    if not neurons:
        return Counted(len(x), {}, 0.0, 0.0)
    sizes: list[int] = []

    def look(module: Any, args: Any, out: Tensor) -> None:
        sizes.append(out.shape[1 if module.step_mode == "m" else 0])

    handles = [module.register_forward_hook(look) for module in neurons]
    try:
        with torch.no_grad(), SpikeCounter(net) as counter, record(net, "silent share", signal="spike") as recording:
            net(x)
    except LookupError:  # read-outs alone
        return Counted(len(x), {}, 0.0, 0.0)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(net)
    layers = counter.layers
    every = {name: layers[name].neuron_steps for name in recording if name in layers}
    silent = sum(recording[name] * size for name, size in every.items()) / max(1, sum(every.values()))
    return Counted(sizes[0], {name: held.spikes for name, held in layers.items()}, counter.total.rate, silent)


def _begin(net: nn.Module) -> None:
    reset_net(net)
    net.zero_grad(set_to_none=True)


def _loss(run: Callable[[Tensor], Any], x: Tensor, amp: str) -> Tensor:
    with _precision(x, amp):
        out = run(x)
    outputs = [held for held in pytree.tree_leaves(out) if isinstance(held, Tensor) and held.requires_grad]
    if not outputs:
        raise ValueError("profile: no output of the network has a gradient; has it parameters that learn?")
    return torch.stack([held.float().square().mean() for held in outputs]).sum()


def _precision(x: Tensor, amp: str) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[amp]
    return nullcontext() if dtype is None else torch.autocast(x.device.type, dtype)
