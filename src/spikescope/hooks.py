"""Hooks on a module that stay behind those of others, and that are taken off without a trace."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["Hooks", "has_hooks_of_all", "may_change_output", "put_hooks", "take_hooks_off"]

_KINDS = ("_forward_pre_hooks", "_forward_hooks")


class Hooks(OrderedDict[Any, Callable[..., Any]]):
    """Hooks of a module, of which those under a name stay behind the numbered ones, whenever these are put on.

    PyTorch numbers the hooks that it registers; a name is one of ours, which so sees what the others have made of a
    value. A copy of the module is without hooks that are `passing`.

    - `before`: the collection that these take the place of, where there are handles, which know no other. Instead of
      the hooks it holds what takes them off here when a handle takes it out there.
    """

    before: OrderedDict[Any, _Place] | None = None

    def __setitem__(self, key: Any, hook: Callable[..., Any]) -> None:
        super().__setitem__(key, hook)
        for name in [held for held in self if isinstance(held, str)]:
            self.move_to_end(name)

    def move_to_end(self, key: Any, last: bool = True) -> None:
        """In the dict beneath as well, whose order the guards of compiled code go by in PyTorch 2.11."""
        moved = super().pop(key)
        after = [] if last else list(self.items())
        for name, _ in after:
            super().pop(name)
        for name, hook in [(key, moved), *after]:
            super().__setitem__(name, hook)

    def __reduce__(self) -> Any:
        lasting = [(key, hook) for key, hook in self.items() if not getattr(hook, "passing", False)]
        return Hooks, (), vars(self) or None, None, iter(lasting)


class _Place:
    """Where a hook was before `Hooks` took it over. Whoever takes this out, as its handle does, takes the hook off."""

    def __init__(self, key: Any, hooks: Hooks) -> None:
        self.key, self.hooks = key, weakref.ref(hooks)

    def __del__(self) -> None:
        hooks = self.hooks()
        if hooks is not None:
            hooks.pop(self.key, None)

    def __reduce__(self) -> Any:
        return _Place, (self.key, self.hooks())


def put_hooks(module: nn.Module, name: str, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Hooks before and after the forward of a module, with its keyword arguments, under a name and behind all others.

    `register_forward_hook` numbers its hooks; the numbers start anew in every process, so that the first hook put on
    an unpickled module could take the place of one that came with it.
    """
    for kind, hook in zip(_KINDS, (before, after), strict=True):
        held = getattr(module, kind)
        if not isinstance(held, Hooks):
            held = _taken_over(held)
            module.__dict__[kind] = held  # what torch.compile wraps would give an attribute to the module inside
        held[name] = hook
        getattr(module, f"{kind}_with_kwargs")[name] = True


def take_hooks_off(module: nn.Module, name: str) -> None:
    """Remove what `put_hooks` put there."""
    for kind in _KINDS:
        getattr(module, kind).pop(name, None)
        getattr(module, f"{kind}_with_kwargs").pop(name, None)


def _taken_over(hooks: OrderedDict[Any, Any]) -> Hooks:
    """The same hooks; the handles that remove them, which know the collection alone, go on doing so."""
    made = Hooks(hooks)
    if hooks and weakref.getweakrefcount(hooks):
        hooks.update({key: _Place(key, made) for key in hooks})
        made.before = hooks
    return made


def may_change_output(module: nn.Module) -> bool:
    """Whether a hook of somebody, on the module or on all modules, is given its output before that goes on."""
    of_all: Any = torch.nn.modules.module._global_forward_hooks
    return bool(of_all) or any(not isinstance(key, str) for key in module._forward_hooks)


_every: Any = torch.nn.modules.module


def has_hooks_of_all() -> bool:
    """Whether there are hooks on the calls of all modules."""
    return bool(
        _every._global_forward_hooks
        or _every._global_forward_pre_hooks
        or _every._global_backward_hooks
        or _every._global_backward_pre_hooks
    )
