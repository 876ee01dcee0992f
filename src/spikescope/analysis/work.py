"""What a network costs: its operations and memory accesses, each at the price that the literature gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ..display import laid_out
from ..errors import check_number, did_you_mean

__all__ = ["Costs", "Energy", "LayerEnergy", "Work", "costs", "energy"]


@dataclass(frozen=True)
class Work:
    """What one sample takes in one layer: counts, by the monitor or by hand.

    - `dense`: multiply-accumulates (MACs) of the twin without spikes, which runs once. `macs`: those that stay, since
      what comes in is no spikes. `acs`: additions that spikes bring about. In all steps.
    - `neurons`: how many; `updates`: of them, in all steps. `multiplications`, `additions`: of one update, comparisons
      among the additions. `state`: numbers that a neuron keeps from step to step.
    - `parameters`: of the layer. `outputs`: of the twin, numbers. `events`: spikes that come in.
    """

    name: str
    kind: str
    dense: float = 0.0
    acs: float = 0.0
    macs: float = 0.0
    neurons: int = 0
    updates: float = 0.0
    multiplications: float = 0.0
    additions: float = 0.0
    state: int = 0
    parameters: int = 0
    outputs: float = 0.0
    events: float = 0.0


class Costs(NamedTuple):
    """Picojoules of each operation, and by whom: 0 for what is part of another, NaN for what has no price."""

    add: float
    multiply: float
    update: float  # of a neuron, beside the operations of its equations
    word: tuple[tuple[float, float], ...]  # up to so many bytes of memory, an access of one word
    bytes: int  # of a word
    source: str

    @property
    def mac(self) -> float:
        """A multiplication and an addition."""
        return self.multiply + self.add


def _horowitz(width: int) -> tuple[tuple[float, float], ...]:
    """Caches of 8 kB, 32 kB, 1 MB at 10, 20, 100 pJ for 64 bits, and DRAM at the lower end, 1.3 nJ."""
    share = width / 8
    return ((8e3, 10 * share), (32e3, 20 * share), (1e6, 100 * share), (float("inf"), 1300 * share))


HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, 45 nm at 0.9 V"

costs: MappingProxyType[str, Costs] = MappingProxyType(
    {
        "45nm float32": Costs(0.9, 3.7, 0.0, _horowitz(4), 4, HOROWITZ),
        "45nm float16": Costs(0.4, 1.1, 0.0, _horowitz(2), 2, HOROWITZ),
        "45nm int32": Costs(0.1, 3.1, 0.0, _horowitz(4), 4, HOROWITZ),
        "45nm int8": Costs(0.03, 0.2, 0.0, _horowitz(1), 1, HOROWITZ),
        "loihi": Costs(23.6, float("nan"), 81.0, ((float("inf"), 0.0),), 1,
                       "Davies et al., Loihi, IEEE Micro 2018, 14 nm at 0.75 V: a synaptic operation and a neuron "
                       "update, memory included; it multiplies nothing, so MACs have no price"),
    }
)  # fmt: skip
"""What operations cost, by name."""


@dataclass(frozen=True)
class LayerEnergy:
    """Picojoules of one sample in one layer, the network with spikes and its twin without."""

    work: Work
    memory: float  # pJ an access
    operations: float
    updates: float
    accesses: float
    twin_operations: float
    twin_accesses: float

    @property
    def total(self) -> float:
        """Of the network with spikes."""
        return self.operations + self.updates + self.accesses

    @property
    def twin(self) -> float:
        """Of the network without."""
        return self.twin_operations + self.twin_accesses


@dataclass(frozen=True)
class Energy:
    """What `energy` results in: rows in the order of data. `str` of it is a table with every formula and constant.

    - `usual`: the ratio of the twin to the network that papers give: products and additions alone.
    - `honest`: the same with neuron updates and memory.
    """

    layers: tuple[LayerEnergy, ...]
    model: str
    costs: Costs

    def sum(self, what: str) -> float:
        """Of all layers, one of the entries of `LayerEnergy`."""
        return float(sum(getattr(layer, what) for layer in self.layers))

    @property
    def total(self) -> float:
        """Picojoules of a sample."""
        return self.sum("total")

    @property
    def twin(self) -> float:
        """Picojoules of a sample without spikes."""
        return self.sum("twin")

    @property
    def usual(self) -> float:
        """Energy of the twin over that of the network, products and additions alone; above 1 spikes save. NaN for 0."""
        return _ratio(self.sum("twin_operations"), self.sum("operations"))

    @property
    def honest(self) -> float:
        """The same with neuron updates and memory."""
        return _ratio(self.twin, self.total)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each layer, for a data frame or a file."""
        names = ("memory", "operations", "updates", "accesses", "twin_operations", "twin_accesses", "total", "twin")
        return [asdict(layer.work) | {name: getattr(layer, name) for name in names} for layer in self.layers]

    def __str__(self) -> str:
        return _table(self)


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def energy(work: Iterable[Work], model: str | Costs = "45nm float32", memory: str | float = "fit") -> Energy:
    """The energy of one sample, layer by layer, from what the layers do; `monitor.energy(net, x)` counts that too.

    - `model`: a name in `analysis.costs`, or `Costs` of your own.
    - `memory`: `"fit"` takes for each layer the smallest memory of the model that holds its parameters and state;
      a number of pJ for each access, or 0, is for all.

    The formulas are in the table that `print` shows. Nothing is used twice: each operation fetches its operands.

    >>> work = [Work("fc", "Linear", dense=1000, acs=400, parameters=1000, outputs=10, events=40)]
    >>> held = energy(work, memory=5.0)
    >>> round(held.usual, 2), round(held.honest, 2)  # 1000 * 4.6 / (400 * 0.9), and with 2010 and 1240 accesses
    (12.78, 2.23)
    """
    layers = list(work) if isinstance(work, Iterable) else [work]
    for held in layers:
        if not isinstance(held, Work):
            raise TypeError(
                f"energy takes the Work of each layer, but got {type(held).__name__}. Of a network, "
                "monitor.energy(net, x) counts it."
            )
    named = model if isinstance(model, Costs) else _named(model)
    if memory != "fit":
        check_number("energy", "memory is 'fit' or a number of pJ an access, which", memory, least=0)
    return Energy(
        tuple(_of_layer(held, named, memory) for held in layers), model if isinstance(model, str) else "own", named
    )


def _named(model: str) -> Costs:
    if not isinstance(model, str):
        raise TypeError(f"energy: model is a name in analysis.costs, or Costs of your own, but got {model!r}.")
    if model not in costs:
        there = ", ".join(map(repr, costs))
        raise ValueError(f"energy: there is no model {model!r}; there is {there}.{did_you_mean(model, costs)}")
    return costs[model]


def _of_layer(work: Work, held: Costs, memory: str | float) -> LayerEnergy:
    size = held.bytes * (work.parameters + work.state * work.neurons)
    word = memory if not isinstance(memory, str) else next(cost for limit, cost in held.word if size <= limit)
    accesses = 3 * work.acs + 2 * work.macs + work.events + (2 * work.state + 1 / (8 * held.bytes)) * work.updates
    return LayerEnergy(
        work,
        float(word),
        held.add * work.acs + _times(held.mac, work.macs),
        work.updates * (held.update or _times(held.multiply, work.multiplications) + held.add * work.additions),
        word * accesses,
        _times(held.mac, work.dense),
        word * (2 * work.dense + work.outputs),
    )


def _times(cost: float, number: float) -> float:
    """A cost that is not told matters only where there is something to pay."""
    return cost * number if number else 0.0


FORMULAS = (
    ("operations", "{add:g} pJ x additions + {mac:g} pJ x MACs that stay"),
    ("updates", "updates x ({multiply:g} pJ x multiplications + {add:g} pJ x additions of one)"),
    ("memory", "pJ an access x (3 x additions + 2 x MACs + spikes in + (2 x state + 1 bit) x updates)"),
    ("twin", "{mac:g} pJ x dense MACs + pJ an access x (2 x dense MACs + outputs)"),
)


def _table(held: Energy) -> str:
    """Counts and nanojoules by layer, then formulas, constants, sources and both ratios."""
    columns: list[tuple[str, Callable[[LayerEnergy], str]]] = [
        ("layer", lambda e: e.work.name or "(itself)"),
        ("kind", lambda e: e.work.kind),
        ("dense MACs", lambda e: _count(e.work.dense)),
        ("additions", lambda e: _count(e.work.acs)),
        ("MACs", lambda e: _count(e.work.macs)),
        ("updates", lambda e: _count(e.work.updates)),
        ("pJ/access", lambda e: f"{e.memory:g}"),
        ("operations nJ", lambda e: _nano(e.operations)),
        ("updates nJ", lambda e: _nano(e.updates)),
        ("memory nJ", lambda e: _nano(e.accesses)),
        ("in all nJ", lambda e: _nano(e.total)),
        ("twin nJ", lambda e: _nano(e.twin)),
    ]
    lines = [[name for name, _ in columns], *([cell(layer) for _, cell in columns] for layer in held.layers)]
    sums = ["dense", "acs", "macs", "updates"]
    lines.append(
        ["in all", "", *(_count(sum(getattr(e.work, name) for e in held.layers)) for name in sums), ""]
        + [_nano(held.sum(name)) for name in ("operations", "updates", "accesses", "total", "twin")]
    )
    numbers = held.costs._asdict() | {"mac": held.costs.mac}
    text = [laid_out(lines, left=2), "", f"Of one sample, by the costs {held.model!r}: {held.costs.source}."]
    for name, formula in FORMULAS:
        own = name == "updates" and held.costs.update
        text.append(f"{name} = {f'updates x {held.costs.update:g} pJ' if own else formula.format(**numbers)}")
    text.append(f"twin / network: {held.usual:.2f} by operations alone, {held.honest:.2f} with updates and memory")
    return "\n".join(text)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value else ""


def _nano(value: float) -> str:
    return f"{value / 1000:,.3f}" if value else ""
