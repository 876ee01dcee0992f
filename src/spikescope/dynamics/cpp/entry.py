"""How a kernel is called from Python: with two runs of memory, since each argument of its own costs as much as a step.

What is the same at every call over one shape is packed once, `fixed`: numbers of 8 bytes each. The others, addresses
and what may change at any call, are packed for each, `given`. The entry, in C++, takes both apart.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache

from torch import Tensor

from ..graphs.trace import Body

__all__ = ["address", "addresses", "backward_entry", "forward_entry", "given", "packed"]


def packed(longs: Sequence[int], doubles: Sequence[float]) -> bytes:
    """Whole numbers, then real ones, of 8 bytes each."""
    return struct.pack(f"{len(longs)}q{len(doubles)}d", *longs, *doubles)


@cache
def given(count: int) -> Callable[..., bytes]:
    """What packs as many addresses or whole numbers; 0 is no address."""
    return struct.Struct(f"{count}q").pack


def address(tensor: Tensor | None) -> int:
    """Where a tensor lies; 0 for none."""
    if tensor is None:
        return 0
    found = tensor.data_ptr()
    if not found and tensor.numel():  # its storage was freed, or it never had one
        raise RuntimeError(
            f"A kernel was given a tensor of shape {list(tensor.shape)} that has no memory: it stands for a shape, "
            "as on the meta device, or its storage was freed. Give it a tensor with values; if it is a state, call "
            "functional.reset_net(net)."
        )
    return found


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Where tensors lie that are there."""
    found = [*map(Tensor.data_ptr, tensors)]
    return found if 0 not in found else [*map(address, tensors)]


def forward_entry(body: Body, states: int, told: int, gained: bool) -> str:
    """The entry of a forward kernel.

    - fixed: the stride of X in time, K, T, n, whether Y is stored past the caches, the strides L of the states, the
      periods P, the constants C, the bounds W
    - given: X, Y, V, CK, threads, then the states S0 and S1, the arrays A, the taps, of which places
      for `told` are there, and the gains where the input is `gained`
    """
    arrays, constants = len(body.arrays), len(body.constants)
    gain = f", (const real*)A[{arrays + told}]" if gained else ""
    return f"""
extern "C" void enter_forward(const long* F, void* const* M) {{
  const long *L = F + 5, *P = L + {states};
  const double *C = (const double*)(P + {arrays}), *W = C + {constants};
  void* const* A = M + {5 + 2 * states};
  forward((const io*)M[0], F[0], (io*)M[1], (const real* const*)(M + 5), L, (real* const*)(M + {5 + states}), C,
    (const real* const*)A, P, (real*)M[2], (real*)M[3], F[1], A + {arrays}, W, F[2], F[3], F[4], (int)(long)M[4]{gain});
}}
"""


def backward_entry(body: Body, states: int, fields: int, gained: bool) -> str:
    """The entry of a backward kernel.

    - fixed: the stride of X in time, K, T, n, whether X is too large for a cache, the strides L of the states, the
      periods P, the constants C
    - given: X, CK, GY, its stride in time, GV, GX, GP, threads, SQ, then S0, G1, G0, the arrays A, the gradients GA of
      as many `fields`, and the gains where the input is `gained`
    """
    arrays = len(body.arrays)
    gain = f", (const real*)A[{arrays + fields}]" if gained else ""
    return f"""
extern "C" void enter_backward(const long* F, void* const* M) {{
  const long *L = F + 5, *P = L + {states};
  const double* C = (const double*)(P + {arrays});
  void* const* A = M + {9 + 3 * states};
  backward((const io*)M[0], F[0], (const real* const*)(M + 9), L, C, (const real* const*)A, P,
    (const real*)M[1], F[1], (const io*)M[2], (long)M[3], (const real*)M[4], (const real* const*)(M + {9 + states}),
    (io*)M[5], (real* const*)(M + {9 + 2 * states}), (double*)M[6], (double*)M[8], (real* const*)(A + {arrays}),
    F[2], F[3], F[4], (int)(long)M[7]{gain});
}}
"""
