"""Peak memory of a training step of OTTT and of backpropagation through time against T, one fresh process each.

The network and its weights are the same in all: two blocks of Conv2d-LIF-AvgPool2d and a Linear layer, for 28 x 28
frames of spikes. Backpropagation through time runs step by step, and as a sequence with fused kernels, which keep less.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import functional, layer, neuron

from ..harness import Agreement, Options, Row, agreement, subprocess_json, versus
from .memory import forget_peak, peak, report

__all__ = ["rows"]

BATCH, CHANNELS, CLASSES = 16, 16, 10
RIVALS = {"BPTT, steps": "s", "BPTT, fused": "m"}  # and the step mode
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # at once when freed: the heap of glibc would keep it, and fragment


def rows(options: Options) -> Iterator[Row]:
    """Beyond what the process held with its input and weights, before the first step."""
    if not Path("/proc/self/status").exists():
        yield Row("online", "OTTT", "peak memory", "MB", None, note="needs /proc, as Linux has it")
        return
    found = _agreements()
    for T in (2, 4) if options.quick else (8, 32, 128):
        values = {
            name: subprocess_json("bench.cases.online", name, str(T), environment=GIVEN_BACK)
            for name in ("ours", *found)
        }
        case = f"conv SNN C={CHANNELS}, batch {BATCH}, T={T}"
        yield from versus("online", case, "peak, training step", "MB", values, found)


def _network(name: str) -> nn.Sequential:
    """The same weights for every name."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"decay_input": False, "v_reset": None, "detach_reset": True}
    kind = neuron.OTTTLIFNode if name == "ours" else neuron.LIFNode
    container = layer.OTTTSequential if name == "ours" else nn.Sequential
    net: nn.Sequential = container(
        layer.Conv2d(1, CHANNELS, 3, padding=1),
        kind(v_threshold=0.3, **options),
        layer.AvgPool2d(2),
        layer.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        kind(v_threshold=0.1, **options),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(CHANNELS * 49, CLASSES),
    )
    functional.set_step_mode(net, RIVALS.get(name, "s"))
    return net


def _spikes(T: int) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(T, BATCH, 1, 28, 28) < 0.2).float()


def _train(net: nn.Sequential, name: str, x_seq: Tensor) -> Tensor:
    """One step, with the gradient summed over time; the outputs `[T, N, CLASSES]`."""
    target = torch.arange(x_seq.shape[1]) % CLASSES
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    functional.reset_net(net)
    if name == "ours":
        target_seq = target.unsqueeze(1).expand(-1, len(x_seq))
        loss = nn.functional.cross_entropy
        _, y_seq = functional.ottt_online_training(
            net, optimizer, x_seq.transpose(0, 1), target_seq, loss, online=False
        )
        return y_seq.transpose(0, 1)
    y_seq = net(x_seq) if RIVALS[name] == "m" else functional.multi_step_forward(x_seq, net)
    optimizer.zero_grad()
    (functional.temporal_efficient_training_cross_entropy(y_seq, target) * len(x_seq)).backward()
    optimizer.step()
    return y_seq.detach()


def _agreements() -> dict[str, Agreement]:
    """All see the same outputs; the gradients of hidden layers are not meant to be the same."""
    outputs = {name: _train(_network(name), name, _spikes(8)) for name in ("ours", *RIVALS)}
    return {name: agreement([outputs["ours"]], [outputs[name]]) for name in RIVALS}


def _contender(name: str, T: int) -> float:
    net, x_seq = _network(name), _spikes(T)
    _train(net, name, x_seq[:2, :1])  # what is loaded and built at the first call is not the memory of training
    before = forget_peak()
    _train(net, name, x_seq)
    return peak() - before


if __name__ == "__main__":
    report(_contender(sys.argv[1], int(sys.argv[2])))
