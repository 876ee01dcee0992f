"""The form of a module: a text that stands for its class and its options, and by which a kernel is found.

Two modules of one form differ in nothing but their numbers. What a class reads from elsewhere than its fields is part
of the text.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..internals import constant_when_compiled
from .readings import readings_of, told_now

__all__ = ["COMPILED", "PLAIN", "changed_since", "form_now", "form_with", "forms", "text_of"]

PLAIN = (bool, int, float, str, type(None))
"""The types of options that their text tells in any process."""

forms: dict[str, tuple[type[Any], dict[str, Any]]] = {}
"""Class and options by form."""

COMPILED = "in compiled code"
"""What the form of a class that reads elsewhere ends with in compiled code, which cannot follow."""

_read: dict[str, str] = {}
"""By a form that tells what its class reads from elsewhere the form without that."""


def text_of(cls: type[Any], fixed: dict[str, Any], read: str = "") -> str:
    """The text of a form, which then leads back to class and options; at its end what the class `read` elsewhere."""
    shown = [f"{name}={held if isinstance(held, PLAIN) else id(held)!r}" for name, held in fixed.items()]
    text = f"{cls.__qualname__}@{id(cls)}({', '.join(shown)})".replace("|", "\\x7c")  # which parts the forms of a key
    forms.setdefault(text + read, (cls, fixed))  # keeps what the ids in the text stand for alive
    return text + read


@constant_when_compiled
def form_now(form: str, compiling: bool) -> str | None:
    """The form with what its class reads from elsewhere, as it is now; None where that changes all the time."""
    cls, fixed = forms[form]
    if not (told := told_now(cls)):
        return None if told is None else form
    now = text_of(cls, fixed, f"{{{', '.join(told)}}}{COMPILED if compiling else ''}".replace("|", "\\x7c"))
    _read[now] = form
    return now


def changed_since(form: str, when: str) -> str | None:
    """In words that a form says otherwise than what its class reads from elsewhere now; None where it says the same."""
    if form not in _read or form_now(_read[form], form.endswith(COMPILED)) == form:
        return None
    cls, _ = forms[form]
    names = ", ".join(dict.fromkeys(reading.name for reading in readings_of(cls)))
    return (
        f"{cls.__name__} reads from elsewhere than its fields ({names}), and what it reads has changed since {when}. "
        "Make it a field, `value(...)`, or call torch.compiler.reset() after a change of what compiled code reads."
    )


@cache
def form_with(form: str, *names: str) -> str:
    """The form that is this one but for optional numbers of these names, which are None there, and set here."""
    cls, fixed = forms[form]
    read = form.removeprefix(text_of(cls, fixed))
    made = text_of(cls, {name: held for name, held in fixed.items() if name not in names}, read)
    if read:
        _read[made] = made.removesuffix(read)
    return made
