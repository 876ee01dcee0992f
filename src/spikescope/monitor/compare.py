"""Networks held against each other or against a recording: each runs once, and what it does goes to memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..analysis.comparison import Comparison, differences
from ..errors import check_number
from ..form import mapped
from ..recording import Moment, StoredRecording
from ..recording.held import in_memory
from ..spikes import PackedSpikes
from .choose.kinds import fires, in_sequences, is_neuron
from .choose.modules import Selector, by_name, named, select, unwrapped
from .choose.signals import SIGNALS, keeps_state, signal_of
from .delivery import Sink, lines
from .foreign.copies import copied, rested
from .outcome import Course, outcomes

__all__ = ["compare"]

Runs = dict[str, dict[str, list[list[Any]]]]  # of each layer and signal the runs, each in parts


def compare(
    a: Any,
    b: Any,
    x: Any = None,
    *,
    tolerance: float = 0.0,
    signals: str | Sequence[str] = "spike",
    where: Any = None,
    steps: int | None = None,
) -> Comparison:
    """Two networks on the same input, or a network against a recording: where they first differ, and how it grows.

    - `a`, `b`: networks, recordings on disk, or mappings as of `analysis.compare`, which holds them against each other.
    - `x`: what the networks are given: a tensor, a tuple of several arguments, or a list of such calls, as the steps of
      a sequence in `step_mode='s'`.
    - `tolerance`: differences up to it are none.
    - `signals`, `where`: what is compared, and of which modules; None takes the neurons that fire, and what the network
      gives: each tensor or number in it, with the steps of its neurons or, as of a read-out, one value of each sample.
      In a network without neurons that fire it is the output of each module without children. Of a network against a
      recording it is what was recorded.
    - `steps`: of a network without neurons against one with them: `x` is held for so many steps, and the output of each
      module of the first is compared with the mean output over time of the neuron that has its name.

    Copies of the networks run, from rest, with the same random numbers, on the devices where they are. Layers are
    matched by name; if no name is in both, as after an exchange of formats, in their order.

    >>> import copy
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), spikescope.neuron.IFNode(step_mode="m"))
    >>> _ = nn.init.eye_(net[0].weight)
    >>> other = copy.deepcopy(net)
    >>> _ = other[0].weight.data.mul_(0.5)
    >>> print(str(compare(net, other, torch.ones(4, 1, 2))).splitlines()[0])
    They first differ in '1', spike: run 0, step 0, sample 0, neuron 0: 1 and 0.
    """
    check_number("compare", "tolerance", tolerance, least=0)
    networks = [held for held in (a, b) if isinstance(held, nn.Module)]
    if networks and x is None:
        raise ValueError("compare: a network has to run; give the input x as well.")
    if not networks and x is not None:
        raise ValueError("compare: x is what a network is given, but neither of the two is one.")
    calls = x if isinstance(x, list) else [x]
    if len(networks) == 2 and any(map(_spiking, networks)) != all(map(_spiking, networks)):
        left, right = _averaged(a, b, calls, steps)
    elif len(networks) == 2:
        names = [signals] if isinstance(signals, str) else list(signals)
        left, right = (_seen(net, calls, _wanted(net, names, where), whole=where is None) for net in (a, b))
    else:
        left, right = (_beside(held, b if held is a else a, calls) for held in (a, b))
    return differences(left, _renamed(left, right), tolerance)


def _spiking(net: nn.Module) -> bool:
    return any(map(is_neuron, net.modules()))


def _wanted(net: nn.Module, names: list[str], where: Any) -> dict[str, Any]:
    """By the signal, of which modules it is compared: what modules give that do not fire is no spike."""
    firing = any(map(fires, net.modules()))
    default = _FIRING if firing else _LEAVES if list(unwrapped(net).children()) else _NONE
    named = [name if firing or name != "spike" else "output" for name in names]
    return dict.fromkeys(named, default if where is None else where)


def _beside(held: Any, other: Any, calls: list[Any]) -> Any:
    """What is compared of one side: of a network, the signals that the other side has."""
    if not isinstance(held, nn.Module):
        return held
    if isinstance(other, StoredRecording):
        rows = {name: tuple(layer) for name, layer in other.items()}
    elif isinstance(other, Mapping):
        rows = {str(name): ("spike",) for name in other}
    else:
        raise TypeError(f"compare takes networks and recordings, but got {type(other).__name__}.")
    there = named(unwrapped(held))
    wanted = {}
    for signal in SIGNALS:
        if names := [name for name, row in rows.items() if signal in row and name in there]:
            wanted[signal] = by_name(*names)
    if not wanted:
        raise LookupError(f"compare: the network has none of the modules that were recorded: {', '.join(rows)}.")
    return _seen(held, calls, wanted, whole=False)


class _Kept(Sink):
    """Where the signals of a network go: memory, in the order in which they come."""

    home = torch.device("cpu")

    def __init__(self) -> None:
        self.runs: Runs = {}
        self.courses: dict[tuple[str, str], Course] = {}  # of the call that goes on

    def course(self) -> Course | None:
        """How the values lay of what began last in the call that ends with this."""
        held, self.courses = self.courses, {}
        return next(reversed(held.values()), None)

    def keep(self, signal: str, values: Tensor | PackedSpikes, moment: Moment) -> None:
        steps, samples, *_ = values.shape
        before = self.courses.get((moment.name, signal), Course(0, samples, 0)).steps
        self.courses[moment.name, signal] = Course(before + steps, samples, len(values.shape))
        runs = self.runs.setdefault(moment.name, {}).setdefault(signal, [])
        while len(runs) <= moment.run:
            runs.append([])
        runs[moment.run].append(values)

    def learn(self, name: str, signal: str, shape: Sequence[int], neurons: Sequence[int] | None) -> None:
        """Nothing that the values do not show."""


def _seen(net: nn.Module, calls: list[Any], wanted: Mapping[str, Any], whole: bool) -> StoredRecording:
    """The signals of a copy of a network while it runs; with `whole` also what it gives."""
    twin = copied(unwrapped(net))
    rested(twin)
    modules = {label: {} if held is _NONE else select(twin, held, "compare") for label, held in wanted.items()}
    made = {label: {name: signal_of(label, held) for name, held in row.items()} for label, row in modules.items()}
    kept, stateful = _Kept(), any(map(keeps_state, twin.modules()))
    streams, plugged = lines(twin, modules, made, kept, runs=stateful)
    given: dict[str, list[Tensor]] = {}

    def take(out: Any) -> None:
        for label, held in outcomes(out, kept.course()) if whole else ():
            given.setdefault(label, []).append(held.to("cpu"))

    try:
        _run(twin, calls, take)
    finally:
        for probe in plugged:
            probe.close()
    for _, probe in streams:
        if probe.error is not None:
            raise probe.error
    if given:
        runs = {label: [parts] if stateful else [[part] for part in parts] for label, parts in given.items()}
        kept.runs.setdefault("", {}).update(runs)
    return in_memory(kept.runs)


_FIRING = Selector("role 'neuron' and spikes", lambda name, module: fires(module))
_NONE = Selector("none, for it has no modules inside", lambda name, module: False)  # it is what the network gives
_LEAVES = Selector("no children", lambda name, module: name != "" and not list(module.children()))


def _run(net: nn.Module, calls: list[Any], take: Callable[[Any], None]) -> None:
    """Have a network run, and `take` what it gives for each call."""
    places = [held.device for held in (*net.parameters(), *net.buffers())]
    cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        torch.manual_seed(0)  # both get the same random numbers
        for call in calls:
            given = call if isinstance(call, tuple) else (call,)
            take(net(*(mapped(lambda held: held.to(places[0]), given) if places else given)))


def _averaged(a: nn.Module, b: nn.Module, calls: list[Any], steps: int | None) -> list[StoredRecording]:
    """Each output of the network without neurons, and the mean output over time of the neuron of that name."""
    if steps is None or len(calls) != 1 or not isinstance(calls[0], Tensor):
        raise ValueError(
            "compare: to compare a network without neurons with one that has them, give x as one tensor [N, *], and "
            f"steps=, the number of steps for which the second is given x. It got steps={steps!r}."
        )
    spiking, other = (a, b) if _spiking(a) else (b, a)
    neurons = {name: held for name, held in named(unwrapped(spiking)).items() if is_neuron(held)}
    timed = any(map(in_sequences, neurons.values()))
    both = [place for name in neurons if (place := _place(name, named(unwrapped(other)))) is not None]
    if not both:
        raise LookupError(
            f"compare: the network without neurons has no module where the other has one: {', '.join(neurons)}."
        )
    found = []
    for net in (a, b):
        if net is other:
            held = _seen(net, calls, {"output": by_name(*both)}, whole=False)
            found.append(in_memory({name: {"mean output": [layer["output"].read()]} for name, layer in held.items()}))
            continue
        repeated = [calls[0].expand(steps, *calls[0].shape)] if timed else calls * steps
        held = _seen(net, repeated, {"output": by_name(*both)}, whole=False)
        means = {name: layer["output"].read().double().mean(0, keepdim=True) for name, layer in held.items()}
        found.append(in_memory({name: {"mean output": [mean]} for name, mean in means.items()}))
    return found


def _place(name: str, there: Mapping[str, nn.Module]) -> str | None:
    """The module that stands for a neuron in a network without: that of its name, or of what it is inside of."""
    parts = name.split(".")
    return next((place for end in range(len(parts), 0, -1) if (place := ".".join(parts[:end])) in there), None)


def _renamed(left: Any, right: Any) -> Any:
    """The right side with the names of the left one, where none is in both and the layers are as many."""
    if not isinstance(left, StoredRecording) or not isinstance(right, StoredRecording):
        return right
    ours, theirs = ([name for name in held if name] for held in (left, right))
    if set(ours) & set(theirs) or len(ours) != len(theirs):
        return right
    names = dict(zip(theirs, ours, strict=True)) | {"": ""}
    return in_memory({names[name]: _runs_of(layer) for name, layer in right.items()})


def _runs_of(layer: Any) -> dict[str, list[Any]]:
    return {name: [signal.read(run=run.index) for run in signal.runs] for name, signal in layer.items()}
