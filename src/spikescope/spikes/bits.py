"""Bits and spikes: packing, unpacking and counting. Bit i of byte k is spike 8k + i of its row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ShapeError, check_tensor, dims
from ..internals import is_left_behind, materialized
from .gpu import is_vouched, pack_on_gpu
from .kernel import pack_rows, unpack_bytes

__all__ = ["bool_spike_to_float", "float_spike_to_bool"]

ONE = {torch.float16: 0x3C00, torch.bfloat16: 0x3F80}
"""The number 1 as the bits of a 16-bit float: NumPy compares those eight times faster, and has no bfloat16."""

ROWS_AT_ONCE = 255
"""How often a byte can count up before it overflows."""


def float_spike_to_bool(spike: Tensor) -> tuple[Tensor, torch.dtype, torch.Size, int]:
    """Pack spikes into bits, least significant first: `(bits, dtype, shape, padding)`.

    - `spike`: zeros and ones of any real dtype, any shape, on any device.

    `bits` is uint8 with `ceil(n / 8)` entries; `padding` is the number of zeros, 0 to 7, that fill the last one.
    A value that is neither 0 nor 1 is a ValueError.

    >>> spikes = torch.tensor([0.0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0])
    >>> float_spike_to_bool(spikes)  # 8 + 16 + 64 + 128 = 216 and 1 + 2 + 4 = 7
    (tensor([216,   7], dtype=torch.uint8), torch.float32, torch.Size([13]), 3)
    """
    bits = pack(spike, "float_spike_to_bool", rows=1)
    return bits.flatten(), spike.dtype, spike.shape, -spike.numel() % 8


def bool_spike_to_float(spike_b: Tensor, s_dtype: torch.dtype, s_shape: Sequence[int], s_padding: int = 0) -> Tensor:
    """Unpack what `float_spike_to_bool` packed: `spike_b` to a tensor of `s_shape` and `s_dtype`.

    A padding of 8, which other packers report for 0, is taken with and without the empty byte that it speaks of.

    >>> bool_spike_to_float(torch.tensor([216, 7], dtype=torch.uint8), torch.float32, (13,), 3)
    tensor([0., 0., 0., 1., 1., 0., 1., 1., 1., 1., 1., 0., 0.])
    >>> spikes = torch.tensor([[True, False], [True, True]])
    >>> bool_spike_to_float(*float_spike_to_bool(spikes)).equal(spikes)
    True
    """
    check_bits("bool_spike_to_float", spike_b, 1)
    if not isinstance(s_dtype, torch.dtype):
        raise TypeError(f"bool_spike_to_float: s_dtype must be a torch.dtype, but got {s_dtype!r}.")
    size = math.prod(s_shape)
    wanted = -(-size // 8)
    held = spike_b.numel()
    whole = s_padding == 8 and size % 8 == 0 and held in (wanted, wanted + 1)
    if not whole and (held != wanted or s_padding != -size % 8):
        raise ShapeError(
            f"bool_spike_to_float: the shape {dims(s_shape)} has {size} spikes, which take {wanted} bytes with "
            f"a padding of {-size % 8}, but got {held} bytes with a padding of {s_padding}. "
            "Pass on all four values that float_spike_to_bool returned."
        )
    return unpack(spike_b[:wanted].view(1, -1), size, s_dtype).reshape(torch.Size(s_shape))


def check_bits(owner: str, bits: Tensor, axes: int) -> None:
    """Refuse anything but bytes with the wanted number of axes."""
    check_tensor(owner, "bits", bits)
    if bits.dtype != torch.uint8 or bits.ndim != axes:
        raise TypeError(
            f"{owner}: bits must be a torch.uint8 tensor with {axes} axes, as the packing functions return it, "
            f"but got {bits.dtype} with the shape {dims(bits.shape)}."
        )


def pack(spikes: Tensor, owner: str, rows: int) -> Tensor:
    """The bits of spikes split into `rows` equal rows, `[rows, ceil(n / 8)]`; each row starts a new byte."""
    known = is_vouched(spikes)
    check_tensor(owner, "the spikes", spikes)
    if spikes.is_complex():
        raise TypeError(f"{owner} packs real zeros and ones, but got {spikes.dtype}. Take the real part first.")
    if not torch.compiler.is_compiling():
        spikes = _present(owner, spikes)
    spikes = spikes.detach()
    columns = spikes.numel() // rows if rows else math.prod(spikes.shape[1:])
    quick = pack_rows(spikes, rows, columns)
    if quick is None:
        quick = pack_on_gpu(spikes, rows, columns, known)
    if quick is not None:
        return quick
    fired = pack_bool(spikes.bool().reshape(rows, columns))
    if spikes.dtype != torch.bool and not torch.equal(fired, pack_bool(_is_one(spikes).reshape(rows, columns))):
        odd = spikes[(spikes != 0) & (spikes != 1)][0].item()
        raise ValueError(
            f"{owner} packs spikes, which are 0 or 1, but got the value {odd:.6g}. Divide scaled spikes by their "
            "scale first, and compare other signals with a threshold, for example x > 0.5."
        )
    return fired


def _present(owner: str, spikes: Tensor) -> Tensor:
    """The spikes in memory of their own, to be read by their address; or an error in words where they have none."""
    if spikes.is_meta or is_left_behind(spikes):
        kind = "a meta tensor" if spikes.is_meta else "a stand-in of FakeTensorMode or a transform of torch.func"
        raise TypeError(f"{owner} packs spikes, but {dims(spikes.shape)} has no values: it is {kind}.")
    held = materialized(spikes)
    assert held is not None
    held = held.resolve_neg()
    if type(held) is Tensor and held.numel() and not held.untyped_storage().nbytes():
        raise TypeError(f"{owner} packs spikes, but {dims(spikes.shape)} has no values: its storage was freed.")
    return held


def _is_one(spikes: Tensor) -> Tensor:
    """`spikes == 1`; on the CPU by NumPy, which takes a quarter of the time."""
    if spikes.device.type != "cpu":
        return spikes == 1
    one = ONE.get(spikes.dtype)
    held = spikes if one is None else spikes.view(torch.int16)
    return torch.from_numpy(np.asarray(held.numpy() == (1 if one is None else one)))


def pack_bool(fired: Tensor) -> Tensor:
    """The bits of each row of a bool matrix."""
    if fired.device.type == "cpu":
        return torch.from_numpy(np.packbits(fired.numpy(), axis=1, bitorder="little"))
    return pack_by_sums(fired)


def pack_by_sums(fired: Tensor) -> Tensor:
    """The same bits on any device: eight columns weighted by powers of two."""
    filled = functional.pad(fired.to(torch.uint8), (0, -fired.shape[1] % 8))
    places = 2 ** torch.arange(8, dtype=torch.uint8, device=fired.device)
    return (filled.unflatten(1, (filled.shape[1] // 8, 8)) * places).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """The first `columns` spikes of each row of bits, `[rows, columns]`."""
    quick = unpack_bytes(bits, dtype)
    if quick is not None:
        return quick[:, :columns]
    places = torch.arange(8, device=bits.device)
    table = ((torch.arange(256, device=bits.device).unsqueeze(1) >> places) & 1).to(dtype)
    held = table.index_select(0, bits.flatten().int())
    return held.view(len(bits), 8 * bits.shape[1])[:, :columns]


def row_counts(bits: Tensor) -> Tensor:
    """The number of ones in each row of bits, `[rows]`, by counting in parallel inside 64-bit words."""
    words = _words(bits)
    words = words - ((words >> 1) & 0x5555555555555555)
    words = (words & 0x3333333333333333) + ((words >> 2) & 0x3333333333333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((words * 0x0101010101010101) >> 56).sum(1)


def column_counts(bits: Tensor, columns: int) -> Tensor:
    """The number of ones in each of the first `columns` columns of bits, `[columns]`.

    Each byte of a 64-bit word counts one of its bits over at most 255 rows, eight columns to the operation.
    """
    counts = torch.zeros(8 * bits.shape[1], dtype=torch.int64, device=bits.device)
    for rows in _words(bits).split(ROWS_AT_ONCE):
        lanes = [((rows >> bit) & 0x0101010101010101).sum(0).view(torch.uint8) for bit in range(8)]
        counts += torch.stack(lanes, 1)[: bits.shape[1]].flatten()
    return counts[:columns]


def _words(bits: Tensor) -> Tensor:
    """The rows of bits as 64-bit words, filled up with zeros."""
    missing = -bits.shape[1] % 8
    if not bits.numel():
        return bits.new_zeros((len(bits), -(-bits.shape[1] // 8)), dtype=torch.int64)
    if missing:
        bits = functional.pad(bits, (0, missing))
    elif not bits.is_contiguous() or bits.storage_offset() % 8:
        bits = bits.clone(memory_format=torch.contiguous_format)
    return bits.view(torch.int64)
