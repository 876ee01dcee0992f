"""The energy of a network: what was counted while it ran, or in a recording, times what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..analysis import Costs, Energy, Work
from ..analysis import energy as priced
from ..errors import check_module
from ..neuron import Neuron
from ..recording import Signal, StoredRecording
from ..spikes import PackedSpikes
from .choose.kinds import is_neuron
from .foreign.copies import copied
from .foreign.known import adapter_of
from .operations import operations
from .reduce.work import CONVOLUTIONS, fan_out
from .spike_heights import heights_in, of_height_one, spikes_in

__all__ = ["energy"]

WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS)


def energy(
    net: nn.Module,
    x: Tensor | StoredRecording,
    model: str | Costs = "45nm float32",
    memory: str | float = "fit",
    samples: int | None = None,
) -> Energy:
    """The energy of one sample, layer by layer, beside that of the twin without spikes: see `analysis.energy`.

    - `x`: an input, on which a copy of the network runs: what is counted, and how, says `operations`. Or a recording on
      disk of `net`, with the signal `'input'` of layers with weights, and of neurons any: nothing runs then, all calls
      of the recording count, and products without weights, as in attention, are not seen.
    - `model`, `memory`: as in `analysis.energy`. `samples`: as in `operations`.

    Print it: the table names every formula, constant and source.

    >>> net = nn.Sequential(spikescope.layer.Linear(4, 2), spikescope.neuron.IFNode(), spikescope.layer.Linear(2, 3))
    >>> held = energy(net, torch.full((1, 4), 0.5))
    >>> [layer.work.name for layer in held.layers], held.sum("twin_operations")  # 14 * 4.6 pJ
    (['0', '1', '2'], 64.4)
    """
    check_module("energy", net)
    work = list(_recorded(net, x)) if isinstance(x, StoredRecording) else operations(net, x, samples)
    return priced(work, model, memory)


def _recorded(net: nn.Module, recording: StoredRecording) -> Iterator[Work]:
    """The work of the layers of a recording, in the order of the network."""
    modules = dict(net.named_modules())
    if absent := [name for name in recording if name not in modules]:
        raise ValueError(
            f"energy: the network has no module {absent[0]!r}, which was recorded. Is it the same network?"
        )
    told = recording.head.get("subset") or {}
    if isinstance(told, dict) and (cut := [name for name in ("neurons", "time") if name in told]):
        raise ValueError(
            f"energy: the recording holds only a part of the {'steps' if cut[0] == 'time' else cut[0]}, not whole "
            "samples. Record without subset=, or with subset=Subset(samples=...)."
        )
    found = False
    for name, module in modules.items():
        if name not in recording:
            continue
        layer = {key: signal for key, signal in recording[name].items() if len(signal)}  # others never ran
        if is_neuron(module) and layer:
            found = True
            yield _of_neuron(name, module, next(iter(layer.values())))
        elif isinstance(module, WEIGHTED) and "input" in layer:
            found = True
            yield _of_weights(name, module, layer["input"], heights_in(net))
    if not found:
        raise ValueError(
            "energy: the recording holds no input of a layer with weights, and no neuron. Record them: "
            "monitor.record(net, {'input': monitor.by_type(nn.Linear, nn.Conv2d), 'spike': None}, to='run.spk')."
        )


def _of_neuron(name: str, module: nn.Module, signal: Signal) -> Work:
    runs, shape = signal.runs, signal.neuron_shape
    samples = sum(run.samples for run in runs)
    size = torch.Size(shape).numel()
    updates = size * sum(run.steps * run.samples for run in runs) / max(1, samples)
    held: Any = copied(module)
    if isinstance(held, Neuron):
        held.step_mode = "s"
    adapter = adapter_of(module)
    axes = (1,) if adapter is None else adapter.axes(module)
    (work,) = operations(held, torch.zeros(*axes, *shape, device=_device(module)))  # what one update computes
    return replace(work, name=name, neurons=size, updates=updates)


def _device(module: nn.Module) -> torch.device:
    return next((held.device for held in module.parameters()), torch.device("cpu"))


def _of_weights(name: str, module: nn.Module, signal: Signal, heights: list[Tensor]) -> Work:
    samples = sum(run.samples for run in signal.runs)
    shape = signal.neuron_shape
    reach = fan_out(module, shape)
    dense = reach.sum().item()
    acs = macs = events = 0.0
    for block in signal.blocks():
        x = block.values.dense() if isinstance(block.values, PackedSpikes) else block.values
        spikes = spikes_in(of_height_one(x, heights))
        if spikes is None:
            macs += dense * x.shape[0] * x.shape[1]
        else:
            acs += (spikes.double() * reach).sum().item()
            events += spikes.sum(dtype=torch.float64).item()
    outputs = dense / module.in_features if isinstance(module, nn.Linear) else _outputs(module, shape)
    count = max(1, samples)
    parameters = sum(held.numel() for held in module.parameters())
    return Work(
        name, type(module).__name__, dense=dense, acs=acs / count, macs=macs / count, parameters=parameters,
        outputs=outputs, events=events / count,
    )  # fmt: skip


def _outputs(module: nn.Module, shape: tuple[int, ...]) -> float:
    with torch.no_grad():
        return float(type(module).forward(deepcopy(module).to("meta"), torch.empty(1, *shape, device="meta")).numel())
