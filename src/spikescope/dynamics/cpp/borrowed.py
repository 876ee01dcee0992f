"""Functions of PyTorch that the C++ kernels call, for the very bits of the eager loop: exp, tanh, the sigmoid, ...

What rounds these functions is a library inside PyTorch's own: MKL for whole arrays, Sleef for vectors. A kernel gets
their addresses and calls them on a block of neurons at a time. Which of them an operation runs depends on how PyTorch
was built and on the processor, so each is tried against the operation on a few thousand numbers before it is taken;
where it cannot be had or differs, the kernel has an approximation, and `'auto'` takes the eager loop, in words.
A sigmoid of floats needs no call where the steps of arithmetic in `steps.h` give the same bits.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...toolchain.compiler import CompileError
from ...toolchain.compiler import load as load_alone

__all__ = ["Borrowed", "borrowed", "declarations", "header", "load", "missing", "once"]

aten = torch.ops.aten

_OF_ARRAYS = {
    aten.exp.default: "Exp",
    aten.tanh.default: "Tanh",
    aten.log.default: "Ln",
    aten.sqrt.default: "Sqrt",
    aten.sin.default: "Sin",
    aten.cos.default: "Cos",
    aten.erf.default: "Erf",
    aten.erfc.default: "Erfc",
    aten.atan.default: "Atan",
}
"""What PyTorch computes by MKL, and the name there."""

_OF_VECTORS = {aten.log1p.default: "log1p", aten.sigmoid.default: "exp"}
"""What it computes by Sleef, and the name there."""

_WIDTHS = {"AVX2": 32, "AVX512": 64}
"""Bytes of the vectors of PyTorch's code for a processor."""

_THREADS = "_ZN2at15get_num_threadsEv"

_ALONE = "MKL_Set_Num_Threads_Local"
"""What tells MKL how many threads it may take when the thread that says so calls it."""


class Borrowed(NamedTuple):
    """A function of PyTorch as a kernel calls it."""

    symbols: tuple[str, ...]  # in PyTorch's library; the first is the function
    call: str  # on the block `@` of `e` numbers
    positional: bool = False  # whether the last bit of a result depends on where in memory its number is
    once: str = ""  # what is computed before the first block of `n` numbers
    headers: tuple[str, ...] = ()  # files beside this one that have the call
    meanwhile: str = ""  # what has to be there while a block is computed


@cache
def _library() -> ctypes.CDLL | None:
    folder = Path(torch.__file__).parent / "lib"
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
    try:
        return ctypes.CDLL(str(folder / name))  # it is loaded already
    except OSError:
        return None


def _address(symbol: str) -> int | None:
    try:
        return ctypes.cast(getattr(_library(), symbol), ctypes.c_void_p).value
    except AttributeError:
        return None


def _wanted(target: object, real: torch.dtype) -> list[Borrowed]:
    """What PyTorch would call for an operation, as far as is known; before it what might do the same in less time."""
    letter, width = ("d" if real is torch.float64 else "s"), _WIDTHS.get(torch.backends.cpu.get_cpu_capability())
    if target in _OF_ARRAYS:
        symbol = f"vm{letter}{_OF_ARRAYS[target]}"
        call = f"by_array({symbol}, @, e);"
        alone = Borrowed((symbol, _ALONE), call, meanwhile=f"const Alone alone({_ALONE});")
        return [alone, Borrowed((symbol,), call)]  # without, where it cannot be told
    if target not in _OF_VECTORS or width is None:
        return []
    lanes = f"d{width // 8}" if real is torch.float64 else f"f{width // 4}"
    symbol = f"Sleef_{_OF_VECTORS[target]}{lanes}_u10"
    if target is not aten.sigmoid.default:
        return [Borrowed((symbol,), f"by_vector({symbol}, @, e);")]
    shared = f"const long shared = share({_THREADS}, n);"
    called = Borrowed(
        (symbol, _THREADS), f"sigmoid(Called{{{symbol}}}, @, e, o, n, shared);", True, shared, ("sigmoid.h",)
    )
    steps = Borrowed((_THREADS,), "sigmoid(InSteps{}, @, e, o, n, shared);", True, shared, ("sigmoid.h", "steps.h"))
    return [called] if real is torch.float64 else [steps, called]


def borrowed(target: object, real: torch.dtype) -> Borrowed | None:
    """The function of PyTorch for an operation on a state of the dtype `real`; None if there is none to be had."""
    return _found(target, real)[0]


def missing(target: object, real: torch.dtype) -> str | None:
    """Why a kernel cannot call PyTorch's function for an operation; None if it can."""
    return _found(target, real)[1]


@cache
def _found(target: object, real: torch.dtype) -> tuple[Borrowed | None, str | None]:
    """The first of what is wanted that gives the bits of the operation, or why the last does not."""
    name = str(target).removeprefix("aten.").partition(".")[0]
    why: str | None = f"nothing is known of how this PyTorch computes {name}"
    for wanted in _wanted(target, real):
        why = _trouble(target, wanted, real, name)
        if why is None:
            return wanted, None
    return None, why


def _trouble(target: object, wanted: Borrowed, real: torch.dtype, name: str) -> str | None:
    """Why a kernel cannot take this for an operation of that name; None if it can."""
    if any(_address(symbol) is None for symbol in wanted.symbols):
        return f"this PyTorch has no function {wanted.symbols[0]} that a kernel could call for {name}"
    try:
        with ThreadPoolExecutor(1) as thread:  # a caller may be under modes of PyTorch
            alike = thread.submit(_alike, target, wanted, real).result()
    except CompileError as error:
        return f"{name} could not be tried: {error}"
    return None if alike else f"{wanted.symbols[0]} gives other bits than {name}"


def _trials(real: torch.dtype) -> list[Tensor]:
    """Numbers of all sizes, in lengths with every remainder, and so many that PyTorch's threads share them."""
    steps = torch.arange(40_001, dtype=torch.float64, device="cpu")
    waves = torch.sin(steps) * torch.exp(((steps * 0.7548776662466927) % 1) * 14 - 9)  # up to e^5, down to e^-9
    edges = [
        0.0,
        -0.0,
        torch.inf,
        -torch.inf,
        torch.nan,
        88.7,
        88.8,
        -87.4,
        -103.9,
        -104.0,
        1e-40,
        -1e-40,
        710.0,
        -746.0,
    ]
    long = torch.cat([torch.tensor(edges, dtype=torch.float64, device="cpu"), waves]).to(real)
    return [long, *(long[64 + 31 * size :][:size] for size in range(1, 100, 3))]


def _alike(target: Any, wanted: Borrowed, real: torch.dtype) -> bool:
    """Whether the function gives what the operation gives, on all trials."""
    attempt, trials = _attempt(wanted, real), _trials(real)
    with torch.no_grad():
        pairs = [(target(x), x.clone()) for x in trials]
    for _, got in pairs:
        attempt(got.data_ptr(), len(got))
    return all(torch.allclose(got, want, rtol=0, atol=0, equal_nan=True) for want, got in pairs)


def _attempt(wanted: Borrowed, real: torch.dtype) -> Any:
    """The function on an array of any length, in blocks as a kernel has them."""
    text = f"""{header("math.h")}
using real = {"double" if real is torch.float64 else "float"};
constexpr long B = 256;
{declarations([wanted])}
extern "C" void attempt(real* x, long n) {{
  {wanted.once}
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    alignas(64) real block[B] = {{}};
    {wanted.meanwhile}
    memcpy(block, x + o, e * sizeof(real));
    {wanted.call.replace("@", "block")}
    memcpy(x + o, block, e * sizeof(real));
  }}
}}
"""
    attempt = load(text).attempt
    attempt.argtypes = [ctypes.c_void_p, ctypes.c_long]
    return attempt


def declarations(functions: Collection[Borrowed]) -> str:
    """What a kernel that calls these functions begins with, after `real` and `B`; empty where it calls none."""
    if not functions:
        return ""
    width = _WIDTHS.get(torch.backends.cpu.get_cpu_capability(), 32)
    symbols = sorted({symbol for function in functions for symbol in function.symbols})
    held = [f'static void* {s};\nextern "C" void lend_{s}(void* address) {{ {s} = address; }}' for s in symbols]
    headers = sorted({name for function in functions for name in function.headers})
    return "\n".join([f"#define WIDTH {width}", *map(header, ["borrowed.h", *headers]), *held])


def once(functions: Collection[Borrowed]) -> list[str]:
    """The lines of a kernel that calls these functions before its first block."""
    return sorted({function.once for function in functions} - {""})


@cache
def header(name: str) -> str:
    """A file of C++ beside this one."""
    return Path(__file__).with_name(name).read_text()


def load(source: str) -> ctypes.CDLL:
    """The library of a kernel's text, which has the addresses of the functions of PyTorch that it calls."""
    library = load_alone(source)
    for symbol in re.findall(r'^extern "C" void lend_(\w+)', source, re.MULTILINE):
        getattr(library, f"lend_{symbol}")(ctypes.c_void_p(_address(symbol)))
    return library
