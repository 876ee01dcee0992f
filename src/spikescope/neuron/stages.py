"""Neurons whose step has stages: pure functions, and methods on the state that a subclass may write anew."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Signature
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..base import MemoryModule
from ..dynamics import Plan, Step, eager_taps
from ..dynamics.eager import cast
from ..errors import ShapeError, check_sequence, dims
from ..fields import Field, Value
from .base import HOOKS, check_formulas
from .core import PointwiseNeuron
from .fast.after_charge import fired_and_reset, may_go
from .fast.shortcut import methods_of

__all__ = ["StagedNeuron"]

STAGES = ("step", "fed_step", "charge", "adapt", "emit", "give", "recover")
_FORWARDS = ("forward", "single_step_forward", "multi_step_forward")

F = TypeVar("F", bound=Callable[..., Any])


def derived(method: F) -> F:
    """Mark a method as one of ours: a class has one of its own where this mark is missing."""
    method.derived = method  # type: ignore[attr-defined]  # itself: what wraps a method has its attributes too
    return method


def is_derived(method: object) -> bool:
    """Whether a method of a neuron is one of ours."""
    function = getattr(method, "__func__", method)
    return getattr(function, "derived", None) is function or function is MemoryModule.forward


def _first_is_a_hook(cls: type[Any]) -> bool:
    """Whether the most derived class that says how the neuron steps says so by hooks."""
    for base in cls.__mro__:
        held = vars(base)
        if any(name in held and not is_derived(held[name]) for name in HOOKS):
            return True
        if any(name in held for name in STAGES):
            return False
    return False


class StagedNeuron(PointwiseNeuron, abstract=True):
    r"""Base of the neurons that charge, fire and reset: their step is `charge`, `adapt`, `emit` and `recover`.

    A subclass says how it differs in one of two ways:

    - by a stage, a pure function of fields, state and input, such as `charge(p, s, x)`: it gets the fused kernels;
    - by a hook, a method that reads and assigns the state: `neuronal_charge(x)`, `neuronal_fire()`,
      `neuronal_reset(spike)`, `neuronal_adaptation()`, or a forward of its own that calls these. It runs in the eager
      loop, with memories and Parameters of its own. `super().neuronal_charge(x)` is the stage of its base. Firing and
      reset of an integrate-and-fire neuron go by one kernel where both are its base's and `backend` is `'auto'`.

    >>> class Squared(spikescope.neuron.IFNode):
    ...     def neuronal_charge(self, x):
    ...         super().neuronal_charge(x * x)
    >>> Squared(step_mode="m")(torch.tensor([[0.5], [0.875], [0.5]])).flatten()  # H = 0.25, 1.015625, 0.25
    tensor([0., 1., 0.])
    """

    takes_hooks: ClassVar[bool] = True
    by_hooks = False  # whether hooks say how the neuron steps
    hooks_seen: ClassVar[tuple[object, ...]] = ()  # those of the class as it was defined
    after_charge: ClassVar[type[Any] | None] = None  # a neuron whose input is the charged potential, in this family

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(abstract=abstract, **kwargs)
        cls.by_hooks = _first_is_a_hook(cls)
        forwards = all(is_derived(getattr(cls, name)) for name in _FORWARDS)
        cls.custom = cls.by_hooks or not forwards
        cls.hooks_seen = cls.neuronal_charge, cls.neuronal_fire, cls.neuronal_reset
        if not cls.custom:
            check_formulas(cls)
        elif not forwards or cls.supported_backends is not StagedNeuron.supported_backends:
            cls.arguments = _with_default(cls.arguments, "backend", "torch")  # by which a method of its own may decide

    def prepare(self) -> None:
        super().prepare()
        self._last_shape: torch.Size | None = None

    @staticmethod
    def charge(p: Any, s: Any, x: Tensor) -> Any:
        """The state with `v` charged by `x`."""
        raise NotImplementedError("an integrate-and-fire neuron defines charge(p, s, x)")

    @classmethod
    def adapt(cls, p: Any, s: Any) -> Any:
        """The charged state after what else changes before the spike."""
        return s

    @classmethod
    def emit(cls, p: Any, s: Any) -> Tensor:
        """The spike of the charged state."""
        raise NotImplementedError("a neuron in stages defines emit(p, s)")

    @classmethod
    def give(cls, p: Any, s: Any, spike: Tensor) -> Tensor:
        """The output, where that is another than the spike."""
        return spike

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Any:
        """The state after the spike."""
        raise NotImplementedError("a neuron in stages defines recover(p, s, spike)")

    @classmethod
    def step(cls, p: Any, s: Any, x: Tensor) -> Step:
        s = cls._of_state("charge", cls.charge(p, s, x))
        s = cls._of_state("adapt", cls.adapt(p, s))
        spike = cls.emit(p, s)
        return Step(cls.give(p, s, spike), cls._of_state("recover", cls.recover(p, s, spike)), s.v)

    @classmethod
    def _of_state(cls, stage: str, given: Any) -> Any:
        """What a stage gives, or an error in words where that is no state."""
        if not isinstance(given, cls.State):
            name = cls.State.__name__
            raise TypeError(
                f"{cls.__name__}.{stage} must give the state, {name}({', '.join(cls.State._fields)}), but gave a "
                f"{type(given).__name__}. Write `return s._replace(v=...)`."
            )
        return given

    @derived
    def v_float_to_tensor(self, x: Tensor) -> None:
        """Give `v` the shape of `x`, where it is at rest and a number still."""
        held, last = self._memories["v"], self._last_shape
        if isinstance(held, Tensor) and held.shape != x.shape and last is not None and last != x.shape:
            raise ShapeError(
                f"{type(self).__name__} cannot go on from its stored state: the input of one step has the shape "
                f"{dims(x.shape, 'N')}, that of the call before had {dims(last, 'N')}. Call "
                "functional.reset_net(net) before each batch of other samples, of this shape or another."
            )
        self.__dict__["_last_shape"] = x.shape  # as an attribute it would take longer than the rest of this
        self._fill("v", x)

    @derived
    def w_float_to_tensor(self, x: Tensor) -> None:
        """Give `w` the shape of `x`, where it is at rest and a number still."""
        self._fill("w", x)

    @derived
    def neuronal_charge(self, x: Tensor) -> None:
        """The stage `charge`, on the state of this neuron."""
        p, s = self._stage(x)
        self._keep(type(self).charge(p, s, x.to(s.v.dtype)))

    @derived
    def neuronal_adaptation(self) -> None:
        """The stage `adapt`, on the state of this neuron."""
        if type(self)._has("adapt"):
            self._keep(type(self).adapt(*self._stage()))

    @derived
    def neuronal_fire(self) -> Tensor:
        """The stage `emit`, from the state of this neuron."""
        return type(self).emit(*self._stage())

    @derived
    def neuronal_reset(self, spike: Tensor) -> None:
        """The stage `recover`, on the state of this neuron."""
        self._keep(type(self).recover(*self._stage(), spike))

    def _fill(self, name: str, x: Tensor) -> None:
        held = self._memories[name]
        if isinstance(held, Tensor):
            return
        if held is None:  # a tensor field says where it rests
            held = getattr(type(self).rest(self.params()), name)
        self._memories[name] = _full(held, x, torch.promote_types(x.dtype, torch.float32)).expand(x.shape)

    def _stage(self, x: Tensor | None = None) -> tuple[Any, Any]:
        """Fields and state as a stage takes them; with `x`, what is a number of the state has the shape of that."""
        cls, p, dtype = type(self), self.params(), torch.float32
        held = [self._memories[name] for name in cls.State._fields]
        if any(h is None for h in held):
            held = [r if h is None else h for h, r in zip(held, cls.rest(p), strict=True)]
        for h in (*held, x):
            if isinstance(h, Tensor) and h.dtype is not dtype and h.is_floating_point():
                dtype = torch.promote_types(dtype, h.dtype)
        if x is not None:
            held = [_full(h, x, dtype) for h in held]
        return cast(p, dtype), cls.State(*held)

    def _has_hooks(self) -> bool:
        """Whether a hook is another than ours: of the class, of the instance, or put on a class later."""
        cls = type(self)
        charge, fire, reset = cls.hooks_seen
        return self.by_hooks or not (
            cls.neuronal_charge is charge and cls.neuronal_fire is fire and cls.neuronal_reset is reset
        )

    def _by_methods(self, x: Tensor, by_kernel: bool) -> tuple[Tensor, Tensor]:
        """One step by the hooks: the output, and the potential before the reset.

        - `by_kernel`: whether its end may go by a kernel.
        """
        cls = type(self)
        x = cls.fed(self, x)
        self.v_float_to_tensor(x)
        for name in cls.State._fields:
            if not isinstance(self._memories[name], Tensor):
                self._fill(name, x)
        self.neuronal_charge(x)
        self.neuronal_adaptation()
        if self._ends_as_written():  # nobody changes anything in between
            h = self._memories["v"]
            made = fired_and_reset(self, h) if by_kernel else None
            if made is not None:
                output, self._memories["v"] = made
                return output, h
            p, s = self._stage()
            spike = cls.emit(p, s)
            output = cls.give(p, s, spike)
            self._keep(cls.recover(p, s, spike))
            return output, h
        spike, h = self.neuronal_fire(), self.v
        if spike is None:
            raise TypeError(
                f"{cls.__name__}.neuronal_fire must return the spike, but returned None. Write `return spike`."
            )
        output = cls.give(*self._stage(), spike) if cls._has("give") else spike
        self.neuronal_reset(spike)
        return output, h

    def _ends_as_written(self) -> bool:
        """Whether firing and reset are the library's."""
        cls, held = type(self), self.__dict__
        return (
            cls.neuronal_fire is StagedNeuron.neuronal_fire
            and cls.neuronal_reset is StagedNeuron.neuronal_reset
            and "neuronal_fire" not in held
            and "neuronal_reset" not in held
        )

    @classmethod
    def _has(cls, stage: str) -> bool:
        """Whether the class has a stage that does nothing in most."""
        return getattr(cls, stage).__func__ is not getattr(StagedNeuron, stage).__func__

    @derived
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        own = type(self).custom and self._step_mode == "s" and not is_derived(type(self).single_step_forward)
        before = self._potentials[-1:]
        out = super().forward(*args, **kwargs)
        if own and self.store_v_seq and "_assigned_v_seq" not in self.__dict__ and isinstance(self.v, Tensor):
            now = self._potentials[-1:]
            if not now or (before and now[0] is before[0]):  # the step called none of ours, which keeps it
                self._potentials.append(self.v.unsqueeze(0).clone())
        return out

    @derived
    def single_step_forward(self, x: Tensor) -> Any:
        if not self._has_hooks():
            return super().single_step_forward(x)
        x = self._admit(x)
        self._refuse_kernels()
        driven = x if self._plainly_driven() else self._driven(x.unsqueeze(0)).squeeze(0)
        output, h = self._by_methods(driven, may_go(self))
        if self.store_v_seq:
            self._potentials.append(self.v.unsqueeze(0).clone())
        if taps := self._wanted_taps():
            self._leave(taps, x.unsqueeze(0), [output], [self.v], [h])
            self.tapped = {name: held[0] if name in ("v", "h") else held for name, held in self.tapped.items()}
        return output.to(x.dtype)

    @derived
    def multi_step_forward(self, x_seq: Tensor) -> Any:
        own = not is_derived(type(self).single_step_forward)
        if not (own or self._has_hooks()):
            return super().multi_step_forward(x_seq)
        x_seq = self._admit(x_seq)
        check_sequence(type(self).__name__, x_seq)
        self._refuse_kernels()
        taps, outputs, potentials, charged = self._wanted_taps(), [], [], []
        by_kernel = not own and may_go(self)
        for x in (x_seq if own else self._driven(x_seq)).unbind(0):
            output, h = (self.single_step_forward(x), None) if own else self._by_methods(x, by_kernel)
            outputs.append(output.to(x_seq.dtype))
            if self.store_v_seq or "v" in taps:
                potentials.append(self.v.clone())  # a hook may change it in place
            charged.append(h)
        if self.store_v_seq:
            self._potentials = [torch.stack(potentials) if potentials else x_seq.clone()]
        if taps and outputs:
            self._leave(taps, x_seq, outputs, potentials, charged)
        return torch.stack(outputs) if outputs else x_seq.clone()

    def _leave(self, taps: tuple[str, ...], x_seq: Tensor, outputs: list[Any], v: list[Any], h: list[Any]) -> None:
        """Fill `tapped`; what no step told is not there."""
        told = torch.stack(h) if all(held is not None for held in h) else None
        made = eager_taps(tuple(name for name in taps if name != "v"), x_seq, torch.stack(outputs), told)
        self.tapped = made | ({"v": torch.stack(v).detach()} if "v" in taps else {})

    def implementation(self, x: Tensor) -> Plan:
        why = self._why_eager()
        if why is None:
            return super().implementation(x)
        self._refuse_kernels()
        return Plan("torch", why)

    def _why_eager(self) -> str | None:
        """Why the eager loop runs this neuron, whatever the input: it has methods of its own. None if it has not."""
        cls = type(self)
        own = [name for name in (*HOOKS, *_FORWARDS) if not is_derived(getattr(self, name, None))]
        if not own or not (cls.custom or self._has_hooks()):
            return None
        return (
            f"{cls.__name__} has its own {', '.join(own)}, which the eager loop calls at every step. For a fused "
            "kernel write a pure charge(p, s, x) or step(p, s, x) in its place: CONTRIBUTING.md has an example"
        )

    def _refuse_kernels(self) -> None:
        if self.backend not in ("auto", "torch") and (why := self._why_eager()) is not None:
            raise RuntimeError(
                f"{type(self).__name__} cannot run on the backend {self.backend!r}: {why}. Set backend='torch'."
            )

    def register_memory(self, name: str, value: Any) -> None:
        if name == "v_seq":  # as neurons that keep it themselves do
            self.v_seq = value
        else:
            super().register_memory(name, value)

    def _admit_field(self, name: str, spec: Field, given: Any) -> Any:
        """What a class with equations of its own assigns to a field once it is made is in its own hands."""
        if type(self).custom and "_form" in self.__dict__ and spec.factory is None:
            return given
        return super()._admit_field(name, spec, given)

    def __setattr__(self, name: str, given: Any) -> None:
        super().__setattr__(name, given)
        if name in HOOKS:
            self.by_hooks = True


StagedNeuron.ways = (*PointwiseNeuron.ways, *methods_of(StagedNeuron))


def _full(held: Value, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A state in the precision `dtype`, and a number in the shape of `x`."""
    if isinstance(held, Tensor):
        return held.to(device=x.device, dtype=dtype)
    return torch.full_like(x, held, dtype=dtype, requires_grad=False)


def _with_default(signature: Signature, name: str, default: object) -> Signature:
    """A signature in which one argument has another default."""
    held = [p.replace(default=default) if p.name == name else p for p in signature.parameters.values()]
    return signature.replace(parameters=held)
