"""Arguments as code written for another library gives them, made into those of this one, with one note a process."""

from __future__ import annotations

import warnings
from inspect import Signature
from typing import Any

import torch
from torch import Tensor

__all__ = ["backend_here", "be_lenient", "floating", "in_order"]

BACKENDS_ELSEWHERE = ("cupy", "lava", "inductor")
"""Backends of SpikingJelly that have another name here, or none."""

_said: set[str] = set()
_lenient = False


def _say_once(what: str, words: str) -> None:
    if what not in _said:
        _said.add(what)
        warnings.warn(words, stacklevel=2)


def be_lenient(allowed: bool) -> None:
    """Whether neurons take integers and booleans as float32, and backends that are not here as the default, each with a
    warning, or refuse them in words.

    It holds for the process: the import aliases switch it on, since code that comes that way may rely on it.
    """
    global _lenient
    _lenient = allowed


def backend_here(owner: str, given: str, default: str) -> str:
    """The backend for one that was given: the default for one of `BACKENDS_ELSEWHERE` where `be_lenient` says so."""
    if not _lenient or given not in BACKENDS_ELSEWHERE:
        return given
    _say_once(
        "backend",
        f"{owner}: there is no backend {given!r} here; it becomes {default!r}. 'auto' is the fused kernel of "
        "the device where there is one, 'torch' the eager loop. This is said once.",
    )
    return default


def in_order(arguments: Signature, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments by place; a truth value where the backend stands is `store_v_seq`, as in SpikingJelly 2.0, which
    has no backend there, where `be_lenient` says so.
    """
    place = list(arguments.parameters).index("backend") if _lenient and "backend" in arguments.parameters else len(args)
    if len(args) > place and isinstance(args[place], bool):
        return (*args[:place], arguments.parameters["backend"].default, *args[place:])
    return args


def floating(owner: str, x: Tensor) -> Tensor:
    """The input of a neuron; one of integers as float32 where `be_lenient` says so."""
    if not _lenient or not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex():
        return x
    _say_once("integers", f"{owner}: the input is of dtype {x.dtype}; it becomes float32. This is said once.")
    return x.to(torch.float32)
