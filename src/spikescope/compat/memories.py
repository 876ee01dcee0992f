"""The state of a network as a list, as SpikingJelly 2.0 hands it around: in the order of modules and their memories.

`functional.get_state` and `set_state` do the same by name, which survives a change of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..base import MemoryModule

__all__ = ["extract_memories", "load_memories", "memories", "named_memories", "to_functional_forward"]


def named_memories(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The names, with the path of their module, and values of all state entries in `module`.

    >>> dict(named_memories(nn.Sequential(spikescope.neuron.IFNode())))
    {'0.v': 0.0}
    """
    for path, inner in module.named_modules(prefix=prefix):
        if isinstance(inner, MemoryModule):
            for name, held in inner.named_memories():
                yield f"{path}.{name}" if path else name, held


def memories(module: nn.Module) -> Iterator[Any]:
    """The values of all state entries in `module`."""
    for _, held in named_memories(module):
        yield held


def extract_memories(module: nn.Module) -> list[Any]:
    """The values of all state entries in `module`, as a list for `load_memories`."""
    return list(memories(module))


def load_memories(module: nn.Module, memory_list: list[Any]) -> None:
    """Put the values of `extract_memories` back; a ValueError for another number of them."""
    names = [name for name, _ in named_memories(module)]
    if len(names) != len(memory_list):
        raise ValueError(
            f"load_memories got {len(memory_list)} values for the {len(names)} memories {', '.join(names)}: one is "
            "wanted for each, as extract_memories of the same network gives them."
        )
    for name, held in zip(names, memory_list, strict=True):
        path, _, last = name.rpartition(".")
        setattr(module.get_submodule(path), last, held)


def to_functional_forward(
    module: nn.Module, fn: Callable[..., Any] | None = None
) -> Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """`module`, or `fn` of it, as a function of `(inputs, states, **kwargs)` that gives outputs and next states.

    The state of the module itself is as before afterwards, also where the call fails.

    >>> forward = to_functional_forward(spikescope.neuron.IFNode(v_reset=None))
    >>> forward((torch.tensor([0.75]),), (0.5,))
    ((tensor([1.]),), (tensor([0.2500]),))
    """
    run = module if fn is None else fn

    def forward(inputs: tuple[Any, ...], states: tuple[Any, ...], **kwargs: Any) -> tuple[Any, Any]:
        before = extract_memories(module)
        load_memories(module, list(states))
        try:
            out = run(*inputs, **kwargs)
            after = tuple(extract_memories(module))
        finally:
            load_memories(module, before)
        return tuple(out) if isinstance(out, tuple | list) else (out,), after

    return forward
