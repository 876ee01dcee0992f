"""Step mode and state: what a module of a spiking network has beyond `nn.Module`, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import (
    ShapeError,
    check_call,
    check_choice,
    check_entry,
    check_sequence,
    check_state,
    check_tensor,
    dims,
    refuse_script,
)
from ..internals import exporting, memory_question
from ..sockets import place_sockets
from .by_states import ByStates, forward_by
from .freed_graph import watch_freed_graph
from .initial_state import Placed, Traced, check_export, check_start, note_end, note_placed, recomputing

__all__ = [
    "INPUT_NAMES",
    "MemoryModule",
    "MultiStepModule",
    "SingleStepModule",
    "StepModule",
    "backends_of",
    "input_of",
    "recomputing",
]


INPUT_NAMES = frozenset({"x", "x_seq", "input", "in_spikes", "dv", "dv_seq"})
"""What the input of a module is called, here or in one of the ages of SpikingJelly; each module takes all of them."""


def input_of(owner: str, x: Any, named: Mapping[str, Any]) -> Any:
    """The one input of a call, given as `x` by its place or among `named` by one of its names.

    >>> input_of("Dropout", None, {"x_seq": 1})
    1
    """
    given = [*named] if x is None else ["x", *named]
    if len(given) != 1 or (named and given[0] not in INPUT_NAMES):
        raise TypeError(
            f"{owner} takes one input, by its place or as one of {', '.join(sorted(INPUT_NAMES))}, but got "
            f"{' and '.join(given) or 'none'}."
        )
    return named[given[0]] if named else x


def _behind_input(step: Any) -> tuple[str, ...]:
    """The names of the parameters of a method behind its first."""
    code = getattr(step, "__code__", None)
    return () if code is None else code.co_varnames[2 : code.co_argcount + code.co_kwonlyargcount]


def backends_of(module: object) -> tuple[str, ...]:
    """The backends that a module says it has, in code of one's own also as one name; what its class asks of an instance
    a class does not know.

    >>> backends_of(spikescope.neuron.SlidingPSN(k=2)), backends_of(torch.nn.Identity())
    (('gemm', 'conv'), ())
    """
    named = getattr(module, "supported_backends", ())
    if isinstance(named, str):
        return (named,)
    return () if isinstance(named, property) else tuple(named)


class StepModule:
    """Mixin of every module that knows the time axis.

    `step_mode='s'`: one call is one time step `[N, *]`. `step_mode='m'`: one call is a sequence `[T, N, *]`.
    """

    supported_step_modes: ClassVar[tuple[str, ...]] = ("s", "m")
    owns_children_step_mode: ClassVar[bool] = False  # whether set_step_mode leaves what is inside alone
    _step_mode: str = "s"

    __prepare_scriptable__ = refuse_script

    def supported_step_mode(self) -> tuple[str, ...]:
        """The step modes that this module has."""
        return self.supported_step_modes

    @property
    def step_mode(self) -> str:
        """`'s'` for single steps, `'m'` for sequences."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        check_choice(type(self).__name__, "step_mode", value, self.supported_step_mode())
        self._step_mode = value


class SingleStepModule(StepModule):
    """Mixin of a module that works in single steps only."""

    supported_step_modes = ("s",)


class MultiStepModule(StepModule):
    """Mixin of a module that works on whole sequences only."""

    supported_step_modes = ("m",)
    _step_mode = "m"


def kind_of(module: nn.Module) -> type[Any]:
    """The class whose equations a module has: its own, or the one that its class says it is the `same_as`.

    >>> kind_of(spikescope.neuron.IFNode()).__name__
    'IFNode'
    """
    kind: type[Any] = vars(type(module)).get("same_as", type(module))
    return kind


def _changed(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`change` over the tensors of a state; one that stands in several places stays one."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is float:
        return value
    made: list[tuple[Tensor, Tensor]] = []
    places: dict[int, int] = {}  # not in compiled code, where PyTorch 2.11 has no id of a tensor

    def once(held: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            for old, new in made:
                if old is held:
                    return new
        elif id(held) in places:
            return made[places[id(held)]][1]
        else:
            places[id(held)] = len(made)
        made.append((held, change(held)))
        return made[-1][1]

    return pytree.tree_map_only(Tensor, once, value)


def _without_graph(held: Tensor) -> Tensor:
    """A tensor cut from its graph; one that has no past, such as a Parameter that a state starts from, stays itself."""
    return held if held.is_leaf else held.detach()


def _apart(value: Any, others: list[Tensor], shares: Callable[[Tensor, Tensor], bool]) -> Any:
    """`value`, with a copy in place of each of its tensors that shares memory with one of `others`."""
    if isinstance(value, Tensor):
        for other in others:
            if shares(value, other):
                return value.clone()
        return value
    if isinstance(value, _NESTED):
        return pytree.tree_map_only(Tensor, lambda held: _apart(held, others, shares), value)
    return value


_NESTED = (list, tuple, dict)


def _tensors(value: Any) -> list[Tensor]:
    return [held for held in pytree.tree_leaves(value) if isinstance(held, Tensor)]


def _own(value: Any) -> Any:
    """A reset value whose containers belong to the state alone: what a step adds to them is not there after a reset."""
    return pytree.tree_map(lambda held: held, value) if isinstance(value, (list, tuple, dict)) else value


def moved(fn: Callable[[Tensor], Tensor], value: Any, wide: bool = True) -> Any:
    """`fn` over the tensors of a state; a `wide` one stays at least float32 when a network goes to half precision."""

    def move(old: Tensor) -> Tensor:
        if isinstance(old, nn.Parameter):  # it is trained elsewhere, and a copy would not follow
            old.data = fn(old.data)
            return old
        new = fn(old)
        narrowed = wide and new.is_floating_point() and new.element_size() < 4 <= old.element_size()
        return old.to(new.device) if narrowed else new

    return _changed(move, value)


class MemoryModule(ByStates, StepModule, nn.Module):
    """A module with a state that lasts from call to call until `reset()`.

    The state is declared with `register_memory(name, value)`, then read and assigned as an attribute. It is no
    parameter and no buffer: it is not in `state_dict`, but moves with `.to()` and survives deepcopy and pickle,
    which copy it without its autograd graph.

    A subclass writes `single_step_forward`; `multi_step_forward` applies it step by step unless it knows better. Or it
    writes `single_step_functional_forward(inputs, states)`, which gives the tuples of outputs and of next states.
    What a call gives out shares no memory with the state or the input, and the state none with the input: each may be
    changed in place afterwards, as in `y = net(x)` and `y += x`.

    >>> class Sum(MemoryModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_memory("total", 0.0)
    ...     def single_step_forward(self, x):
    ...         self.total = self.total + x
    ...         return self.total
    >>> module = Sum()
    >>> module.step_mode = "m"
    >>> module(torch.tensor([[1.0], [2.0]])).flatten()
    tensor([1., 3.])
    >>> module.reset()
    >>> module.total
    0.0
    """

    wide_state: ClassVar[bool] = True  # whether it adds up, and so stays float32 in a network of half precision
    zero_at_rest: ClassVar[frozenset[str]] = frozenset()  # the memories that are None or empty where all would be 0
    tells_of_its_past: ClassVar[bool] = False  # whether what runs its backward pass says that a graph is gone
    _behind_input: ClassVar[frozenset[str]] = frozenset()  # parameters of the steps that are not their input

    _memories: dict[str, Any]
    _reset_values: dict[str, Any]
    _placed: Placed | None = None
    _starts: WeakKeyDictionary[Any, Any] | None = None  # by the checkpoints that have run it
    _renewed: frozenset[str] = frozenset()  # the memories that were put in place since the last call in a checkpoint
    _traced: Traced | None = None
    _seen_by_export = False
    _assigned: dict[str, bool]  # the memories that were assigned since the last call

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for mode in ("single", "multi"):
            by_states = f"{mode}_step_functional_forward"
            if by_states in vars(cls) and f"{mode}_step_forward" not in vars(cls):
                setattr(cls, f"{mode}_step_forward", forward_by(by_states))
        steps = (cls.single_step_forward, cls.multi_step_forward)
        cls._behind_input = frozenset(name for step in steps for name in _behind_input(step))

    def __init__(self) -> None:
        super().__init__()
        place_sockets(self)
        self._memories = {}
        self._reset_values = {}
        self._assigned = {}

    def register_memory(self, name: str, value: Any) -> None:
        """Declare a state entry and its reset value (a number, None, a tensor, or a tuple, list or dict of these)."""
        taken = (self._memories, self.__dict__, self._parameters, self._buffers, self._modules, dir(type(self)))
        if any(name in names for names in taken):
            raise ValueError(f"{type(self).__name__} already has an attribute {name!r}; choose another memory name.")
        self._reset_values[name] = value
        self._memories[name] = _own(value)

    def set_reset_value(self, name: str, value: Any) -> None:
        """Change the value that `reset()` gives to the memory `name`."""
        check_choice(type(self).__name__, "the memory name", name, self._memories)
        self._reset_values[name] = value

    def get_reset_value(self, name: str) -> Any:
        """The value that `reset()` gives to the memory `name`."""
        check_choice(type(self).__name__, "the memory name", name, self._reset_values)
        return self._reset_values[name]

    @property
    def _memories_rv(self) -> dict[str, Any]:
        """The reset values by the name that published subclasses write to."""
        return self._reset_values

    @_memories_rv.setter
    def _memories_rv(self, values: dict[str, Any]) -> None:
        """As a subclass that begins with `self._memories_rv = {}`; a memory that is not among them keeps its own."""
        self._reset_values.update(values)

    def reset(self) -> None:
        """Put every state entry back to its reset value."""
        note_placed(self, *self._memories)
        for name, value in self._reset_values.items():
            if name in self._memories:  # published code takes entries out, and puts them back itself
                self._memories[name] = _own(value)
        self._assigned.clear()

    def rests_of_samples(self) -> Iterator[tuple[MemoryModule, str, Any]]:
        """Of memories, the own ones and those of modules inside, what a sample has that begins anew while others go on,
        where that is not the value of the reset: the module, the name and the value, or what draws it when called.

        For a class with a `reset()` of its own it says that this puts back nothing but memories.
        """
        yield from ()

    def detach(self) -> None:
        """Cut the state from its autograd graph. Tensors that somebody else holds stay as they are."""
        for name, value in self._memories.items():
            if value is not self._reset_values.get(name):  # at rest there is no graph of a past
                self._memories[name] = _changed(_without_graph, value)

    def fitting(self, name: str, shape: torch.Size, value: Any = None, cure: str = "") -> Any:
        """The memory `name`, or `value` of it, as steps of this shape meet it.

        A tensor that was assigned, or that stands for the reset, spreads over the step as in arithmetic, `[C]` over
        `[N, C]`. What a call left has the shape of its step, and a step of another shape is a `ShapeError`.
        """
        held = self._memories[name] if value is None else value
        check_entry(type(self).__name__, name, held)
        if not isinstance(held, Tensor) or held.ndim == 0 or held.shape == shape:
            return held
        rest = self._reset_values.get(name)
        given = name in self._assigned or self._memories[name] is rest or any(held is each for each in _tensors(rest))
        check_state(type(self).__name__, shape, {name: held}, given, cure)
        return held.expand(shape)

    def memories(self) -> Iterator[Any]:
        """The values of all state entries."""
        yield from self._memories.values()

    def named_memories(self) -> Iterator[tuple[str, Any]]:
        """The names and values of all state entries."""
        yield from self._memories.items()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One step or one sequence, by `step_mode`."""
        if self._memories:
            if not torch.compiler.is_compiling():
                check_start(self, args)
                if not type(self).tells_of_its_past and torch.is_grad_enabled():
                    watch_freed_graph(type(self).__name__, self._memories.values())
            elif exporting():
                check_export(self)
        forward = self.single_step_forward if self._step_mode == "s" else self.multi_step_forward
        if len(kwargs) == 1 and not args:
            name = next(iter(kwargs))
            if name in INPUT_NAMES and name not in self._behind_input:
                args, kwargs = tuple(kwargs.values()), {}
        if (kwargs or len(args) != 1) and not torch.compiler.is_compiling():
            check_call(self, forward, args, kwargs)
        out = self._separated(forward(*args, **kwargs), args, kwargs)
        if self._traced is not None:
            note_end(self)
        return out

    def _separated(self, out: Any, args: Any, kwargs: Any) -> Any:
        """The output of a call, which shares no memory with the state or the input, and a state that shares none."""
        shares, memories = memory_question(), self._memories
        given = (
            list(args) if len(args) == 1 and isinstance(args[0], Tensor) and not kwargs else _tensors((args, kwargs))
        )
        others = given.copy()
        for name, value in memories.items():
            if isinstance(value, Tensor):
                kept = _apart(value, given, shares)
                others.append(kept)
                if kept is not value:
                    memories[name] = kept
            elif isinstance(value, _NESTED):
                memories[name] = kept = _apart(value, given, shares)
                others += _tensors(kept)
        if self._assigned:
            self._assigned.clear()
        return _apart(out, others, shares)

    def single_step_forward(self, *args: Any, **kwargs: Any) -> Any:
        """One time step `[N, *]`."""
        raise NotImplementedError(f"{type(self).__name__} has no single_step_forward; use step_mode='m'.")

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        """A sequence `[T, N, *]`: one `single_step_forward` a step, stacked."""
        check_tensor(type(self).__name__, "the input", x_seq)
        check_sequence(type(self).__name__, x_seq)
        if not len(x_seq):
            raise ShapeError(
                f"{type(self).__name__} takes a sequence of at least one step, but got {dims(x_seq.shape)}: only a "
                "step tells what it gives."
            )
        return torch.stack([self.single_step_forward(x, *args, **kwargs) for x in x_seq.unbind(0)])

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode}"

    def __getattr__(self, name: str) -> Any:
        memories = self.__dict__.get("_memories")
        if memories is not None and name in memories:
            return memories[name]
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_memories", ()):
            self._place(name, value)
        else:
            super().__setattr__(name, value)

    def _place(self, name: str, value: Any) -> None:
        """Somebody assigns an entry of the state."""
        held = self.__dict__
        note_placed(self, name)
        held["_memories"][name] = value
        held["_assigned"][name] = True

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__.get("_memories", {}):
            del self._memories[name]
            self._reset_values.pop(name, None)
            self._buffers.pop(name, None)
            self._non_persistent_buffers_set.discard(name)
        else:
            super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._memories]

    def __getstate__(self) -> dict[str, Any]:
        passing = ("_after_charge", "_norm", "_placed", "_renewed", "_short", "_starts", "_traced")
        state = {name: held for name, held in self.__dict__.items() if name not in passing}
        state["_memories"], state["_reset_values"] = _changed(
            _without_graph, (dict(self._memories), self._reset_values)
        )
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        memories, reset_values = moved(fn, (dict(self._memories), self._reset_values), type(self).wide_state)
        self._memories.update(memories)
        self._reset_values.update(reset_values)
        return self

    def _replicate_for_data_parallel(self) -> Self:
        replica: Self = super()._replicate_for_data_parallel()
        replica._memories = self._memories.copy()
        replica._reset_values = self._reset_values.copy()
        replica._assigned = self._assigned.copy()
        return replica
