"""Read-outs as SpikingJelly 2.0 has them: each call begins at rest, and without `decode` gives every potential."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor

from ... import neuron
from ...neuron.mixing.reading import ReadByHooks
from .made import aged, signature_of
from .wide import Wide

__all__ = ["NonSpikingBaseNode", "NonSpikingIFNode", "NonSpikingLIFNode"]


class NonSpikingBaseNode(ReadByHooks, metaclass=Wide):
    """Base of the read-outs, which a subclass writes by `neuronal_charge(x)`.

    >>> class Summing(NonSpikingBaseNode):
    ...     def neuronal_charge(self, x):
    ...         self.v = self.v + x
    >>> Summing("mean-mem")(torch.tensor([[1.0], [2.0]]))
    tensor([2.])
    """

    stands_for = (ReadByHooks, neuron.NonSpikingBaseNode)


def _read(node: Any, given: dict[str, Any], stated: Collection[str]) -> dict[str, Any]:
    decode = given["decode"]
    known = "last-mem" if decode in (None, "last_mem") else decode
    return given | {"decode": known, "store_v_seq": decode is None or given["store_v_seq"]}


def _note(node: Any, given: dict[str, Any]) -> None:
    node.decodes = given["decode"] is not None


def _from_rest(base: type[Any], order: str) -> type[Any]:
    """`base` with these arguments first.

    >>> len(_from_rest(neuron.NonSpikingIFNode, "decode")()(torch.rand(3, 2)))
    3
    """

    def forward(self: Any, x_seq: Tensor) -> Tensor | list[Tensor]:
        """The decoded potential `[N, *]`, or a list of the potential of every step."""
        self.reset()
        read: Tensor = base.forward(self, x_seq)
        return read if self.decodes else list(self.v_seq.unbind(0))

    signature = signature_of(base, order, "step_mode backend store_v_seq", decode=None, step_mode="m")
    about = f"`neuron.{base.__name__}` from rest in each call; `decode` may be None, or 'last_mem' for 'last-mem'."
    return aged(
        base,
        base.__name__,
        signature,
        module=__name__,
        about=about,
        read=_read,
        after=_note,
        members={"forward": forward},
    )


NonSpikingIFNode = _from_rest(neuron.NonSpikingIFNode, "decode")
NonSpikingLIFNode = _from_rest(neuron.NonSpikingLIFNode, "tau decode")
