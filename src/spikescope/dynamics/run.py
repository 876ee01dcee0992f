"""Choosing the backend that runs a neuron, and running it.

The rule of `'auto'`: the fused kernel of the device, if one can be made, if its spikes are bit for bit those of the
eager loop, and if nothing asks for what only the eager loop has; else the eager loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fields.readings import told_now
from ..form import Deferred, computed
from ..internals import (
    constant_when_compiled,
    exporting,
    in_compiled_transform,
    in_forward_mode,
    in_nested_grad,
    is_distributed,
    runs_otherwise,
    takes_operations_alone,
)
from ..surrogate import Surrogate
from ..toolchain.compiler import CompileError, trouble
from . import eager
from .call import call_of
from .cpp.prepared import PreparedOnCpu
from .eager_taps import eager_taps
from .fused import check_present, run_fused
from .graphs.program import program, refusal
from .graphs.trace import UnsupportedOperationError
from .layout import in_one_order, real_dtype
from .prepared import Prepared, lies_without_gaps
from .triton import launch
from .triton.prepared import PreparedOnGpu

__all__ = [
    "WHOLE_TAPS",
    "Definition",
    "Plan",
    "backends",
    "deferred_taps",
    "plan",
    "prepare",
    "run_sequence",
    "run_single",
    "run_single_eagerly",
]

backends: tuple[str, ...] = ("auto", "torch", "cpp", "triton")


class Definition(NamedTuple):
    """A neuron as data: its class, its fields, and the same fields as a key and numbers."""

    neuron: type[Any]
    params: Callable[[], Any]  # its fields; compiled code takes their numbers for constants
    key: str | None  # None where no text tells what a part of it computes
    tensors: list[Tensor]
    numbers: list[Any]  # in compiled code some of them may be told by tensors


class Plan(NamedTuple):
    """The backend that would run, and why."""

    backend: str
    reason: str


def plan(backend: str, definition: Definition, state: Any, x: Tensor, single: bool = False) -> Plan:
    """Decide for an input like `x`, a sequence or one step; a forced backend that cannot run is an error in words."""
    if is_distributed(x):
        _check_distributed(definition)
    if backend == "torch":
        return Plan("torch", "the backend is set to 'torch'")
    name = definition.neuron.__name__
    if definition.tensors:
        _check_devices(definition, x)
    odd = _odd(definition, state, x)
    if odd is None:
        assert definition.key is not None
        found = decide(backend, definition.key, x.device.type, torch.is_grad_enabled(), real_dtype(x))
        if backend == "auto" and found.backend == "cpp" and _positional(definition.key, real_dtype(x)):
            shape = x.shape if single else x.shape[1:]
            if not in_one_order(x.stride()[-len(shape) :] if shape else (), shape, (*state, *definition.tensors)):
                found = Plan("torch", _OF_ITS_PLACE)
    else:
        found = Plan("torch", odd)
    if backend not in ("auto", found.backend):
        raise RuntimeError(f"{name} cannot run on the backend {backend!r}: {found.reason}. Set backend='auto'.")
    return found


def _check_devices(definition: Definition, x: Tensor) -> None:
    """A kernel takes addresses: one on another device is none of its own."""
    for held in definition.tensors:
        if held.device != x.device and (held.ndim or held.device.type != "cpu"):
            names = [name for name, value in definition.params()._asdict().items() if value is held]
            raise RuntimeError(
                f"{definition.neuron.__name__}: {names[0] if names else 'a field of its surrogate'} is on the device "
                f"{str(held.device)!r}, but the input on {str(x.device)!r}. Move both to one, as with net.to(x.device)."
            )


def _check_distributed(definition: Definition) -> None:
    """A field that is no `DTensor` meets one: of a number that learns the gradient would be one, and no optimizer's."""
    fields = {name: held for name, held in definition.params()._asdict().items() if isinstance(held, Tensor)}
    within = [held for held in definition.tensors if all(held is not field for field in fields.values())]
    for name, held in (*fields.items(), *(("a field of its surrogate", held) for held in within)):
        learns = held.requires_grad and torch.is_grad_enabled()
        if (learns or held.ndim) and not is_distributed(held):
            cure = f"node.{name} = torch.distributed.tensor.distribute_tensor(node.{name}, mesh)"
            if held.requires_grad or name not in fields:
                cure = "torch.distributed.tensor.distribute_module(net, mesh)"
            raise RuntimeError(
                f"{definition.neuron.__name__}: the input is a DTensor, but {name} is a plain tensor of this process. "
                f"Distribute the parameters and fields too: {cure}"
            )


def _odd(definition: Definition, state: Any, x: Tensor) -> str | None:
    """What about this very call only the eager loop can do."""
    if definition.key is None:
        return _without_key(definition)
    if in_forward_mode():
        return "the fused kernels have no forward-mode derivative"
    if in_compiled_transform():
        return "PyTorch cannot compile the derivative of an operator inside torch.func"
    if in_nested_grad():
        return "the fused kernels have no second derivative under torch.func"
    if takes_operations_alone():
        return "torch.jit.trace and functionalize take PyTorch's own operations alone"
    if exporting():
        return "an exported graph must not depend on kernels of this machine"
    if is_distributed(x, *(held for held in state if isinstance(held, Tensor)), *definition.tensors):
        return "a kernel knows nothing of the parts that a DTensor has in other processes"
    real = real_dtype(x)
    if any(isinstance(held, Tensor) and torch.promote_types(held.dtype, real) is not real for held in state):
        return f"its state is wider than {real}"
    return None


_OFTEN = "reads numbers from elsewhere than its fields that change often; make them fields, `value(...)`"


def _without_key(definition: Definition) -> str:
    if told_now(definition.neuron) is None:
        return f"{definition.neuron.__name__} {_OFTEN}"
    for name in definition.neuron.parts:
        part = getattr(definition.params(), name)
        if isinstance(part, Surrogate) and runs_otherwise(part):
            return f"there are hooks on its {name}, or a forward of its own, which the eager loop calls at every step"
        if told_now(type(part)) is None:
            return f"its {name} {_OFTEN}"
    return "a part of it is neither a surrogate of spikescope.surrogate nor a function of PyTorch"


def _hands_over(definition: Definition, state: Any, x: Tensor) -> bool:
    """Whether the eager loop runs inside the operator: what compiled code would make of it has numbers as constants."""
    if not any(isinstance(number, Tensor) for number in definition.numbers) or _odd(definition, state, x) is not None:
        return False
    assert definition.key is not None
    return _has_model(definition.key, real_dtype(x))


@constant_when_compiled
def _has_model(key: str, real: torch.dtype) -> bool:
    return refusal(key, False, real) is None


_OF_ITS_PLACE = (
    "its step uses sigmoid, whose last bit in PyTorch depends on where in memory a neuron lies, and input, state and "
    "fields lie in several orders (x.contiguous() sets that right)"
)


@constant_when_compiled
def _positional(key: str, real: torch.dtype) -> bool:
    return program(key).positional(real)


@constant_when_compiled
def _tells_h(key: str, real: torch.dtype) -> bool:
    return program(key).tells_h(real)


@constant_when_compiled
def decide(backend: str, key: str, device: str, gradients: bool, real: torch.dtype) -> Plan:
    """The decision for all that has this key, device and state of the dtype `real`, with a backward pass or without."""
    fused, missing = _fused_backend(backend, device)
    if fused is None:
        return Plan("torch", missing)
    if backend not in ("auto", fused):
        place = "a GPU" if backend == "triton" else "the CPU"
        return Plan("torch", f"its kernels run on {place}, and the input is on the device {device!r}")
    refused = refusal(key, gradients, real)
    if refused is not None:
        if backend != "auto":
            raise UnsupportedOperationError(refused)
        return Plan("torch", refused)
    inexact = program(key).inexact(real, fused) if backend == "auto" else None
    if inexact is not None:
        return Plan("torch", f"{inexact}: spikes may flip")
    if backend == "auto":
        return Plan(fused, "'auto': the fused kernel of this device gives the same spikes")
    return Plan(fused, f"the backend is set to {backend!r}")


def _fused_backend(backend: str, device: str) -> tuple[str | None, str]:
    """The fused backend of a device, or None and the reason."""
    if device == "cpu" and not (backend == "triton" and launch.interpreted()):
        told = trouble()
        return (None, told) if told else ("cpp", "")
    if device not in ("cpu", "cuda", "xpu"):
        return None, f"there is no fused kernel for the device {device!r}"
    if not launch.available():
        return None, "the package triton is not installed: pip install 'spikescope[triton]'"
    fault = launch.fault()
    return ("triton", "") if fault is None else (None, fault)


def run_single(backend: str, definition: Definition, state: Any, x: Tensor) -> eager.Step:
    """One step from `state` by the planned backend."""
    planned = plan(backend, definition, state, x, single=True).backend
    if planned != "torch" or _hands_over(definition, state, x):
        try:
            run, _ = _fused(planned, definition, state, x, False, (), single=True)
            return eager.Step(run.output, run.state, None)
        except CompileError as error:
            _without_kernel(backend, definition, error)
    check_present(state, definition.tensors, x)
    return eager.single(definition.neuron.fed_step, definition.params(), eager.start(state, x), x)


def run_single_eagerly(neuron: type[Any], p: Any, state: Any, x: Tensor) -> eager.Step:
    """One step from `state` by the eager loop, with the fields `p`: for a call that nothing compiles."""
    check_present(state, [held for held in p if isinstance(held, Tensor)], x)
    return eager.single(neuron.fed_step, p, eager.start(state, x), x)


def run_sequence(
    backend: str, definition: Definition, state: Any, x_seq: Tensor, keep_v: bool, taps: tuple[str, ...] = ()
) -> eager.Sequence:
    """All steps from `state` by the planned backend; `taps` are names of `layout.TAPS`, in any backend the same."""
    planned = plan(backend, definition, state, x_seq).backend
    if planned != "torch" or _hands_over(definition, state, x_seq):
        try:
            run, found = _fused(planned, definition, state, x_seq, keep_v, taps)
            return run._replace(taps=found) if taps else run
        except CompileError as error:
            _without_kernel(backend, definition, error)
    check_present(state, definition.tensors, x_seq)
    first = x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:])
    start, keep_h = eager.start(state, first), not {"count", "packed"}.issuperset(taps)
    run = eager.sequence(definition.neuron.fed_step, definition.params(), start, x_seq, keep_v, keep_h)
    return run._replace(taps=eager_taps(taps, x_seq, run.output, run.h_seq), h_seq=None) if taps else run


def prepare(
    backend: str,
    definition: Definition,
    state: Any,
    x: Tensor,
    single: bool,
    taps: Sequence[str] = (),
    gained: bool = False,
    keep_v: bool = False,
) -> Prepared | None:
    """What runs for an input like `x` from a state like `state`, and tells `taps` of its spikes; None where that is no
    kernel, or where it first has to bring them into another form.

    - `gained`: that it multiplies each step by a number first, if that is the CPU's kernel.
    - `keep_v`: that it gives the potential after every step too, behind the state; of a sequence, by the CPU's kernel.
    """
    planned = plan(backend, definition, state, x, single).backend
    if planned == "torch" or (keep_v and planned != "cpp") or not lies_without_gaps(x, state, single):
        return None
    assert definition.key is not None
    first = [None if isinstance(held, Tensor) else held for held in state]
    learning = (x, *state, *definition.tensors)
    call = call_of(planned, definition.key, state, definition.numbers, learning, keep_v, taps, single)
    try:
        if planned != "cpp":
            return PreparedOnGpu(call, x, first)
        made = PreparedOnCpu(call, x, first, gained)
        if gained:
            made.make_ready(definition.tensors)
        return made
    except CompileError:
        # the long way says so; what multiplies by itself has kernels of its own
        return prepare(backend, definition, state, x, single, taps) if gained else None


_told: set[str] = set()


def _without_kernel(backend: str, definition: Definition, error: CompileError) -> None:
    """The compiler failed at this kernel: with `'auto'` the eager loop runs, with one warning a neuron."""
    name = definition.neuron.__name__
    if backend != "auto":
        raise error
    if name not in _told:
        _told.add(name)
        warnings.warn(
            f"The kernel of {name} could not be compiled, so it runs as the slower eager loop on the CPU: {error}",
            RuntimeWarning,
            stacklevel=2,
        )


_AGAIN = "run again"

WHOLE_TAPS = ("h", "v")
"""What is as large as the input itself."""


def deferred_taps(
    backend: str, definition: Definition, state: Any, x_seq: Tensor, names: tuple[str, ...]
) -> dict[str, Deferred]:
    """For compiled code, which cannot know who listens when it runs: those of `names` for which it costs less to
    run the kernel again if somebody does than to write them every time. None where the eager loop runs.
    """
    planned = plan(backend, definition, state, x_seq).backend
    if planned == "torch":
        return {}
    held = (_as_tensor(number) for number in (*definition.numbers, *state))
    what = planned, definition.key, len(definition.numbers), x_seq, *held, *definition.tensors
    assert definition.key is not None
    whole = WHOLE_TAPS if _tells_h(definition.key, real_dtype(x_seq)) else ("v",)
    return {name: Deferred(_AGAIN, (name, *what)) for name in names if name in whole}


@computed(_AGAIN)
def _run_again(name: str, backend: str, key: str, count: int, x_seq: Tensor, *held: Tensor) -> Tensor | None:
    """The potentials of a run, after each reset or before it."""
    made = program(key)
    numbers, tensors = [number.item() for number in held[:count]], list(held[count + made.states :])
    state = made.model.State(*held[count : count + made.states])
    kernel = ("h",) if name == "h" else ()
    with torch.no_grad():
        run, taps = run_fused(backend, key, state, tensors, numbers, x_seq, name == "v", kernel)
    return taps["h"] if name == "h" else run.v_seq


def _as_tensor(held: float | Tensor) -> Tensor:
    """A number as compiled code can hand it over: to that it may be one that changes from call to call."""
    return held if isinstance(held, Tensor) else torch.scalar_tensor(held, dtype=torch.float64, device="cpu")


def _fused(
    planned: str,
    definition: Definition,
    state: Any,
    x_seq: Tensor,
    keep_v: bool,
    taps: tuple[str, ...],
    single: bool = False,
) -> tuple[eager.Sequence, dict[str, Tensor]]:
    assert definition.key is not None
    p = definition
    if taps and not _tells_h(definition.key, real_dtype(x_seq)):
        taps = tuple(name for name in taps if name in ("count", "packed"))
    return run_fused(planned, definition.key, state, p.tensors, p.numbers, x_seq, keep_v, taps, single)
