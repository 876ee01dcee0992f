"""The state of a network as a list, as SpikingJelly 2.0 hands it around: in the order of modules and their memories.

`functional.get_state` and `set_state` do the same by name, which survives a change of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Any

from torch import nn

from ..base.by_states import from_states, places_of

__all__ = ["extract_memories", "load_memories", "memories", "named_memories", "to_functional_forward"]


def named_memories(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The names, with the path of their module, and values of all state entries in `module`.

    >>> dict(named_memories(nn.Sequential(spikescope.neuron.IFNode())))
    {'0.v': 0.0}
    """
    for name, inner, own in places_of(module, prefix):
        yield name, inner._memories[own]


def memories(module: nn.Module) -> Iterator[Any]:
    """The values of all state entries in `module`."""
    for _, held in named_memories(module):
        yield held


def extract_memories(module: nn.Module) -> list[Any]:
    """The values of all state entries in `module`, as a list for `load_memories`."""
    return list(memories(module))


def load_memories(module: nn.Module, memory_list: list[Any]) -> None:
    """Put the values of `extract_memories` back; a ValueError for another number of them."""
    for (_, inner, name), held in zip(_places(module, memory_list), memory_list, strict=True):
        setattr(inner, name, held)


def _places(module: nn.Module, states: Sized) -> list[tuple[str, Any, str]]:
    """The memories of `module`, one for each of `states`."""
    places = places_of(module)
    if len(places) != len(states):
        raise ValueError(
            f"load_memories got {len(states)} values for the {len(places)} memories "
            f"{', '.join(name for name, _, _ in places)}: one is wanted for each, as extract_memories of the same "
            "network gives them."
        )
    return places


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
        return from_states(module, _places(module, states), states, lambda: run(*inputs, **kwargs))

    return forward
