"""Names that came with SpikingJelly 2.0, each a few lines on what is here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import encoding, exchange, functional
from ...neuron import IFNode, LIFNode

__all__ = [
    "PopEncoder",
    "SimpleIFNode",
    "SimpleLIFNode",
    "TLastMultiStepContainer",
    "TLastSeqToANNContainer",
    "collect_reset_modules",
    "export_to_nir",
    "fuse_conv_bn_eval_modules",
    "import_from_nir",
    "invalidate_reset_cache",
    "reset_collected_modules",
    "t_last_multi_step_forward",
    "t_last_seq_to_ann_forward",
]

SimpleIFNode = IFNode
SimpleLIFNode = LIFNode


def t_last_multi_step_forward(x_seq: Tensor, single_step_module: Any) -> Tensor:
    """`functional.multi_step_forward` of `[N, *, T]`: time is the last axis, also of what comes out.

    >>> t_last_multi_step_forward(torch.ones(2, 3, 4), nn.Linear(3, 5)).shape
    torch.Size([2, 5, 4])
    """
    y: Tensor = functional.multi_step_forward(x_seq.movedim(-1, 0), single_step_module)
    return y.movedim(0, -1)


def t_last_seq_to_ann_forward(x_seq: Tensor, stateless_module: Any) -> Tensor:
    """`functional.seq_to_ann_forward` of `[N, *, T]`: time is the last axis, also of what comes out."""
    y: Tensor = functional.seq_to_ann_forward(x_seq.movedim(-1, 0), stateless_module)
    return y.movedim(0, -1)


class TLastMultiStepContainer(nn.Sequential):
    """Modules in single steps, applied to `[N, *, T]` a step at a time."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """`[N, *, T]`."""
        return t_last_multi_step_forward(x_seq, list(self))


class TLastSeqToANNContainer(nn.Sequential):
    """Stateless modules, applied once to all steps of `[N, *, T]`."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """`[N, *, T]`."""
        return t_last_seq_to_ann_forward(x_seq, list(self))


def collect_reset_modules(net: nn.Module) -> tuple[nn.Module, ...]:
    """The modules of `net` that have a `reset()`."""
    return tuple(module for module in net.modules() if callable(getattr(module, "reset", None)))


def reset_collected_modules(modules: Iterable[nn.Module]) -> None:
    """`reset()` of each."""
    for module in modules:
        module.reset()  # type: ignore[operator]  # it has one


def invalidate_reset_cache(net: nn.Module) -> None:
    """Does nothing: `reset_net` remembers nothing of a network that could be out of date."""


def fuse_conv_bn_eval_modules(net: nn.Module) -> nn.Module:
    """`functional.fuse_network`: a copy of `net`, in eval, with its normalisations in the layers before them."""
    return functional.fuse_network(net)


class PopEncoder(encoding.PopSpikeEncoderRandom):
    """`encoding.PopSpikeEncoderRandom` that gives the responses themselves, at every step, in the place of spikes.

    >>> PopEncoder(1, 1, 2, (-1.0, 1.0), 1.0)(torch.tensor([[0.0]])).detach().flatten()
    tensor([1., 1.])
    """

    def forward(self, obs: Tensor) -> Tensor:
        """The responses `[T, N, obs_dim * pop_dim]`."""
        return self.activity(obs).repeat(self.spike_ts, 1, 1)


def export_to_nir(net: nn.Module, example_input: Tensor, save_path: str | Path | None = None, dt: float = 1e-4) -> Any:
    """`exchange.to_nir` for the shape of one sample in `example_input`, `[N, *]`, or `[T, N, *]` for sequences."""
    in_sequences = any(getattr(module, "step_mode", "s") == "m" for module in net.modules())
    graph = exchange.to_nir(net, example_input.shape[2 if in_sequences else 1 :], dt)
    if save_path is not None:
        exchange.write_nir(save_path, graph)
    return graph


def import_from_nir(
    graph: Any,
    dt: float = 1e-4,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    step_mode: str = "s",
) -> nn.Module:
    """`exchange.from_nir` of a graph, or of the path of a file, on `device` in `dtype`."""
    net: nn.Module = exchange.from_nir(str(graph) if isinstance(graph, Path) else graph, dt, step_mode=step_mode)
    return net.to(device, dtype)
