"""Nested values as text and tensors: how a value that is no tensor gets through compiled code."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = [
    "ENDING",
    "Deferred",
    "Failure",
    "Told",
    "at_path",
    "attribute_of",
    "computed",
    "described",
    "leaves_of",
    "mapped",
    "part_of",
    "part_of_call",
    "rebuilt",
    "same_tensors",
    "tensors_of",
    "tuple_made",
    "unpacked",
    "with_own_tensors",
]

_ERROR = "spikescope error: "
_DEFERRED = "spikescope deferred"
_NUMBER = "spikescope number"

tuple_made = tuple.__new__
"""Makes a named tuple of its class and its values, without the function that the class has for that."""

F = TypeVar("F", bound=Callable[..., Any])
_functions: dict[str, Callable[..., Any]] = {}


class Failure(NamedTuple):
    """Why there is no value; `rebuilt` makes an exception of it."""

    text: str


class Deferred(NamedTuple):
    """A value that is computed only if somebody takes it: by the function with this name, of these arguments."""

    function: str
    arguments: tuple[Any, ...]

    def value(self) -> Any:
        """Compute it now."""
        return _functions[self.function](*self.arguments)


def computed(name: str) -> Callable[[F], F]:
    """Make a function known by a name that a `Deferred` may tell.

    >>> double = computed("double")(lambda x: 2 * x)
    >>> held = []
    >>> rebuilt(described(Deferred("double", (torch.ones(1),)), held), held)
    tensor([2.])
    """

    def register(function: F) -> F:
        _functions[name] = function
        return function

    return register


class Told(dict[str, Tensor]):
    """The taps of a call that went a short way: no hook of anybody has changed what the neuron gave besides.

    - `way`: as long as it is the same one, neuron and surrogate are as they were.
    - `run`: as long as it is the same one, that holds, and values and taps lie in memory as they did.
    """

    way: Any
    run: Any


ENDING = "another last step"
"""The name of what tells the potentials of a call whose last step a hook has changed."""


@computed(ENDING)
def _with_another_end(held: Any, step_mode: str, last: Any) -> Tensor:
    """The potentials of a call, the last of them as a hook has left it: what the network goes on from."""
    told: Tensor = held.value() if isinstance(held, Deferred) else held
    now = last.detach().to(told.dtype) if isinstance(last, Tensor) else told.new_tensor(last)
    if step_mode == "s":
        return now.expand(told.shape).clone()
    return torch.cat((told[:-1], now.expand(told[-1:].shape))) if len(told) else told


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (tuple, list)):
        return []
    found = []
    for item in value:
        found += tensors_of(item)
    return found


def leaves_of(value: Any) -> list[Any]:
    """What tuples, lists and dicts hold, in order, whatever it is.

    >>> leaves_of((1, {"a": [2, None]}))
    [1, 2, None]
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (tuple, list)):
        return [value]
    found = []
    for item in value:
        found += leaves_of(item)
    return found


def mapped(change: Callable[[Any], Any], value: Any, *, all: bool = False) -> Any:
    """A value with its tensors, or with `all` that it holds, changed. A shape stays one.

    >>> mapped(lambda held: held + 1, (torch.ones(1), torch.Size([2])))
    (tensor([2.]), torch.Size([2]))
    """
    if isinstance(value, Tensor):
        return change(value)
    if all:
        return pytree.tree_map(change, value, is_leaf=_is_shape)
    return pytree.tree_map_only(Tensor, change, value, is_leaf=_is_shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, torch.Size)


def at_path(held: Any, path: str) -> Any:
    """What is found by going along a path of indices, keys and attributes.

    >>> at_path(({"a": [1, 2]}, 3), "0.a.-1")
    2
    """
    for part in path.split("."):
        if isinstance(held, dict):
            held = held[part]
        elif isinstance(held, (list, tuple)) and part.lstrip("-").isdigit():
            held = held[int(part)]
        else:
            held = getattr(held, part)
    return held


def part_of(out: Any, name: str) -> Any:
    """An output, or the part of it that a path leads to; what leads nowhere belongs to whoever asked for it.

    >>> part_of((1, {"v": 2}), "1.v"), part_of((1, 2), "7")
    (2, IndexError("there is no '7' in what the module gives, a tuple of 2"))
    """
    if not name or not isinstance(out, (list, tuple, dict)):
        return unpacked(out)
    try:
        return at_path(out, name)
    except (LookupError, AttributeError) as error:
        text = f"there is no {name!r} in what the module gives, a {type(out).__name__} of {len(out)}"
        return Failure(text) if torch.compiler.is_compiling() else type(error)(text)


def part_of_call(given: tuple[Any, Any], name: str) -> Any:
    """All arguments of a call, the unnamed and the named, or the one that a path leads to.

    >>> part_of_call(((1, 2), {"gain": 3}), "2")
    3
    """
    args, kwargs = given
    return at_path((*args, *kwargs.values()), name) if name else given


def attribute_of(module: Any, name: str) -> Any:
    """What an attribute is now, at the end of a path; where there is none, the error, which belongs to whoever asked.

    >>> attribute_of(spikescope.neuron.IFNode(), "v"), type(attribute_of(spikescope.neuron.IFNode(), "w"))
    (0.0, <class 'AttributeError'>)
    """
    try:
        return at_path(module, name)
    except Exception as error:  # not one of the forward pass
        if torch.compiler.is_compiling():
            return Failure(f"{type(module).__name__} has no {name} now; without torch.compile the error says why.")
        return error


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two values hold the very same tensors, in the same order."""
    found, others = tensors_of(one), tensors_of(other)
    return len(found) == len(others) and all(a is b for a, b in zip(found, others, strict=True))


def unpacked(value: Any) -> Any:
    """A tuple of one as its item.

    >>> unpacked((1,)), unpacked((1, 2)), unpacked([1])
    (1, (1, 2), [1])
    """
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def described(value: Any, tensors: list[Tensor]) -> str:
    """A value as a Python literal with `...` for every tensor, which goes to `tensors`.

    A real number goes there as a tensor: compiled code does not know its digits, nor has NaN a literal.

    >>> held = []
    >>> described({"a": torch.ones(1), "b": (2, None)}, held), len(held)
    ("{'a': ..., 'b': (2, None,)}", 1)
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return "..."
    if isinstance(value, Failure):
        return repr(_ERROR + value.text)
    if isinstance(value, Deferred):
        return described((_DEFERRED, value.function, value.arguments), tensors)
    if _is_literal(value):
        return repr(value)
    if isinstance(value, float):
        return described((_NUMBER, torch.ones((), dtype=torch.float64, device="cpu") * value), tensors)
    if isinstance(value, Mapping) and all(_is_literal(key) for key in value):
        items = [f"{key!r}: {described(item, tensors)}" for key, item in value.items()]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (tuple, list)):
        items = [described(item, tensors) + "," for item in value]
        return ("(" if isinstance(value, tuple) else "[") + " ".join(items) + (")" if isinstance(value, tuple) else "]")
    kind = type(value).__name__
    return repr(
        f"{_ERROR}a value of type {kind} cannot be recorded in compiled code, only tensors, numbers, texts, and "
        "tuples, lists and dicts of these with numbers or texts as keys. Record something of it, or run without "
        "torch.compile."
    )


def _is_literal(value: Any) -> bool:
    """Whether the repr is a literal: not that of an enumeration, whatever it derives from."""
    return value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, Enum))


def rebuilt(form: str, tensors: Sequence[Tensor]) -> Any:
    """The inverse of `described`. An error comes back as the exception: it ends a probe, not the run.

    >>> rebuilt("(..., 3)", [torch.ones(1)])
    (tensor([1.]), 3)
    >>> held = []
    >>> rebuilt(described({"gain": 0.1}, held), held)
    {'gain': 0.1}
    """
    if form == "...":
        return tensors[0]
    try:
        return _filled(_literal(form), iter(tensors))
    except Exception as error:
        return error


_literal = functools.lru_cache(maxsize=256)(ast.literal_eval)  # `_filled` builds anew: nobody changes what is kept


def _filled(value: Any, tensors: Any) -> Any:
    if value is Ellipsis:
        return next(tensors)
    if isinstance(value, str) and value.startswith(_ERROR):
        raise ValueError(value.removeprefix(_ERROR))
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = type(value)(_filled(item, tensors) for item in value)
        mark = items[0] if items and isinstance(items[0], str) else ""
        if mark == _NUMBER:
            return float(items[1])
        return Deferred(items[1], items[2]).value() if mark == _DEFERRED else items
    return value


def with_own_tensors(value: Any) -> Any:
    """Inputs of the module's own, so that their gradient is its share and not that of everybody who uses them.

    A copy, not a view: a module that works in place would cut a view off from its gradient.
    """
    if isinstance(value, Tensor):
        return value.clone() if value.requires_grad else value
    if type(value) in (tuple, list):
        return type(value)([with_own_tensors(item) for item in value])
    if type(value) is dict:
        return {key: with_own_tensors(item) for key, item in value.items()}
    return value
