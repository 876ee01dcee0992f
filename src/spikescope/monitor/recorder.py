"""What all recorders share: choosing modules, keeping records, switching, closing, and telling what went wrong."""

from __future__ import annotations

import copy
import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import check_module
from ..sockets import Signal, at_rest
from .memory import Budget, Moment, Records
from .memory import budget as as_budget
from .probe import GradScale, Probe, ProbeReport
from .probes import Probes, weakly
from .select import named, select, unwrapped
from .signals import GRADIENTS, keeps_state
from .spill import SpilledRecords, records_within
from .subset import Subset

__all__ = ["BaseMonitor", "own_copy", "same"]

logger = logging.getLogger("spikescope")

_SIMPLE = (type(None), bool, int, float, str, bytes, type)


def same(value: Any) -> Any:
    return value


def own_copy(value: Any, given: Any) -> Any:
    """A value that nothing else changes: tensors that share memory with `given` are copied, as is all that can change.

    `given` is what the module holds; a tensor that a function made of it is nobody else's already. PyTorch refuses the
    deepcopy of a tensor with a graph: those inside of other objects are copied first.
    """
    shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors_within(given)}

    def keep(held: Any) -> Any:
        if not isinstance(held, Tensor):
            return copy.deepcopy(held, {id(t): t.clone() for t in _tensors_within(held) if not t.is_leaf})
        if isinstance(held, nn.Parameter) or held.untyped_storage().data_ptr() in shared or held._base is not None:
            return held.clone()
        return held

    return keep(value) if isinstance(value, Tensor) else pytree.tree_map(keep, value)


def _tensors_within(value: Any) -> list[Tensor]:
    """The tensors in a value of any kind, in the attributes of objects too."""
    found: list[Tensor] = []
    todo, seen = [value], {}
    while todo:
        held = todo.pop()
        if isinstance(held, Tensor):
            found.append(held)
        elif not isinstance(held, _SIMPLE) and id(held) not in seen:
            seen[id(held)] = held
            todo += _parts(held)
    return found


def _parts(held: Any) -> list[Any]:
    """What a collection or an object holds."""
    if isinstance(held, nn.Module):  # its hooks lead to everything that watches it
        return [*held.parameters(), *held.buffers()]
    parts = list(held.values()) if isinstance(held, Mapping) else []
    if isinstance(held, (tuple, list, set, frozenset, deque)):
        parts += held
    slots = (name for cls in type(held).__mro__ for name in getattr(cls, "__slots__", ()))
    parts += [getattr(held, name) for name in slots if hasattr(held, name)]
    return parts + list(getattr(held, "__dict__", {}).values())


class BaseMonitor:
    """Base of the recorders: one signal of the chosen modules of a network, kept in the order in which it comes.

    - `where`: the modules: a class, a tuple of classes, a name or glob, a selector of `monitor.select`; None takes
      those of the class of `net`.
    - `function`: makes the record of a value; a tuple of one is unpacked first.
    - `keep_graph`: keep the autograd graph, for a loss on the records; else records are detached.
    - `budget`: a `Budget`, bytes, or a text such as `'64 MB'` or `'unlimited'`.
    - `subset`: some of the neurons, samples and time steps.
    - `scaler`: the `torch.amp.GradScaler` in use, by whose scale gradients are divided.

    A record is a copy. It stops when it is closed, when its `with` block ends, or when the monitor is dropped.
    """

    def __init__(
        self,
        net: nn.Module,
        where: Any,
        signal: Signal,
        function: Callable[[Any], Any] = same,
        *,
        keep_graph: bool = False,
        budget: Budget | int | str = Budget(),  # noqa: B008  # frozen
        subset: Subset | None = None,
        scaler: GradScale | None = None,
    ) -> None:
        owner = type(self).__name__
        check_module(owner, net)
        if not callable(function):
            raise TypeError(f"{owner}: the function makes the record of a value, but got {function!r}.")
        modules = select(net, type(unwrapped(net)) if where is None else where, owner)
        self.monitored_layers = list(modules)
        self.function = function
        self.keep_graph = keep_graph
        self._records = records_within(as_budget(budget), keep_graph)
        self._check_modules(modules)
        take = weakly(self._take)
        options: dict[str, Any] = {"root": net, "subset": subset, "keep_graph": keep_graph, "scaler": scaler}
        self._probes = Probes(self, [Probe(name, held, signal, take, **options) for name, held in modules.items()])
        self._signal = signal
        self._closed = False
        self._net = weakref.ref(net)
        self._rested = self._at_rest()

    def _check_modules(self, modules: dict[str, nn.Module]) -> None:
        """Refuse modules that do not have the signal."""

    def _take(self, value: Any, moment: Moment) -> None:
        made = self.function(value)
        self._records.keep(own_copy(made, value), moment)

    @property
    def records(self) -> Records | SpilledRecords:
        """All records in the order in which they came. Raises the error that ended a probe, if one did."""
        self._probes.raise_error(self.monitored_layers)
        return self._records

    @property
    def moments(self) -> list[Moment]:
        """Of each record the module, the call, the time steps and the batch."""
        return self._records.moments

    def incomplete_records(self) -> Records | SpilledRecords:
        """What was recorded before an error ended a probe, or the budget was used up."""
        return self._records

    def __getitem__(self, key: int | slice | str) -> Any:
        """A record by its number, several by a slice, those of one module by its name."""
        if not isinstance(key, str):
            return self.records[key]
        if key not in self.monitored_layers:
            raise KeyError(f"{key!r} is not monitored; there is {', '.join(map(repr, self.monitored_layers))}.")
        self._probes.raise_error((key,))
        return self._records.of(key)

    def __len__(self) -> int:
        return len(self._records)

    def enable(self) -> None:
        """Record from now on; a monitor is made enabled."""
        self._probes.switch(True)

    def disable(self) -> None:
        """Pause: nothing is called and nothing stored. The records stay."""
        self._probes.switch(False)

    def is_enable(self) -> bool:
        """Whether it records."""
        return self._probes.enabled

    def clear_recorded_data(self) -> None:
        """Forget all records, errors and counts of calls. A probe that an error had ended works again."""
        self._records.clear()
        self._probes.restart()

    def report(self) -> list[ProbeReport]:
        """What each probe has done and cost."""
        return [probe.report() for probe in self._probes]

    def _ran(self) -> bool:
        """Whether there is a sign that the network ran: a value, the start of a sequence, a state that is there."""
        return any(probe.fired or probe.began for probe in self._probes) or (self._rested and not self._at_rest())

    def _at_rest(self) -> bool:
        """Whether no module of the network has a state. Of a network that is gone nobody knows."""
        net = self._net()
        return net is None or all(at_rest(held) for held in named(net).values() if keeps_state(held))

    def never_fired(self) -> list[str]:
        """The modules of which no value has come. Their `forward` may have been called directly, past the hooks."""
        return [probe.name for probe in self._probes if not probe.fired]

    def remove_hooks(self) -> None:
        """Stop for good; the records stay. A second time does nothing."""
        if self._closed:
            return
        listening = self._probes.enabled
        self._closed = True
        self._probes.close()
        silent = self.never_fired() if listening else []
        if silent and self._ran():
            logger.warning(
                "%s saw nothing of %s: %s, run by a direct call of forward(), which passes hooks by, or compiled "
                "before it had a socket (sockets.instrument puts it there).",
                type(self).__name__,
                ", ".join(map(repr, silent)),
                "no backward pass came by" if self._signal.kind in GRADIENTS else "not run",
            )
        self._records.close()

    close = remove_hooks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove_hooks()
