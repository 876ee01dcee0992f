"""Parallel spiking neurons, which are a product over time, and recurrent layers that spike."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..harness import Agreement, Options, Row, agreement, measure

__all__ = ["rows"]

T = 16
PARALLEL: dict[str, dict[str, Any]] = {
    "PSN": {"T": T},
    "MaskedPSN": {"k": 4, "T": T, "lambda_init": 1.0, "step_mode": "m"},
    "SlidingPSN": {"k": 4, "step_mode": "m"},
}
LAYERS = ("SpikingVanillaRNN", "SpikingLSTM", "SpikingGRU")
SIZES = (64, 128, 1)  # of the input, of the hidden layer, layers


def _made(library: str, room: str, name: str, *arguments: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = getattr(importlib.import_module(f"{library}.{room}"), name)(*arguments, **options)
    return module


def _training(run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward with the gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    inputs = [x, *module.parameters()]

    def work() -> tuple[Tensor, ...]:
        y = run(x)
        return (y.detach(), *torch.autograd.grad(y.sum(), inputs))

    return work


def _parallel(library: str, name: str, x: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    surrogate = importlib.import_module(f"{library}.surrogate").ATan()
    module = _made(library, "neuron", name, surrogate_function=surrogate, **PARALLEL[name])

    def run(x: Tensor) -> Tensor:
        if hasattr(module, "reset"):
            module.reset()
        y: Tensor = module(x)
        return y

    return _training(run, module, x)


def _layer(library: str, name: str, x: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    module = _made(library, "rnn", name, *SIZES)
    return _training(lambda x: module(x)[0], module, x)


def rows(options: Options) -> Iterator[Row]:
    """Milliseconds forward and backward."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(T, 64, options.size(4096, 512), generator=generator) + 0.5
    narrow = torch.rand(T, 32, SIZES[0], generator=generator)
    for names, make, x in ((PARALLEL, _parallel, wide), (LAYERS, _layer, narrow)):
        for name in names:
            work = {"ours": make("spikescope", name, x)}
            found: dict[str, Agreement] = {}
            note = ""
            try:
                theirs = make("spikingjelly.activation_based", name, x)
                found = {"spikingjelly": agreement(work["ours"](), theirs())}
                work["spikingjelly"] = theirs
            except Exception as error:  # a rival that cannot be had, or fails, is a remark
                note = f"spikingjelly: {type(error).__name__}: {error}"[:120]
            case = f"{name}, {list(x.shape)}"
            yield from measure("recurrent", case, "forward + backward", work, found, options, note)
