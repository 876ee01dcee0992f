"""The table that closes a run."""

from __future__ import annotations

from collections.abc import Sequence

from ..display import amount
from .views import Epoch, LayerActivity, LayerWork

__all__ = ["activity_table", "summary", "work_table"]


def summary(history: Sequence[Epoch]) -> str:
    """Accuracy, time and the activity of each layer after the last epoch, as plain text.

    >>> from spikescope.report import LayerActivity
    >>> layer = LayerActivity("neuron1", "LIFNode", 2048, 0.125, 0.25)
    >>> print(summary([Epoch(1, 0.5, 0.75, 0.625, 0.5, 1.5, (layer,))]))
    Test accuracy      50.00 %   (train 75.00 %)
    Training           1 epoch in 1.5 s
    <BLANKLINE>
    layer     neuron    neurons  spikes per 100 steps  silent
    neuron1   LIFNode     2,048                  12.5  25.0 %
    """
    if not history:
        return "No epoch was finished."
    last = history[-1]
    lines = [
        f"Test accuracy      {100 * last.test_accuracy:.2f} %   (train {100 * last.train_accuracy:.2f} %)",
        f"Training           {amount(len(history), 'epoch')} in {sum(epoch.seconds for epoch in history):.1f} s",
    ]
    return "\n".join([*lines, "", activity_table(last.layers)] if last.layers else lines)


def activity_table(layers: Sequence[LayerActivity]) -> str:
    """The activity of each layer of neurons, as plain text.

    >>> print(activity_table([LayerActivity("neuron1", "LIFNode", 2048, 0.125, 0.25)]))
    layer     neuron    neurons  spikes per 100 steps  silent
    neuron1   LIFNode     2,048                  12.5  25.0 %
    """
    names = max([8, *(len(layer.name) for layer in layers)])
    kinds = max([8, *(len(layer.kind) for layer in layers)])
    lines = [f"{'layer':<{names}}  {'neuron':<{kinds}}  {'neurons':>7}  spikes per 100 steps  silent"]
    lines += [
        f"{layer.name:<{names}}  {layer.kind:<{kinds}}  {layer.neurons:>7,}  {100 * layer.rate:>20.1f}  "
        f"{100 * layer.silent:>4.1f} %"
        for layer in layers
    ]
    return "\n".join(lines)


def work_table(work: Sequence[LayerWork]) -> str:
    """The synaptic operations of one sample by layer, against a network without spikes, as plain text.

    >>> print(work_table([LayerWork("conv1", 1000.0, 1000.0), LayerWork("linear2", 500.0, 2000.0)]))
    layer     operations per sample  without spikes  ratio
    conv1                     1,000           1,000   1.00
    linear2                     500           2,000   0.25
    in all                    1,500           3,000   0.50
    """
    total = LayerWork("in all", sum(layer.operations for layer in work), sum(layer.dense for layer in work))
    names = max(8, *(len(layer.name) for layer in work))
    lines = [f"{'layer':<{names}}  operations per sample  without spikes  ratio"]
    lines += [
        f"{held.name:<{names}}  {held.operations:>21,.0f}  {held.dense:>14,.0f}  {held.operations / held.dense:>5.2f}"
        for held in (*work, total)
    ]
    return "\n".join(lines)
