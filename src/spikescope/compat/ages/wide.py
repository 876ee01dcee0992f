"""The metaclass of the bases that published code derives from and asks for."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

__all__ = ["Wide"]


class Wide(ABCMeta):
    """Of a base with the attribute `stands_for`: whatever is an instance of that is an instance of the base.

    In SpikingJelly such a base has no metaclass, so code joins it with `abc.ABC`, whose metaclass this one extends; and
    methods marked abstract without `ABC` are not asked for.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], own: dict[str, Any], **options: Any) -> Any:
        made: Any = super().__new__(cls, name, bases, own, **options)
        if not any(type(held) is ABCMeta for held in made.__mro__):
            made.__abstractmethods__ = frozenset()
        return made

    def __instancecheck__(cls, instance: object) -> bool:
        wide = vars(cls).get("stands_for")
        return super().__instancecheck__(instance) if wide is None else isinstance(instance, wide)

    def __subclasscheck__(cls, subclass: type) -> bool:
        wide = vars(cls).get("stands_for")
        return super().__subclasscheck__(subclass) if wide is None else issubclass(subclass, wide)
