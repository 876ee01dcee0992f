"""PointwiseNeuron: declared fields, a named state and one pure, pointwise step. All else is derived from these."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..base import MemoryModule, backends_of, moved
from ..dynamics import (
    TAPS,
    Definition,
    Norm,
    Plan,
    Sequence,
    Step,
    backends,
    deferred_taps,
    multiplied,
    plan,
    run_sequence,
    run_single,
    run_single_eagerly,
)
from ..dynamics.eager import start
from ..dynamics.key import joined_key
from ..errors import StateError, UnknownNameError, check_choice, check_fits, check_floating, check_sequence
from ..fields import Declared, option, told_by_a_tensor, value
from ..internals import in_transform, is_patched
from ..surrogate import Surrogate
from .base import FORMULAS, Neuron, check_formulas
from .fast.after_norm import called, run_behind, taken
from .fast.shortcut import Shortcut, methods_of, short_way
from .leniency import backend_here, floating
from .taken_out import TakenOut

__all__ = ["PointwiseNeuron"]


def wide(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor in the precision that a state has with input of its dtype, or of another: at least float32."""
    return x.to(torch.promote_types(x.dtype if dtype is None else dtype, torch.float32))


class PointwiseNeuron(TakenOut, Neuron, abstract=True):
    """A neuron whose elements do not see each other: `step(p, s, x)` of fields, state and input is pure and pointwise.

    A subclass declares its fields, a `State` (a named tuple with `v` first; its defaults are the reset values) and
    `step`. From these it gets the eager loop, the fused kernels, both step modes, `v_seq`, reset, repr and tests.

    - `backend`: `'auto'` takes the fastest that gives the same spikes; `implementation(x)` says which and why.
    - `x_scale`, `x_shift`: None, or what the input is multiplied by and then increased by inside the kernel; see
      `functional.fuse_bn_neuron`.
    - `store_v_seq`: keep the membrane potential after every step as `v_seq`, `[T, N, *]`: of the last call in
      `step_mode='m'`, of all calls since the reset in `step_mode='s'`.
    """

    step_mode: str = option(default="s", shapes_dynamics=False, kw_only=True)
    backend: str = option(default="auto", shapes_dynamics=False, kw_only=True)
    store_v_seq: bool = option(default=False, kind=bool, shapes_dynamics=False, kw_only=True)

    x_scale: Tensor | None = value(default=None, init=False, optional=True)
    x_shift: Tensor | None = value(default=None, init=False, optional=True)

    supported_backends: ClassVar[tuple[str, ...]] = backends
    State: ClassVar[Any]
    ways: ClassVar[tuple[object, ...]] = ()  # the methods for which a call may take the short way instead
    custom: ClassVar[bool] = False  # whether the class has hooks or forwards of its own, which no kernel knows
    driven_by: ClassVar[tuple[str, ...]] = ()  # the memories that `drive` keeps beside the state
    _short: ClassVar[Shortcut | None] = None

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(abstract=abstract, **kwargs)
        if not cls.takes_hooks:
            check_formulas(cls)

    @staticmethod
    def step(p: Any, s: Any, x: Tensor) -> Step:
        """One time step: output, next state, and the membrane potential before the reset."""
        raise NotImplementedError("a pointwise neuron defines step(p, s, x)")

    @staticmethod
    def fed(p: Any, x: Tensor) -> Tensor:
        """The input, or `x * x_scale + x_shift` where a normalisation was fused into the neuron."""
        return x if p.x_scale is None else x * p.x_scale + p.x_shift

    @classmethod
    def fed_step(cls, p: Any, s: Any, x: Tensor) -> Step:
        """The step of the input as it is fed."""
        return cls.step(p, s, cls.fed(p, x))

    @classmethod
    def rest(cls, p: Any) -> Any:
        """The state after a reset; a number stands for all neurons."""
        return cls.State()

    def drive(self, x_seq: Tensor) -> Tensor:
        """The input as the step sees it: the place for what is not pointwise, such as noise."""
        gain = self.gain_in_time(x_seq)
        if gain is None:
            return x_seq
        return multiplied(type(self).__name__, x_seq, gain, by_kernel=self.backend != "torch")

    def gain_in_time(self, x_seq: Tensor) -> Tensor | None:
        """What each step of the input is multiplied by, `[T, 1, ...]` or `[T, *]`; None where it is as it comes."""
        return None

    def prepare(self) -> None:
        super().prepare()
        self._potentials: list[Tensor] = []
        self._taps: tuple[str, ...] = ()
        self._live_taps: tuple[str, ...] = ()
        self._deferring = False
        self.tapped: dict[str, Any] = {}
        for name, held in self._rest_values().items():
            self.register_memory(name, held)

    def _rest_values(self) -> dict[str, Any]:
        """Reset values as `reset` shows them: numbers, and None for what a tensor field will give at the start."""
        rest = type(self).rest(self.params())._asdict()
        return {name: None if isinstance(held, Tensor) else held for name, held in rest.items()}

    def _state(self, p: Any, x: Tensor, x_shape: torch.Size) -> Any:
        """The stored state, checked against the input and with the entries at rest filled in."""
        owner, cls, moving = type(self).__name__, type(self), self.moving_numbers()
        for name in cls.dynamic:
            if name not in moving and isinstance(held := getattr(p, name), Tensor):
                check_fits(owner, name, held, x_shape)
        state = [self.fitting(name, x_shape) for name in cls.State._fields]
        rest = None
        for i, name in enumerate(cls.State._fields):
            if state[i] is None and name in moving:
                state[i] = wide(moving[name], x.dtype)
            elif state[i] is None:
                rest = cls.rest(p) if rest is None else rest
                state[i] = rest[i]
        return cls.State(*state)

    def _definition(self, p: Any) -> Definition:
        """This neuron as data: the text and the numbers from which a fused kernel is made and called."""
        cls, held = type(self), self.values(p)
        forms: list[Any] = [self.form]
        for name in cls.parts:
            part = getattr(p, name)
            if not (isinstance(part, Surrogate) and part.as_written):
                return Definition(cls, self.params, None, [], [])
            forms.append(part.form)
            held += part.values(part)
        if None in forms:
            return Definition(cls, self.params, None, [], [])
        tensors = [v for kind, v in held if kind != "n"]
        numbers = [v for kind, v in held if kind == "n"]
        key = joined_key(forms, "".join([kind for kind, _ in held]))
        return Definition(cls, self.params, key, tensors, numbers)

    def request_taps(self, names: Collection[str], live: Collection[str] | None = None) -> None:
        """Ask that every further call leaves these in `tapped`: names of `dynamics.TAPS` or by
        `dynamics.support_tap`, and `'v'` for the potential.

        They are those of the last call, without graph: `v` and `h` are `[T, N, *]`, or `[N, *]` for a single step.
        - `live`: those of them that are needed now. Compiled code, which must not be compiled anew when that changes,
          leaves all that are small, and in place of `v` and `h` what computes them, a `form.Deferred`.
        """
        for name in names:
            if not name.startswith("support:"):
                check_choice(type(self).__name__, "the tap", name, ("v", *TAPS))
        self._taps = tuple(sorted(names))
        self._live_taps = self._taps if live is None else tuple(sorted(live))
        self._deferring = live is not None
        self.tapped = {name: held for name, held in self.tapped.items() if name in self._live_taps}

    def _tap(
        self, p: Any, state: Any, x_seq: Tensor, keep_v: bool, taps: tuple[str, ...], norm: Norm | None = None
    ) -> Sequence:
        """A run that fills `tapped`."""
        definition, later = self._definition(p), {}
        if self._deferring and self.step_mode == "m" and torch.compiler.is_compiling():
            later = deferred_taps(self.backend, definition, state, x_seq, taps)
        now = tuple(name for name in taps if name not in later)
        kernel = tuple(name for name in now if name != "v")
        if norm is None:
            out = run_sequence(self.backend, definition, state, x_seq, keep_v or "v" in now, kernel)
        else:
            out = run_behind(norm, definition, state, x_seq, keep_v or "v" in now, kernel)
        self.tapped = {**{name: held.detach() for name, held in out.taps.items()}, **later}
        if "v" in now and out.v_seq is not None:
            self.tapped["v"] = out.v_seq.detach()
        return out if keep_v else out._replace(v_seq=None)

    def _wanted_taps(self) -> tuple[str, ...]:
        if not self._taps:
            return ()
        if torch.compiler.is_compiling():
            return self._taps
        return () if self._live_taps and in_transform() else self._live_taps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or torch.compiler.is_compiling() or is_patched():
            return super().__call__(*args, **kwargs)
        out = called(self, args[0]) if self.__dict__.get("_norm") else None
        if out is None and not type(self).custom and self.backend != "torch":
            out = short_way(self).run(self, args[0])
        return super().__call__(*args) if out is None else out

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One step or one sequence, by `step_mode`."""
        out = None
        by_loop = type(self).custom or self.backend == "torch"  # which has no short way
        if len(args) == 1 and not (by_loop or kwargs or torch.compiler.is_compiling() or is_patched()):
            out = short_way(self).within(self, args[0])
        return super().forward(*args, **kwargs) if out is None else out

    def _admit(self, x: Tensor) -> Tensor:
        """The input, or an error in words."""
        x = floating(type(self).__name__, x)
        check_floating(type(self).__name__, x)
        return x

    def single_step_forward(self, x: Tensor) -> Any:
        x = self._admit(x)
        p, norm = self.params(), taken(self, x)
        state = self._state(p, x, x.shape)
        driven = x if self._plainly_driven() else self._driven(x.unsqueeze(0)).squeeze(0)
        if taps := self._wanted_taps():
            run = self._tap(p, state, driven.unsqueeze(0), False, taps, norm)
            self.tapped = {name: held[0] if name in ("v", "h") else held for name, held in self.tapped.items()}
            return self._single(run.output[0], run.state, x)
        if norm is not None:
            behind = run_behind(norm, self._definition(p), state, x, False, single=True)
            return self._single(behind.output, behind.state, x)
        if self.backend == "torch" and not torch.compiler.is_compiling():
            out = run_single_eagerly(type(self), p, state, driven)
        else:
            out = run_single(self.backend, self._definition(p), state, driven)
        return self._single(out.output, out.state, x)

    def _single(self, output: Tensor, state: Any, x: Tensor) -> Tensor:
        self._keep(state)
        if self.store_v_seq:
            self._potentials.append(state.v.unsqueeze(0).clone())  # not the state itself: it is given out
            if torch.compiler.is_compiling():  # it is compiled anew for every length of a list
                self._potentials = [torch.cat(self._potentials)]
        return output if output.dtype is x.dtype else output.to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Any:
        x_seq = self._admit(x_seq)
        check_sequence(type(self).__name__, x_seq)
        p, norm = self.params(), taken(self, x_seq)
        state = self._state(p, x_seq, x_seq.shape[1:])
        if taps := self._wanted_taps():
            out = self._tap(p, state, self._driven(x_seq), self.store_v_seq, taps, norm)
        elif norm is not None:
            out = run_behind(norm, self._definition(p), state, x_seq, self.store_v_seq)
        else:
            out = run_sequence(self.backend, self._definition(p), state, self._driven(x_seq), self.store_v_seq)
        self._keep(out.state)
        if out.v_seq is not None:
            self._potentials = [out.v_seq]
        return out.output.to(x_seq.dtype)

    def _driven(self, x_seq: Tensor) -> Tensor:
        """The input through `drive`, in the precision of the state where that does anything."""
        return x_seq if self._plainly_driven() else self.drive(wide(x_seq))

    def _plainly_driven(self) -> bool:
        """Whether the step sees the input itself."""
        cls = type(self)
        return cls.drive is PointwiseNeuron.drive and cls.gain_in_time is PointwiseNeuron.gain_in_time

    def _gained(self) -> bool:
        """Whether what drives the step is the input times a number for each step."""
        return type(self).drive is PointwiseNeuron.drive and self._gains_numbers()

    def _gains_numbers(self) -> bool:
        """Whether `gain_in_time` gives a number for each step, of the dtype of the input, as the fields are now."""
        return False

    def _drive_keeps_form(self) -> bool:
        """Whether what `drive` gives always has the shape and the dtype of what it takes."""
        return False

    def _keep(self, state: Any) -> None:
        for name, held in zip(type(self).State._fields, state, strict=True):
            self._memories[name] = held

    def materialize_states(self, inputs: tuple[Any, ...], states: tuple[Any, ...], step_mode: str) -> tuple[Any, ...]:
        """The states, those of the equations as tensors in the shape of a step."""
        given = dict(zip(self._memories, states, strict=True))
        rest, x = type(self).rest(self.params())._asdict(), inputs[0]
        held = type(self).State(*(at_rest if given[name] is None else given[name] for name, at_rest in rest.items()))
        return tuple((given | start(held, x.new_empty(x.shape[step_mode == "m" :]))._asdict()).values())

    def _states_of_base(self) -> list[str]:
        return [*type(self).State._fields, *type(self).driven_by]

    def _as_function(self, *given: Any) -> Any:
        """As a function of states it leaves `v_seq` as it was, too."""
        potentials = self._potentials.copy()
        try:
            return super()._as_function(*given)
        finally:
            self._potentials = potentials

    def reset(self) -> None:
        super().reset()
        if self._potentials:
            self._potentials = []

    def detach(self) -> None:
        super().detach()
        if self._potentials:
            self._potentials = [held.detach() for held in self._potentials]

    @property
    def v_seq(self) -> Any:
        """The membrane potential after every step, `[T, N, *]`; see `store_v_seq`.

        Where nothing is stored, a value of your own may be assigned, such as a list that a hook fills.
        """
        if not self._potentials and "_assigned_v_seq" not in self.__dict__:
            raise self._no_v_seq()
        return self._kept_v_seq()

    @v_seq.setter
    def v_seq(self, given: Any) -> None:
        self._assigned_v_seq = given
        self._potentials = []

    def _kept_v_seq(self) -> Any:
        """What is stored, or was assigned; None where nothing is."""
        if len(self._potentials) > 1:
            self._potentials = [torch.cat(self._potentials)]
        return self._potentials[0] if self._potentials else self.__dict__.get("_assigned_v_seq")

    def _no_v_seq(self) -> StateError:
        cure = "set store_v_seq=True (now False), then run it"
        if self.store_v_seq:
            cure = "it has not run since it was made or reset (store_v_seq is True)"
        return StateError(f"{type(self).__name__} has no v_seq: {cure}.")

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        held = own["_memories"].get(name) if "_memories" in own and name not in own else own.get(name)
        if held is None and name == "v_seq" and "_potentials" in self.__dict__:
            held = self._kept_v_seq()
            if held is None:  # the property found none: PyTorch would say less
                raise self._no_v_seq()
        if held is None:  # older monitors call this method for any attribute
            held = super().__getattr__(name)
        return self._moving[name].item() if held is None and name in self._moving else held

    def implementation(self, x: Tensor) -> Plan:
        """Which backend would run an input like `x` (in the present step mode), and why."""
        p = self.params()
        single = self.step_mode == "s"
        state = self._state(p, x, x.shape if single else x.shape[1:])
        return plan(self.backend, self._definition(p), state, x, single)

    def __setattr__(self, name: str, given: Any) -> None:
        if name in FORMULAS and callable(given):
            raise TypeError(
                f"{type(self).__name__}: {name} belongs to the class; one that is set on an instance would never be "
                "called. Write a subclass with it."
            )
        if name in self.__dict__.get("_memories", ()) and name not in type(self).fields:
            return self._place(name, given)
        if self._was_taken_out(name):
            return self._put_back(name, given)
        if name == "backend":
            given = self._admit_backend(given)
        follows = name in type(self).fields and self.__dict__.get("_memories")
        rest = self._known_rest() if follows else None
        super().__setattr__(name, given)
        if rest is not None and all(hasattr(self, field) for field in type(self).fields):
            self.__dict__["_rest_before"] = None
            self._rest_anew(rest)

    def _admit_backend(self, given: str) -> str:
        """The backend to store: ours, or in code for another library the default in place of one that is there."""
        supported = (*backends_of(self), "auto", "torch")
        if isinstance(given, str) and given not in supported:
            given = backend_here(type(self).__name__, given, type(self).arguments.parameters["backend"].default)
        check_choice(type(self).__name__, "backend", given, dict.fromkeys(supported), UnknownNameError)
        return given

    def __delattr__(self, name: str) -> None:
        if name in type(self).fields:  # to be set anew, as a Parameter in place of a number
            self.__dict__["_rest_before"] = self._known_rest()
        super().__delattr__(name)

    def _known_rest(self) -> dict[str, Any]:
        """Where the state rests; while a field is deleted, where it did with it."""
        before: dict[str, Any] | None = self.__dict__.get("_rest_before")
        return self._rest_values() if before is None else before

    def _rest_anew(self, before: dict[str, Any]) -> None:
        """Let a state that is still at rest, and where it rests, follow a field that was changed."""
        kept = self._reset_values.keys() & self._memories.keys()
        changed = {name: held for name, held in self._rest_values().items() if held != before[name] and name in kept}
        for name, held in changed.items():
            now = self._memories[name]
            at_rest = self._reset_values[name]
            stored = held
            if held is None and name in self._moving:  # now a tensor says it, at the first input
                self._moving = {key: number for key, number in self._moving.items() if key != name}
            elif held is not None and self._moving:  # compiled code would take it for a constant
                stored, self._moving = None, {**self._moving, name: told_by_a_tensor(held)}
            if not isinstance(now, Tensor) and not isinstance(at_rest, Tensor) and now == at_rest:
                self._memories[name] = stored
            self._reset_values[name] = stored

    def __getstate__(self) -> dict[str, Any]:
        unmonitored: dict[str, Any] = {"_taps": (), "_live_taps": (), "_deferring": False, "tapped": {}}
        state = super().__getstate__() | unmonitored | {"_potentials": [held.detach() for held in self._potentials]}
        if "_assigned_v_seq" in state:
            state["_assigned_v_seq"] = tree_map_only(Tensor, Tensor.detach, self._assigned_v_seq)
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._potentials = moved(fn, self._potentials)
        return self

    def _replicate_for_data_parallel(self) -> Self:
        replica: Self = super()._replicate_for_data_parallel()
        replica.__dict__["_rest_before"] = self._known_rest()  # the parameters of a replica come one by one
        replica._potentials = self._potentials.copy()
        return replica


PointwiseNeuron.ways = methods_of(Declared, MemoryModule, PointwiseNeuron)
