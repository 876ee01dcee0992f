"""Looking at the neurons of a network while it runs: how active each layer is, and what one sample does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..functional import reset_net
from ..monitor import Recording, record
from ..neuron import PointwiseNeuron
from ..report.views import LayerActivity, LayerTrace, SampleView
from .data import direct_encoding

__all__ = ["Activity", "observe", "view_sample"]


class Activity:
    """What a recording of firing rates and silent shares says of each layer."""

    def __init__(self, net: nn.Module, recording: Recording) -> None:
        self._net = net
        self._recording = recording

    def layers(self) -> tuple[LayerActivity, ...]:
        """The activity of every layer that has run, from the first in the network to the last."""
        return tuple(
            LayerActivity(
                name=name,
                kind=type(self._net.get_submodule(name)).__name__,
                neurons=found["rate"].numel(),
                rate=found["rate"].mean().item(),
                silent=found["silent share"],
            )
            for name, found in self._recording.items()
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
    with record(net, ("rate", "silent share")) as recording:
        yield Activity(net, recording)


@contextmanager
def _recording(net: nn.Module, outputs: dict[str, Tensor]) -> Iterator[dict[str, PointwiseNeuron]]:
    """Evaluation mode, the membrane potentials kept, the outputs of all neurons collected; all undone at the end."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, PointwiseNeuron)}

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = output

    with ExitStack() as undo:
        undo.callback(net.train, net.training)
        net.eval()
        undo.callback(reset_net, net)
        for name, module in layers.items():
            undo.callback(setattr, module, "store_v_seq", module.store_v_seq)
            module.store_v_seq = True
            undo.callback(module.register_forward_hook(partial(keep, name)).remove)
        reset_net(net)
        yield layers


def view_sample(net: nn.Module, x: Tensor, label: int, steps: int, trained_steps: int) -> SampleView:
    """Run one image `[1, H, W]` for `steps` steps (`net` in `step_mode='m'`) and keep all that its neurons did."""
    outputs: dict[str, Tensor] = {}
    with torch.no_grad(), _recording(net, outputs) as layers:
        readout = net(direct_encoding(x.unsqueeze(0), steps))
        traces = tuple(
            LayerTrace(
                name=name,
                kind=type(module).__name__,
                spikes=outputs[name].flatten(1).float().cpu().numpy(),
                potential=module.v_seq.flatten(1).float().cpu().numpy(),
                threshold=_threshold(module),
            )
            for name, module in layers.items()
        )
    return SampleView(x[0].cpu().numpy(), label, readout[:, 0].float().cpu().numpy(), traces, trained_steps)


def _threshold(module: PointwiseNeuron) -> float | None:
    """The threshold that all neurons of a layer share, where there is one."""
    if "v_threshold" not in type(module).fields:
        return None
    held = torch.as_tensor(module.v_threshold)
    return held.item() if held.numel() == 1 else None
