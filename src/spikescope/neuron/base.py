"""The base of all neurons: a declared module with memory, in the registry, that shows its fields."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn

from ..base import MemoryModule
from ..fields import Declared, Field, option
from .leniency import in_order

__all__ = ["Neuron"]

registry: dict[str, type[Neuron]] = {}

HOOKS = ("v_float_to_tensor", "neuronal_charge", "neuronal_adaptation", "neuronal_fire", "neuronal_reset")
"""Methods on the state by which SpikingJelly's neurons are written; `stages.py` runs those of a subclass."""

FORMULAS = frozenset(("step", "fed_step", "fed", "rest", "charge", "adapt", "emit", "give", "recover"))
"""What a class of neurons computes by: pure functions, never called on an instance."""


def check_formulas(cls: type[Any]) -> None:
    """Refuse a formula that was written as a method: nothing calls it on a neuron."""
    for name in FORMULAS & vars(cls).keys():
        held = vars(cls)[name]
        if inspect.isfunction(held) and held.__code__.co_varnames[:1] == ("self",):
            raise TypeError(
                f"{cls.__name__}.{name} is written as a method, but it is a formula of fields, state and input, and is "
                "called without a neuron. Write @staticmethod above it, and p, for the fields, in the place of self."
            )


SHOWN = ("tau", "v_threshold", "v_reset", "detach_reset", "step_mode", "backend")
"""The fields that every repr shows, in this order; those of a neuron's own stand behind tau, these at the end:"""
LAST = ("store_v_seq", "x_scale", "x_shift")


class Neuron(Declared, MemoryModule):
    """Base of all neurons. Defining a subclass registers it, unless it says `abstract=True`."""

    step_mode: str = option(default="s", shapes_dynamics=False, kw_only=True)

    printed: ClassVar[frozenset[str]] = frozenset(SHOWN)  # what the repr shows also where it is at its default
    example: ClassVar[dict[str, Any]] = {}  # values for the arguments that have no default, for a run of four steps
    abstract: ClassVar[bool] = True
    tells_of_its_past = True
    takes_hooks: ClassVar[bool] = False  # whether the methods in HOOKS may be written anew

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        unused = [name for name in HOOKS if name in vars(cls)]
        if unused and not cls.takes_hooks:
            raise TypeError(
                f"{cls.__name__} defines {', '.join(unused)}, which nothing calls in a neuron of this kind. Derive it "
                "from BaseNode, IFNode or another integrate-and-fire neuron, or write step(p, s, x), a static method; "
                "CONTRIBUTING.md has an example."
            )
        cls.abstract = abstract
        if not abstract:
            registry[cls.__name__] = cls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if type(self).abstract:
            raise TypeError(f"{type(self).__name__} is the base of a family of neurons; use one of the family.")
        super().__init__(*in_order(type(self).arguments, args), **kwargs)

    def extra_repr(self) -> str:
        return Declared.extra_repr(self)

    def _in_order(self, names: list[str]) -> list[str]:
        places = {name: place for place, name in enumerate((*SHOWN, *LAST))}
        return sorted(names, key=lambda name: places.get(name, 0.5))

    def _shows(self, name: str, spec: Field) -> bool:
        held = getattr(self, name)
        if not spec.init and isinstance(held, nn.Parameter):
            return False  # what it learns by itself is not an argument
        if name in type(self).printed:
            return True
        if not spec.init:
            return held is not None
        return isinstance(held, Tensor) or held != spec.default
