"""Fields: the declared parameters of a neuron or a surrogate, from which its constructor and its checks follow."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from numbers import Real
from typing import Any, ClassVar, Self, dataclass_transform

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import LARGEST, check_choice, check_dense, did_you_mean, refuse_script
from ..internals import constant_when_compiled, exporting
from .class_form import form_now, text_of

__all__ = [
    "Declared",
    "Field",
    "Value",
    "option",
    "part",
    "told_by_a_tensor",
    "unedited",
    "value",
]

Value = float | Tensor
"""A field of the dynamics: a number for all neurons, or a tensor or `nn.Parameter` that broadcasts to one step."""

_REQUIRED: Any = Parameter.empty

_NONE: Mapping[str, Tensor] = {}
_compiled: set[str] = set()
"""The forms of the modules that were compiled, with their numbers as constants."""


@constant_when_compiled
def _note_compiled(form: str) -> bool:
    """A module of this form is being compiled; see `Declared._follow`."""
    _compiled.add(form)
    return True


@dataclass(frozen=True)
class Field:
    """What is known of one field before it has a value."""

    default: Any
    dynamic: bool = False  # a number of the equations, as opposed to a switch or a submodule
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    optional: bool = False
    learnable: bool = False
    init: bool = True
    at_most: float | None = None
    choices: tuple[object, ...] = ()
    kind: type | None = None
    factory: Callable[..., Any] | None = None
    shapes_dynamics: bool = True  # whether the equations depend on it
    infinite: bool = False  # whether it may be infinity, as a bound that is never reached

    def admit(self, owner: str, name: str, given: Any) -> Any:
        """Return the value to store, or refuse it in words."""
        if self.factory is not None:
            return self._admit_part(owner, name, given)
        if self.dynamic:
            return self._admit_value(owner, name, given)
        if isinstance(given, np.generic):  # a number of numpy is one of Python
            given = given.item()
        if self.choices:
            check_choice(owner, name, given, self.choices)
        if self.kind is not None and (
            not isinstance(given, self.kind) or (self.kind is int and isinstance(given, bool))
        ):
            raise TypeError(f"{owner}: {name} must be {self.kind.__name__}, but got {given!r}.")
        self._check_bounds(owner, name, given)
        return given

    def _admit_part(self, owner: str, name: str, given: Any) -> Any:
        assert self.factory is not None
        made = self.factory() if given is None else given
        if isinstance(made, type) or not callable(made):
            wanted = type(self.factory()).__name__
            cure = f" That is a class: make one of it, {made.__name__}()." if isinstance(made, type) else ""
            cure = _made_by_name(made, type(self.factory())) if isinstance(made, str) else cure
            raise TypeError(f"{owner}: {name} must be a module, for example {wanted}(), but got {given!r}.{cure}")
        return made

    def _admit_value(self, owner: str, name: str, given: Any) -> Any:
        if given is None and self.optional:
            return None
        if isinstance(given, Tensor):
            check_dense(f"{owner}: {name}", given)
            if not given.is_floating_point() or given.dtype.itemsize < 2:
                few = " of 16 bits or more" if given.is_floating_point() else ""
                raise TypeError(
                    f"{owner}: {name} must be a floating point tensor{few}, but got dtype {given.dtype}; use .float()."
                )
        else:
            try:
                if isinstance(given, (bool, str)):
                    raise TypeError
                given = float(given)
            except (TypeError, ValueError, OverflowError):  # of an integer beyond all floats
                none = " or None" if self.optional else ""
                raise TypeError(
                    f"{owner}: {name} must be a number, a tensor or an nn.Parameter{none}, but got {given!r}."
                ) from None
        self._check_bounds(owner, name, given)
        if self.learnable and not isinstance(given, Tensor):
            return nn.Parameter(torch.tensor(given))
        return given

    def _check_bounds(self, owner: str, name: str, given: Any) -> None:
        bounded = {self.above, self.below, self.at_least, self.at_most} != {None}
        several = isinstance(given, Tensor) and not self.dynamic and (given.is_meta or given.numel() != 1)
        if bounded and (several or isinstance(given, bool) or not isinstance(given, (Real, Tensor))):
            raise TypeError(f"{owner}: {name} must be a number, but got {given!r}.")
        wanted = [
            text
            for bound, text, holds in (
                (self.above, f"above {self.above}", lambda v: v > self.above),
                (self.below, f"below {self.below}", lambda v: v < self.below),
                (self.at_least, f"at least {self.at_least}", lambda v: v >= self.at_least),
                (self.at_most, f"at most {self.at_most}", lambda v: v <= self.at_most),
                (0.0 if self.dynamic else None, *(_NUMBER_OR_INFINITY if self.infinite else _FINITE)),
            )
            if bound is not None and not _everywhere(holds, given)
        ]
        if wanted:
            raise ValueError(f"{owner}: {name} must be {' and '.join(wanted)}, but got {given!r}.")


def _without_self(method: Callable[..., Any]) -> Signature:
    full = signature(method)
    return full.replace(parameters=list(full.parameters.values())[1:])


def _finite(given: Any) -> Any:
    return torch.isfinite(given) if isinstance(given, Tensor) else math.isfinite(given)


_FINITE = ("finite", _finite)
_NUMBER_OR_INFINITY = ("a number or infinity", lambda given: given > -math.inf)


def _everywhere(holds: Callable[[Any], Any], given: Any) -> bool:
    if isinstance(given, Tensor):
        return given.is_meta or bool(holds(given.detach()).all())
    return bool(holds(given))


def value(
    default: Any = _REQUIRED,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    optional: bool = False,
    learnable: bool = False,
    init: bool = True,
    kw_only: bool = False,
    infinite: bool = False,
) -> Any:
    """A number of the equations: a float, a tensor or a Parameter.

    `optional` admits None, `infinite` infinity; `learnable` turns a number into a Parameter; `init=False` keeps it out
    of the constructor: `prepare` sets it, unless it has a default. `kw_only` speaks to the type checker alone.
    """
    del kw_only
    return Field(default, True, above, below, at_least, optional, learnable, init, at_most, infinite=infinite)


def option(
    default: Any = _REQUIRED,
    *,
    kind: type | None = None,
    choices: tuple[object, ...] = (),
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    init: bool = True,
    shapes_dynamics: bool = True,
    kw_only: bool = False,
) -> Any:
    """A switch that selects the form of the equations: a bool, an int or a name; never learnable.

    An int is at most what PyTorch can count to, or `at_most`.
    One that the equations do not depend on says `shapes_dynamics=False`.
    """
    del kw_only
    return Field(
        default,
        above=above,
        at_least=at_least,
        at_most=LARGEST if kind is int and at_most is None else at_most,
        kind=kind,
        choices=choices,
        init=init,
        shapes_dynamics=shapes_dynamics,
    )


def part(factory: Callable[..., Any], *, kw_only: bool = False) -> Any:
    """A submodule; every instance gets one of its own from `factory` unless one is given."""
    del kw_only
    return Field(None, factory=factory, shapes_dynamics=False)


def _made_by_name(given: str, kind: type) -> str:
    """How a module of the family of `kind` is made that was given by its name, such as 'atan'."""
    family = next(
        (held for held in reversed(kind.__mro__) if issubclass(held, Declared) and held is not Declared), None
    )
    known: dict[str, str] = {}
    waiting = [] if family is None else [family]
    while waiting:
        for held in waiting.pop().__subclasses__():
            waiting.append(held)
            known[held.__name__.lower()] = (
                f"{held.__module__.rpartition('.')[0].rpartition('.')[2]}.{held.__name__}()".lstrip(".")
            )
    return f" Give the module itself: {found}." if (found := known.get(given.replace("_", "").lower())) else ""


def _other_name(name: str, known: Iterable[str]) -> str:
    """What an argument of other libraries is called here."""
    return " What others call beta is here tau = 1 / (1 - beta)." if name == "beta" and "tau" in known else ""


@dataclass_transform(field_specifiers=(value, option, part))
class Declared(nn.Module):
    """A module made of declared fields.

    The fields of a class are those it declares, then those of its bases: in this order they are the arguments of the
    constructor; with `keeps_order=True` a field that a base has already keeps its place. They are read and assigned as
    attributes; an assignment is checked as in the constructor. `params` gives their present values as one named tuple,
    the form in which the pure formulas take them.
    """

    fields: ClassVar[Mapping[str, Field]] = {}
    dynamic: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    arguments: ClassVar[Signature]
    Params: ClassVar[Any]

    _moving: Mapping[str, Tensor] = {}  # the numbers that change from call to call; see `_follow`

    __prepare_scriptable__ = refuse_script

    def __init_subclass__(cls, keeps_order: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: spec for name, spec in vars(cls).items() if isinstance(spec, Field)}
        for name in own:
            delattr(cls, name)  # a class attribute would hide a Parameter of this name
        first = {name: spec for name, spec in own.items() if not (keeps_order and name in cls.fields)}
        cls.fields = first | {name: own.get(name, spec) for name, spec in cls.fields.items() if name not in first}
        cls.dynamic = tuple(name for name, spec in cls.fields.items() if spec.dynamic)
        cls.parts = tuple(name for name, spec in cls.fields.items() if spec.factory is not None)
        cls.Params = namedtuple("Params", list(cls.fields))  # type: ignore[misc]  # the names are known only now
        cls.arguments = Signature(
            [
                Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=spec.default)
                for name, spec in sorted(cls.fields.items(), key=lambda item: item[1].default is not _REQUIRED)
                if spec.init
            ]
        )
        own_init = vars(cls).get("__init__")
        shown = cls.arguments if own_init is None else _without_self(own_init)
        cls.__signature__ = shown  # type: ignore[attr-defined]  # read by inspect and help, and inherited

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        try:
            bound = type(self).arguments.bind(*args, **kwargs)
        except TypeError as error:
            known = type(self).arguments.parameters
            hints = (_other_name(name, known) or did_you_mean(name, known) for name in kwargs if name not in known)
            raise TypeError(f"{type(self).__name__}{type(self).arguments}: {error}.{next(hints, '')}") from None
        bound.apply_defaults()
        for name, spec in type(self).fields.items():
            if not spec.init and spec.default is not _REQUIRED:
                setattr(self, name, spec.default)
        for name, given in bound.arguments.items():
            setattr(self, name, given)
        self.prepare()
        self._reform()

    def prepare(self) -> None:
        """Set what follows from the arguments; called once, at the end of the constructor."""

    def params(self) -> Any:
        """The present values of all fields as a named tuple."""
        cls, modules = type(self), self._modules  # as an attribute a module is found last
        return cls.Params._make([modules[name] if name in modules else getattr(self, name) for name in cls.fields])

    def moving_numbers(self) -> Mapping[str, Tensor]:
        """For compiled code, the numbers that it reads from tensors; see `_follow`."""
        return self._moving if torch.compiler.is_compiling() and not exporting() else _NONE

    def values(self, p: Any) -> list[tuple[str, Any]]:
        """The values of the equations among the fields `p` of this module, each with a letter for its kind.

        'n' is a number, in compiled code perhaps told by a tensor; 's' a 0-dim tensor, 'a' a tensor with axes.
        """
        moving, found = self.moving_numbers(), []
        for name in type(self).dynamic:
            if name in moving:
                found.append(("n", moving[name]))
            elif (held := getattr(p, name)) is not None:
                found.append(("n" if not isinstance(held, Tensor) else "s" if held.ndim == 0 else "a", held))
        if torch.compiler.is_compiling() and self._form is not None:
            _note_compiled(self._form)
        return found

    @property
    def form(self) -> str | None:
        """A text that stands for the class and its options: all that is fixed when a kernel is made of it.

        None where an option is a module or may be changed in place: it is not fixed by any text. What the class reads
        from elsewhere than its fields is part of it, as it is now, unless that changes all the time.
        """
        return None if self._form is None else form_now(self._form, torch.compiler.is_compiling())

    def _reform(self) -> None:
        cls = type(self)
        fixed = {
            name: getattr(self, name, None)
            for name, spec in cls.fields.items()
            if spec.shapes_dynamics and (not spec.dynamic or getattr(self, name, None) is None)
        }
        self._form: str | None = None
        if any(isinstance(held, nn.Module) or type(held).__hash__ is None for held in fixed.values()):
            return
        self._form = text_of(cls, fixed)

    def __setattr__(self, name: str, given: Any) -> None:
        spec = type(self).fields.get(name)
        if spec is not None:
            learned = self.__dict__.get("_parameters", {}).get(name) if spec.learnable else None
            by_number = not isinstance(given, Tensor)
            given = self._admit_field(name, spec, given)
            if by_number and learned is not None and given is not None:
                with torch.no_grad():
                    given = learned.copy_(given)  # an optimizer has it
            if not isinstance(given, nn.Parameter):
                self.__dict__.get("_parameters", {}).pop(name, None)
            if spec.dynamic:
                self._follow(name, given)
        super().__setattr__(name, given)
        if spec is not None or (not torch.compiler.is_compiling() and callable(given)):  # Dynamo cannot ask all values
            self._edited()
        if spec is not None and spec.shapes_dynamics and "_form" in self.__dict__:
            self._reform()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._edited()

    def _edited(self) -> None:
        """Have `unedited` give a new mark."""
        self.__dict__["_unedited"] = None  # PyTorch 2.11 cannot trace that an entry is taken out

    def _follow(self, name: str, given: Any) -> None:
        """Have compiled code read a number from a tensor from now on, where it has it as a constant and it changes.

        With a number that follows a schedule, every value would need a graph of its own. A new tensor for each value:
        a backward pass reads that of its forward pass.
        """
        if type(given) is not float or torch.compiler.is_compiling():
            if name in self._moving:
                self._moving = {held: tensor for held, tensor in self._moving.items() if held != name}
            return
        before = self.__dict__.get(name)
        changes = type(before) is float and before != given
        if name in self._moving or (changes and self.__dict__.get("_form") in _compiled):
            self._moving = {**self._moving, name: told_by_a_tensor(given)}

    def _admit_field(self, name: str, spec: Field, given: Any) -> Any:
        """The value to store in a field, or an error in words."""
        return spec.admit(type(self).__name__, name, given)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._reform()

    def __getstate__(self) -> dict[str, Any]:
        getstate: Callable[[], Any] = super().__getstate__
        state: dict[str, Any] = dict(getstate())
        state.pop("_unedited", None)
        for name in type(self).dynamic:
            if isinstance(state.get(name), Tensor):
                state[name] = state[name].detach()
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name in type(self).dynamic:
            if isinstance(self.__dict__.get(name), Tensor):
                self.__dict__[name] = fn(self.__dict__[name])
        return self

    def extra_repr(self) -> str:
        shown = [name for name, spec in type(self).fields.items() if spec.factory is None and self._shows(name, spec)]
        return ", ".join(f"{name}={_shown(getattr(self, name))}" for name in self._in_order(shown))

    def _in_order(self, names: list[str]) -> list[str]:
        """The fields of a repr in the order in which it shows them."""
        return names

    def _shows(self, name: str, spec: Field) -> bool:
        """Whether the repr of the module shows a field."""
        return spec.init or getattr(self, name) is not None


def unedited(module: Declared) -> object:
    """A mark that a module has until a field or a function of it is set or deleted; a new one if it has none."""
    mark: object = module.__dict__.get("_unedited")
    if mark is None:
        mark = module.__dict__["_unedited"] = object()
    return mark


def told_by_a_tensor(number: float) -> Tensor:
    """A number as compiled code takes an input, in the precision of Python."""
    with torch.inference_mode(False):
        return torch.tensor(number, dtype=torch.float64, device="cpu")


def _shown(held: object) -> str:
    """The value of a field as a repr shows it: a name without quotes, of a tensor its shape."""
    if not isinstance(held, Tensor):
        return getattr(held, "__name__", str(held))  # a function by its name, not by its address
    size = "x".join(map(str, held.shape))
    learnable = "learnable " if isinstance(held, nn.Parameter) else ""
    return f"<{learnable}tensor {size}>" if size else f"{held.item():.4g} ({learnable}scalar)"
