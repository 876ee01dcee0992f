"""What there is to measure: each analysis by its name, what it takes and gives, and whose definition it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

from ..errors import did_you_mean

__all__ = ["Gives", "Measure", "Takes", "measure", "named", "registry"]

Gives = Literal["values", "number", "course", "courses", "histogram", "lags", "pairs", "matrix", "tuning", "table"]
"""What an analysis results in, and so how it is drawn: `report.picture`."""

Takes = Literal["spikes", "other", "labels", "feature", "events", "layers"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Measure(NamedTuple):
    """An analysis as the registry knows it.

    - `unit`: what the numbers are, for an axis.
    - `takes`: what it is given, in this order. `example`: options to try it with.
    - `source`: whose name and definition it is.
    """

    name: str
    function: Callable[..., Any]
    gives: Gives
    unit: str
    takes: tuple[Takes, ...]
    source: str
    example: Mapping[str, Any]

    @property
    def says(self) -> str:
        """The first sentence of its docstring."""
        return (self.function.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


registry: dict[str, Measure] = {}


def measure(
    gives: Gives, unit: str, source: str, takes: tuple[Takes, ...] = ("spikes",), **example: Any
) -> Callable[[Function], Function]:
    """Put a function into the registry: it is in the table of the docs, under the laws of the tests, and has a picture.

    >>> @measure("number", "spikes", "here")
    ... def spikes_of_all(spikes):
    ...     "How many there are."
    >>> registry.pop("spikes_of_all").says
    'How many there are.'
    """

    def register(function: Function) -> Function:
        name = function.__name__
        registry[name] = Measure(name, function, gives, unit, takes, source, MappingProxyType(example))
        return function

    return register


def named(what: str | Callable[..., Any]) -> Measure:
    """The entry of an analysis, by its name or the function itself."""
    name = what if isinstance(what, str) else getattr(what, "__name__", repr(what))
    if name not in registry:
        raise ValueError(
            f"There is no analysis {name!r}.{did_you_mean(name, registry)} See spikescope.analysis.registry."
        )
    return registry[name]
