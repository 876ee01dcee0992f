"""Contexts that show counters what runs: operations of PyTorch, its functions, or calls of modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from ...base import backends_of
from ...errors import check_switches
from .counter import BaseCounter, ModuleCounter, title

__all__ = ["ActiveModuleTracker", "DispatchCounterMode", "FunctionCounterMode", "ModuleCounterMode"]

_counting: ContextVar[bool] = ContextVar("counting", default=False)
"""Whether a rule is running, whose own operations are nobody's."""


class ActiveModuleTracker(ModuleTracker):
    """PyTorch's `ModuleTracker`, which knows the modules too, not their names alone.

    - `active_modules`: those that are running forwards or backwards.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by_name: dict[str, nn.Module] = {}
        self._entered: Any = None

    @property
    def active_modules(self) -> set[nn.Module]:
        """The modules under the names in `parents`."""
        return {self._by_name[name] for name in self.parents if name in self._by_name}

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        for name in self.parents - self._by_name.keys() - {"Global"}:  # the one that was just entered
            self._by_name[name] = module

    def __enter__(self) -> Self:
        super().__enter__()
        self._entered = register_module_forward_pre_hook(self._enter_module)
        return self

    def __exit__(self, *args: Any) -> None:
        self._entered.remove()
        super().__exit__(*args)
        self._by_name.clear()


class _InTheOpen(ActiveModuleTracker):
    """A tracker under which neurons run in the eager loop, whose operations can be seen; a kernel is one operation."""

    def __init__(self) -> None:
        super().__init__()
        self._backends: dict[nn.Module, str] = {}

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        super()._enter_module(module, args)
        if "torch" in backends_of(module) and module not in self._backends:
            self._backends[module] = str(module.backend)
            module.backend = "torch"  # type: ignore[assignment]  # a property

    def __exit__(self, *args: Any) -> None:
        for module, backend in self._backends.items():
            module.backend = backend  # type: ignore[assignment]
        self._backends.clear()
        super().__exit__(*args)


class _Counting:
    """Shows each counter what it has a rule for, and keeps a list of the rest.

    - `strict`: whether what a counter has no rule for is an error.
    """

    def __init__(self, counters: Sequence[BaseCounter], strict: bool = False) -> None:
        super().__init__()
        check_switches(type(self).__name__, strict=strict)
        self.counters = list(counters)
        self.strict = strict
        self._unsupported: dict[BaseCounter, dict[str, int]] = {}

    def _begin(self) -> None:
        self._unsupported = {counter: {} for counter in self.counters}

    def get_unsupported(self, counter: BaseCounter) -> dict[str, int]:
        """How often something came for which this counter has no rule, by name."""
        if counter not in self._unsupported:
            raise ValueError(
                f"{type(self).__name__}: this {type(counter).__name__} is none of its counters, or nothing has run yet."
            )
        return dict(self._unsupported[counter])

    def _knows(self, counter: BaseCounter, subject: Any) -> bool:
        if counter.has_rule(subject):
            return True
        name = title(subject)
        held = self._unsupported[counter]
        held[name] = held.get(name, 0) + 1
        if self.strict:
            raise NotImplementedError(
                f"{type(self).__name__}: {type(counter).__name__} has no rule for {name}. Give it one in extra_rules, "
                "or count with strict=False and read get_unsupported(counter)."
            )
        return False

    def _count(self, subject: Any, args: Any, kwargs: Any, out: Any, active: set[nn.Module], names: set[str]) -> None:
        if _counting.get():
            return
        with _aside():
            for counter in self.counters:
                ignored = tuple(counter.ignore_modules)
                if any(isinstance(module, ignored) for module in active) or not self._knows(counter, subject):
                    continue
                value = counter.count(subject, args, kwargs, out, active_modules=active, parent_names=names)
                for name in names:
                    counter.record(name, subject, value)
                counter.finalize_record()


@contextmanager
def _aside() -> Iterator[None]:
    """While rules look at what came: without gradients, and without being counted."""
    before = _counting.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        _counting.reset(before)


class DispatchCounterMode(_Counting, TorchDispatchMode):
    """Counts the operations of PyTorch (`torch.ops.aten`), forwards and backwards, by the module that runs them.

    Neurons of this library run in their eager loop inside, so that the operations of their steps are counted.

    - `counters`: see `BaseCounter`.
    - `strict`: whether an operation without a rule is an error.
    """

    def __init__(self, counters: Sequence[BaseCounter], strict: bool = False) -> None:
        super().__init__(counters, strict)
        self.module_tracker = _InTheOpen()

    def __enter__(self) -> Self:
        self._begin()
        with ExitStack() as stack:
            stack.enter_context(self.module_tracker)
            super().__enter__()
            stack.pop_all()
        return self

    def __exit__(self, *args: Any) -> None:
        try:
            super().__exit__(*args)
        finally:
            self.module_tracker.__exit__(*args)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # which hands over whole what is made of others, as a linear layer
            TorchDispatchMode.__enter__(self)
            try:
                parts = func.decompose(*args, **(kwargs or {}))
            finally:
                TorchDispatchMode.__exit__(self, None, None, None)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        tracker = self.module_tracker
        self._count(func, args, kwargs or {}, out, tracker.active_modules, set(tracker.parents))
        return out


class FunctionCounterMode(_Counting, TorchFunctionMode):
    """Counts calls of PyTorch's functions and methods of tensors, by the module that calls them.

    - `counters`: see `BaseCounter`; their rules stand under functions, as `torch.nn.functional.linear`.
    - `strict`: whether a function without a rule is an error.
    """

    def __init__(self, counters: Sequence[BaseCounter], strict: bool = False) -> None:
        super().__init__(counters, strict)
        self.module_tracker = ActiveModuleTracker()

    def __enter__(self) -> Self:
        self._begin()
        with ExitStack() as stack:
            stack.enter_context(self.module_tracker)
            super().__enter__()
            stack.pop_all()
        return self

    def __exit__(self, *args: Any) -> None:
        try:
            super().__exit__(*args)
        finally:
            self.module_tracker.__exit__(*args)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tracker = self.module_tracker
        self._count(func, args, kwargs or {}, out, tracker.active_modules, set(tracker.parents))
        return out


class ModuleCounterMode(_Counting):
    """Counts calls of the modules of a network, forwards and backwards.

    - `counters`: see `ModuleCounter`.
    - `model`: the network; scopes are `'Global'`, the name of its class, and that with the path of a module.
    - `strict`: kept for a call as of the other modes; only modules that some counter has a rule for are watched.
    """

    def __init__(self, counters: Sequence[ModuleCounter], *, model: nn.Module, strict: bool = False) -> None:
        super().__init__(counters, strict)
        self.model = model
        self._watching: ExitStack | None = None

    @property
    def active(self) -> bool:
        """Whether it is counting."""
        return self._watching is not None

    def _above(self, path: str) -> tuple[set[nn.Module], set[str]]:
        """The modules that hold the one at a path, itself among them, and their scopes."""
        root = type(self.model).__name__
        parts = path.split(".") if path else []
        paths = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return (
            {self.model, *map(self.model.get_submodule, paths)},
            {"Global", root, *(f"{root}.{path}" for path in paths)},
        )

    def _watch(self, module: nn.Module, path: str, stack: ExitStack) -> None:
        active, names = self._above(path)

        def forward(_: Any, args: Any, kwargs: Any, out: Any) -> None:
            self._count(("forward", module), args, kwargs, out, active, names)

        def backward(_: Any, grad_input: Any, grad_output: Any) -> None:
            self._count(("backward", module), grad_input, {}, grad_output, active, names)

        if any(counter.has_rule(("forward", module)) for counter in self.counters):
            stack.callback(module.register_forward_hook(forward, with_kwargs=True).remove)
        if any(counter.has_rule(("backward", module)) for counter in self.counters):
            stack.callback(module.register_full_backward_hook(backward).remove)

    def __enter__(self) -> Self:
        if self._watching is not None:
            raise RuntimeError("ModuleCounterMode: it is counting already. Make another for a second count.")
        self._begin()
        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                self._watch(module, path, stack)
            self._watching = stack.pop_all()
        return self

    def __exit__(self, *args: Any) -> None:
        held, self._watching = self._watching, None
        if held is not None:
            held.close()
