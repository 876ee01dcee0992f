"""A surrogate made anew from its form, as a function with given numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from ...fields.class_form import forms
from ...surrogate import Surrogate

__all__ = ["firing"]


def firing(form: str, values: Iterator[Any]) -> Callable[[Tensor], Tensor]:
    """The surrogate of a form as a function, with the next of `values`, or the tensors that stand for them."""
    surrogate, options = forms[form]
    assert issubclass(surrogate, Surrogate)
    held = {name: next(values) for name in surrogate.dynamic if options.get(name, 0) is not None}
    params = surrogate.Params._make({**options, **held}.get(name) for name in surrogate.fields)
    return partial(surrogate.fire, params)
