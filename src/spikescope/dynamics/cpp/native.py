"""Calling the C++ kernels: layouts, pointers and buffers."""

from __future__ import annotations

import ctypes
import math
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from threading import Thread, current_thread
from typing import NamedTuple

import torch
from torch import Tensor

from ...toolchain.compiler import is_kept
from ..graphs.program import Values, program
from ..graphs.trace import Body
from ..layout import (
    BLOCK,
    TAPS,
    Gradients,
    Layout,
    Outputs,
    field_in_layout,
    kinds_of_taps,
    layout,
    make_gradients,
    make_outputs,
    real_dtype,
    segment_length,
    sequence_in_layout,
    state_in_layout,
    state_strides,
    support_bounds,
    supports,
    whole_in_layout,
)
from .borrowed import load
from .caches import far_from, streamed_from
from .entry import address, backward_entry, forward_entry, given, packed
from .kernel import backward_source, backward_step_source, forward_source

__all__ = [
    "Ready",
    "Run",
    "backward",
    "forward",
    "in_memory",
    "ready_backward",
    "ready_forward",
    "runs_alone",
    "threads_for",
]

_SMALL = 1 << 15  # elements under which a second thread costs more than it saves

_NO_TAPS = frozenset[str]()

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # the OpenMP threads of the parent do not exist in the child, and waiting for them would hang


os.register_at_fork(after_in_child=_after_fork)


def runs_alone(elements: int) -> bool:
    """Whether a kernel over so many elements always takes one thread."""
    return elements < _SMALL


def threads_for(elements: int) -> int:
    """How many threads a kernel over so many elements takes."""
    return 1 if _forked or runs_alone(elements) else torch.get_num_threads()


class Run(NamedTuple):
    """What of a run decides which kernel it takes and over how much: all but addresses and the values of fields."""

    key: str
    io: torch.dtype
    step: Layout
    steps: int
    stride: int  # of the input, in time
    states: tuple[int, ...]  # the stride of the neurons in each: 0 for one number
    taps: frozenset[str] = _NO_TAPS
    wanted: tuple[int, ...] = ()  # of the backward pass: the slots of the values that get a gradient
    gained: bool = False  # whether each step of the input is multiplied by a number

    @property
    def real(self) -> torch.dtype:
        """The dtype of the state."""
        return torch.float64 if self.io is torch.float64 else torch.float32

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """What every kernel wants to know: the stride in time, the steps of a segment, all steps, the neurons."""
        return self.stride, segment_length("cpp", self.steps, len(self.states)), self.steps, self.step.numel

    @property
    def streamed(self) -> bool:
        """Whether the output is stored past the caches; half precision, which is converted first, takes longer so."""
        rows = self.steps + (self.steps if self.stride else 1)
        return self.io.itemsize >= 4 and rows * self.step.numel * self.io.itemsize >= streamed_from()

    @property
    def large(self) -> bool:
        """Whether the backward pass reads its input from memory rather than from a cache."""
        return self.steps * self.step.numel * self.io.itemsize >= far_from()

    @property
    def threads(self) -> int:
        """How many threads it takes now."""
        return threads_for(self.steps * self.step.numel)


class Ready(NamedTuple):
    """A kernel and what it is told at every call of a run; see `entry.py`."""

    kernel: Callable[[bytes, bytes], None]
    fixed: bytes
    arrays: tuple[Tensor, ...]  # of the constants those with a value a neuron


@cache
def _forward_kernel(
    key: str, io: torch.dtype, taps: frozenset[str], settled: frozenset[str], gained: bool
) -> Callable[..., None]:
    return _entered(_forward_text(key, io, taps, settled, gained), "enter_forward")


def _forward_text(key: str, io: torch.dtype, taps: frozenset[str], settled: frozenset[str], gained: bool) -> str:
    real = torch.float64 if io is torch.float64 else torch.float32
    made = program(key)
    body = made.forward(real)
    told = len(TAPS) + len(supports(taps))
    return forward_source(body, io, taps, settled, gained) + forward_entry(body, made.states, told, gained)


@cache
def _backward_kernel(
    key: str, io: torch.dtype, wanted: tuple[int, ...], settled: frozenset[str], single: bool, gained: bool
) -> Callable[..., None]:
    real = torch.float64 if io is torch.float64 else torch.float32
    made = program(key)
    body, scalars = made.backward(real, wanted), tuple(made.model.kinds[slot] == "s" for slot in wanted)
    source = backward_step_source if single else backward_source
    entry = backward_entry(body, made.states, len(wanted), gained)
    return _entered(source(body, io, scalars, settled, gained) + entry, "enter_backward")


def _entered(source: str, name: str) -> Callable[..., None]:
    entry = getattr(load(source), name)
    entry.argtypes, entry.restype = (ctypes.c_char_p, ctypes.c_char_p), None
    found: Callable[..., None] = entry
    return found


class Constants(NamedTuple):
    """The results of a prologue as the kernel takes them."""

    numbers: tuple[float, ...]
    arrays: tuple[Tensor, ...]
    settled: frozenset[str]  # those for whose value the kernel is made

    @property
    def periods(self) -> list[int]:
        """After how many neurons each array begins anew."""
        return [held.numel() for held in self.arrays]


def _constants(body: Body, values: Values, step: Layout, real: torch.dtype) -> Constants:
    numbers, arrays = [], []
    with torch.no_grad():
        found = body.prologue(values.numbers)(values.tensors)
        for name, constant in zip(body.constants.values(), found, strict=True):
            if name in body.arrays and isinstance(constant, Tensor):
                arrays.append(field_in_layout(constant.to(real), step))
                numbers.append(0.0)
            else:
                numbers.append(float(constant))
    return Constants(tuple(numbers), tuple(arrays), _settled(body, numbers))


def _settled(body: Body, numbers: Sequence[float]) -> frozenset[str]:
    """The constants for whose value a kernel is made: what it need not compute, it need not wait for.

    - conditions that are false
    - divisors that are powers of two, far from the ends of the range: dividing by them is multiplying, exactly. The
      default tau of 2 is one; a LIF layer takes a sixth less time backwards.
    - numbers far from the ends with whose difference from them something is compared with 0: of two numbers that are
      not equal the difference is not 0. So a neuron that is at its threshold is found without it.
    - other numbers that are 0, of which a compiler knows what it need not add. The default v_reset is one.
    """
    names = [name for name in body.constants.values() if name not in body.arrays]
    of = {name: number for name, number in zip(body.constants.values(), numbers, strict=True) if name in names}
    false = {name for name in body.conditions & of.keys() if not of[name]}
    inverse = {name for name in body.divisors & of.keys() if abs(math.frexp(of[name])[0]) == 0.5 and _is_far(of[name])}
    apart = {name for name in body.compared & of.keys() if _is_far(of[name])}
    return frozenset(false | inverse | apart | {name for name in body.others & of.keys() if _is_zero(of[name])})


def _is_far(number: float) -> bool:
    """Whether a number is far from the ends of the range."""
    return 2.0**-60 < abs(number) < 2.0**60


def _is_zero(number: float) -> bool:
    return number == 0 and math.copysign(1, number) > 0


def ready_forward(run: Run, values: Values) -> Ready:
    """The kernel of a run forwards. That of fields without axes is made ready once for the values that they have."""
    told = _told(values)
    return _ready_forward(run, values) if told is None else _known_forward(run, values.kinds, told)


def ready_backward(run: Run, values: Values) -> Ready:
    """The kernel of a run backwards, in the same way."""
    _await(run)
    told = _told(values)
    return _ready_backward(run, values) if told is None else _known_backward(run, values.kinds, told)


def _told(values: Values) -> bytes | None:
    """The values of the equations as bytes, which tell 0.0 from -0.0; None where one of them has axes."""
    if "a" in values.kinds:
        return None
    numbers, tensors = iter(values.numbers), iter(values.tensors)
    held = [next(numbers) if kind == "n" else next(tensors).item() for kind in values.kinds]
    return struct.pack(f"{len(held)}d", *held)


def _of_bytes(run: Run, kinds: str, told: bytes) -> Values:
    held = list(zip(kinds, struct.unpack(f"{len(kinds)}d", told), strict=True))
    tensors = [torch.tensor(number, dtype=run.real, device="cpu") for kind, number in held if kind == "s"]
    return Values(kinds, tensors, tuple(number for kind, number in held if kind == "n"))


@lru_cache(maxsize=1024)
def _known_forward(run: Run, kinds: str, told: bytes) -> Ready:
    return _ready_forward(run, _of_bytes(run, kinds, told))


@lru_cache(maxsize=1024)
def _known_backward(run: Run, kinds: str, told: bytes) -> Ready:
    return _ready_backward(run, _of_bytes(run, kinds, told))


def _ready_forward(run: Run, values: Values) -> Ready:
    constants = _constants(program(run.key).forward(run.real), values, run.step, run.real)
    kernel = _forward_kernel(run.key, run.io, kinds_of_taps(run.taps), constants.settled, run.gained)
    bounds = [number for name in supports(run.taps) for number in support_bounds(name)]
    longs = [*run.extent, run.streamed, *run.states, *constants.periods]
    fixed = packed(longs, [*constants.numbers, *bounds])
    return Ready(kernel, fixed, constants.arrays)


def _ready_backward(run: Run, values: Values) -> Ready:
    constants = _constants(program(run.key).backward(run.real, run.wanted), values, run.step, run.real)
    kernel = _backward_kernel(run.key, run.io, run.wanted, constants.settled, run.steps == 1, run.gained)
    fixed = packed([*run.extent, run.large, *run.states, *constants.periods], constants.numbers)
    return Ready(kernel, fixed, constants.arrays)


_foreseen: dict[tuple[str, torch.dtype, bool], Thread | None] = {}  # what makes a backward kernel meanwhile


def foresee(run: Run, values: Values) -> None:
    """Have the backward kernel made beside the forward one, where that is to be compiled and a gradient is wanted."""
    what = run.key, run.io, run.steps == 1
    if what in _foreseen:
        return
    _foreseen[what] = None
    settled = _constants(program(run.key).forward(run.real), values, run.step, run.real).settled
    if is_kept(_forward_text(run.key, run.io, kinds_of_taps(run.taps), settled, run.gained)):
        return
    slots = [slot for slot, kind in enumerate(values.kinds) if kind != "n"]
    wanted = tuple(slot for slot, held in zip(slots, values.tensors, strict=True) if held.requires_grad)
    later = run._replace(taps=_NO_TAPS, wanted=wanted)
    apart = values._replace(tensors=[held.detach() for held in values.tensors])

    def make() -> None:
        with suppress(Exception):  # it comes up again where the kernel is wanted
            ready_backward(later, apart)

    thread = _foreseen[what] = Thread(target=make, name="spikescope-backward-kernel", daemon=True)
    thread.start()


def _await(run: Run) -> None:
    """Wait for the kernel that is being made: to make it a second time would take as long, and slow down the first."""
    what = run.key, run.io, run.steps == 1
    thread = _foreseen.get(what)
    if thread is not None and thread is not current_thread():
        thread.join()
        _foreseen[what] = None


def in_memory(held: float | Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """A state as the kernel takes it: in memory, a number as well."""
    if isinstance(held, Tensor):
        return state_in_layout(held, step, real)
    return _number(struct.pack("d", held), real)


@lru_cache(maxsize=256)
def _number(told: bytes, real: torch.dtype) -> Tensor:
    """A number in memory, to be read alone."""
    return torch.tensor(struct.unpack("d", told)[0], dtype=real, device="cpu")


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Run the forward kernel."""
    x_seq, step = layout(x_seq)
    first = [in_memory(held, step, real_dtype(x_seq)) for held in state]
    out = make_outputs("cpp", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    strides = tuple(state_strides(first, step))
    run = Run(key, x_seq.dtype, step, x_seq.shape[0], x_seq.stride(0), strides, taps)
    if keep_checkpoints:
        foresee(run, values)
    ready = ready_forward(run, values)
    told = [out.taps.get(name) for name in (*TAPS, *supports(taps))]
    pointers = [address(held) for held in (*first, *out.state, *ready.arrays, *told)]
    checkpoints = address(out.checkpoints) if out.checkpoints is not None and out.checkpoints.numel() else 0
    addresses = (address(x_seq), address(out.y), address(out.v_seq), checkpoints, run.threads, *pointers)
    ready.kernel(ready.fixed, given(len(addresses))(*addresses))
    return out


def backward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    wanted: tuple[int, ...],
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: Sequence[Tensor | None],
    place: Tensor | None = None,
) -> Gradients:
    """Run the backward kernel; with `place` the gradient of the input goes there, which may be the input itself."""
    x_seq, step = layout(x_seq)
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    first = [in_memory(held, step, real) for held in state]
    run = Run(key, x_seq.dtype, step, steps, x_seq.stride(0), tuple(state_strides(first, step)), wanted=wanted)
    ready = ready_backward(run, values)
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    gv_seq = None if gv_seq is None else whole_in_layout(gv_seq, step, real)
    gstate = [None if held is None else state_in_layout(held.expand(step.shape), step, real) for held in gstate]
    scalars = [values.is_scalar(i) for i in wanted]
    out = make_gradients(x_seq, step, state, scalars, place)
    sums = torch.empty(-(-n // BLOCK), scalars.count(True), dtype=torch.float64, device="cpu")
    addresses = (
        address(x_seq),
        address(checkpoints) if checkpoints is not None and checkpoints.numel() else 0,
        address(gy),
        gy.stride(0),
        address(gv_seq),
        address(out.x_seq),
        address(sums),
        run.threads,
        0,
        *(address(held) for held in (*first, *gstate, *out.state, *ready.arrays, *out.values)),
    )
    ready.kernel(ready.fixed, given(len(addresses))(*addresses))
    return out
