"""How the arguments of a documented call are those of ours: by place, by name, and in their defaults.

`signatures.json` has the facts, which `tests/sweeps/signatures.py` reads from the sources of four releases.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import torch
from count_names import status
from torch import nn

from spikescope.base import INPUT_NAMES
from spikescope.fields import Declared
from spikescope.surrogate import ATan, SurrogateFunctionBase

SIGNATURES: dict[str, dict[str, dict[str, str]]] = json.loads(Path(__file__).with_name("signatures.json").read_text())
PROPERTY = "a property"
BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VALUES, NAMED = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD


class Names(dict[str, Any]):
    """What the text of a default may name: the names of its module."""

    def __init__(self, module: Any) -> None:
        super().__init__(torch=torch, nn=nn, np=np, field=dataclasses.field)
        self.module = module

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self.module, name)
        except (AttributeError, ImportError):
            raise KeyError(name) from None


def documented(text: str) -> list[Parameter]:
    """The parameters of a text, each with the text of its default."""
    held = ast.parse(f"def f({text}): ...").body[0]
    assert isinstance(held, ast.FunctionDef)
    places, given = [*held.args.posonlyargs, *held.args.args], held.args.defaults
    texts = [None] * (len(places) - len(given)) + [ast.unparse(default) for default in given]
    made = [
        Parameter(place.arg, BY_PLACE[1], default=Parameter.empty if default is None else default)
        for place, default in zip(places, texts, strict=True)
    ]
    made += [Parameter(held.args.vararg.arg, VALUES)] if held.args.vararg else []
    for name, default in zip(held.args.kwonlyargs, held.args.kw_defaults, strict=True):
        told = Parameter.empty if default is None else ast.unparse(default)
        made.append(Parameter(name.arg, Parameter.KEYWORD_ONLY, default=told))
    return [*made, *([Parameter(held.args.kwarg.arg, NAMED)] if held.args.kwarg else [])]


def parameters_of(held: Any) -> list[Parameter]:
    """Those of a function or a class; what a constructor hands on to that of its base are those of the base."""
    return _of_class(held.__mro__) if inspect.isclass(held) else [*inspect.signature(held).parameters.values()]


def _of_class(classes: tuple[type, ...]) -> list[Parameter]:
    for place, cls in enumerate(classes):
        own = vars(cls)
        told = own.get("__signature__") or own.get("arguments")
        if told is not None or "__init__" in own:
            bound = isinstance(told, Signature)
            made = [*(told if bound else inspect.signature(own["__init__"])).parameters.values()][not bound :]
            if not {VALUES, NAMED} <= {held.kind for held in made}:
                return made
            names = {held.name for held in made}
            inner = [held for held in _of_class(classes[place + 1 :]) if held.name not in names]
            first = [held for held in made if held.kind in BY_PLACE]
            return [*first, *inner, *(held for held in made if held.kind is Parameter.KEYWORD_ONLY)]
    return []


def same_default(owner: Any, name: str, text: str, held: Any, names: Mapping[str, Any]) -> bool:
    """Whether a default of ours is what the text of theirs says."""
    if name == "backend":  # which has no part in the numbers
        return True
    try:
        wanted = eval(text, {}, names)  # a default of the facts beside this file
    except Exception:  # of a name that is not here
        return False
    if isinstance(wanted, dataclasses.Field):
        return held is dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]
    if isinstance(wanted, nn.Module):
        return repr(wanted) in ({repr(held)} if held is not None else made_by(owner, name))
    if inspect.isfunction(wanted) and callable(held):
        return bool(held(text) is wanted(text))
    return bool(type(wanted) is type(held) or {type(wanted), type(held)} <= {int, float}) and bool(wanted == held)


def made_by(owner: Any, name: str) -> set[str]:
    """What stands for a surrogate that is None in a signature: each instance has one of its own."""
    if issubclass(owner, Declared) and (factory := owner.fields[name].factory) is not None:
        return {repr(factory())}
    required = [held for held in parameters_of(owner) if held.default is Parameter.empty and held.kind in BY_PLACE]
    try:
        made = owner(*[2] * len(required))
    except (TypeError, ValueError, NotImplementedError):
        return set()
    found = {repr(part) for part in made.modules() if isinstance(part, SurrogateFunctionBase)}
    return found if len(found) == 1 else set()


def differences(owner: Any, theirs: list[Parameter], ours: list[Parameter], names: Mapping[str, Any]) -> Iterator[str]:
    """What of a documented call is otherwise."""
    places = [held.name for held in ours if held.kind in BY_PLACE]
    known = {held.name: held for held in ours}
    kinds = {held.kind for held in ours}

    def alike(name: str, other: str) -> bool:
        return name == other or {name, other} <= INPUT_NAMES

    for place, held in enumerate(theirs):
        if held.kind in (VALUES, NAMED):
            if held.kind not in kinds and not {VALUES, NAMED} <= {other.kind for other in theirs}:
                yield f"does not hand on {held.name}"
            continue
        if held.kind in BY_PLACE and place < len(places) and not alike(held.name, places[place]):
            yield f"{held.name} at the place of {places[place]}"
        elif held.kind in BY_PLACE and place >= len(places):
            yield f"{held.name} is told by no signature" if VALUES in kinds else f"no place for {held.name}"
        mine = next((other for name, other in known.items() if alike(held.name, name)), None)
        if mine is None or mine.kind in (VALUES, NAMED):
            if NAMED not in kinds:
                yield f"no argument {held.name}"
        elif held.default is not Parameter.empty and mine.default is Parameter.empty:
            yield f"{held.name} has no default"
        elif held.default is not Parameter.empty and not same_default(
            owner, held.name, held.default, mine.default, names
        ):
            yield f"{held.name}={held.default}"
    told = {name for held in theirs for name in (INPUT_NAMES if held.name in INPUT_NAMES else {held.name})}
    if VALUES not in {held.kind for held in theirs}:
        for held in ours:
            if held.kind not in (VALUES, NAMED) and held.default is Parameter.empty and held.name not in told:
                yield f"asks for {held.name}"


def of_module(module: str) -> Iterator[str]:
    """Each difference under the path of a module, as `name [ages] what`."""
    alias = importlib.import_module(f"spikingjelly.{module}")
    for key, texts in SIGNATURES[module].items():
        name, _, member = key.partition(".")
        if status(f"spikingjelly.{module}.{name}") != "here":
            continue
        owner = getattr(alias, name)
        for text, ages in texts.items():
            yield from (f"{key} [{ages}] {what}" for what in _of_one(owner, member, text, Names(alias)))


def _of_one(owner: Any, member: str, text: str, names: Names) -> Iterator[str]:
    if not member:
        yield from differences(owner, documented(text), parameters_of(owner), names)
        return
    held = inspect.getattr_static(owner, member, None)
    if text == PROPERTY:
        if held is None and member not in getattr(owner, "fields", ()):
            yield "is not there"
    elif held is None:
        yield "is not there"
    elif isinstance(held, staticmethod):
        yield from differences(owner, documented(text), parameters_of(held.__func__), names)
    elif inspect.isfunction(held) or isinstance(held, classmethod):
        yield from differences(owner, documented(text), parameters_of(getattr(held, "__func__", held))[1:], names)
    elif not callable(getattr(owner, member)):
        yield "is no method"


SURROGATE = ATan(3.0)
NOT_DEFAULT = {"v_reset": -0.125, "step_mode": "m", "backend": "torch"}


def another(held: Parameter, names: Names, extension: bool) -> Any:
    """What is not the default of a documented argument, and not what stands for another argument."""
    if held.name.startswith("surrogate_function"):
        return "Sigmoid" if extension else SURROGATE
    if held.name in NOT_DEFAULT or held.default is Parameter.empty:
        return NOT_DEFAULT.get(held.name)
    default = eval(held.default, {}, names)  # a default of the facts beside this file
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    return default + (0.25 if default >= 1 else 0.0625) if isinstance(default, float) else default


def kept_by_name(module: str) -> Iterator[tuple[str, bool]]:
    """Of each layer, neuron or surrogate that is made by place, whether it has each argument under its name."""
    alias = importlib.import_module(f"spikingjelly.{module}")
    names = Names(alias)
    for key, texts in SIGNATURES[module].items():
        if "." in key or key.endswith("Base") or status(f"spikingjelly.{module}.{key}") != "here":
            continue
        owner = getattr(alias, key)
        for text, ages in texts.items() if inspect.isclass(owner) and issubclass(owner, nn.Module) else ():
            places = [held for held in documented(text) if held.kind in BY_PLACE]
            try:
                given = [another(held, names, module.startswith("cext")) for held in places]
                made = owner(*given)
            except (KeyError, NameError, NotImplementedError, TypeError, ValueError):
                continue  # one that is made of other modules, a base, or refused in words
            for held, value in zip(places, given, strict=True):
                got = getattr(made, held.name, None)
                numbers = isinstance(value, int | float) and isinstance(got, int | float)
                if numbers or type(got) is type(value):
                    same = isclose(got, value, rel_tol=1e-6) if numbers else got is value or got == value
                    yield f"{key} [{ages}] {held.name}", same
