"""Time by module: forwards by hooks, backwards by the nodes of autograd's graph, each with the module that made it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..neuron import Neuron

__all__ = ["LOSS", "Clock", "Timing", "timed", "waiting"]

LOSS = "(loss)"


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the least and the median of `calls` of them."""

    least: float
    median: float
    calls: int


def timed(call: Callable[[], Any], seconds: float, wait: Callable[[], None]) -> Timing:
    """Call again and again for about so many seconds, three times at least; `wait` is for the device to be done.

    >>> timed(lambda: None, 0.0, lambda: None).calls
    3
    """
    taken: list[float] = []
    begin = perf_counter()
    while len(taken) < 3 or perf_counter() - begin < seconds:
        start = perf_counter()
        call()
        wait()
        taken.append(perf_counter() - start)
    return Timing(min(taken), statistics.median(taken), len(taken))


class Clock:
    """The seconds of each module in one forward and one backward pass, without those of its children.

    - `forward`, `backward`: by the path of the module. What a neuron calls is part of it.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> clock = Clock(lambda: None)
    >>> with clock.watching(net):
    ...     loss = net(torch.rand(1, 2)).sum()
    >>> clock.run_backward(loss)
    >>> sorted(clock.forward), sorted(clock.backward)
    (['', '0', '1'], ['(loss)', '0', '1'])
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self.forward: dict[str, float] = {}
        self.backward: dict[str, float] = {}
        self._wait = wait
        self._running: list[str] = []
        self._owner: dict[Any, str] = {}
        self._since = 0.0

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """While a network runs forwards."""
        neurons = tuple(
            f"{name}." if name else "" for name, module in net.named_modules() if isinstance(module, Neuron)
        )
        with ExitStack() as stack:
            for name, module in net.named_modules():
                if name and name.startswith(neurons):
                    continue

                def enter(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                    self._switch()
                    self._claim((args, kwargs), self._running[-1] if self._running else LOSS)
                    self._running.append(name)
                    self._since = perf_counter()

                def leave(module: nn.Module, args: Any, out: Any, name: str = name) -> None:
                    self._switch()
                    self._claim(out, name)
                    self._running.pop()
                    self._since = perf_counter()

                stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            yield

    def run_backward(self, loss: Tensor) -> None:
        """Run the backward pass of what `watching` saw."""
        self._claim(loss, LOSS)
        handles = []
        for node in _nodes_behind(loss):  # of others that were claimed the graph may be gone
            name = self._owner[node]

            def end(*grads: Any, name: str = name) -> None:
                self._wait()
                self.backward[name] = self.backward.get(name, 0.0) + perf_counter() - self._since

            handles += [node.register_prehook(self._begin), node.register_hook(end)]
        try:
            loss.backward()
        finally:
            for handle in handles:
                handle.remove()
            self._owner.clear()

    def _begin(self, *grads: Any) -> None:
        self._wait()
        self._since = perf_counter()

    def _switch(self) -> None:
        """Charge the module that has run until now."""
        self._wait()
        if self._running:
            name = self._running[-1]
            self.forward[name] = self.forward.get(name, 0.0) + perf_counter() - self._since

    def _claim(self, value: Any, name: str) -> None:
        """Book the nodes behind a value that are nobody's yet."""
        self._owner |= dict.fromkeys(_nodes_behind(value, self._owner), name)


def _nodes_behind(value: Any, known: Container[Any] = ()) -> list[Any]:
    """The nodes of the graph that ends in the tensors of a value, up to those that are known."""
    found: dict[Any, None] = {}
    stack = [held.grad_fn for held in pytree.tree_leaves(value) if isinstance(held, Tensor)]
    while stack:
        node = stack.pop()
        if node is not None and node not in found and node not in known:
            found[node] = None
            stack += [before for before, _ in node.next_functions]
    return list(found)


def waiting(device: torch.device) -> Callable[[], None]:
    """What waits for a device to be done."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
