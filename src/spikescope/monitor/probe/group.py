"""The probes of one monitor: made, switched, revived and closed together, and gone with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from .single import Probe

__all__ = ["Probes", "closed_with", "weakly"]


class Closable(Protocol):
    """What listens until it is closed."""

    def close(self) -> None:
        """Stop; a second time does nothing."""


class Probes:
    """The probes of `owner`, closed when that goes away, unless they are before."""

    def __init__(self, owner: object, probes: Iterable[Probe]) -> None:
        self._held = list(probes)
        self._finalizer = closed_with(owner, self._held)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self._held)

    @property
    def alive(self) -> bool:
        """Whether they were not closed."""
        return self._finalizer.alive

    @property
    def enabled(self) -> bool:
        """Whether any of them takes values."""
        return self.alive and any(probe.enabled for probe in self._held)

    def switch(self, on: bool) -> None:
        """Take values from now on, or pause."""
        for probe in self._held:
            probe.enabled = on

    def restart(self) -> None:
        """Forget errors, and count calls and steps from zero."""
        for probe in self._held:
            probe.error = None
            probe.restart()
            probe.refresh()

    def raise_error(self, names: Collection[str]) -> None:
        """Raise the error that ended a probe of one of these modules, if there is one."""
        for probe in self._held:
            if probe.error is not None and probe.name in names:
                raise probe.error

    def close(self) -> None:
        """Unplug all; a second time does nothing."""
        self._finalizer()


def closed_with(owner: object, held: Sequence[Closable]) -> weakref.finalize[Any, Any]:
    """Close all of `held` when this is called, or `owner` goes away; at the end of the program nobody listens."""
    finalizer = weakref.finalize(owner, _close, held)
    finalizer.atexit = False
    return finalizer


def _close(held: Sequence[Closable]) -> None:
    for one in held:
        one.close()


def weakly(method: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    """A bound method, with its first arguments, that does not keep its object alive: after that it gives None."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        held = reference()
        return None if held is None else held(*first, *arguments)

    return call
