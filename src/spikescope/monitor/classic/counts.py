"""Counting spikes and neuron-steps, of scaled neurons too."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ...errors import ShapeError, check_listening, check_module, check_switches, dims
from ...neuron import Neuron
from ...neuron.readout import ReadOut
from ...recording.budget import Budget
from ...recording.budget import budget as as_budget
from ...recording.disk.spill import records_within
from ...recording.records import Moment, Records
from ..choose.modules import named, select, where
from ..choose.signals import spikes_of
from ..probe.group import Probes, weakly
from ..probe.single import Probe
from ..spike_heights import is_scaled

__all__ = ["Count", "SpikeCounter"]


class Count(NamedTuple):
    """Spikes, and the neurons times steps times samples in which they could have been."""

    spikes: float
    neuron_steps: int

    @property
    def rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / self.neuron_steps if self.neuron_steps else 0.0


def _spiking(net: nn.Module) -> dict[str, nn.Module]:
    """The outermost spiking modules: scaled ones, and neurons that are not inside of one."""
    scaled = {module for module in named(net).values() if is_scaled(module)}
    inner = {held for module in scaled for held in module.modules() if held is not module}

    def chosen(name: str, module: nn.Module) -> bool:
        return module in scaled or (isinstance(module, Neuron) and not isinstance(module, ReadOut))

    return select(net, where(lambda name, module: chosen(name, module) and module not in inner), "SpikeCounter")


class SpikeCounter:
    r"""Counts the spikes of every neuron in `net`, over single steps and sequences alike, from when it is made.

    $$\text{spikes} = \sum |y / \text{scale}| \qquad \text{neuron-steps} = T \cdot N \cdot \text{neurons}$$

    - `keep_train`: also keep all outputs, on the CPU, for `train(name)`; within `budget`.

    >>> node = spikescope.neuron.IFNode(v_reset=None, step_mode="m")
    >>> with SpikeCounter(nn.Sequential(node)) as counter:
    ...     _ = node(torch.full((4, 1, 1), 0.5))
    >>> counter["0"], counter.total.rate
    (Count(spikes=2.0, neuron_steps=4), 0.5)
    """

    def __init__(
        self,
        net: nn.Module,
        keep_train: bool = False,
        budget: Budget | int | str | None = None,
    ) -> None:
        check_module("SpikeCounter", net)
        check_switches("SpikeCounter", keep_train=keep_train)
        self._modules = _spiking(net)
        self._train = records_within(as_budget(budget)) if keep_train else None
        take, modules = weakly(self._add), self._modules.items()
        self._probes = Probes(self, [Probe(name, held, spikes_of(held), take, root=net) for name, held in modules])
        self.reset()

    def _add(self, value: Tensor, moment: Moment) -> None:
        module = self._modules[moment.name]
        counted = value.abs()
        if is_scaled(module):
            held: Any = module.scale
            scale = torch.as_tensor(held, dtype=value.dtype, device=value.device)  # as the outputs hold it
            counted = counted / scale.detach().abs()
        self._spikes[moment.name] = self._spikes[moment.name] + counted.sum(dtype=torch.float64)
        self._steps[moment.name] += value.numel()
        if self._train is not None:
            timed = getattr(module, "step_mode", "s") == "m"
            chunk = value if timed else value.unsqueeze(0)
            self._train.keep(chunk.cpu() if chunk.device.type != "cpu" else chunk.clone(), moment)

    def reset(self) -> None:
        """Count from zero. A layer that an error had ended is counted again."""
        self._spikes: dict[str, Any] = dict.fromkeys(self._modules, 0.0)
        self._steps = dict.fromkeys(self._modules, 0)
        if self._train is not None:
            self._train.clear()
        self._probes.restart()

    def _check(self, name: str) -> None:
        if name not in self._modules:
            raise KeyError(f"{name!r} is not counted; there is {', '.join(map(repr, self._modules))}.")
        self._probes.raise_error((name,))

    def __getitem__(self, name: str) -> Count:
        """The count of one layer."""
        self._check(name)
        return Count(float(self._spikes[name]), self._steps[name])

    @property
    def layers(self) -> dict[str, Count]:
        """The count of every layer, by name."""
        return {name: self[name] for name in self._modules}

    @property
    def total(self) -> Count:
        """The count of all layers together."""
        counts = self.layers.values()
        return Count(sum(count.spikes for count in counts), sum(count.neuron_steps for count in counts))

    def train(self, name: str) -> Tensor:
        """All outputs of a layer so far, `[T, N, *]` on the CPU, as the layer gave them: with its scale."""
        self._check(name)
        if self._train is None:
            raise ValueError("SpikeCounter keeps no spike trains; make it with keep_train=True.")
        chunks = self._train.of(name)
        if not chunks:
            raise ValueError(f"SpikeCounter has seen no output of {name!r} yet: run the network first.")
        other = next((chunk for chunk in chunks if chunk.shape[1:] != chunks[0].shape[1:]), None)
        if other is not None:
            raise ShapeError(
                f"SpikeCounter: the outputs of {name!r} do not form one train: {dims(chunks[0].shape, 'TN')} came, "
                f"then {dims(other.shape, 'TN')}. Call reset() on the counter before a batch of another shape."
            )
        return torch.cat(chunks)

    def close(self) -> None:
        """Stop counting; the counts stay. A second time does nothing."""
        self._probes.close()
        if self._train is not None:
            self._train.close()

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: it holds the counts, but listens to nothing."""
        train = None if self._train is None else (self._train[:], self._train.moments)
        return self.__dict__ | {"_probes": None, "_train": train}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._train = None if state["_train"] is None else Records.restored(*state["_train"])
        self._probes = Probes(self, [])

    def __enter__(self) -> Self:
        check_listening("SpikeCounter", self._probes.alive)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
