"""Operations of PyTorch that all counters treat alike, by kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

__all__ = [
    "ADDITIONS",
    "ATTENTION",
    "ATTENTION_BACKWARD",
    "COMPARISONS",
    "PRODUCTS",
    "REDUCTIONS",
    "SCALINGS",
    "UNARY",
    "VIEWS",
]

aten = torch.ops.aten


class _Products(NamedTuple):
    """Products of matrices: plain, and added to something."""

    plain: tuple[Any, ...]
    added: tuple[Any, ...]


def _forms(names: str, forms: str = "Tensor Scalar") -> tuple[Any, ...]:
    return tuple(getattr(getattr(aten, name), form) for name in names.split() for form in forms.split())


PRODUCTS = _Products(_forms("mm bmm", "default"), _forms("addmm baddbmm", "default"))
ADDITIONS = (*_forms("add add_ sub sub_ rsub"),)
SCALINGS = _forms("mul mul_ div div_")
COMPARISONS = (*_forms("eq ne lt le gt ge"), *_forms("logical_and logical_or logical_xor logical_not", "default"))
UNARY = _forms("neg neg_", "default")
REDUCTIONS = (aten.sum.default, aten.sum.dim_IntList)
VIEWS = (
    *_forms("view unsqueeze detach t expand promote_types", "default"),
    aten.squeeze.dim,
    aten.unbind.int,
    aten.select.int,
    aten.empty.memory_format,
)
"""What computes nothing and moves nothing."""

_KERNELS = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")


def _attention(ending: str) -> tuple[Any, ...]:
    packets = (getattr(aten, f"_scaled_dot_product_{kernel}{ending}", None) for kernel in _KERNELS)
    return tuple(packet.default for packet in packets if packet is not None)


ATTENTION = _attention("")
ATTENTION_BACKWARD = _attention("_backward")
