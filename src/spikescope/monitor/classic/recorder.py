"""What the five documented recorders share: choosing modules, switching, closing, and telling what went wrong."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ...errors import check_module
from ...neuron.spiking import as_in_the_library, gives_spikes
from ...recording.budget import Budget
from ...recording.budget import budget as as_budget
from ...recording.disk.spill import SpilledRecords, records_within
from ...recording.records import Moment, Records
from ...sockets import Signal, at_rest
from ...spikes import vouched
from ...warn import warn
from ..choose.modules import named, select_as_named
from ..choose.signals import keeps_state
from ..choose.subset import Subset
from ..probe.group import Probes, weakly
from ..probe.single import GradScale, Probe, ProbeReport
from ..probe.start import Root
from .base import BaseMonitor
from .graph import let_go, own_copy

__all__ = ["Recorder", "same"]

logger = logging.getLogger("spikescope")

_SILENT = {
    "grad_input": "no backward pass came by, what it takes needs no gradient (x.requires_grad_() gives it one)",
    "grad_output": "no backward pass came by",
}
"""Why no gradient may have come."""


def same(value: Any) -> Any:
    return value


class Recorder(BaseMonitor):
    """Base of the documented recorders: one signal of the chosen modules of a network, kept in the order of execution.

    - `where`: the modules: a class, a tuple of classes, a name or glob, a selector of `monitor.select`; None takes
      those of the class of `net`. Their names are those of `named_modules()`; as an index, and in `where`, they may be
      without what a wrapper such as DistributedDataParallel puts before them.
    - `function`: makes the record of a value; a tuple of one is unpacked first.
    - `keep_graph`: None keeps the autograd graph, for a loss on the records, until a backward pass has gone through the
      value; True for ever; False not at all. Compiled code gives values without a graph.
    - `budget`: None for no limit, a `Budget`, bytes, or a text such as `'64 MB'`.
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
        keep_graph: bool | None = None,
        budget: Budget | int | str | None = None,
        subset: Subset | None = None,
        scaler: GradScale | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_module(owner, net)
        if not callable(function):
            raise TypeError(
                f"{owner}: the function that makes a record of a value must be callable, but got {function!r}."
            )
        modules, self._short = select_as_named(net, type(net) if where is None else where, owner)
        self.monitored_layers = list(modules)
        self.function = function
        limits = as_budget(budget)
        self._records = records_within(limits, keep_graph is True)
        self.keep_graph = False if limits.policy == "spill" else keep_graph
        self._told_of_cut = False
        take, cut = weakly(self._take), weakly(self._cut)
        options: dict[str, Any] = {"root": Root(net), "subset": subset, "scaler": scaler, "cut": cut}
        options["keep_graph"] = self.keep_graph is not False
        probes = {name: Probe(name, held, signal, take, **options) for name, held in modules.items()}
        self._probes = Probes(self, probes.values())
        self._by_name = probes
        self._signal = signal
        self._closed = False
        self._net: weakref.ref[nn.Module] | None = weakref.ref(net)
        self._rested = self._at_rest()

    def _take(self, value: Any, moment: Moment) -> None:
        with vouched(value if self._are_spikes(value, moment.name) else None):
            made = own_copy(self.function(value), value)
        if self.keep_graph is None:
            let_go(made, self._by_name[moment.name].given)
        self._records.keep(made, moment)

    def _are_spikes(self, value: Any, name: str) -> bool:
        """Whether a value on a GPU is what the kernel of a neuron gave: to look whether it is 0 and 1 makes the host
        wait there for all that was launched.
        """
        if not isinstance(value, Tensor) or value.device.type == "cpu" or self._signal != Signal("output"):
            return False
        module = self._by_name[name].module
        return gives_spikes(module) and as_in_the_library(module)

    def _cut(self) -> None:
        """A value comes from compiled code, where its graph had to stay."""
        if self.keep_graph:
            raise RuntimeError("keep_graph=True has no meaning in compiled code, whose values carry no graph.")
        if self.keep_graph is None and not self._told_of_cut:
            self._told_of_cut = True
            warn(
                f"{type(self).__name__}: a record of compiled code is detached, so that a loss on it has no gradient. "
                "Run the network without torch.compile for that; keep_graph=False says that it is meant so."
            )

    @property
    def records(self) -> Any:
        """All records in the order in which they came. Raises the error that ended a probe, if one did."""
        self._probes.raise_error(self.monitored_layers)
        return self._records

    @records.setter
    def records(self, given: Any) -> None:
        if isinstance(self._records, SpilledRecords):
            raise TypeError("Records that spill to disk are read only; clear_recorded_data() forgets them.")
        if given is not self._records:
            self._replace(Records(self._records.budget, given))

    def _positions(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in self.monitored_layers}
        for i, moment in enumerate(self._records.moments):
            if moment is not None:
                found[moment.name].append(i)
        return found

    @property
    def moments(self) -> list[Moment | None]:
        """Of each record the module, the call, the time steps and the batch; None of one that somebody else put in."""
        held: list[Moment | None] = self._records.moments
        return held

    def incomplete_records(self) -> Any:
        """What was recorded before an error ended a probe, or the budget was used up."""
        return self._records

    def _counts(self) -> dict[str, int]:
        return {} if isinstance(self._records, SpilledRecords) else super()._counts()  # they say so on disk

    def _named(self, name: str) -> str:
        return super()._named(name if name in self.monitored_layers else self._short.get(name, name))

    def __getitem__(self, key: int | slice | str) -> Any:
        if not isinstance(key, str):
            return self.records[key]
        name = self._named(key)
        self._probes.raise_error((name,))
        return self._records.of(name)

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
        net = None if self._net is None else self._net()
        return net is None or all(at_rest(held) for held in named(net).values() if keeps_state(held))

    def never_fired(self) -> list[str]:
        """The modules of which no value has come. Their `forward` may have been called directly, past the hooks."""
        return [probe.name for probe in self._probes if not probe.fired]

    def remove_hooks(self) -> None:
        """Stop for good: no hook stays on a module of others, the records do. A second time does nothing."""
        if self._closed:
            return
        listening = self._probes.enabled
        self._closed = True
        self._probes.close()
        silent = self.never_fired() if listening else []
        if silent and self._ran():
            logger.warning(
                "%s saw nothing of %s: %s, or run by a direct call of forward(), which passes hooks by.",
                type(self).__name__,
                ", ".join(map(repr, silent)),
                _SILENT.get(self._signal.kind, "not run"),
            )
        super().remove_hooks()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: held for name, held in state.items() if name not in ("function", "_probes", "_by_name", "_net")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.function, self._by_name, self._closed = same, {}, True
        self._probes, self._net = Probes(self, []), None
