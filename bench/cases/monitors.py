"""What watching a network costs: the share that a monitor adds to a whole training step, and to its memory.

Each contender watches the two LIF layers of its own network of the training benchmark, all with the same weights:
ours with `monitor.record`, SpikingJelly and snnTorch with their monitors, and a plain forward hook on our network. The
step without and with the monitor are timed in turns, and the median of their ratios is reported (`_added`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spikescope import monitor, neuron, spikes

from ..harness import Agreement, Options, Row, agreement, measure, seconds, versus
from .training import _nets, _training

__all__ = ["rows"]

Watch = Callable[[], AbstractContextManager[Any]]


class Contender(NamedTuple):
    """A training step, and how to watch it in each of the ways."""

    step: Callable[[], float]
    watch: dict[str, Watch]
    runs: Callable[[int, Callable[[], float], Any], None] | None = None


def _statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Rate of each neuron and the silent share, of `[T, N, *]`."""
    rate = y.mean((0, 1))
    return rate, (rate == 0).float().mean()


class _Hooks:
    """The way without a library: a hook that appends what a function makes of the output."""

    def __init__(self, net: nn.Module, kind: type[nn.Module], function: Callable[[Tensor], Any]) -> None:
        self.records: list[Any] = []
        self.function = function
        self.handles = [m.register_forward_hook(self.hook) for m in net.modules() if isinstance(m, kind)]

    def hook(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.records.append(self.function(output.detach()))

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def _packbits(y: Tensor) -> Any:
    return np.packbits(y.bool().numpy(), bitorder="little")


def _disabled(net: nn.Module) -> AbstractContextManager[Any]:
    held = monitor.OutputMonitor(net, neuron.LIFNode)
    held.disable()
    return held


def _ours(net: nn.Module, step: Callable[[], float]) -> Contender:
    return Contender(
        step,
        {
            "rate + silent share": lambda: monitor.record(net, ["rate", "silent share"]),
            "packed spikes": lambda: monitor.record(net, "packed", budget="unlimited"),
            "v_seq every 10th step": lambda: monitor.record(net, "raw", signal="v", every=10, budget="unlimited"),
            "disabled": lambda: _disabled(net),
            "gradient norm per time step": lambda: monitor.record(net, "gradient norm", signal="grad_output"),
        },
    )


def _plain(net: nn.Module, step: Callable[[], float]) -> Contender:
    return Contender(
        step,
        {
            "rate + silent share": lambda: closing(_Hooks(net, neuron.LIFNode, _statistics)),
            "packed spikes": lambda: closing(_Hooks(net, neuron.LIFNode, _packbits)),
        },
    )


def _spikingjelly(net: nn.Module, step: Callable[[], float]) -> Contender:
    from spikingjelly.activation_based import monitor as theirs
    from spikingjelly.activation_based.memopt.compress import BitSpikeCompressor
    from spikingjelly.activation_based.neuron import LIFNode

    def packed(y: Tensor) -> Any:
        return BitSpikeCompressor().compress(y.detach())

    def potentials() -> AbstractContextManager[Any]:
        stack = ExitStack()
        for node in net.modules():
            if isinstance(node, LIFNode):
                node.store_v_seq = True
                stack.callback(setattr, node, "store_v_seq", False)
        held = theirs.AttributeMonitor("v_seq", False, net, LIFNode, lambda v: v.detach())
        stack.callback(held.remove_hooks)
        net.potentials = held
        return stack

    def recorder(function: Callable[[Tensor], Any]) -> AbstractContextManager[Any]:
        return closing(_Closing(theirs.OutputMonitor(net, LIFNode, function)))

    def disabled() -> AbstractContextManager[Any]:
        held = theirs.OutputMonitor(net, LIFNode)
        held.disable()
        return closing(_Closing(held))

    def every_tenth(i: int, step: Callable[[], float], watching: Any) -> None:
        net.potentials.enable() if i % 10 == 0 else net.potentials.disable()
        step()

    return Contender(
        step,
        {
            "rate + silent share": partial(recorder, lambda y: _statistics(y.detach())),
            "packed spikes": partial(recorder, packed),
            "v_seq every 10th step": potentials,
            "disabled": disabled,
        },
        every_tenth,
    )


def _snntorch(net: nn.Module, step: Callable[[], float]) -> Contender:
    import snntorch
    from snntorch.functional import probe

    from ..rivals import lif

    made = lif("snntorch")
    assert made is not None
    net.leaky = made.module  # the one cell that both layers of its network run

    def recorder(function: Callable[[Any], Any]) -> AbstractContextManager[Any]:
        return closing(_Closing(probe.OutputMonitor(net, snntorch.Leaky, function)))

    return Contender(step, {"rate + silent share": partial(recorder, lambda out: _statistics(out[0].detach()[None]))})


class _Closing:
    """`close()` for monitors that call it `remove_hooks()`."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def close(self) -> None:
        self.held.remove_hooks()


def _added(contender: Contender, what: str, options: Options) -> float:
    """The percentage that watching adds to a step.

    Of neighbours with and without it the ratio; of each step of a cycle (of ten, where one in ten is recorded) the
    median over the rounds; over the cycle the mean. The median of whole cycles would be at the mercy of single steps.
    """
    cycle = 10 if "10th" in what else 1
    runs = contender.runs if cycle > 1 and contender.runs else lambda i, step, watching: step()
    ratios: list[list[float]] = []
    for _ in range(3 if options.quick else 20 if cycle > 1 else 100):
        if cycle == 1:
            contender.step()  # the first step after a change may compile, or look for the graph that fits
        without = [seconds(contender.step, 1) for _ in range(cycle)]
        with contender.watch[what]() as watching:
            if cycle == 1:
                contender.step()
            watched = [seconds(partial(runs, i, contender.step, watching), 1) for i in range(cycle)]
        ratios.append([a / b for a, b in zip(watched, without, strict=True)])
    return (statistics.mean(map(statistics.median, zip(*ratios, strict=True))) - 1) * 100


def _overheads(options: Options) -> Iterator[Row]:
    channels = 8 if options.quick else 32
    nets = _nets(channels)
    image, target = torch.rand(32, 1, 28, 28), torch.randint(10, (32,))
    steps = {name: _training(net, image, target) for name, net in nets.items()}
    contenders = {
        name: {"ours": _ours, "spikingjelly": _spikingjelly, "snntorch": _snntorch}[name](net, steps[name])
        for name, net in nets.items()
    }
    contenders["plain hook"] = _plain(nets["ours"], steps["ours"])
    case = f"conv SNN C={channels}, T=4, batch 32"
    yield from _table(case + ", eager", contenders, _agreements(nets, steps), options)
    run = torch.compile(nets["ours"], fullgraph=True)
    compiled = {"ours": _ours(nets["ours"], _training(run, image, target))}
    yield from _table(case + ", compiled", compiled, {}, options)


def _table(case: str, contenders: dict[str, Contender], found: dict[str, Agreement], options: Options) -> Iterator[Row]:
    for what in contenders["ours"].watch:
        values = {name: _added(held, what, options) for name, held in contenders.items() if what in held.watch}
        ours = values.pop("ours")
        if not values:
            yield Row("monitors", case, what, "% of the step", ours)
        for name, theirs in values.items():
            yield Row("monitors", case, what, "% of the step", ours, name, theirs, None, found[name].words)


def _agreements(nets: dict[str, nn.Module], steps: dict[str, Any]) -> dict[str, Agreement]:
    """Whether the monitors tell the same rates: our kernel's counts, our hook's means, and those of SpikingJelly."""
    rates = {}
    with monitor.record(nets["ours"], "rate") as held, closing(_Hooks(nets["ours"], neuron.LIFNode, _statistics)) as h:
        steps["ours"]()
    rates["ours"] = [held[name].flatten() for name in held]
    rates["plain hook"] = [rate.flatten() for rate, _ in h.records]
    found = {"plain hook": _close(rates["ours"], rates["plain hook"])}
    if "spikingjelly" in nets:
        from spikingjelly.activation_based import monitor as theirs
        from spikingjelly.activation_based.neuron import LIFNode

        held = theirs.OutputMonitor(nets["spikingjelly"], LIFNode, _statistics)
        steps["spikingjelly"]()
        held.remove_hooks()
        found["spikingjelly"] = _close(rates["ours"], [rate.flatten() for rate, _ in held.records])
    found["snntorch"] = Agreement(True, "sees single steps")
    return found


def _close(ours: list[Tensor], theirs: list[Tensor]) -> Agreement:
    off = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
    return Agreement(off < 0.02, f"rates differ by at most {off:.0e}")


def _packing(options: Options) -> Iterator[Row]:
    """Packing alone, against SpikingJelly's compressor of bits; its packed form is ours, byte for byte."""
    s = (torch.rand(options.size(4_194_304, 65_536)) < 0.2).float()
    try:
        from spikingjelly.activation_based.memopt.compress import BitSpikeCompressor
    except ImportError:
        return
    theirs = BitSpikeCompressor()
    same = agreement([spikes.float_spike_to_bool(s)[0]], [theirs.compress(s)[0]])
    work = {"ours": lambda: spikes.float_spike_to_bool(s), "spikingjelly": lambda: theirs.compress(s)}
    yield from measure("monitors", f"{s.numel():,} spikes", "pack", work, {"spikingjelly": same}, options)
    packed, other = spikes.float_spike_to_bool(s), theirs.compress(s)
    same = agreement([spikes.bool_spike_to_float(*packed)], [theirs.decompress(other)])
    work = {"ours": lambda: spikes.bool_spike_to_float(*packed), "spikingjelly": lambda: theirs.decompress(other)}
    yield from measure("monitors", f"{s.numel():,} spikes", "unpack", work, {"spikingjelly": same}, options)


def _budget(options: Options) -> Iterator[Row]:
    """What a recorder holds after many steps that would fill 5 GB, within a budget of 64 MB."""
    node, x = neuron.LIFNode(step_mode="m"), torch.rand(4, 32, 1024)
    budget = monitor.Budget("64 MB", "drop oldest")
    with monitor.OutputMonitor(node, neuron.LIFNode, budget=budget) as held, torch.no_grad():
        for _ in range(options.size(10_000, 200)):
            node.reset()
            node(x)
    seen = options.size(10_000, 200) * x.numel() * 4 / 2**20
    yield from versus("monitors", f"records of {seen:,.0f} MB", "held", "MB", {"ours": held.records.nbytes / 2**20}, {})


def _graphs(options: Options) -> Iterator[Row]:
    """The graphs that PyTorch compiles while a monitor is switched on and off a hundred times."""
    net = nn.Sequential(nn.Linear(8, 8), neuron.LIFNode(step_mode="m"))
    made: list[None] = []

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(None)
        return graph.forward

    run, x = torch.compile(net, backend=backend, fullgraph=True), torch.rand(4, 2, 8)
    with monitor.OutputMonitor(net, neuron.LIFNode) as held, torch.no_grad():
        for i in range(100):
            held.enable() if i % 2 == 0 else held.disable()
            net[1].reset()
            run(x)
    yield Row("monitors", "100 toggles of a monitor", "graphs compiled", "graphs", float(len(made)))


def rows(options: Options) -> Iterator[Row]:
    """Overheads, packing, memory and compiled graphs."""
    yield from _overheads(options)
    yield from _packing(options)
    yield from _budget(options)
    yield from _graphs(options)
