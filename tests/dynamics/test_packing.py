"""Bits and counts of spikes as the kernels make them, by the code for each level of processors."""

import ctypes

import pytest
import torch

from spikescope.dynamics.cpp.borrowed import header
from spikescope.dynamics.cpp.kernel import IO_TYPES
from spikescope.toolchain.carried import levels
from spikescope.toolchain.compiler import load, ordered

NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in IO_TYPES}
TEXT = header("math.h") + header("bits.h") + header("taps.h")
TEXT += "".join(
    f'extern "C" void {what}_{NAMES[dtype]}(const {io}* y, long e, uint8_t* out) {{ {call}(y, e, out); }}\n'
    for dtype, io in IO_TYPES.items()
    for what, call in {"pack": "pack", "count": "count_row"}.items()
)
LENGTHS = [*range(20), 31, 32, 33, 63, 64, 65, 127, 200, 256]


def functions(what, level, folder):
    """The functions of a level by the dtype that they take, and outputs of that with numbers of all kinds."""
    with ordered(folder / "kernels", level):
        library = load(TEXT)
    odd = torch.tensor([0.0, -0.0, 1.0, -2.0, torch.nan, torch.inf, 0.5, 0.0])
    for dtype, name in NAMES.items():
        found = getattr(library, f"{what}_{name}")
        found.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p)
        yield found, torch.cat([odd, (torch.rand(300) > 0.5).float()]).to(dtype)


@pytest.mark.parametrize("level", levels())
def test_bytes_count_the_outputs_that_are_not_zero(level, tmp_path):
    for count, y in functions("count", level, tmp_path):
        for length in LENGTHS:
            out = torch.arange(280).to(torch.uint8)
            count(y.data_ptr(), length, out.data_ptr())
            want = torch.arange(280)
            want[:length] += y[:length] != 0
            assert out.tolist() == (want % 256).tolist()


@pytest.mark.parametrize("level", levels())
def test_a_bit_a_neuron_is_set_where_the_output_is_not_zero(level, tmp_path):
    for pack, y in functions("pack", level, tmp_path):
        for length in LENGTHS:
            out = torch.full((40,), 0xAA, dtype=torch.uint8)
            pack(y.data_ptr(), length, out.data_ptr())
            want = torch.zeros(-(-length // 8) * 8, dtype=torch.int64)
            want[:length] = y[:length] != 0
            packed = (want.view(-1, 8) << torch.arange(8)).sum(1)
            assert out[: len(packed)].tolist() == packed.tolist()
            assert set(out[len(packed) :].tolist()) == {0xAA}
