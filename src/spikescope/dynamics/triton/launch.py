"""Loading the source of a Triton kernel, and launching it on a device or in Triton's interpreter on a CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from subprocess import CalledProcessError
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...errors import missing_extra
from ..cpp.entry import address
from ..layout import BLOCK

__all__ = [
    "OLDEST",
    "Again",
    "LaunchError",
    "Launcher",
    "apart",
    "available",
    "fault",
    "interpreted",
    "is_current",
    "launch",
    "load",
    "of_nvidia",
    "stream_of",
]

OLDEST = (3, 6)
"""The first Triton whose kernels give the spikes of the eager loop: those before divide with `div.rn.ftz`, which makes
a subnormal quotient zero. `tests/sweeps/triton_ptx.py` reads that in what a version compiles.
"""

_PROBE = """import triton


@triton.jit
def spikescope_probe(n):
    pass
"""


class LaunchError(RuntimeError):
    """Triton could not bring a kernel onto the device."""


def available() -> bool:
    """Whether the package triton is installed."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs in its interpreter, which takes tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def of_nvidia() -> bool:
    """Whether kernels run on a GPU of NVIDIA, or would: where no GPU is at hand, one of those is assumed."""
    if interpreted() or torch.version.hip is not None:
        return False
    return torch.cuda.is_available() or not torch.xpu.is_available()


def load(source: str) -> ModuleType:
    """The module of a source text, with no file: Triton reads the text of a kernel where Python keeps lines of code."""
    if not available():
        raise missing_extra("triton", "triton", "Fused kernels for GPUs")
    name = f"spikescope_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = ModuleType(name)
    module.__file__ = file
    exec(compile(source, file, "exec", dont_inherit=True), vars(module))  # the text is of triton.py alone
    return module


def fault() -> str | None:
    """Why Triton cannot launch kernels on the GPU of this process, None if it can; said once as a warning."""
    if interpreted() or not _has_device():
        return None
    return _fault()


def _has_device() -> bool:
    """Whether a GPU is there: where it is not, tensors on it are fake ones, and nothing is launched."""
    return torch.cuda.is_available() or torch.xpu.is_available()


@cache
def _fault() -> str | None:
    why = _too_old() or _failure_of_probe()
    if why is not None:
        warnings.warn(
            f"Neurons run as the slower eager loop on the GPU: {why}",
            RuntimeWarning,
            stacklevel=2,
        )
    return why


def _too_old() -> str | None:
    import triton

    major, minor, *_ = triton.__version__.split(".")
    if (int(major), int(minor)) >= OLDEST:
        return None
    wanted = ".".join(map(str, OLDEST))
    return f"Triton {triton.__version__} does not give the spikes of the eager loop. Install Triton {wanted} or newer."


def _failure_of_probe() -> str | None:
    """What goes wrong with a kernel that does nothing. Triton needs a compiler of C for what starts its kernels."""
    try:
        load(_PROBE).spikescope_probe[(1,)](1)
    except Exception as error:  # of Triton, of the compiler that it calls, of the driver
        return _in_words(error)
    return None


def _in_words(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"Triton cannot start kernels here ({type(error).__name__}: {first}). It needs a C compiler and Python's "
        "headers for that (on Debian: apt install gcc python3-dev), or the name of a compiler in the environment "
        "variable CC."
    )


def launch(kernel: Any, device: torch.device, blocks: int, arguments: Sequence[Any], **constants: Any) -> None:
    """Run a kernel as so many programs."""
    wanted = tuple([held if type(held) is int else _kind(held) for held in arguments])
    key = (kernel, device, blocks, wanted, *constants.items())
    found = _launchers.get(key)
    if found is None:
        if len(_launchers) >= _MOST:
            _launchers.clear()
        found = _launchers[key] = Launcher(kernel, device, blocks, **constants)
    found(arguments)


def _kind(held: Any) -> Any:
    """What the code of a kernel depends on of an argument that is not a whole number."""
    return held.dtype if isinstance(held, Tensor) else type(held)


_MOST = 4096
_WARPS = 2  # of a program: then a thread has four neurons, an access of 16 bytes
_ALIGNED = 15  # the bits that are 0 in an address that Triton takes for aligned


class Launcher:
    """A kernel that is launched again and again as so many programs, with the code that the first launch has compiled.

    Triton itself asks at every launch which code the arguments want. Of those that come here the whole numbers and the
    types of the tensors stay, and of the addresses the code depends on the alignment alone: where one is not aligned,
    Triton is asked.
    """

    def __init__(self, kernel: Any, device: torch.device, blocks: int, **constants: Any) -> None:
        self.kernel, self.device, self.grid = kernel, device, (max(1, blocks), 1, 1)
        self.constants = {"num_warps": _WARPS, **constants, "BLOCK": BLOCK}
        self.code: Any = None
        self.compiled: Any = None
        self.pointers: list[int] = []  # the places of the tensors among the arguments
        self.tail: list[Any] = []

    def __call__(self, arguments: Sequence[Any]) -> None:
        if self.code is not None:
            given, found = list(arguments), 0
            for place in self.pointers:
                held = given[place]
                given[place] = at = held.data_ptr() or address(held)
                found |= at
            if not found & _ALIGNED and is_current(self.device):
                self.code(*given, *self.tail)
                return
        elif interpreted():
            self.kernel[self.grid](*arguments, **self.constants)
            return
        compiled = self._by_triton(arguments)
        pointers = [place for place, held in enumerate(arguments) if isinstance(held, Tensor)]
        if not any(address(arguments[place]) & _ALIGNED for place in pointers):
            self.pointers, self.compiled = pointers, compiled
            self.tail = [self.constants[name] for name in self.kernel.arg_names[len(arguments) :]]
            self.code = compiled[self.grid]  # last: with it, another thread takes the rest

    def _by_triton(self, arguments: Sequence[Any]) -> Any:
        """Launch the code that Triton finds or compiles; gives it."""
        with getattr(torch, self.device.type).device(self.device):  # the current device, not that of the tensors
            try:
                return self.kernel[self.grid](*arguments, **self.constants, enable_fp_fusion=False)
            except Exception as error:
                if not _of_the_compiler(error):
                    raise
                raise LaunchError(f"{_in_words(error)} Meanwhile backend='torch' runs the eager loop.") from error


def is_current(device: torch.device) -> bool:
    """Whether the device is the current one, on which Triton launches."""
    current: int = getattr(torch, device.type).current_device()
    return current == device.index


def stream_of(device: torch.device) -> Any:
    """The stream on which Triton would launch on a device; None where it has to do that itself: on a device that is not
    the current one, in the interpreter, and where somebody asks to be told of launches, as a profiler does.
    """
    driver, runtime = _triton()
    try:
        told = runtime.launch_enter_hook.calls or runtime.launch_exit_hook.calls
    except AttributeError:  # in the place of a chain of hooks somebody has put one of their own
        told = True
    return None if told or not is_current(device) else driver.active.get_current_stream(device.index)


@cache
def _triton() -> tuple[Any, Any]:
    """What in Triton knows the device, and what it has for profilers."""
    import triton

    return triton.runtime.driver, triton.knobs.runtime


def apart(tensors: Sequence[Tensor], rows: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The tensors, with a row in place of each that was given as a whole."""
    held = list(tensors)
    for at, row in rows:
        held[at] = held[at][row]
    return held


class Again:
    """A launch again and again of one kernel, where nothing but the places of tensors differs: called with these alone.

    - arguments: those of one launch; a tensor among them is one of `tensors`, or has no values.
    - rows: which of the tensors will be given as the whole whose row they are, and as which row of it.
    - wholes: those of this launch. Others lie like them, wherever in some memory they begin.
    """

    def __init__(
        self,
        launcher: Launcher,
        arguments: Sequence[Any],
        tensors: Sequence[Tensor],
        rows: Sequence[tuple[int, int]] = (),
        wholes: Sequence[Tensor] = (),
    ) -> None:
        self.launcher, self.rows = launcher, rows
        self.offsets = [
            (at, row * whole.stride(0) * whole.element_size()) for (at, row), whole in zip(rows, wholes, strict=True)
        ]
        self.fixed = [None if isinstance(held, Tensor) and held.numel() else held for held in arguments]
        taken = ((at, [i for i, held in enumerate(arguments) if held is each]) for at, each in enumerate(tensors))
        self.places = [(at, places) for at, places in taken if places]
        self.known: Callable[..., bool] | None = None

    def __call__(self, stream: Any, tensors: Sequence[Tensor], *last: float) -> None:
        """Launch it on `tensors` in the same order, on the stream that `stream_of` has found; `last` are the last
        arguments, numbers that differ as well.
        """
        if stream is not None:
            known = self.known or self._written(len(tensors), len(last))
            if known is not None and known(stream, tensors, *last):
                return
        given, held = [*self.fixed, *last], apart(tensors, self.rows)
        for at, places in self.places:
            for place in places:
                given[place] = held[at]
        self.launcher(given)

    def _written(self, tensors: int, last: int) -> Callable[..., bool] | None:
        """A function that launches the code, where that is there, and says whether it has: on aligned addresses.

        It is written for this launch alone, since to put arguments together by their places takes twice as long.
        """
        launcher, compiled = self.launcher, self.launcher.compiled
        if launcher.code is None or not hasattr(compiled, "packed_metadata"):
            return None
        names: dict[str, Any] = {"run": compiled.run}

        def name(held: Any) -> str:
            found = f"n{len(names)}"
            names[found] = held
            return found

        row, given = dict(self.offsets), [name(0 if isinstance(held, Tensor) else held) for held in self.fixed]
        for at, places in self.places:
            for place in places:
                given[place] = f"a{at} + {row[at]}" if at in row else f"a{at}"
        told = compiled.function, compiled.packed_metadata, None, None, None  # nobody is told of launches
        every, more = range(tensors), [f"last{i}" for i in range(last)]
        arguments = [*map(name, launcher.grid), "stream", *map(name, told), *given, *more, *map(name, launcher.tail)]
        text = _AGAIN.format(
            more="".join(f", {each}" for each in more),
            tensors=", ".join(f"t{at}" for at in every),
            addresses="; ".join(f"a{at} = t{at}.data_ptr()" for at in every),
            any=" | ".join(f"a{at}" for at in every),
            all=" and ".join(f"a{at}" for at in every),
            unaligned=_ALIGNED,
            arguments=", ".join(arguments),
        )
        exec(text, names)
        self.known = known = names["again"]
        return known


_AGAIN = """
def again(stream, tensors{more}):
    [{tensors}] = tensors
    {addresses}
    if ({any}) & {unaligned} or not ({all}):
        return False
    run({arguments})
    return True
"""


_launchers: dict[Any, Launcher] = {}


def _of_the_compiler(error: Exception) -> bool:
    """Whether Triton failed to call the compiler of the host, though the probe had one in its cache."""
    return isinstance(error, (OSError, CalledProcessError)) or "C compiler" in str(error)
