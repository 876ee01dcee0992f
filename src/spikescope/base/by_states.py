"""A call as a function of inputs and states, and a module whose calls are made of such a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import check_choice

__all__ = ["ByStates", "forward_by"]


def forward_by(name: str) -> Callable[..., Any]:
    """A forward by the method `name`, a function of `(inputs, states)` that gives outputs and the next states."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        states = self.materialize_states(args, tuple(self.memories()), "s" if name.startswith("single") else "m")
        outputs, states = getattr(self, name)(args, states, **kwargs)
        names = [key for key, _ in self.named_memories()]
        if len(states) != len(names):
            raise ValueError(
                f"{type(self).__name__}.{name} must give a state for each of {', '.join(names)}, but gave "
                f"{len(states)}."
            )
        for key, held in zip(names, states, strict=True):
            setattr(self, key, held)
        return outputs[0] if len(outputs) == 1 else outputs

    return forward


class ByStates:
    """Mixin of modules with a state: functions of `(inputs, states)` that give tuples of outputs and of next states."""

    _memories: dict[str, Any]
    _assigned: dict[str, bool]

    def materialize_states(self, inputs: tuple[Any, ...], states: tuple[Any, ...], step_mode: str) -> tuple[Any, ...]:
        """The states that a `single_step_functional_forward` or `multi_step_functional_forward` of a subclass is called
        with: as they are kept, unless a subclass makes tensors of them, which it may do by the inputs.
        """
        return states

    def functional_forward(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """A call as a function of inputs and states: outputs and next states. The own state is as before afterwards.

        The states are those of `memories()`, in their order. `functional.get_state` and `set_state` hand around those
        of a whole network.

        >>> spikescope.neuron.IFNode(v_reset=None).functional_forward((torch.tensor([0.75]),), (0.5,))
        ((tensor([1.]),), (tensor([0.2500]),))
        """
        return self._as_function("functional_forward", self, inputs, states, kwargs)

    def single_step_functional_forward(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """`functional_forward` of one time step, whatever the step mode is, and past the hooks of the module.

        A subclass that writes it may build on that of its base.

        >>> spikescope.neuron.IFNode(v_reset=None).single_step_functional_forward((torch.tensor([0.75]),), (0.5,))
        ((tensor([1.]),), (tensor([0.2500]),))
        """
        return self._in_mode("s", "single_step_forward", inputs, states, kwargs)

    def multi_step_functional_forward(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """`functional_forward` of a sequence; see `single_step_functional_forward`."""
        return self._in_mode("m", "multi_step_forward", inputs, states, kwargs)

    def _in_mode(self, mode: str, name: str, inputs: tuple[Any, ...], states: tuple[Any, ...], kwargs: Any) -> Any:
        """The forward `name` as such a function: that of a call, or where subclasses write such functions and this is
        their base, the one behind the last of them.
        """
        module: Any = self
        check_choice(type(self).__name__, "step_mode", mode, module.supported_step_mode())
        by, order = name.replace("_forward", "_functional_forward"), type(self).__mro__
        writers = [at for at, cls in enumerate(order) if by in vars(cls) and cls is not ByStates]
        behind = order[writers[-1] + 1 :] if writers else order
        forward = next(vars(cls)[name] for cls in behind if name in vars(cls))
        names = [key for key, _ in module.named_memories()]
        if writers and isinstance(states, (tuple, list)) and len(states) == len(own := self._states_of_base()):
            names = own

        def run(*args: Any, **named: Any) -> Any:
            return module._separated(forward(self, *args, **named), args, named)

        return self._as_function(by, run, inputs, states, kwargs, names)

    def _states_of_base(self) -> list[str]:
        """The memories of the class of this package that a class of one's own is made of, as far as that is known."""
        module: Any = self
        return [name for name, _ in module.named_memories()]

    def _as_function(
        self,
        name: str,
        run: Any,
        inputs: tuple[Any, ...],
        states: tuple[Any, ...],
        kwargs: dict[str, Any],
        names: list[str] | None = None,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """`run` from other states than the own ones, which are as before afterwards, also where it fails.

        - `names`: whose states these are; all memories unless given.
        """
        module: Any = self
        names = [key for key, _ in module.named_memories()] if names is None else names
        for what, given in (("inputs", inputs), ("states", states)):
            if not isinstance(given, (tuple, list)):
                raise TypeError(
                    f"{type(self).__name__}.{name} takes {what} as a tuple, also of one, but got a "
                    f"{type(given).__name__}."
                )
        if len(states) != len(names):
            raise ValueError(
                f"{type(self).__name__}.{name} takes a state for each of {', '.join(names) or 'no memory'}, but got "
                f"{len(states)}."
            )
        before, assigned = dict(self._memories), self._assigned.copy()
        try:
            for key, held in zip(names, states, strict=True):
                setattr(self, key, held)
            out = run(*inputs, **kwargs)
            after = tuple(self._memories[key] for key in names)
        finally:
            self._memories.update(before)
            self._assigned.clear()
            self._assigned.update(assigned)
        return tuple(out) if isinstance(out, (tuple, list)) else (out,), after
