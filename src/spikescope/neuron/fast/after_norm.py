"""A neuron after a batch normalisation, whose kernel normalises its input as well."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from functools import cache, partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...dynamics import Definition, Norm, NormedRun, Sequence, plan, prepare_normed, run_normed
from ...dynamics.key import joined_key, parted_key
from ...fields.class_form import form_with, forms
from ...hooks import has_hooks_of_all
from ...sockets import found_sockets
from .shortcut import Maker, Shortcut, Way, goes_as_written, names_of_the_way, short_way

__all__ = ["Norm", "admits", "called", "give", "give_again", "known_way", "run_behind", "taken"]

_BY_CHANNEL = ("x_scale", "x_shift")


Known = tuple[Shortcut, Way]
"""How a call goes that is like an earlier one."""


class _Given(NamedTuple):
    """A normalisation that the next call of a neuron has to do, if it is one with this input."""

    norm: Norm
    x: weakref.ref[Tensor]
    known: Known | None = None


def give(node: Any, norm: Norm, x: Tensor) -> None:
    """Have the call of `node` that comes next with `x` normalise it first; a call that it `admits`."""
    give_again(node, norm, x, _way(node, norm, x, partial(_prepared, norm)))


def give_again(node: Any, norm: Norm, x: Tensor, known: Known | None) -> None:
    """The same where it is known how that call goes.

    It is kept for the next call in this thread: another thread may be on its way with a normalisation of its own.
    """
    node.__dict__.setdefault("_norm", {})[get_ident()] = _Given(norm, weakref.ref(x), known)


def known_way(node: Any, norm: Norm, x: Tensor) -> Known | None:
    """How the call goes, if calls like it have been given before; nothing disturbs it, no mode or checkpoint."""
    return _way(node, norm, x, None)


def _way(node: Any, norm: Norm, x: Tensor, make: Maker | None) -> Known | None:
    short = short_way(node)
    way = short.behind(node, x, *_kind(norm), make)
    return None if way is None else (short, way)


def called(node: Any, x: Any) -> Tensor | None:
    """The output of a call that a normalisation was given for, where its way is known; else None. Nothing has come
    between the two.
    """
    waiting = node.__dict__["_norm"]
    given: _Given | None = waiting.get(get_ident())
    if given is None or given.known is None or given.x() is not x:
        return None
    del waiting[get_ident()]
    short, (run, rest) = given.known
    return short.keep(node, run, run(x, rest, given.norm))


def _kind(norm: Norm) -> tuple[tuple[Any, ...], list[Tensor]]:
    """What a run depends on of a normalisation, and its tensors, on whose forms it does as well."""
    weight, bias, mean, variance, tracked, eps, taken, by_batch, shared = norm
    absent = weight is None, bias is None, mean is None, variance is None, tracked is None
    held: list[Any] = [weight, bias, mean, variance, tracked]
    tensors = [each for each in held if each is not None] if True in absent else held
    return (by_batch, taken > 0, eps, shared is None, *absent), tensors


def taken(node: Any, x: Tensor) -> Norm | None:
    """The normalisation that this call has to do, if any; none in compiled code, where `give` is not called."""
    if torch.compiler.is_compiling():
        return None
    given: _Given | None = node.__dict__.get("_norm", {}).pop(get_ident(), None)
    return given.norm if given is not None and given.x() is x else None


def admits(node: Any, x: Tensor) -> bool:
    """Whether the neuron, called with what a normalisation makes of `x`, could take `x` and normalise it in its kernel.

    It could not where somebody sees its input: a hook, or a monitor of inputs or of their gradients.
    """
    sockets, hooks = found_sockets(node), node._forward_pre_hooks
    if (
        sockets is None
        or len(hooks) > 1
        or any(point.signal.kind in ("input", "grad_input") for point in sockets[0].points)
        or node._backward_hooks
        or node._backward_pre_hooks
        or has_hooks_of_all()
        or node._compiled_call_impl is not None
        or not goes_as_written(node, names_of_the_way(type(node)))
        or not node._plainly_driven()
        or node.x_scale is not None
        or node.backend == "torch"
    ):
        return False
    p, single = node.params(), node.step_mode == "s"
    state = node._state(p, x, x.shape if single else x.shape[1:])
    return plan(node.backend, node._definition(p), state, x, single).backend == "triton"


def run_behind(
    norm: Norm,
    definition: Definition,
    state: Any,
    x: Tensor,
    keep_v: bool,
    taps: tuple[str, ...] = (),
    single: bool = False,
) -> Sequence:
    """The run of a neuron over what the normalisation makes of `x`."""
    key, places = _key_behind(definition)
    run, told = run_normed(key, places, state, definition.tensors, definition.numbers, x, norm, keep_v, taps, single)
    return run._replace(taps=told) if taps else run


def _prepared(
    norm: Norm, backend: str, definition: Definition, state: Any, x: Tensor, single: bool, taps: Collection[str]
) -> NormedRun | None:
    """What runs for calls like one that was admitted."""
    key, places = _key_behind(definition)
    return prepare_normed(key, places, state, definition.tensors, definition.numbers, x, norm, single)


def _key_behind(definition: Definition) -> tuple[str, tuple[int, int]]:
    p = definition.params()
    assert definition.key is not None
    return _behind(definition.key, tuple([getattr(p, name) is None for name in definition.neuron.dynamic]))


@cache
def _behind(key: str, absent: tuple[bool, ...]) -> tuple[str, tuple[int, int]]:
    """The key of the neuron with a scale and a shift a channel, and their places among the fields that are tensors.

    `absent` tells of each number of its equations whether it has none.
    """
    (form, *parts), kinds = parted_key(key)
    names = forms[form][0].dynamic
    present = [name for name, none in zip(names, absent, strict=True) if not none or name in _BY_CHANNEL]
    for name in sorted(_BY_CHANNEL, key=present.index):
        at = present.index(name)
        kinds = f"{kinds[:at]}a{kinds[at:]}"
    scale, shift = (len(kinds[: present.index(name)].replace("n", "")) for name in _BY_CHANNEL)
    return joined_key([form_with(form, *_BY_CHANNEL), *parts], kinds), (scale, shift)
