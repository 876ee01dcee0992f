"""Entries of the state that a class of one's own takes out of `_memories`, to keep them as an attribute or a buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

__all__ = ["TakenOut"]


class _AlsoBuffers(dict[str, Any]):
    """Memories some of which are buffers: what is written here is there too."""

    def __init__(self, memories: Mapping[str, Any], buffers: dict[str, Tensor | None]) -> None:
        super().__init__(memories)
        self.buffers = buffers

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self.buffers:
            if not (value is None or isinstance(value, Tensor)):
                raise TypeError(f"The buffer {name!r} must be a tensor or None, but got {value!r}.")
            self.buffers[name] = value
        super().__setitem__(name, value)

    def update(self, given: Mapping[str, Any]) -> None:  # type: ignore[override]
        for name, value in given.items():
            self[name] = value


class TakenOut:
    """Mixin of neurons. An entry of the state that was taken out is one again once it is assigned or registered as a
    buffer, but has no value of the reset: as in published code, what took it out puts it back.
    """

    State: ClassVar[Any]
    fields: ClassVar[Any]
    _memories: dict[str, Any]
    _reset_values: dict[str, Any]
    _buffers: dict[str, Tensor | None]

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        taken = self._was_taken_out(name)
        base: Any = super()
        base.register_buffer(name, tensor, persistent)
        if taken:
            self._memories = _AlsoBuffers(self._memories, self._buffers)
        if taken or name in self._memories:
            self._put_back(name, tensor)

    def _was_taken_out(self, name: str) -> bool:
        memories = self.__dict__.get("_memories")
        if memories is None or name in memories:
            return False
        return name in type(self).State._fields and name not in type(self).fields

    def _put_back(self, name: str, given: Any) -> None:
        """Make an entry that was taken out one again."""
        module: Any = self
        self._reset_values.pop(name, None)
        module._place(name, given)

    def __getstate__(self) -> dict[str, Any]:
        base: Any = super()
        state: dict[str, Any] = base.__getstate__()
        if isinstance(self._memories, _AlsoBuffers):
            held = state["_memories"]  # cut from its graph
            state["_buffers"] = {name: held.get(name, buffer) for name, buffer in self._buffers.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        base: Any = super()
        base.__setstate__(state)
        if any(name in self._buffers for name in self._memories):
            self._memories = _AlsoBuffers(self._memories, self._buffers)
