"""Layer by layer: the activations of a network and the rates of its conversion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..display import laid_out
from ..errors import check_whole
from ..report.style import COLOURS, GREY, blank, heading, styled, tidy
from .driving import Tally, drive, neurons_of
from .tracing import Watch, inputs_of, on_device, plan, required

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "LayerComparison", "compare"]

_POINTS = 3000  # of a panel


@dataclass(frozen=True)
class LayerComparison:
    """One layer: its activations, the mean outputs of its neurons over time, both `[N, *]`, and their scale."""

    activation: Tensor
    rate: Tensor
    scale: Tensor

    @property
    def error(self) -> float:
        r"""The relative error $\lVert r - a \rVert / \lVert a \rVert$."""
        off, size = (self.rate - self.activation).norm().item(), self.activation.norm().item()
        return off / size if size else math.inf if off else 0.0

    @property
    def clipped(self) -> float:
        """The share of the activations above the scale, which no rate can reach."""
        return (self.activation > self.scale * (1 + 1e-6)).double().mean().item()


class Comparison(Mapping[str, LayerComparison]):
    """What `compare` gives: the path of each neuron to its `LayerComparison`, in the order in which they run."""

    def __init__(self, layers: Mapping[str, LayerComparison], steps: int) -> None:
        self._layers = dict(layers)
        self.steps = steps

    def __getitem__(self, name: str) -> LayerComparison:
        if name not in self._layers:
            raise KeyError(f"{name!r} was not compared; there is {', '.join(map(repr, self._layers))}.")
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def table(self) -> str:
        """A line for each layer: scale, mean activation, mean rate, relative error and share of clipped activations."""
        cells = [["layer", "scale", "activation", "rate", "error %", "clipped %"]]
        for name, held in self.items():
            numbers = (held.scale.mean(), held.activation.mean(), held.rate.mean())
            shares = (100 * held.error, 100 * held.clipped)
            cells.append([name, *(f"{number.item():.4f}" for number in numbers), *(f"{share:.2f}" for share in shares)])
        return laid_out(cells)

    @styled
    def plot(self) -> Figure:
        """A panel for each layer, rates over activations, as a figure of matplotlib; needs the extra `report`."""
        columns = min(len(self), 4)
        rows = -(-len(self) // columns)
        figure = blank(1.0 + 3.1 * columns, 1.1 + 2.9 * rows)
        heading(figure, f"Rates of spikes over activations, T = {self.steps}", "a point for each neuron and sample")
        panels: Any = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (name, held) in zip(panels, self.items(), strict=False):
            _draw(axes, name, held)
        for axes in panels[len(self) :]:
            axes.set_axis_off()
        return figure


def _draw(axes: Axes, name: str, held: LayerComparison) -> None:
    activation, rate = held.activation.flatten().cpu(), held.rate.flatten().cpu()
    every = max(1, len(rate) // _POINTS)
    top = max(activation.max().item(), rate.max().item(), 1e-12) * 1.04
    axes.plot([0, top], [0, top], color=GREY, linewidth=0.9)
    axes.plot(activation[::every], rate[::every], ".", color=COLOURS[0], markersize=4.5, alpha=0.4, markeredgewidth=0)
    axes.set_xlim(-0.03 * top, top)
    axes.set_ylim(-0.03 * top, top)
    tidy(axes, f"{name}: error {100 * held.error:.1f} %", "activation", "mean output")


@torch.no_grad()
def compare(ann: nn.Module, snn: nn.Module, x: Tensor | tuple[Tensor, ...], steps: int) -> Comparison:
    """Every activation of `ann` beside the mean output over time of the neuron that stands for it in `snn`.

    - `x`: a batch of inputs `[N, *]`, held for all `steps`; a tuple for a network of several inputs.

    `snn` runs in its present step mode and is reset before and after. ValueError if it does not come from `ann`.

    >>> ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.constant_(ann[0].weight, 2.0)
    >>> snn = spikescope.ann2snn.Converter(torch.tensor([[2.0]]))(ann)
    >>> print(compare(ann, snn, torch.tensor([[0.8]]), steps=4).table())  # 1.6 * 4 / 4 rounds to 2 spikes of 4
    layer   scale  activation    rate  error %  clipped %
    1      4.0000      1.6000  2.0000    25.00       0.00
    """
    steps = check_whole("compare", "steps", steps)
    neurons = neurons_of("compare", snn)
    held = plan(ann)
    inputs = inputs_of("compare", x, required(held.net.graph))
    activations: dict[str, Tensor] = {}
    # copies, since what follows may work in place
    Watch(held, lambda name, out: activations.update({name: out.clone()})).run(*on_device(inputs, held.net))
    if set(activations) != set(neurons):
        raise ValueError(
            "compare: snn does not come from ann by Converter.\n"
            f"  ReLUs of ann    {', '.join(activations)}\n  neurons of snn  {', '.join(neurons)}"
        )
    with Tally(snn, neurons) as tally:
        drive(snn, tuple(on_device(inputs, snn)), steps, next(iter(neurons.values())).step_mode)
    return Comparison(
        {
            name: LayerComparison(
                activation.double().cpu(), tally.sums[name].cpu() / steps, neurons[name].scale.double().cpu()
            )
            for name, activation in activations.items()
        },
        steps,
    )
