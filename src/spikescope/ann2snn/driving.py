"""Running a converted network on constant inputs, and adding up what its neurons give on the way."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import check_module
from ..functional import reset_net
from ..monitor import Probe
from ..monitor.choose.signals import signal_of
from .modules import ScaledNeuron

__all__ = ["Tally", "drive", "neurons_of"]


def neurons_of(owner: str, snn: nn.Module) -> dict[str, ScaledNeuron]:
    """The scaled neurons by their paths. ValueError if there are none, or of both step modes."""
    check_module(owner, snn)
    found = {name: module for name, module in snn.named_modules() if isinstance(module, ScaledNeuron)}
    if not found:
        raise ValueError(f"{owner} takes a network of ScaledNeuron, but found none. Convert one with Converter.")
    if len({module.step_mode for module in found.values()}) > 1:
        raise ValueError(
            f"{owner} takes a network of one step mode, but it has neurons in 's' and in 'm'. "
            "functional.set_step_mode(net, 's' or 'm') switches a whole network."
        )
    return found


@torch.no_grad()
def drive(snn: nn.Module, inputs: tuple[Tensor, ...], steps: int, step_mode: str) -> Any:
    """The outputs, each `[T, N, *]`, for inputs that are held for all steps; the network is reset before and after."""
    reset_net(snn)
    try:
        if step_mode == "s":
            return pytree.tree_map(lambda *each: torch.stack(each), *(snn(*inputs) for _ in range(steps)))
        return snn(*(x.expand(steps, *x.shape) for x in inputs))
    finally:
        reset_net(snn)


class Tally:
    """Adds up, while its `with` block runs, the outputs and the spikes of each neuron.

    - `sums`: by layer, the outputs summed over time, `[N, *]`. `spikes`: by layer, the spikes of each step.
    """

    def __init__(self, snn: nn.Module, neurons: dict[str, ScaledNeuron]) -> None:
        self.sums: dict[str, Tensor] = {}
        self.spikes: dict[str, list[Tensor]] = {name: [] for name in neurons}
        self._neurons = neurons
        self._snn = snn

    def _take(self, value: Tensor, moment: Any) -> None:
        chunk = value if self._neurons[moment.name].step_mode == "m" else value.unsqueeze(0)
        total = chunk.sum(0, dtype=torch.float64)
        before = self.sums.get(moment.name)
        self.sums[moment.name] = total if before is None else before + total
        self.spikes[moment.name].append((chunk != 0).flatten(1).sum(1))

    def per_step(self) -> Tensor:
        """The spikes of all layers in each step, `[T]`, as float64."""
        return torch.stack([torch.cat(counts).double().cpu() for counts in self.spikes.values()]).sum(0)

    def __enter__(self) -> Self:
        self._probes = [
            Probe(name, module, signal_of("output", module), self._take, root=self._snn)
            for name, module in self._neurons.items()
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for probe in self._probes:
            probe.close()


def with_progress(batches: Iterable[Any], words: str) -> Iterable[Any]:
    """The batches, with a bar in a terminal where the package rich is installed."""
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return batches
    console = Console(stderr=True)
    if not console.is_terminal:
        return batches
    return track(batches, words, console=console, transient=True)
