"""The base of the recorders, and of monitors of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from ...display import Displayed, Overview, amount, size_of
from ...errors import did_you_mean
from ...form import mapped
from ...recording.records import Records

__all__ = ["BaseMonitor"]


class BaseMonitor(Displayed):
    """Records with the names of the modules that they are of; what puts them there is the affair of a subclass.

    A monitor of one's own fills these four, and asks `is_enable()` in its hooks:

    - `monitored_layers`: the names; `hooks`: the handles of the hooks that it has put on the modules.
    - `records`: a list. `name_records_index`: of each name the positions of its records in that list; what is taken out
      of `records`, or put in between, moves them.

    >>> class Rates(BaseMonitor):
    ...     def __init__(self, net):
    ...         super().__init__()
    ...         for name, module in net.named_modules():
    ...             if isinstance(module, spikescope.neuron.BaseNode):
    ...                 self.monitored_layers.append(name)
    ...                 self.name_records_index[name] = []
    ...                 self.hooks.append(module.register_forward_hook(self.hook_of(name)))
    ...     def hook_of(self, name):
    ...         def hook(module, inputs, output):
    ...             if self.is_enable():
    ...                 self.name_records_index[name].append(len(self.records))
    ...                 self.records.append(output.mean().item())
    ...         return hook
    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> with Rates(net) as monitor:
    ...     _ = net(torch.tensor([0.5, 1.5]))
    >>> monitor["0"]
    [0.5]
    """

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self.monitored_layers: list[str] = []
        self._records: Any = Records()
        self._enabled = True

    @property
    def records(self) -> Any:
        """All records in the order in which they came."""
        return self._records

    @records.setter
    def records(self, given: Iterable[Any]) -> None:
        made = Records(self._records.budget, given)
        self._replace(made)

    def _replace(self, made: Records) -> None:
        """Take other records in place of those that are there."""
        made.by_name = self._records.by_name
        for positions in made.by_name.values():
            positions.clear()
        self._records = made

    @property
    def name_records_index(self) -> dict[str, list[int]]:
        """The positions in `records` of the records of each module."""
        return self._positions()

    @name_records_index.setter
    def name_records_index(self, given: dict[str, list[int]]) -> None:
        self._records.by_name = given

    def _positions(self) -> dict[str, list[int]]:
        held: dict[str, list[int]] = self._records.by_name
        return held

    def _counts(self) -> dict[str, int]:
        """How many records there are of each module, as far as that is at hand."""
        return {name: len(held) for name, held in self._positions().items()}

    def _named(self, name: str) -> str:
        """A name of `monitored_layers`."""
        known = self.monitored_layers
        if name not in known:
            there = ", ".join(map(repr, known)) or "nothing"
            raise KeyError(f"{name!r} is not monitored; there is {there}.{did_you_mean(name, known)}")
        return name

    def __getitem__(self, key: int | slice | str) -> Any:
        """A record by its number, several by a slice, those of one module by its name."""
        if not isinstance(key, str):
            return self.records[key]
        return [self.records[i] for i in self.name_records_index.get(self._named(key), ())]

    def __len__(self) -> int:
        return len(self._records)

    def enable(self) -> None:
        """Record from now on; a monitor is made enabled."""
        self._enabled = True

    def disable(self) -> None:
        """Pause; the records stay."""
        self._enabled = False

    def is_enable(self) -> bool:
        """Whether it records."""
        return self._enabled

    def clear_recorded_data(self) -> None:
        """Forget all records."""
        self._records.clear()

    def remove_hooks(self) -> None:
        """Stop for good: no hook stays on any module, the records do. A second time does nothing."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
        self._records.close()

    def close(self) -> None:
        """The same as `remove_hooks`."""
        self.remove_hooks()

    def overview(self) -> Overview:
        counts = self._counts()
        rows = [[name or "(network)", str(counts.get(name, "?"))] for name in self.monitored_layers]
        state = "listening" if self.is_enable() else "not listening"
        held = f"{amount(len(self), 'record')}, {size_of(self._records.nbytes)} in memory"
        return Overview(f"{type(self).__name__}: {held}, {state}", [["layer", "records"], *rows])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove_hooks()

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy. It holds the records without graph, and listens to nothing: the hooks stay with the network."""
        held = self._records
        records = held[:], list(held.moments), getattr(held, "by_name", {})
        return self.__dict__ | {"hooks": [], "_enabled": False, "_records": mapped(Tensor.detach, records)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values, moments, by_name = state["_records"]
        self.__dict__.update(state)
        self._records = Records.restored(values, moments)
        self._records.by_name = by_name
