"""The short way of a call: what earlier calls have found out holds for one that differs in nothing they looked at.

On the long way through a module stand its hooks, the checks of input, state and fields, and the choice of a kernel. In
a loop over single steps, or with small layers, that takes longer than the kernel. So a neuron keeps, by the kind of the
input and the state, the run that the long way would come to. It is taken where the module, its fields and its parts are
as they were, and no tracer, transform or backward pass is at work; all else goes the long way, and so does the first
call of a kind, which says in words what is wrong with it. A monitor is told at the sockets as on the long way, and what
it wants a kernel to count is part of the kind. Where others have put hooks, these run as ever, and the way is taken
between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter, is_
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...dynamics import Definition, NormedRun, Prepared, prepare
from ...dynamics.cpp.prepared import PreparedOnCpu
from ...fields import Declared, unedited
from ...fields.readings import readings_of, told_by, told_now
from ...form import Told
from ...internals import checkpoint_at_work, is_ordinary, is_undisturbed, like_these
from ...sockets import Entry, Exit, are_bare, at_rest, found_sockets, is_bare

__all__ = ["Maker", "Shortcut", "Told", "Way", "goes_as_written", "methods_of", "names_of_the_way", "short_way"]

LONG_WAY = (
    *("forward", "single_step_forward", "multi_step_forward", "drive", "gain_in_time"),
    *("_admit", "_state", "_single", "_keep"),
    *("v_float_to_tensor", "neuronal_charge", "neuronal_adaptation", "neuronal_fire", "neuronal_reset"),
    *("params", "values", "fitting"),
)
"""The methods of the long way. What has another of them, a class or an instance, has no short way."""

TAPS = frozenset(("count", "packed"))
"""What a kernel may be asked for on the short way: what is told of spikes."""

Way = tuple[Any, list[Tensor]]
"""What runs, and what it takes besides the input: the entries of the state that are tensors, then such fields."""

Run = Prepared | NormedRun | None
"""What runs for calls of a kind; None where the long way runs no kernel, or not on memory like this."""

Maker = Callable[[str, Definition, Any, Tensor, bool, Sequence[str]], Run]
"""What prepares a run, as `dynamics.prepare` does."""

_FORMS = 4  # of the tensors of a call, that are asked for at once
_KINDS = 64  # of calls that are told apart; where more come, they hardly come again


Form = tuple[torch.dtype, torch.Size, tuple[int, ...]]
"""The dtype, the shape and the strides of a tensor."""


def form_of(x: Tensor) -> Form:
    """The form of a tensor: memory of the same form is taken by the same run."""
    return x.dtype, x.shape, x.stride()


class Again(NamedTuple):
    """A call without gradients that is likely to come again: what runs, and the forms of what it takes."""

    run: Callable[[Tensor, Sequence[Tensor], None], tuple[Tensor, ...]]
    x: Form
    names: tuple[str, ...]
    state: list[Form]


def methods_of(*bases: type[Any]) -> tuple[object, ...]:
    """The methods of the long way as these classes have them."""
    return tuple(vars(base)[name] for base in bases for name in LONG_WAY if name in vars(base))


def names_of_the_way(cls: type[Any], but: str = "") -> list[str]:
    """The methods of the long way that a class has, without one that is not called."""
    return [name for name in LONG_WAY if name != but and hasattr(cls, name)]


def goes_as_written(neuron: Any, names: Sequence[str]) -> bool:
    """Whether the methods of these names are those of the library, in the class and on the instance."""
    cls = type(neuron)
    return (
        all(getattr(cls, name) in cls.ways for name in names)
        and neuron.__dict__.keys().isdisjoint(names)
        and not getattr(neuron, "by_hooks", False)
    )


class Fields(NamedTuple):
    """The fields that a run depends on, of the neuron or of a part of it, as they were.

    Without the module: a neuron that holds itself would outlive its last user until the garbage is collected.
    """

    names: tuple[str, ...]  # of the mark that nothing was edited, and of those that are numbers
    values: tuple[object, ...]  # also behind the back of the module each number is to stay the very same object

    @classmethod
    def of(cls, module: Declared) -> Fields:
        held = module.__dict__
        numbers = [name for name in type(module).dynamic if type(held.get(name)) is float]
        return cls(("_unedited", *numbers), (unedited(module), *[held[name] for name in numbers]))


def _are_stored(module: Declared) -> bool:
    """Whether the fields of the equations are what is stored, or tensors, which are read at every call."""
    cls = type(module)
    return not any(hasattr(cls, name) and not isinstance(getattr(module, name), Tensor) for name in cls.dynamic)


class Shortcut:
    """The short way through one neuron, as it is now."""

    def __init__(self, neuron: Any) -> None:
        cls = type(neuron)
        other = "multi_step_forward" if neuron.step_mode == "s" else ""
        names = names_of_the_way(cls, other)
        self.cls, self.methods = cls, attrgetter(*names)
        self.found = self.methods(cls)
        self.names, self.values = Fields.of(neuron)
        found = {name: neuron._modules.get(name) for name in cls.parts}
        parts = {name: part for name, part in found.items() if isinstance(part, Declared)}
        self.parts = [(name, part, *Fields.of(part)) for name, part in parts.items()]
        self.modules = tuple(parts.values())
        own = [type(held) for held in (neuron, *self.modules)]
        self.readings = [reading for held in own if told_now(held) != () for reading in readings_of(held)]
        self.read = told_by(self.readings)
        self.tensors = [
            (owner, name)
            for owner in ("", *parts)
            for name in type(_of(neuron, owner)).dynamic
            if isinstance(getattr(_of(neuron, owner), name), Tensor)
        ]
        self.states: tuple[str, ...] = cls.State._fields
        self.drives = not neuron._plainly_driven()
        self.keeps_form = self.drives and neuron._drive_keeps_form()
        self.memories = len(self.states) + len(cls.driven_by)
        self.keeps_v = neuron.store_v_seq and neuron.step_mode == "m" and not self.drives
        self.is_open = (
            len(parts) == len(found)
            and goes_as_written(neuron, names)
            and neuron.backend != "torch"
            and (not self.drives or self.keeps_form or neuron._gained())
            and (self.keeps_v or not neuron.store_v_seq)
            and neuron._compiled_call_impl is None
            and all(_are_stored(_of(neuron, owner)) for owner in ("", *parts))
        )
        self.seen: set[Any] = set()
        self.runs: dict[Any, Run] = {}
        self.last: dict[Any, tuple[tuple[Callable[..., bool], Run], ...]] = {}  # of each kind but for forms

    def holds(self, neuron: Any) -> bool:
        """Whether the neuron and its class are as they were."""
        held, cls = neuron.__dict__, self.cls
        if not (
            type(neuron) is cls
            and all(map(is_, map(held.get, self.names), self.values))
            and self.methods(cls) == self.found
            and not (self.readings and told_by(self.readings) != self.read)
        ):
            return False
        modules = held["_modules"]
        for name, part, names, values in self.parts:
            if modules.get(name) is not part or not all(map(is_, map(part.__dict__.get, names), values)):
                return False
        return True

    def run(self, neuron: Any, x: Any) -> Tensor | None:
        """The output of a call; None where it has to go the long way."""
        if not self._is_open_to(neuron, x):
            return None
        if is_bare(neuron):
            return self._run(neuron, x)
        sockets = _lone_sockets(neuron)
        return None if sockets is None else self._watched(neuron, x, *sockets)

    def outcome(self, neuron: Any, x: Any) -> Sequence[Tensor] | None:
        """What a call gives, the output and the entries of the next state, without a change of the neuron; None where
        no run is prepared for it. No activation checkpoint is at work.
        """
        way = self._way(neuron, x) if self._is_open_to(neuron, x, unrepeated=True) else None
        return None if way is None else way[0](x, way[1])

    def within(self, neuron: Any, x: Any) -> Tensor | None:
        """The output of a call from within the hooks of others; None where it has to go the long way, or is no such."""
        if is_bare(neuron) or _lone_sockets(neuron) is not None or not self._is_open_to(neuron, x):
            return None
        y = self._run(neuron, x)
        if y is not None and neuron._live_taps:
            neuron.tapped = dict(neuron.tapped)  # not `Told`: a hook may yet give out something else
        return y

    def first(self, neuron: Any, x: Tensor) -> tuple[Tensor, tuple[Again, list[Tensor]] | None] | None:
        """The output of a call without gradients, of a neuron without hooks, that nothing disturbs; and how to run it
        again, with the state that it left, where that takes no more than the form of input and state. None where the
        neuron has to be called.
        """
        if self.drives or self.readings or self.keeps_v:
            return None
        way = self._way(neuron, x, make=None)  # the call prepares it, when that is its turn
        if way is None:
            return None
        made, rest = way
        again = None
        alike = type(made) is PreparedOnCpu and made.held == made.states and not (made.learns or self.tensors)
        if alike and made.again is not None:
            again = Again(made.again, form_of(x), self.states, [*map(form_of, rest)])
        out = made(x, rest)
        y = self.keep(neuron, made, out)
        return y, None if again is None else (again, [*out[1:]])

    def behind(
        self, neuron: Any, x: Tensor, norm: tuple[Any, ...], tensors: Sequence[Tensor], make: Maker | None
    ) -> Way | None:
        """The way of a call behind a normalisation of the kind `norm`, which has these tensors, that nothing disturbs;
        without `make` it is known, or none.
        """
        if not self.is_open or self.drives or self.keeps_v or neuron._live_taps:
            return None
        if not (is_bare(neuron) and are_bare(self.modules)):
            return None
        return self._way(neuron, x, norm, tensors, make)

    def _is_open_to(self, neuron: Any, x: Any, unrepeated: bool = False) -> bool:
        """Whether a call with this input may be short, whoever watches the neuron itself.

        - `unrepeated`: it is known that no activation checkpoint is at work.
        """
        return (
            self.is_open
            and type(x) is Tensor
            and is_ordinary(x)
            and is_undisturbed()
            and (unrepeated or checkpoint_at_work(neuron.training) is None)  # the long way remembers where it starts
            and are_bare(self.modules)
        )

    def _watched(self, neuron: Any, x: Tensor, entry: Entry, leave: Exit) -> Tensor:
        """A call between the sockets. Who is told there may want other taps than before: the way is chosen within."""
        ear = entry.ear
        way = None if ear is None else self._way(neuron, x, make=None)  # a first call goes the long way
        if ear is not None and way is not None and (known := ear.takes(x, self, way[0])) is not None:
            rests = at_rest(neuron)
            out = self.keep(neuron, way[0], self._given(neuron, x, *way))
            ear.hears(known, neuron, x, out, rests)
            return out
        args, kwargs = entry(neuron, (x,), {}) or ((x,), {})
        (x,) = args
        known = entry.only_starts or (is_ordinary(x) and self.holds(neuron))
        y = self._run(neuron, x) if known else None
        y = neuron.forward(x) if y is None else y
        leave(neuron, args, kwargs, y)
        return y

    def _run(self, neuron: Any, x: Tensor) -> Tensor | None:
        """The output of a call without its hooks; None where no run is prepared for it."""
        way = self._way(neuron, x)
        if way is None:
            return None
        return self.keep(neuron, way[0], self._given(neuron, x, *way))

    def _given(self, neuron: Any, x: Tensor, run: Any, rest: Sequence[Tensor]) -> Sequence[Tensor]:
        """What a run gives for an input. What drives a step is asked for now, for the neuron may count it."""
        if not self.drives:
            found: Sequence[Tensor] = run(x, rest)
        elif run.gained:
            found = run(x, (*rest, neuron.gain_in_time(_in_time(neuron, x)).flatten()))
        else:
            found = run(_driven(neuron, x), rest)
        return found

    def keep(self, neuron: Any, run: Any, out: Sequence[Tensor]) -> Tensor:
        """The output of a run; state and taps are kept."""
        held = neuron.__dict__
        taps = held["_live_taps"]
        memories, at = held["_memories"], 0
        for at, name in enumerate(self.states, 1):
            memories[name] = out[at]
        if self.keeps_v:
            at += 1
            held["_potentials"] = [out[at]]
        if taps:  # they come last
            held["tapped"] = told = Told(zip(taps, out[at + 1 :], strict=True))
            told.way, told.run = self, run
        if held["_assigned"]:
            held["_assigned"].clear()
        return out[0]

    def _way(
        self,
        neuron: Any,
        x: Tensor,
        more: tuple[Any, ...] = (),
        others: Sequence[Tensor] = (),
        make: Maker | None = prepare,
    ) -> Way | None:
        """The run that is prepared for a call, whose kind is told besides by `more` and the form of `others`, and what
        it takes.
        """
        held = neuron.__dict__
        memories, taps = held["_memories"], held["_live_taps"]
        if len(memories) != self.memories or held.get("_traced") is not None:
            return None
        if (waiting := held.get("_norm")) and get_ident() in waiting:
            return None
        gained = self.drives and neuron._gained()
        if self.drives and (x.dtype.itemsize < 4 or not (gained or self.keeps_form)):
            return None  # what drives the step is wider than the input, or may be of any form
        if taps and (neuron.step_mode == "s" or not TAPS.issuperset(taps)):
            return None
        told, tensors = [more, taps, gained, torch.is_grad_enabled()], [x, *others]
        state = [*map(memories.get, self.states)]
        for entry in state:
            if type(entry) is float:
                told.append(entry or repr(entry))  # 0.0 is equal to -0.0
            else:
                told.append(None)
                tensors.append(entry)
        for owner, name in self.tensors:
            tensors.append(getattr(_of(neuron, owner), name))
        what, rest = tuple(told), tensors[1 + len(others) :]
        for alike, made in self.last.get(what, ()):
            if alike(*tensors):
                return made, rest
        kind = self._kind(what, x, others, rest)
        if kind is None:
            return None
        made = self.runs.get(kind)
        if made is None:
            if (gained or self.keeps_v) and make is not None:
                make = partial(prepare, gained=gained, keep_v=self.keeps_v)
            made = self._made(neuron, x, kind, make, state)
        if made is None:
            return None
        self._note(what, tensors, made)
        return made, rest

    def _note(self, what: tuple[Any, ...], tensors: Sequence[Tensor], made: Any) -> None:
        """Keep the question for tensors like these, which is answered at once; none where two of them are one."""
        alike = like_these(tensors)
        if alike(*tensors):
            if len(self.last) >= _KINDS:
                self.last.clear()
            self.last[what] = ((alike, made), *self.last.get(what, ())[: _FORMS - 1])

    def _kind(
        self, told: tuple[Any, ...], x: Tensor, others: Sequence[Tensor], rest: Sequence[Tensor]
    ) -> tuple[Any, ...] | None:
        """The kind of a call; None where its input, or what of the `rest` should be a tensor, is none that a kernel may
        take. Of the rest the entries of the state come first.
        """
        if not is_ordinary(x):
            return None
        place, learns = x.get_device(), x.requires_grad or self.drives
        kind = [told, place, x.shape, x.stride(), x.dtype]
        for each in others:
            kind += (type(each), each.get_device(), each.shape, each.stride(), each.dtype)
            learns = learns or each.requires_grad
        fields = len(rest) - len(self.tensors)
        for i, each in enumerate(rest):
            known = type(each) is Tensor or (i >= fields and type(each) is nn.Parameter)
            if not known or not is_ordinary(each) or each.get_device() != place:
                return None
            kind += (each.shape, each.stride(), each.dtype)
            learns = learns or each.requires_grad
        return (*kind, learns and torch.is_grad_enabled())

    def _made(self, neuron: Any, x: Tensor, kind: tuple[Any, ...], make: Maker | None, found: Sequence[Any]) -> Run:
        """The run for a kind of call, prepared when one comes for the second time: the first one has been checked.

        The kind is that of the state that was `found`: where another thread has run the neuron since, nothing is made.
        """
        if kind in self.runs:
            return self.runs[kind]
        if make is None:
            return None
        if kind not in self.seen:
            if len(self.seen) >= _KINDS:
                self.seen.clear()
                self.runs.clear()
                self.last.clear()
            self.seen.add(kind)
            return None
        p, single = neuron.params(), neuron.step_mode == "s"
        made: Run = None
        if x.numel() and neuron._admit(x) is x:
            state = neuron._state(p, x, x.shape if single else x.shape[1:])
            if not all(map(is_, found, map(neuron._memories.get, self.states))):
                return None
            if all(map(is_, state, found)):  # one that spreads may be refused next time
                like = x.detach().requires_grad_() if self.drives else x  # what drives the step may learn
                made = make(neuron.backend, neuron._definition(p), state, like, single, neuron._live_taps)
        self.runs[kind] = made
        return made


def short_way(neuron: Any) -> Shortcut:
    """The short way through a neuron as it is now, where it has changed a new one."""
    short: Shortcut | None = neuron.__dict__.get("_short")
    if short is None or not short.holds(neuron):
        short = neuron.__dict__["_short"] = Shortcut(neuron)
    return short


def _in_time(neuron: Any, x: Tensor) -> Tensor:
    """The input of a neuron as a sequence."""
    return x.unsqueeze(0) if neuron.step_mode == "s" else x


def _driven(neuron: Any, x: Tensor) -> Tensor:
    """What drives the step, in memory as the input has it."""
    driven: Tensor = neuron._driven(_in_time(neuron, x))
    driven = driven.squeeze(0) if neuron.step_mode == "s" else driven
    if driven.stride() == x.stride():
        return driven
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(driven)


def _of(neuron: Any, owner: str) -> Any:
    """The neuron itself, or its part of that name."""
    return neuron._modules[owner] if owner else neuron


def _lone_sockets(module: Any) -> tuple[Entry, Exit] | None:
    """The sockets of a module that has no other hooks; None where it has others, or no sockets."""
    held = module.__dict__
    if len(held["_forward_pre_hooks"]) > 1 or len(held["_forward_hooks"]) > 1:
        return None
    return None if held["_backward_hooks"] or held["_backward_pre_hooks"] else found_sockets(module)
