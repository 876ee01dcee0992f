"""Looking at the neurons of a network while it runs: how active each layer is, and what one sample does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ..functional import reset_net
from ..monitor import Recording, by_type, record
from ..monitor.choose.signals import reset_of, threshold_of
from ..monitor.reduce import Packed, Raw, Reducer
from ..monitor.sync import sync
from ..neuron import PointwiseNeuron
from ..neuron.spiking import gives_spikes
from ..report.views import Array, GradientFlow, LayerActivity, LayerTrace, SampleView, at_each_step
from ..spikes import PackedSpikes
from .data import direct_encoding

__all__ = ["Activity", "all_spikes", "at_rest", "gradients", "observe", "view_sample"]


class Activity:
    """What a recording of firing rates and silent shares says of each layer; None is of a network without neurons."""

    def __init__(self, net: nn.Module, recording: Recording | None) -> None:
        self._net = net
        self._recording = recording

    def layers(self, over_ranks: bool = False) -> tuple[LayerActivity, ...]:
        """The activity of every layer that has run, from the first in the network to the last; `over_ranks` of all."""
        if self._recording is None:
            return ()
        results = sync(self._recording) if over_ranks else self._recording
        return tuple(
            LayerActivity(
                name=name,
                kind=type(self._net.get_submodule(name)).__name__,
                neurons=found["rate"].numel(),
                rate=found["rate"].mean().item(),
                silent=found["silent share"],
            )
            for name, found in results.items()
        )


@contextmanager
def observe(net: nn.Module) -> Iterator[Activity]:
    """Count the spikes of every neuron in `net` while the block runs.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with observe(net) as activity:
    ...     _ = net(torch.tensor([[[0.5, 0.25]], [[0.5, 0.25]]]))  # the first fires at step 2, the other never
    >>> activity.layers()
    (LayerActivity(name='0', kind='IFNode', neurons=2, rate=0.25, silent=0.5),)
    """
    try:
        recording = record(net, ("rate", "silent share"))
    except LookupError:  # it has none, as the twin without spikes
        yield Activity(net, None)
        return
    with recording:
        yield Activity(net, recording)


@contextmanager
def at_rest(net: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no state from before; both undone at the end."""
    with ExitStack() as undo:
        undo.callback(net.train, net.training)
        net.eval()
        undo.callback(reset_net, net)
        reset_net(net)
        yield


def all_spikes(name: str, module: nn.Module) -> Reducer:
    """A bit for each spike; the values themselves of neurons that give other than 0 and 1."""
    return Packed() if gives_spikes(module) else Raw()


def view_sample(net: nn.Module, x: Tensor, label: int, steps: int, trained_steps: int) -> SampleView:
    """Run one image `[1, H, W]` for `steps` steps (`net` in `step_mode='m'`) and keep all that its neurons did."""
    neurons = by_type(PointwiseNeuron)
    with (
        torch.no_grad(),
        at_rest(net),
        record(net, all_spikes, neurons, "spike") as spikes,
        record(net, "raw", neurons, "v") as potentials,
    ):
        readout = net(direct_encoding(x.unsqueeze(0), steps))
    traces = tuple(
        LayerTrace(
            name=name,
            kind=type(module).__name__,
            spikes=_rows(held.dense() if isinstance(held, PackedSpikes) else held),
            potential=_rows(potentials[name]),
            threshold=threshold_of(module),
            reset=reset_of(module),
        )
        for name, held in spikes.items()
        if isinstance(module := net.get_submodule(name), PointwiseNeuron)
    )
    return SampleView(x[0].cpu().numpy(), label, readout[:, 0].float().cpu().numpy(), traces, trained_steps)


def _rows(x_seq: Tensor) -> Array:
    """`[T, 1, *]` as `[T, F]`."""
    return np.asarray(x_seq.flatten(1).float().cpu().numpy())


def gradients(recording: Recording) -> GradientFlow:
    """What a recording of `'gradient norm'` says of depth and time; layers without one at each step are left out."""
    norms, _ = at_each_step({name: held.double().cpu().numpy() for name, held in recording.items()})
    return GradientFlow(tuple(norms), np.stack(list(norms.values())))
