"""The clock-driven Monitor: spikes and membrane potentials of every neuron, one tensor a time step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...display import Displayed, Overview, size_of
from ...errors import check_choice, check_listening, check_module, check_switches
from ...neuron import PointwiseNeuron
from ...neuron.readout import ReadOut
from ...recording.budget import Budget
from ...recording.budget import budget as as_budget
from ...recording.disk.spill import SpilledRecords, records_within
from ...recording.records import Moment, Records
from ...sockets import Signal
from ...warn import warn
from ..choose.modules import by_role, select
from ..choose.signals import spikes_of
from ..probe.group import Probes, weakly
from ..probe.single import Probe

__all__ = ["Monitor"]


class Monitor(Displayed):
    """Collects spikes and potentials of every neuron by the name of its layer, from `enable()` on.

    - `device`: where the records go; None leaves them where the network is.
    - `backend`: `'numpy'` or `'torch'`, the kind of the records.
    - `budget`: bytes that the records may take.

    `s` and `v` hold one array `[N, *]` per time step, in single-step and in multi-step networks alike. `v` has no
    entry for neurons without a membrane potential, `s` none for read-outs, which never fire.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(v_reset=None, step_mode="m"))
    >>> monitor = Monitor(net, backend="torch")
    >>> monitor.enable()
    >>> _ = net(torch.full((2, 1, 1), 0.5))
    >>> monitor.s["0"], monitor.v["0"], monitor.get_avg_firing_rate()
    ([tensor([[0.]]), tensor([[1.]])], [tensor([[0.5000]]), tensor([[0.]])], tensor(0.5000))
    """

    def __init__(
        self,
        net: nn.Module,
        device: torch.device | str | None = None,
        backend: str = "numpy",
        budget: Budget | int | str | None = None,
    ) -> None:
        check_module("Monitor", net)
        check_choice("Monitor", "backend", backend, ("numpy", "torch"))
        self.device, self.backend = device, backend
        self.neurons: dict[str, Any] = select(net, by_role("neuron"), "Monitor")
        self._records = {kind: records_within(as_budget(budget)) for kind in ("s", "v")}
        spiking = {name: module for name, module in self.neurons.items() if not isinstance(module, ReadOut)}
        charged = {name: module for name, module in self.neurons.items() if isinstance(module, PointwiseNeuron)}
        self._names = {"s": list(spiking), "v": list(charged)}
        made = [*self._made(spiking, spikes_of, "s", net), *self._made(charged, lambda _: Signal("tap", "v"), "v", net)]
        self._probes = Probes(self, made)

    def _made(
        self, modules: Mapping[str, nn.Module], signal: Callable[[nn.Module], Signal], kind: str, net: nn.Module
    ) -> list[Probe]:
        take = weakly(self._add, kind)
        return [Probe(name, held, signal(held), take, root=net, enabled=False) for name, held in modules.items()]

    def _add(self, kind: str, value: Tensor, moment: Moment) -> None:
        timed = self.neurons[moment.name].step_mode == "m"
        for i, step in enumerate(value if timed else [value]):
            kept = step.to(self.device, copy=True) if self.device is not None else step.clone()
            when = (
                moment if moment.start is None else moment._replace(start=moment.start + i, stop=moment.start + i + 1)
            )
            self._records[kind].keep(_as_numpy(kept) if self.backend == "numpy" else kept, when)

    def enable(self) -> None:
        """Record from now on; what is there stays."""
        self._probes.switch(True)

    def disable(self) -> None:
        """Pause; what is there stays readable."""
        self._probes.switch(False)

    def is_enable(self) -> bool:
        """Whether it records."""
        return self._probes.enabled

    def reset(self) -> None:
        """Forget all records."""
        for records in self._records.values():
            records.clear()
        self._probes.restart()

    def _lists(self, kind: str) -> dict[str, list[Any]]:
        self._probes.raise_error(self.neurons)
        lists: dict[str, list[Any]] = {name: [] for name in self._names[kind]}
        records = self._records[kind]
        for value, moment in zip(records, records.moments, strict=True):
            if moment is not None:
                lists[moment.name].append(value)
        return lists

    @property
    def s(self) -> dict[str, list[Any]]:
        """Spikes: the name of a layer to one `[N, *]` per time step."""
        return self._lists("s")

    @property
    def v(self) -> dict[str, list[Any]]:
        """Membrane potentials after each step, likewise."""
        return self._lists("v")

    def get_avg_firing_rate(self, all: bool = True, module_name: str | None = None) -> Any:
        """The mean of the spikes over time, batch and neurons, as a number of the backend.

        Of one layer, or (`all`) over all layers, weighted by their numbers of neurons.
        """
        layers = self._asked(all, module_name)
        rates = [sum(map(_spikes, steps)) / sum(map(_size, steps)) for steps in layers]
        weights = [_size(steps[0][0]) for steps in layers]
        return self._number(sum(rate * weight for rate, weight in zip(rates, weights, strict=True)) / sum(weights))

    def get_nonfire_ratio(self, all: bool = True, module_name: str | None = None) -> Any:
        """The share of neurons that never fired, in no step of no sample; of one layer or of all."""
        silent = neurons = 0
        for steps in self._asked(all, module_name):
            fired = sum((step != 0).any(0) for step in steps) > 0
            silent += _size(fired) - int(fired.sum())
            neurons += _size(fired)
        return self._number(silent / neurons)

    def _number(self, value: float) -> Any:
        """A number as the records are: a 0-dim tensor where they lie, or a scalar of numpy."""
        if self.backend == "numpy":
            return np.float64(value)
        device = self._records["s"][-1].device if self.device is None else self.device
        return torch.tensor(value, dtype=torch.float32, device=device)

    def _asked(self, all: bool, module_name: str | None) -> list[list[Any]]:
        check_switches("Monitor", all=all)
        lists = self.s
        if all and module_name is not None:
            warn(f"Monitor: with all=True module_name={module_name!r} says nothing. For that layer alone, all=False.")
        if not all:
            if module_name not in lists:
                raise KeyError(f"There is no spiking layer {module_name!r}; there is {', '.join(map(repr, lists))}.")
            lists = {module_name: lists[module_name]}
        found = [[step for step in steps if _size(step)] for steps in lists.values()]
        found = [steps for steps in found if steps]
        if not found:
            raise ValueError("Monitor has no data yet: call enable(), then run the network.")
        return found

    def close(self) -> None:
        """Stop for good; the records stay. A second time does nothing."""
        self._probes.close()
        for records in self._records.values():
            records.close()

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: it holds the records, but listens to nothing."""
        held = {kind: (records[:], records.moments) for kind, records in self._records.items()}
        return self.__dict__ | {"_probes": None, "_records": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._records = {kind: Records.restored(*held) for kind, held in state["_records"].items()}
        self._probes = Probes(self, [])

    def _steps(self, kind: str, name: str) -> str:
        """How many records there are of a layer, as far as that is at hand."""
        records = self._records[kind]
        if isinstance(records, SpilledRecords):
            return "?"
        return str(sum(held is not None and held.name == name for held in records.moments))

    def overview(self) -> Overview:
        rows = [[name or "(network)", self._steps("s", name), self._steps("v", name)] for name in self.neurons]
        held = size_of(sum(records.nbytes for records in self._records.values()))
        state = "listening" if self.is_enable() else "not listening"
        return Overview(f"Monitor: {held} in memory, {state}", [["layer", "steps of s", "steps of v"], *rows])

    def __enter__(self) -> Self:
        check_listening("Monitor", self._probes.alive)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _as_numpy(value: Tensor) -> Any:
    value = value.cpu()
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()  # numpy has no bfloat16


def _spikes(array: Any) -> float:
    return float(abs(array).sum(dtype=torch.float64 if isinstance(array, Tensor) else "float64"))


def _size(array: Any) -> int:
    return int(array.numel() if isinstance(array, Tensor) else array.size)
