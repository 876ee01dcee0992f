"""From the text of a Triton kernel to its run on a device, or in Triton's interpreter on a CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import os
import warnings
from collections.abc import Sequence
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
    "available",
    "fault",
    "interpreted",
    "launch",
    "load",
    "of_nvidia",
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
    """What the code of a kernel depends on of an argument that is no whole number."""
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
        self.pointers: list[int] = []  # the places of the tensors among the arguments
        self.tail: list[Any] = []

    def __call__(self, arguments: Sequence[Any]) -> None:
        if self.code is not None:
            given, addresses = list(arguments), 0
            for place in self.pointers:
                held = given[place]
                given[place] = at = held.data_ptr() or address(held)
                addresses |= at
            if not addresses & _ALIGNED and self.is_current():
                self.code(*given, *self.tail)
                return
        elif interpreted():
            self.kernel[self.grid](*arguments, **self.constants)
            return
        compiled = self._by_triton(arguments)
        pointers = [place for place, held in enumerate(arguments) if isinstance(held, Tensor)]
        if not any(address(arguments[place]) & _ALIGNED for place in pointers):
            self.pointers = pointers
            self.tail = [self.constants[name] for name in self.kernel.arg_names[len(arguments) :]]
            self.code = compiled[self.grid]  # last: with it, another thread takes the rest

    def is_current(self) -> bool:
        """Whether the device is the current one, on which Triton launches."""
        current: int = getattr(torch, self.device.type).current_device()
        return current == self.device.index

    def _by_triton(self, arguments: Sequence[Any]) -> Any:
        """Launch the code that Triton finds or compiles; gives it."""
        with getattr(torch, self.device.type).device(self.device):  # the current device, not that of the tensors
            try:
                return self.kernel[self.grid](*arguments, **self.constants, enable_fp_fusion=False)
            except Exception as error:
                if not _of_the_compiler(error):
                    raise
                raise LaunchError(f"{_in_words(error)} Meanwhile backend='torch' runs the eager loop.") from error


class Again:
    """A launch again and again of one kernel, where nothing but the places of tensors differs: called with these alone.

    - arguments: those of one launch; a tensor among them is one of `tensors`.
    """

    def __init__(self, launcher: Launcher, arguments: Sequence[Any], tensors: Sequence[Tensor]) -> None:
        self.launcher = launcher
        self.fixed = [None if isinstance(held, Tensor) else held for held in arguments]
        taken = ((at, [i for i, held in enumerate(arguments) if held is each]) for at, each in enumerate(tensors))
        self.places = [(at, places) for at, places in taken if places]

    def __call__(self, tensors: Sequence[Tensor], *last: float) -> None:
        """Launch it on `tensors` in the same order; `last` are the last arguments, numbers that differ as well."""
        launcher, given, addresses = self.launcher, [*self.fixed, *last], 0
        if launcher.code is not None:
            for at, places in self.places:
                held = tensors[at]
                found = held.data_ptr() or address(held)
                addresses |= found
                for place in places:
                    given[place] = found
            if not addresses & _ALIGNED and launcher.is_current():
                launcher.code(*given, *launcher.tail)
                return
        for at, places in self.places:
            for place in places:
                given[place] = tensors[at]
        launcher(given)


_launchers: dict[Any, Launcher] = {}


def _of_the_compiler(error: Exception) -> bool:
    """Whether Triton failed to call the compiler of the host, though the probe had one in its cache."""
    return isinstance(error, (OSError, CalledProcessError)) or "C compiler" in str(error)
