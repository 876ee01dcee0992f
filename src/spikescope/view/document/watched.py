"""The document of what monitors saw of a network: at the end of a training, or while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ... import __version__
from ...analysis import Energy
from ...monitor import Health, by_role
from ...monitor.choose.kinds import fires
from ...monitor.choose.modules import named
from ...monitor.choose.signals import reset_of, threshold_of
from ...report.views import SampleView
from ...spikes import PackedSpikes
from .parts import (
    course_of,
    energy_of,
    evenly,
    finding_of,
    flow_of,
    image_of,
    layer_of,
    liveliest,
    potential_of,
    priced_of,
    raster_of,
)
from .recorded import POTENTIALS, RASTERS
from .shape import Document, Layer, empty, number

__all__ = ["of_health", "of_network", "show_health", "show_sample", "show_view", "versions"]


def of_network(
    net: nn.Module,
    *,
    health: Health | None = None,
    activity: Mapping[str, Any] | None = None,
    gradients: Mapping[str, Any] | None = None,
    energy: Energy | None = None,
    title: str = "",
    source: Literal["run", "live"] = "live",
) -> Document:
    """A document with findings, layers, gradients and energy: of each what was watched.

    - `activity`: what `monitor.record(net, ("rate", "silent share"))` gives. `gradients`: the norms at each step by
      layer, as `monitor.record(net, "gradient norm", ..., "grad_output")` gives them. `energy`: of `monitor.energy`.

    >>> net = nn.Sequential(nn.Linear(3, 2), spikescope.neuron.IFNode(step_mode="m"))
    >>> with spikescope.monitor.record(net) as activity:
    ...     _ = net(torch.ones(4, 1, 3))
    >>> [(layer["name"], layer["role"]) for layer in of_network(net, activity=activity)["layers"]]
    [('0', 'weights'), ('1', 'neurons')]
    """
    found = empty(source, title or type(net).__name__)
    if health is not None:
        show_health(found, health)
    order = health.order if health is not None else []
    found["layers"] = _layers(net, order, activity or {}, gradients or {}, energy)
    if gradients:
        places = {row["name"]: at for at, row in enumerate(found["layers"])}
        names = sorted(gradients, key=lambda name: places.get(name, -1))
        found["flow"] = flow_of({name: gradients[name] for name in names})
    if energy is not None:
        found["energy"] = energy_of(energy)
    return found


def show_health(found: Document, health: Health) -> None:
    """Have the findings be those of a network that was watched."""
    found["judged"] = health.ran
    found["findings"] = [finding_of(held) for held in health.findings]
    found["unjudged"] = health.unjudged


def of_health(health: Health) -> Document:
    """A document of what `monitor.health` saw of a network: findings, layers, and how far gradients reach back.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with spikescope.monitor.health(net) as watch:
    ...     _ = net(torch.ones(4, 1, 3))
    >>> of_health(watch)["layers"][0]["rate"]
    1
    """
    net, layers = health.network, health.layers()
    if net is None:
        found = empty("live", "A network")
        show_health(found, health)
        return found
    found = of_network(net, health=health)
    found["versions"] = versions()
    modules, rows = named(net), {row["name"]: row for row in found["layers"]}
    for name, seen in layers.items():
        row: Layer = {"name": name, "kind": type(modules[name]).__name__, "role": "neurons"}
        row["neurons"], row["rate"] = seen["neurons"], number(seen["rate"])
        if "silent" in seen:
            row["silent"] = number(seen["silent"])
        if "norms" in seen:
            row["gradient"] = number(seen["norms"].double().square().sum().sqrt())
        rows[name] = row
    found["layers"] = [rows[name] for name in dict.fromkeys([*health.order, *rows]) if name in rows]
    found["flow"] = flow_of({name: seen["norms"] for name, seen in layers.items() if "norms" in seen})
    return found


def versions() -> list[list[str]]:
    """Those of what is watched with."""
    return [["spikescope", __version__], ["torch", str(torch.__version__)]]


def _layers(
    net: nn.Module,
    order: Sequence[str],
    activity: Mapping[str, Any],
    gradients: Mapping[str, Any],
    energy: Energy | None,
) -> list[Layer]:
    modules, weights = named(net), by_role("synapse")
    priced = {layer.work.name: layer for layer in energy.layers} if energy is not None else {}
    ran = dict.fromkeys([*order, *modules])  # in the order of the data, and what was not told by it behind
    rows = []
    for name in ran:
        module = modules.get(name)
        if name in activity:
            found = activity[name]
            row = layer_of(
                name, type(module).__name__, torch.as_tensor(found["rate"], device="cpu"), found.get("silent share")
            )
        elif module is not None and weights.matches(name, module):
            row = {"name": name, "kind": type(module).__name__, "role": "weights"}
        else:
            continue
        if module is not None and (parameters := sum(held.numel() for held in module.parameters(recurse=False))):
            row["parameters"] = parameters
        if name in gradients:
            row["gradient"] = number(torch.as_tensor(gradients[name], device="cpu").double().square().sum().sqrt())
        if name in priced:
            row |= priced_of(priced[name])
        rows.append(row)
    return rows


def show_sample(
    found: Document,
    net: nn.Module,
    spikes: Mapping[str, Tensor | PackedSpikes],
    potentials: Mapping[str, Tensor],
    sample: int = 0,
    words: str = "",
) -> None:
    """Add the rasters and potentials of one sample: of each layer `[T, N, *]`. A read-out has no spikes.

    >>> net, found = nn.Sequential(spikescope.neuron.IFNode()), empty("live", "")
    >>> show_sample(found, net, {"0": torch.eye(3).view(3, 1, 3)}, {"0": torch.eye(3).view(3, 1, 3)})
    >>> found["rasters"][0]["marks"], found["potentials"][0]["threshold"]
    ([[0], [1], [2]], 1)
    """
    modules = named(net)
    silent = {name for name, module in modules.items() if not fires(module)}
    spikes = {name: values for name, values in spikes.items() if name not in silent and sample < values.shape[1]}
    potentials = {name: values for name, values in potentials.items() if sample < values.shape[1]}  # which may be none
    held = {name: _of_sample(values, sample) for name, values in spikes.items()}
    _limited(found, held, RASTERS, "Rasters")
    for name in _some(held, RASTERS):
        found["rasters"].append(raster_of(name, held[name], words))
    _limited(found, potentials, POTENTIALS, "Potentials")
    for name in _some(potentials, POTENTIALS):
        values = _of_sample(potentials[name], sample)
        module = modules.get(name)  # which may have been taken out since
        for at in liveliest(values, held.get(name)):
            fired = _fired(held[name][:, at]) if name in held else []
            limits = (None, None) if module is None else (threshold_of(module), reset_of(module))
            found["potentials"].append(potential_of(name, at, values[:, at], fired, *limits, sample=words))


def show_view(found: Document, view: SampleView, words: str) -> None:
    """Add a sample as the pictures of a run have it: its image, rasters, potentials, and what the network believes."""
    found["image"] = image_of(view.image, words)
    for layer in view.layers[:RASTERS]:
        found["rasters"].append(raster_of(layer.name, torch.from_numpy(layer.spikes), words))
        held, fired = torch.from_numpy(layer.potential), torch.from_numpy(layer.spikes)
        for at in liveliest(held, fired) if len(found["potentials"]) < 3 * POTENTIALS else []:
            limits = layer.threshold, layer.reset
            potential = potential_of(layer.name, at, held[:, at], _fired(fired[:, at]), *limits, sample=words)
            found["potentials"].append(potential)
    belief = view.belief
    steps = list(range(len(belief)))
    series = {f"class {at}": belief[:, at].tolist() for at in range(belief.shape[1])}
    title = "What the network believes, step by step"
    found["courses"].append(course_of(title, "time step", "probability of a class", steps, series, share=True))


def _of_sample(values: Tensor | PackedSpikes, sample: int) -> Tensor:
    """`[T, F]`."""
    dense = values.dense() if isinstance(values, PackedSpikes) else values
    return dense[:, sample].flatten(1).detach().float().cpu()


def _fired(spikes: Tensor) -> list[int]:
    return ((spikes != 0) & ~spikes.isnan()).nonzero().flatten().tolist()


def _some(held: Mapping[str, Any], most: int) -> list[str]:
    names = list(held)
    return [names[at] for at in evenly(len(names), most)]


def _limited(found: Document, held: Mapping[str, Any], most: int, what: str) -> None:
    if len(held) > most:
        found["notes"].append(f"{what} are shown of {most} of {len(held):,} layers, evenly chosen.")
