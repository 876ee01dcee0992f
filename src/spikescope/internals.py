"""The private calls of PyTorch that the library relies on, each in one place with its reason."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import FunctionMeta
from torch.utils.checkpoint import CheckpointFunction

from .versions import check_version

__all__ = [
    "LeanFunction",
    "at_work",
    "checkpoint_at_work",
    "checkpoint_may_keep_state",
    "constant_when_compiled",
    "enable_gradients",
    "exporting",
    "function_modes",
    "gradient_is_watched",
    "holders",
    "in_backward",
    "in_compiled_derivatives",
    "in_compiled_transform",
    "in_forward_mode",
    "in_nested_grad",
    "is_ordinary",
    "is_patched",
    "is_plain",
    "is_undisturbed",
    "keys_of",
    "made_by_conversion",
    "memory_question",
    "next_in_a_row",
    "readable",
    "recording",
    "runs_otherwise",
    "saved_tensors_hook",
    "vector_jacobian",
]

check_version(torch.__version__)  # before the first of them is called


def in_backward() -> bool:
    """Whether the autograd engine is running a backward pass in this thread.

    A forward pass in there is the recomputation of an activation checkpoint. PyTorch has no public question for it.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def at_work() -> tuple[bool, bool, bool]:
    """Whether `torch.compile` is at work on this call, a transform of `torch.func`, the autograd engine: as
    `in_transform` and `in_backward` say, asked once.
    """
    if torch.compiler.is_compiling():
        return True, False, False
    return False, torch._C._are_functorch_transforms_active(), torch._C._current_graph_task_id() != -1


def recomputation() -> tuple[int, Any]:
    """What tells one recomputation of an activation checkpoint from another: the backward pass, and what asked for it.

    That is the node of the graph that stands before the engine; its number in the order of creation is its own.
    """
    node = torch._C._current_autograd_node()
    return torch._C._current_graph_task_id(), None if node is None else node._sequence_nr()


def checkpoint_at_work(training: bool) -> Any:
    """The activation checkpoint whose function runs in this thread, for the first time or again; None if none is seen.

    PyTorch has no public question for it. One kind works by hooks on what autograd saves, which are closures over the
    checkpoint; the other, which is looked for in `training` alone, runs its function without gradients inside a
    function of autograd, and again when the engine is at the node of that.
    """
    hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks(False)
    if hooks is not None:
        pack = inspect.unwrap(hooks[0])
        kind = getattr(pack, "__qualname__", "").partition(".")[0]
        if kind not in ("_checkpoint_hook", "_recomputation_hook"):
            return None
        held = inspect.getclosurevars(pack).nonlocals
        return held["frame"] if kind == "_checkpoint_hook" else held["target_frame_ref"]()
    if torch._C._current_graph_task_id() != -1:
        node = torch._C._current_autograd_node()
        return node if type(node).__name__ == "CheckpointFunctionBackward" else None
    if training and not torch.is_grad_enabled():
        caller: FrameType | None = sys._getframe(1)
        while caller is not None:
            if caller.f_code is CheckpointFunction.forward.__code__:
                return caller.f_locals["ctx"]
            caller = caller.f_back
    return None


def after_backward(function: Callable[[], None]) -> None:
    """Have `function` called when the backward pass that runs in this thread has ended. PyTorch has it for engines."""
    torch.autograd.Variable._execution_engine.queue_callback(function)


def jit_trace() -> Any:
    """The trace that `torch.jit.trace` is making, or None; one is told from another by identity."""
    return torch._C._get_tracing_state() if torch._C._is_tracing() else None


def readable(x: Tensor) -> bool:
    """Whether Python may look at the values of `x`: not in compiled code, under `vmap`, or on the meta device.

    PyTorch has no public question for a tensor that `torch.func.vmap` has batched.
    """
    if torch.compiler.is_compiling() or x.is_meta:
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):  # by one transform inside another
        if functorch.is_batchedtensor(x):
            return False
        x = functorch.get_unwrapped(x)
    return True


def gradient_is_watched(x: Tensor, *modules: nn.Module) -> bool:
    """Whether somebody will look at the gradient of this very tensor, or of the inputs and outputs of `modules`.

    Leaves and `retain_grad` have public questions; hooks on a tensor and backward hooks on a module have none.
    """
    if any(module._backward_hooks or module._backward_pre_hooks for module in modules):
        return True
    return x.requires_grad and bool(x.is_leaf or x.retains_grad or x._backward_hooks)


def holders(storage: torch.UntypedStorage) -> int:
    """How many hold this memory: tensors, whether Python sees them or not, and `storage` itself.

    PyTorch has no public question for it; its own compiler asks this before it takes memory back.
    """
    return torch._C._storage_Use_Count(storage._cdata)


def in_forward_mode() -> bool:
    """Whether a forward-mode derivative (`torch.func.jvp`, dual tensors) is being taken.

    PyTorch answers this only for a given tensor, and by unpacking it.
    """
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def checkpoint_may_keep_state() -> bool:
    """Whether `torch.compile` accepts a module that changes its state inside an activation checkpoint.

    It is a setting of the user's, there from PyTorch 2.11 on.
    """
    return bool(getattr(torch._dynamo.config, "skip_fwd_side_effects_in_bwd_under_checkpoint", False))


@contextmanager
def recording() -> Iterator[None]:
    """Have autograd record inside an operator, which runs below it. PyTorch has no public way up."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in (torch._C.DispatchKey.AutogradFunctionality, torch._C.DispatchKey.ADInplaceOrView):
        excluded = excluded.remove(key)
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded), torch.enable_grad():
        yield


def exporting() -> bool:
    """Whether `torch.export` is tracing.

    `torch.compiler.is_exporting` says so too, but up to PyTorch 2.11 `torch.compile` takes it to be true in everything
    that it traces. The flag behind it is right in all of these versions, and compiled code is guarded by it.
    """
    return torch.compiler._is_exporting_flag


def _keys(*names: str) -> int:
    """What the dispatcher knows a tensor with these keys by."""
    found = 0
    for name in names:
        found |= torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)).raw_repr()
    return found


_PLAIN_TYPES, _PLACES, _KINDS = (Tensor, nn.Parameter), ("CPU", "CUDA", "XPU"), ("", "Autograd", "Autocast")
_ODD_KEYS = ~_keys("ADInplaceOrView", *[kind + place for kind in _KINDS for place in _PLACES])


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are tensors with memory of their own, outside every mode and transform of PyTorch.

    Only then may a kernel be called on their addresses directly. What has no memory (a tensor of zeros that is none, a
    fake one, one that a transform has left behind) looks like any other; the dispatcher alone knows them, by their
    keys. PyTorch has no public question for these, nor for modes and transforms.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
    ):
        return False
    keys = torch._C._dispatch_keys
    for held in tensors:  # a loop: a generator costs as much as the checks
        if held is not None and (type(held) not in _PLAIN_TYPES or keys(held).raw_repr() & _ODD_KEYS):
            return False
    return True


_ORDINARY = frozenset(_keys("ADInplaceOrView", *[kind + place for kind in _KINDS]) for place in _PLACES[:2])
_OF_INFERENCE = frozenset(_keys(place, f"Autocast{place}") for place in _PLACES[:2])


def is_ordinary(x: Tensor) -> bool:
    """Whether a tensor is like those that `torch.empty` makes: with memory, and of no mode or transform.

    One of `torch.inference_mode` is, as long as that lasts.
    """
    keys = torch._C._dispatch_keys(x).raw_repr()
    return keys in _ORDINARY or (keys in _OF_INFERENCE and torch.is_inference_mode_enabled())


def keys_of(x: Tensor) -> int:
    """What the dispatcher knows a tensor by: where it lies, and whether it is a tensor like any other."""
    return int(torch._C._dispatch_keys(x).raw_repr())


def is_undisturbed(in_backward: bool = False) -> bool:
    """Whether this thread runs operations as they come: in no mode, transform or trace, nor in such a backward pass."""
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or (not in_backward and torch._C._current_graph_task_id() != -1)
        or torch._C._get_tracing_state()
        or forward_ad._current_level >= 0
        or torch.compiler._is_exporting_flag
    )


_module_call = nn.Module.__call__
enable_gradients = torch._C._set_grad_enabled  # for this thread; the public ways make an object at every change
function_modes = torch._C._len_torch_function_stack  # how many there are; PyTorch has no public question for it


def next_in_a_row(module: nn.Module) -> nn.Module | None:
    """The module that is called next, with what `module` is about to give: where an `nn.Sequential` is calling it.

    It is asked by a function that `module.forward` calls. A module does not know its caller, nor what that does with
    its output; of this one caller both are known, from its frame.
    """
    caller: FrameType | None = sys._getframe(2)
    for _ in range(4):  # the functions that call a module and its hooks
        caller = None if caller is None else caller.f_back
        if caller is not None and caller.f_code is nn.Sequential.forward.__code__:
            break
    else:
        return None
    held = caller.f_locals
    row = list(held["self"]._modules.values())
    places = [place for place, each in enumerate(row) if each is module]
    if held.get("module") is not module or len(places) != 1 or places[0] + 1 == len(row):
        return None
    return row[places[0] + 1]


def is_patched() -> bool:
    """Whether somebody has put a call of their own in the place of that of all modules, as torch.fx does to trace.

    They see what is called, and also which parameters are read: nothing may be read before theirs is called.
    """
    return nn.Module.__call__ is not _module_call


def is_left_behind(x: Any) -> bool:
    """Whether `x` has no values outside of the mode or transform of PyTorch that has made it."""
    if not isinstance(x, Tensor):
        return False
    functorch, fakes = torch._C._functorch, sys.modules.get("torch._subclasses.fake_tensor")
    fake = fakes is not None and isinstance(x, fakes.FakeTensor)
    return fake or x.is_meta or functorch.is_functorch_wrapped_tensor(x) or torch._is_functional_tensor(x)


def materialized(x: Tensor | None) -> Tensor | None:
    """A tensor of zeros or of a sparse layout as one with memory; others as they are.

    PyTorch gives the zeros that have none as gradients and tangents; it fills them for an operator, not in a list.
    """
    if x is None or type(x) not in _PLAIN_TYPES:
        return x
    if x.layout is not torch.strided:
        return x.to_dense()
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device) if x._is_zerotensor() else x


def is_batched_gradient(x: Tensor | None) -> bool:
    """Whether `x` is one of many gradients that `torch.autograd.grad(..., is_grads_batched=True)` takes at once.

    They are tensors of a `vmap` that is older than that of torch.func, and known to neither modes nor transforms.
    """
    return x is not None and torch._C._functorch.is_legacy_batchedtensor(x)


def takes_operations_alone() -> bool:
    """Whether what runs is written down by `torch.jit.trace` or `torch.func.functionalize`.

    Neither takes an autograd function, and a trace that is run elsewhere must hold no operator of ours.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._is_tracing():
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() == torch._C._functorch.TransformType.Functionalize for level in stack)


def memory_question() -> Callable[[Tensor, Tensor], bool]:
    """The function that says whether a change of one tensor in place may be one of another.

    PyTorch has no public one. In compiled code and under transforms a tensor has no memory yet; there the answer is
    what is known of views.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return _are_views
    question: Callable[[Tensor, Tensor], bool] = torch._C._is_alias_of  # type: ignore[attr-defined]  # not in the stubs
    return question


def _are_views(a: Tensor, b: Tensor) -> bool:
    return a is b or a._base is b or b._base is a or (a._base is not None and a._base is b._base)


def in_nested_grad() -> bool:
    """Whether two derivatives of `torch.func` are being taken, one inside the other."""
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return False
    stack = torch._C._functorch.get_interpreter_stack() or []
    return sum(level.key() == torch._C._functorch.TransformType.Grad for level in stack) > 1


F = TypeVar("F", bound=Callable[..., object])


def constant_when_compiled(function: F) -> F:
    """`torch.compiler.assume_constant_result`, which would import the whole compiler to set this one mark."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]  # the mark itself
    return function


@constant_when_compiled
def _tracing_a_transform() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def in_compiled_transform() -> bool:
    """Whether `torch.compile` is tracing through a transform of `torch.func`, where no tensor says `requires_grad`."""
    return torch.compiler.is_compiling() and _tracing_a_transform()


@constant_when_compiled
def _tracing_derivatives() -> bool:
    kinds, stack = torch._C._functorch.TransformType, torch._C._functorch.get_interpreter_stack() or []
    return sum(level.key() in (kinds.Grad, kinds.Jvp) for level in stack) > 1


def in_compiled_derivatives() -> bool:
    """Whether `torch.compile` is tracing through a derivative of `torch.func` inside another."""
    return torch.compiler.is_compiling() and _tracing_derivatives()


def in_transform() -> bool:
    """Whether `torch.func` is transforming this call (`vmap`, `grad`, ...), so that values are stand-ins.

    PyTorch has no public question for it; compiled code answers in its own way.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def saved_tensors_hook() -> Any:
    """What gives back the tensors that autograd saves now, None without hooks. PyTorch asks the innermost alone."""
    innermost = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return None if innermost is None else innermost[1]


def runs_otherwise(module: nn.Module) -> bool:
    """Whether a call of `module` is more than its class says: through hooks, somebody's own or of all modules, or a
    `forward` that was put on the instance.
    """
    every: Any = nn.modules.module
    return bool(
        has_own_hooks(module)
        or "forward" in module.__dict__
        or every._global_forward_hooks
        or every._global_forward_pre_hooks
        or every._global_backward_hooks
        or every._global_backward_pre_hooks
    )


def has_own_hooks(module: nn.Module) -> bool:
    """Whether somebody has put a hook on `module`. PyTorch numbers those; the permanent ones of ours have a name."""
    kinds = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hooks and any(isinstance(key, int) for key in hooks) for hooks in kinds)


def vector_jacobian(outputs: list[Tensor], inputs: list[Tensor], grads: list[Tensor]) -> tuple[Tensor, ...]:
    """`torch.autograd.grad`, with zeros for inputs that nothing depends on.

    The public function checks the shapes of `grads` with the symbolic shapes of the compiler, which takes a third of a
    second to import.
    """
    if not outputs:
        return tuple(torch.zeros_like(held) for held in inputs)
    engine = torch.autograd.Variable._execution_engine
    found = engine.run_backward(tuple(outputs), tuple(grads), False, False, tuple(inputs), True, accumulate_grad=False)
    return tuple(torch.zeros_like(i) if grad is None else grad for i, grad in zip(inputs, found, strict=True))


def never_a_frame_of_its_own(function: Callable[..., Any]) -> None:
    """Have `torch.compile` trace `function` as a part of what calls it, but not compile it where it is called alone.

    The hooks of a compiled network itself are called outside of its graph; each would become a graph of its own.
    """
    frames: Any = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):  # a version without it compiles the hooks, which is slow but right
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))


def keep_in_order(operator: Any) -> bool:
    """Have `torch.compile` keep every call of an operator, in their order; gives whether this version of PyTorch can.

    In public it does so only for an operator that changes an input.
    """
    try:
        from torch._higher_order_ops.effects import _EffectType, _register_effectful_op
    except ImportError:
        logging.getLogger("spikescope").warning(
            "PyTorch %s cannot keep operators of a backward pass in order: in compiled code, gradients can be recorded "
            "only where a backward pass goes through one call of the network.",
            torch.__version__,
        )
        return False
    _register_effectful_op(operator, _EffectType.ORDERED)
    return True


def made_by_conversion(norm: nn.Module) -> Any:
    """What `nn.SyncBatchNorm.convert_sync_batchnorm` has made of `norm`, if that is what called the caller; else None.

    It puts an `nn.SyncBatchNorm` in the place of a batch normalisation and drops all that it does not know, such as a
    step mode: the new one would take the axis N of a sequence for the channels. It has no hook for a class to say so.
    """
    if torch.compiler.is_compiling():
        return None
    asking = sys._getframe(2)
    if asking.f_code is not nn.SyncBatchNorm.convert_sync_batchnorm.__func__.__code__:  # type: ignore[attr-defined]
        return None
    held = asking.f_locals
    if held.get("module") is not norm or not isinstance(held.get("module_output"), nn.SyncBatchNorm):
        raise RuntimeError(
            "torch.nn.SyncBatchNorm.convert_sync_batchnorm of this version of PyTorch is not known to spikescope, and "
            "would lose the step modes. Use spikescope.functional.convert_sync_batchnorm(net)."
        )
    return held["module_output"]


class _Lean(FunctionMeta):
    """Makes the nodes of a function call its `backward` at once: PyTorch's own ask for it at every pass."""

    def __init__(cls, *given: Any) -> None:
        super().__init__(*given)
        function: Any = cls
        function._backward_cls.apply = function.backward
        function.outside = super(torch.autograd.Function, function).apply  # type: ignore[misc]  # of a base in C


class LeanFunction(torch.autograd.Function, metaclass=_Lean):
    """An autograd function whose `apply` takes positional arguments alone.

    PyTorch's own binds them to the signature of `forward` at every call, which takes longer than a small kernel.
    - `outside`: the same for a call of which it is known that no transform of `torch.func` is at work.
    """

    outside: ClassVar[Callable[..., Any]]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return cls.outside(*args)
