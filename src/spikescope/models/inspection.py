"""What a network consists of, layer by layer: shapes, parameters, neurons, work, and what training keeps in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ..base import StepModule
from ..display import laid_out, size_of
from ..errors import check_module, check_tensor, dims
from ..functional import reset_net
from ..functional.memory.fit import keeps_less
from ..internals import out_of_inference
from ..neuron import Neuron
from ..neuron.readout import ReadOut

__all__ = ["LayerSummary", "Summary", "summary"]


@dataclass(frozen=True)
class LayerSummary:
    """A row of `Summary`: one module, with what its children do not account for.

    - `shape`: of its output. `neurons`: how many there are for one sample.
    - `macs`: products that are added up, in the whole of the input.
    - `kept`: bytes in memory until the backward pass; None on the device `meta`, and of a network that is lean or in
      the segments of `fit_memory`, which keeps other things than its layers save.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    neurons: int
    macs: int
    kept: int | None


@dataclass(frozen=True)
class Summary:
    """The rows of a network in the order in which it ran them. `str` of it is a table; `rows()` are plain values."""

    layers: tuple[LayerSummary, ...]

    @property
    def parameters(self) -> int:
        """Of all layers that ran."""
        return sum(held.parameters for held in self.layers)

    @property
    def neurons(self) -> int:
        """Of all layers, for one sample."""
        return sum(held.neurons for held in self.layers)

    @property
    def macs(self) -> int:
        """Of all layers, in the whole of the input."""
        return sum(held.macs for held in self.layers)

    @property
    def kept(self) -> int | None:
        """Bytes that all layers keep for the backward pass."""
        return None if any(held.kept is None for held in self.layers) else sum(held.kept or 0 for held in self.layers)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each layer, for a data frame or a file."""
        return [asdict(held) for held in self.layers]

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameters", "neurons", "MACs", "kept for backward")
        lines = [
            (
                held.name or "(itself)",
                held.kind,
                dims(held.shape),
                *_texts(held.parameters, held.neurons, held.macs, held.kept),
            )
            for held in self.layers
        ]
        lines.append(("in all", "", "", *_texts(self.parameters, self.neurons, self.macs, self.kept)))
        return laid_out([head, *lines], left=3)

    __repr__ = __str__


def _texts(parameters: int, neurons: int, macs: int, kept: int | None) -> tuple[str, ...]:
    numbers = (f"{number:,}" if number else "" for number in (parameters, neurons, macs))
    return (*numbers, "?" if kept is None else size_of(kept) if kept else "")


def _attention(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> int:
    return q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _recurrent(x: Tensor, weights: Iterable[Tensor], *rest: Any) -> int:
    """Of every step and sample `[T, N, *]`, in whichever order, all weights."""
    return x.shape[:2].numel() * sum(held.numel() for held in weights if held.ndim == 2)


aten = torch.ops.aten

_MACS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda matrix, *rest: matrix.numel(),
    aten.addmv: lambda start, matrix, *rest: matrix.numel(),
    aten.dot: lambda x, *rest: x.numel(),
    aten.vdot: lambda x, *rest: x.numel(),
    aten.addbmm: lambda start, x, y: x.numel() * y.shape[-1],
    aten._trilinear: lambda x, weight, *rest: len(x) * weight.numel(),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten.mkldnn_rnn_layer: lambda x, *rest: _recurrent(x, rest[:4]),
    aten._cudnn_rnn: _recurrent,
}
"""Of products that PyTorch has no formula for, the multiply-accumulates."""


class _Ledger(TorchDispatchMode):
    """Books what is computed and what is kept on the module that is running."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        from torch.utils.flop_counter import flop_registry  # only now: it brings triton

        super().__init__()
        self._formulas = flop_registry
        self.running: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.macs: dict[str, int] = {}
        self.kept: dict[str, int] = {}
        own = [*net.parameters(), *net.buffers(), x]
        self._known = {_memory(held) for held in own}
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.running and (macs := self._macs_of(func._overloadpacket, args, kwargs or {}, out)):
            self.macs[self.running[-1]] = self.macs.get(self.running[-1], 0) + macs
        return out

    def _macs_of(self, packet: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
        if packet in _MACS:
            return _MACS[packet](*args)
        formula = self._formulas.get(packet)
        operations: int = 0 if formula is None else formula(*args, **kwargs, out_val=out)
        return operations // 2

    def keep(self, saved: Tensor) -> Tensor:
        """Book a tensor that the backward pass needs, each memory once."""
        memory = _memory(saved)
        if memory not in self._known and self.running:
            self._known.add(memory)
            self._alive.append(saved)  # so that no other gets its place
            self.kept[self.running[-1]] = self.kept.get(self.running[-1], 0) + saved.untyped_storage().nbytes()
        return saved

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Know of each call which module it runs."""
        handles = []
        neurons = [f"{name}." if name else "" for name, held in net.named_modules() if isinstance(held, Neuron)]
        for name, module in net.named_modules():
            if name and name.startswith(tuple(neurons)):  # what a neuron calls is part of it
                continue

            def enter(module: nn.Module, args: Any, name: str = name) -> None:
                self.running.append(name)

            def leave(module: nn.Module, args: Any, out: Any, name: str = name) -> None:
                self.running.pop()
                tensors = [held for held in pytree.tree_leaves(out) if isinstance(held, Tensor)]
                self.shapes.pop(name, None)
                self.shapes[name] = tuple(tensors[0].shape) if tensors else ()

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            with self, torch.autograd.graph.saved_tensors_hooks(self.keep, lambda saved: saved):
                yield
        finally:
            for handle in handles:
                handle.remove()


def _memory(held: Tensor) -> int:
    return id(held) if held.device.type == "meta" else held.untyped_storage().data_ptr()


def summary(net: nn.Module, x: Tensor) -> Summary:
    """Run a copy of `net` on `x` from rest, and say of each layer what it is and what it costs.

    The network itself, its state, its statistics and the random generators stay as they are. MACs are those of a
    network without spikes, as PyTorch ran them: with the zeros of a padding, and once for a frame that is repeated over
    time without a copy. What is kept is counted in the present mode: `net.train()` for that of training. With `net` and
    `x` on the device `meta` nothing is computed, so that this works for networks that do not fit into memory.

    >>> net = nn.Sequential(spikescope.layer.Linear(100, 10), spikescope.neuron.LIFNode())
    >>> print(summary(net, torch.rand(8, 100)))
    layer   kind     output   parameters  neurons   MACs  kept for backward
    0       Linear   [8, 10]       1,010           8,000
    1       LIFNode  [8, 10]                   10                     320 B
    in all                         1,010       10  8,000              320 B
    """
    check_module("summary", net)
    check_tensor("summary", "x", x)
    with torch.inference_mode(False), torch.random.fork_rng(), torch.enable_grad():
        copy = deepcopy(net)
        reset_net(copy)
        x = out_of_inference(x)
        ledger = _Ledger(copy, x)
        with ledger.watching(copy):
            copy(x.detach())
    return Summary(tuple(_layers(copy, ledger, x.device.type == "meta" or keeps_less(net))))


def _layers(net: nn.Module, ledger: _Ledger, sizes_only: bool) -> Iterator[LayerSummary]:
    modules = dict(net.named_modules())
    counted: set[nn.Parameter] = set()
    for name, shape in ledger.shapes.items():
        module = modules[name]
        is_neuron = isinstance(module, Neuron)
        inside = any(other.startswith(f"{name}.") or not name for other in ledger.shapes if other != name)
        fresh = [held for held in module.parameters(recurse=is_neuron or not inside) if held not in counted]
        counted.update(fresh)
        macs, kept = ledger.macs.get(name, 0), ledger.kept.get(name, 0)
        if inside and not fresh and not macs and not kept:
            continue
        timed = isinstance(module, StepModule) and module.step_mode == "m" and not isinstance(module, ReadOut)
        axes = 2 if is_neuron and timed else 1
        neurons = torch.Size(shape[axes:]).numel() if is_neuron else 0
        parameters = sum(held.numel() for held in fresh)
        yield LayerSummary(name, type(module).__name__, shape, parameters, neurons, macs, None if sizes_only else kept)
