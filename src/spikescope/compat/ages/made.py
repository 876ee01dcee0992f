"""Making of a class one that is called as in another age: other names, orders and defaults of the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, Signature
from typing import Any

__all__ = ["aged", "say_once", "signature_of"]

Reader = Callable[[Any, dict[str, Any], Collection[str]], dict[str, Any]]

_said: set[str] = set()


def say_once(what: str, words: str) -> None:
    """A line in the log, once a process: nothing that stops a script whose warnings are errors."""
    if what not in _said:
        _said.add(what)
        logging.getLogger(__name__).warning("%s This is said once.", words)


def signature_of(base: type[Any], order: str, keywords: str = "", **defaults: Any) -> Signature:
    """The arguments `order` by place, then `keywords` by name, with `defaults`, else those of `base`."""
    known = base.arguments.parameters

    def parameter(name: str, kind: Any) -> Parameter:
        return Parameter(name, kind, default=defaults[name] if name in defaults else known[name].default)

    by_place = [parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in order.split()]
    return Signature([*by_place, *(parameter(name, Parameter.KEYWORD_ONLY) for name in keywords.split())])


def aged(
    base: type[Any],
    name: str,
    signature: Signature,
    *,
    module: str,
    about: str,
    optional: Mapping[str, type] | None = None,
    read: Reader | None = None,
    after: Callable[[Any, dict[str, Any]], None] | None = None,
    members: Mapping[str, Any] | None = None,
    mixins: tuple[type, ...] = (),
    kind: type[type] = type,
) -> type[Any]:
    """`base` under `name`, called by `signature`; it has the equations of `base` and is not in its registry.

    - `optional`: an argument that not all ages had at its place, with its type: what comes at that place and is of
      another type is taken for the argument after it. It may then be given by name, or at the end, as in a later age.
    - `read`: makes the arguments of `base` of all arguments, and the names of those that were given.
    - `after`: what is done with the new object, and all arguments, at the end.
    """
    places = {list(signature.parameters).index(key): (key, wanted) for key, wanted in (optional or {}).items()}

    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        for place, (key, wanted) in places.items():
            if len(args) > place and not isinstance(args[place], wanted):
                at_the_end = len(args) == len(signature.parameters) and isinstance(args[-1], wanted)
                if at_the_end and key in kwargs:
                    raise TypeError(f"{type(self).__name__}{signature}: multiple values for argument {key!r}.")
                args, own = (args[:-1], args[-1]) if at_the_end else (args, signature.parameters[key].default)
                args = (*args[:place], kwargs.pop(key, own), *args[place:])
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{signature}: {error}.") from None
        stated = set(bound.arguments)
        bound.apply_defaults()
        given = dict(bound.arguments)
        super(made, self).__init__(**(given if read is None else read(self, dict(given), stated)))
        if after is not None:
            after(self, given)

    own = {"__doc__": about, "__module__": module, "__init__": initialize, **(members or {})}
    made: Any = kind(name, (*mixins, base), own, abstract=True)  # so that it is not registered
    made.abstract = False
    made.same_as = vars(base).get("same_as", base)
    made.__signature__ = signature
    return made
