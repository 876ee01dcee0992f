"""Read-outs that a subclass writes by a hook: `neuronal_charge(x)`, which assigns the potential `self.v`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...base import MultiStepModule
from ...errors import ShapeError, check_choice, check_floating, check_sequence, dims
from ..readout import ReadOut

__all__ = ["ReadByHooks"]

_SPELLED = {"last_mem": "last-mem", "last-me": "last-mem"}  # as SpikingJelly 2.0.0 has it in two places


class _Potentials(ReadOut, abstract=True):
    """Decodes potentials that are its input."""

    @staticmethod
    def charge(p: Any, v: Any, x: Tensor) -> Tensor:
        return x


_Potentials.abstract = False  # it can be made, and is not among the neurons


class ReadByHooks(nn.Module, MultiStepModule):
    """A read-out of the potentials that a subclass charges, from zero in each call."""

    owns_children_step_mode = True
    v: Tensor

    def __init__(self, decode: str | None = None) -> None:
        cls = type(self)
        if cls.neuronal_charge is ReadByHooks.neuronal_charge and cls._read is ReadByHooks._read:
            raise TypeError(
                f"{cls.__name__} is the base of a family of neurons; use one of the family, or write a subclass with "
                "neuronal_charge(self, x), which assigns self.v."
            )
        if decode is not None:
            decode = _SPELLED.get(decode, decode)
            check_choice(cls.__name__, "decode", decode, ReadOut.fields["decode"].choices)
        super().__init__()
        self.decode = decode

    def init_tensor(self, data: Tensor) -> None:
        """Put the state to rest, for steps like `data`."""
        self.v = torch.zeros_like(data, dtype=torch.promote_types(data.dtype, torch.float32), requires_grad=False)

    def neuronal_charge(self, x: Tensor) -> None:
        """Charge the potential `v` by `x`."""
        raise NotImplementedError("a read-out defines neuronal_charge(x)")

    def forward(self, x_seq: Tensor) -> Tensor | list[Tensor]:
        """The decoded potential `[N, *]`, or a list of those of all steps."""
        owner = type(self).__name__
        check_floating(owner, x_seq)
        check_sequence(owner, x_seq)
        if not len(x_seq):
            raise ShapeError(f"{owner} decodes at least one step, but got {dims(x_seq.shape, 'TN')}.")
        return self._read(x_seq)

    def _read(self, x_seq: Tensor) -> Tensor | list[Tensor]:
        self.init_tensor(x_seq[0])
        v_seq = []
        for x in x_seq:
            self.neuronal_charge(x)
            v_seq.append(self.v)
        if self.decode is None:
            return v_seq
        read: Tensor = _Potentials(self.decode, step_mode="m")(torch.stack(v_seq))
        return read.to(x_seq.dtype)
