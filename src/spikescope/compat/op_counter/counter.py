"""What every counter of operations is: rules, and sums by the module that was running."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name

__all__ = [
    "BaseCounter",
    "EnergyModelInfo",
    "ModuleCounter",
    "OperationCounter",
    "call_model",
    "is_binary_tensor",
    "title",
]

Rule = Callable[..., int]
Records = defaultdict[str, defaultdict[Any, int]]


def _no_records() -> Records:
    return defaultdict(lambda: defaultdict(int))


@dataclass(frozen=True)
class EnergyModelInfo:
    """Where a model of energy comes from, and what it speaks of."""

    model_id: str
    fidelity: str
    source_urls: tuple[str, ...]
    technology_nm: int | None
    precision: str
    scope: str


def is_binary_tensor(x: Tensor) -> bool:
    """Whether a tensor holds zeros and ones alone.

    >>> is_binary_tensor(torch.tensor([0.0, 1.0])), is_binary_tensor(torch.tensor([0.0, -1.0]))
    (True, False)
    """
    return x.dtype == torch.bool or bool(((x == 0) | (x == 1)).all())


def call_model(model: nn.Module, inputs: Any) -> Any:
    """A call with arguments by place (a tuple or list), by name (a dict), or with one."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


class BaseCounter:
    """Counts what its `rules` say of an operation, `rule(args, kwargs, out)`, for each module that is running.

    - `records`: to each scope, which is `'Global'` or the path of a module, the sums by operation.
    - `ignore_modules`: classes of modules; what happens inside of one is not counted.
    """

    def __init__(self) -> None:
        self.records: Records = _no_records()
        self.rules: dict[Any, Rule] = {}
        self.ignore_modules: list[type[nn.Module]] = []

    def has_rule(self, func: Any) -> bool:
        """Whether the operation is known."""
        return func in self.rules

    def count(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        active_modules: set[nn.Module] | None = None,
        parent_names: set[str] | None = None,
    ) -> int:
        """What one operation adds; the modules that are running, and their paths, are there for rules that ask."""
        return int(self.rules[func](args, kwargs, out))

    def record(self, scope: str, func: Any, value: int) -> None:
        """Add to the sum of an operation in a scope."""
        self.records[scope][func] += value

    def finalize_record(self) -> None:
        """Called when an operation stands in all scopes."""

    def get_counts(self) -> dict[str, dict[Any, int]]:
        """The sums, by scope and operation."""
        return {scope: dict(held) for scope, held in self.records.items()}

    def get_total(self) -> int:
        """The sum over all operations."""
        return sum(self.records["Global"].values())

    def reset(self) -> None:
        """Forget all sums."""
        self.records = _no_records()


class OperationCounter(BaseCounter):
    """A counter whose class brings its rules, to which the caller adds.

    - `extra_rules`: rules of one's own, which go before those of the class.
    - `extra_ignore_modules`: classes of modules that are not counted.
    """

    own_rules: Mapping[Any, Rule]

    def __init__(
        self,
        extra_rules: Mapping[Any, Rule] | None = None,
        extra_ignore_modules: Sequence[type[nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        self.rules = {**self.own_rules, **(extra_rules or {})}
        self.ignore_modules = list(extra_ignore_modules or ())


class ModuleCounter(BaseCounter):
    """Counts calls of modules: the rules stand under `('forward' or 'backward', class)`, and take the module first."""

    def _rule_key(self, event: tuple[str, nn.Module]) -> tuple[str, type[nn.Module]]:
        phase, module = event
        for kind in type(module).__mro__:
            if (phase, kind) in self.rules:
                return phase, kind
        raise KeyError(event)

    def has_rule(self, event: Any) -> bool:
        """Whether there is a rule for the class of a module, or one that it derives from."""
        if not (isinstance(event, tuple) and len(event) == 2 and isinstance(event[1], nn.Module)):
            return False
        return any((event[0], kind) in self.rules for kind in type(event[1]).__mro__)

    def count(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        active_modules: set[nn.Module] | None = None,
        parent_names: set[str] | None = None,
    ) -> int:
        """What one call adds."""
        return int(self.rules[self._rule_key(func)](func[1], args, kwargs, out))

    def record(self, scope: str, func: Any, value: int) -> None:
        """Add to the sum of a class of modules in a scope."""
        super().record(scope, self._rule_key(func), value)


def title(subject: Any) -> str:
    """What an operation, or a call of a module, is called in messages and lists."""
    if isinstance(subject, tuple):
        phase, module = subject
        return f"{phase}:{type(module).__module__}.{type(module).__qualname__}"
    return resolve_name(subject) or repr(subject)
