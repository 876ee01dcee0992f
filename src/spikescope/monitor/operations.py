"""What a network does with a batch: products, additions that spikes bring about, updates of neurons, by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from ..analysis import Work
from ..base import MemoryModule, backends_of
from ..errors import check_module, check_tensor, check_whole, dims
from ..form import at_path
from ..neuron import Neuron
from ..sockets import Signal
from .choose.kinds import has_time, in_sequences, is_neuron, state_of, time_first
from .choose.signals import spikes_of
from .foreign.copies import copied, rested
from .spike_heights import heights_in, of_height_one, spikes_in

__all__ = ["operations"]

aten = torch.ops.aten

MULTIPLYING = (
    "mul",
    "div",
    "reciprocal",
    "pow",
    "sqrt",
    "rsqrt",
    "lerp",
    "addcmul",
    "addcdiv",
    "exp",
    "tanh",
    "sigmoid",
)
ADDING = ("add", "sub", "rsub", "heaviside", "ge", "gt", "le", "lt", "eq", "ne", "where", "maximum", "minimum", "clamp",
          "masked_fill", "neg", "abs", "round", "floor", "sign", "relu", "lerp", "addcmul", "addcdiv")  # fmt: skip
"""What counts as a multiplication, and what as an addition or a comparison, in the update of a neuron; some as both."""


@dataclass
class _Row:
    """Sums over the batch and all steps."""

    kind: str
    dense: float = 0.0
    acs: float = 0.0
    macs: float = 0.0
    outputs: float = 0.0
    events: float = 0.0
    updates: float = 0.0
    multiplications: float = 0.0
    additions: float = 0.0
    passes: int = 0  # how often each sample came in
    steps: int = 0  # of a neuron
    state: int = 0  # of one of another library, the tensors of it


def operations(net: nn.Module, x: Tensor, samples: int | None = None) -> list[Work]:
    """What each layer does for one sample of `x`: the counts that `analysis.energy` prices.

    A copy of the network runs on `x` from rest, in evaluation, where normalisations can be folded into the layer
    before them and so cost nothing. A frame that is repeated over time without a copy is computed and counted once.

    - Products (linear, convolution, attention) of spikes, which are whole numbers up to 8, are additions: one for each
      spike and synapse that it reaches, none for a padding; of spikes with spikes one for each coincidence. Spikes
      that have the height of a scaled neuron, as in a converted network, are the same. Other products stay
      multiply-accumulates.
    - The twin without spikes computes each product once a sample.
    - The update of a neuron is counted as its step runs.
    - `samples`: how many there are in `x`; None lets the first neuron tell.

    Additions of branches, pooling and biases are not counted.

    >>> net = nn.Sequential(spikescope.layer.Linear(4, 2), spikescope.neuron.IFNode(), spikescope.layer.Linear(2, 3))
    >>> [(row.name, row.dense, row.macs, row.acs) for row in operations(net, torch.full((1, 4), 0.5)) if row.dense]
    [('0', 8.0, 8.0, 0.0), ('2', 6.0, 0.0, 0.0)]
    """
    check_module("operations", net)
    check_tensor("operations", "x", x)
    if samples is not None:
        samples = check_whole("operations", "samples", samples)
    copy = copied(net).eval()
    for module in copy.modules():
        if isinstance(module, Neuron) and "torch" in backends_of(module):
            module.backend = "torch"  # whose operations can be seen
    steps, number = _extent(copy, x)
    number = samples or number
    ledger = _Ledger(number, heights_in(copy), {_place(held) for held in copy.parameters()})
    rested(copy)
    with torch.random.fork_rng(), torch.no_grad(), _in_parts(copy), ledger.watching(copy):
        copy(x.detach())
    modules = dict(copy.named_modules())
    return [_work(name, row, modules[name], steps, number) for name, row in ledger.rows.items() if _counts(row)]


@contextmanager
def _in_parts(net: nn.Module) -> Iterator[None]:
    """Have recurrent layers and attention of PyTorch run as the products that they are made of, not as one call."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, nn.RNNBase) for module in net.modules()):
            for library in (torch.backends.cudnn, torch.backends.mkldnn):
                stack.callback(setattr, library, "enabled", library.enabled)
                setattr(library, "enabled", False)  # noqa: B010  # typed as what it is not
        yield


def _extent(net: nn.Module, x: Tensor) -> tuple[int, int]:
    """The steps and samples that the neurons see; of a network without neurons 1 and the first axis of its input."""
    seen: dict[nn.Module, list[int]] = {}
    samples: list[int] = []

    def look(module: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = _given(module, (args, kwargs), out)
        multi = in_sequences(module)
        seen.setdefault(module, []).append(len(given) if multi else 1)
        samples.append(given.shape[1 if multi else 0])

    neurons = [module for module in net.modules() if is_neuron(module)]
    with ExitStack() as stack:
        for module in neurons:
            stack.callback(module.register_forward_hook(look, with_kwargs=True).remove)
        if neurons:
            rested(net)
            with torch.random.fork_rng(), torch.no_grad():
                net(x.detach())
    found = samples[0] if samples else x.shape[0] if x.ndim else 0
    if found < 1 or not x.numel():
        raise ValueError(f"operations: there is no sample in the input {dims(x.shape)}. Give a batch of some.")
    return min(map(sum, seen.values()), default=1), found


def _given(module: nn.Module, args: Any, out: Any) -> Tensor:
    """The spikes of a neuron, `[N, *]` or `[T, N, *]`; of a read-out, whose output has no time, what it is given."""
    signal = spikes_of(module)
    if in_sequences(module) and not has_time(module, signal):
        return _first(args)
    several = isinstance(out, (list, tuple, dict))
    given: Tensor = time_first(module, signal, at_path(out, signal.name or "0") if several else out)
    return given


def _first(args: Any) -> Tensor:
    """The first tensor among the arguments of a call."""
    return next(held for held in pytree.tree_leaves(args) if isinstance(held, Tensor))


def _counts(row: _Row) -> bool:
    return bool(row.dense or row.acs or row.macs or row.updates)


def _work(name: str, row: _Row, module: nn.Module, steps: int, samples: int) -> Work:
    updates = row.updates / samples
    passes = samples * (1 if row.passes % steps else steps)  # what runs at each step is computed once by the twin
    own = sum(held.numel() for held in module.parameters(recurse=is_neuron(module)))
    state = len(list(module.named_memories())) if isinstance(module, MemoryModule) else row.state
    return Work(
        name,
        row.kind,
        row.dense / passes,
        row.acs / samples,
        row.macs / samples,
        round(updates / max(1, row.steps)),
        updates,
        row.multiplications / row.updates if row.updates else 0.0,
        row.additions / row.updates if row.updates else 0.0,
        state if row.updates else 0,
        own,
        row.outputs / passes,
        row.events / samples,
    )


def _place(held: Tensor) -> int:
    """Where the memory of a tensor begins, which its views share."""
    return held.untyped_storage().data_ptr()


class _Ledger(TorchDispatchMode):
    """Books what is computed on the module that is running."""

    def __init__(self, samples: int, heights: list[Tensor], weights: set[int]) -> None:
        from torch.utils.flop_counter import flop_registry  # only now: it brings triton

        super().__init__()
        self._flops = flop_registry
        self.samples = samples
        self._heights, self._weights = heights, weights  # where these lie
        self._padded: WeakIdKeyDictionary = WeakIdKeyDictionary()  # to a tensor what is 1 where it is no padding
        self._running: list[tuple[str, nn.Module]] = []
        self.rows: dict[str, _Row] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in PRODUCTS:
            with self:  # in inference mode what is made of others comes whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if func._overloadpacket is aten.constant_pad_nd:
            self._padded[out] = torch.constant_pad_nd(torch.ones_like(args[0][:1], dtype=torch.float32), args[1])
        if self._running:
            neuron = next((held for held in self._running if is_neuron(held[1])), None)
            if func._overloadpacket in PRODUCTS or func._overloadpacket in self._flops:
                self._book(func, args, out, self.rows[(neuron or self._running[-1])[0]], neuron is not None)
            elif neuron is not None and isinstance(out, Tensor) and out.is_floating_point() | (out.dtype == torch.bool):
                word = func._overloadpacket.__name__.rstrip("_")
                row = self.rows[neuron[0]]
                row.multiplications += out.numel() * (word in MULTIPLYING)
                row.additions += out.numel() * (word in ADDING)
        return out

    def _may_spike(self, held: Any) -> bool:
        """Whether an argument is a tensor, and no weight."""
        return isinstance(held, Tensor) and not (self._heights and _place(held) in self._weights)

    def _book(self, func: Any, args: Any, out: Tensor, row: _Row, inside: bool) -> None:
        rule = PRODUCTS.get(func._overloadpacket)
        if rule is None:
            dense = self._flops[func._overloadpacket](*args, out_val=out) / 2
            events, acs = 0.0, None
        else:
            padded = self._padded.get(args[0])
            args = [of_height_one(held, self._heights) if self._may_spike(held) else held for held in args]
            x, dense, acs = rule(args) if rule is not _convolution else _convolution(args, padded)
            held = spikes_in(x)
            events = 0.0 if held is None else held.sum(dtype=torch.float64).item()
        row.acs += acs or 0.0
        row.macs += dense if acs is None else 0.0
        row.events += events
        if not inside:  # the twin has no neurons
            row.dense += dense
            row.outputs += out.numel()

    def _enter(self, name: str, module: nn.Module, args: Any) -> None:
        x = next((held for held in pytree.tree_leaves(args) if isinstance(held, Tensor)), None)
        self._running.append((name, module))
        row = self.rows.setdefault(name, _Row(type(module).__name__))
        row.passes += 1 if x is None else self._passes(module, x)

    def _passes(self, module: nn.Module, x: Tensor) -> int:
        """How often each sample is in an input: steps, unless a frame is repeated without a copy."""
        if in_sequences(module) and x.ndim > 1:
            return 1 if x.stride(0) == 0 else len(time_first(module, Signal("input"), x))
        if x.ndim > 2 and x.shape[1] == self.samples and x.shape[0] % self.samples:
            return len(x)
        return max(1, x.shape[0] // self.samples) if x.ndim else 1

    def _leave(self, name: str, module: nn.Module, args: Any, out: Any) -> None:
        self._running.pop()
        if is_neuron(module):
            row, given = self.rows[name], _given(module, args, out)
            row.updates += given.numel()
            row.state = len(state_of(module, out))
            row.steps += len(given) if in_sequences(module) else 1

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """While a network runs."""
        with ExitStack() as stack:
            for name, module in net.named_modules():
                for handle in (
                    module.register_forward_pre_hook(
                        lambda held, args, kwargs, name=name: self._enter(name, held, (args, kwargs)), with_kwargs=True
                    ),
                    module.register_forward_hook(
                        lambda held, args, kwargs, out, name=name: self._leave(name, held, (args, kwargs), out),
                        with_kwargs=True,
                    ),
                ):
                    stack.callback(handle.remove)
            stack.enter_context(self)
            yield


def _matrices(x: Tensor, y: Tensor) -> tuple[Tensor, float, float | None]:
    """Of `x @ y`: x, the products, and the additions if either is spikes. A single spike adds whatever it meets."""
    dense = float(math.prod(x.shape) * y.shape[-1])
    a, b = spikes_in(x), spikes_in(y)
    sums = [None if held is None else held.sum(dtype=torch.float64).item() for held in (a, b)]
    single = [held is not None and bool((held <= 1).all()) for held in (a, b)]
    if a is not None and b is not None and all(single):  # one for each coincidence
        return x, dense, (a.sum(-2, dtype=torch.float64) * b.sum(-1, dtype=torch.float64)).sum().item()
    if sums[0] is not None and (single[0] or not single[1]):
        return x, dense, sums[0] * y.shape[-1]
    if sums[1] is not None:
        return y, dense, sums[1] * x.shape[-2]
    return x, dense, None


def _convolution(args: Any, one: Tensor | None = None) -> tuple[Tensor, float, float | None]:
    """The same of a convolution, without the zeros of its padding.

    - `one`: of an input that was padded before, as for `padding="same"` with an even kernel, what is 1 in its middle.
    """
    x, weight, _, *geometry, groups = args[:9]
    reached = weight.shape[1] if geometry[3] else weight.shape[0] // groups

    def uses(held: Tensor) -> float:
        summed = held.float().unflatten(1, (groups, -1)).sum(2)
        ones = summed.new_ones((groups, 1, *weight.shape[2:]))
        made = aten.convolution(summed, ones, None, *geometry, groups)
        return float(made.sum(dtype=torch.float64).item() * reached)

    spikes = spikes_in(x)
    one = torch.ones_like(x[:1], dtype=torch.float32) if one is None else one
    return x, uses(one) * len(x), None if spikes is None else uses(spikes)


def _bilinear(args: Any) -> tuple[Tensor, float, float | None]:
    """The same of a bilinear form, which is linear in the products of its two inputs."""
    x, weight, y = args[:3]
    return _matrices((x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(1), weight.flatten(1).t())


PRODUCTS: dict[Any, Callable[[Any], tuple[Tensor, float, float | None]]] = {
    aten.mm: lambda args: _matrices(args[0], args[1]),
    aten.addmm: lambda args: _matrices(args[1], args[2]),
    aten.bmm: lambda args: _matrices(args[0], args[1]),
    aten.addbmm: lambda args: _matrices(args[1], args[2]),
    aten.baddbmm: lambda args: _matrices(args[1], args[2]),
    aten.mv: lambda args: _matrices(args[0], args[1].unsqueeze(-1)),
    aten.addmv: lambda args: _matrices(args[1], args[2].unsqueeze(-1)),
    aten.dot: lambda args: _matrices(args[0].unsqueeze(0), args[1].unsqueeze(-1)),
    aten.vdot: lambda args: _matrices(args[0].unsqueeze(0), args[1].unsqueeze(-1)),
    aten._trilinear: _bilinear,
    aten.convolution: _convolution,
}
"""Of each product of PyTorch what comes in, the multiply-accumulates, and the additions if it is spikes that come."""
