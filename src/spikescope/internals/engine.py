"""The autograd engine: whether it is at work, what it saves, and functions and calls of it that take less time."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionMeta
from torch.utils.checkpoint import CheckpointFunction

__all__ = [
    "LeanFunction",
    "after_backward",
    "checkpoint_at_work",
    "enable_gradients",
    "goes_on",
    "gradient_is_watched",
    "in_backward",
    "node_at_work",
    "recomputation",
    "recording",
    "repeats_itself",
    "saved_tensors_hook",
    "vector_jacobian",
    "will_run",
]

enable_gradients = torch._C._set_grad_enabled  # for this thread; the public ways make an object at every change


def in_backward() -> bool:
    """Whether the autograd engine is running a backward pass in this thread.

    A forward pass in there is the recomputation of an activation checkpoint. PyTorch has no public question for it.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def node_at_work() -> Any:
    """The node of the graph that the engine is at in this thread, or None. PyTorch has no public question for it."""
    return torch._C._current_autograd_node()


def will_run(node: Any) -> bool:
    """Whether the backward pass that runs in this thread comes to a node, which is not where gradients are stored."""
    return torch._C._will_engine_execute_node(node)


def goes_on(node: Any) -> bool:
    """Whether the backward pass that runs in this thread runs a node: it comes also to one where it ends, whose own
    gradient is wanted, but not to those before.
    """
    try:
        return any(will_run(before) for before, _ in node.next_functions if before is not None)
    except RuntimeError:  # of a tensor whose gradient is asked for, PyTorch says no more
        return True


def recomputation() -> tuple[int, Any]:
    """What tells one recomputation of an activation checkpoint from another: the backward pass, and what asked for it.

    That is the node of the graph that stands before the engine; its number in the order of creation is its own.
    """
    node = node_at_work()
    return torch._C._current_graph_task_id(), None if node is None else node._sequence_nr()


def checkpoint_at_work(training: bool) -> Any:
    """The activation checkpoint whose function runs in this thread, for the first time or again; None if none is seen.

    PyTorch has no public question for it. One kind works by hooks on what autograd saves, which are closures over the
    checkpoint; the other, which is looked for in `training` alone, runs its function without gradients inside a
    function of autograd, and again when the engine is at the node of that. So does every function of autograd that
    somebody wrote to recompute, as the blocks of a reversible network.
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
        node = node_at_work()
        return node if isinstance(node, BackwardCFunction) else None
    if training and not torch.is_grad_enabled():
        caller: FrameType | None = sys._getframe(1)
        while caller is not None:
            if caller.f_code.co_name == "forward" and (context := _context_of(caller)) is not None:
                return context
            caller = caller.f_back
    return None


def _context_of(frame: FrameType) -> Any:
    """The node that a function of autograd makes in the call of its `forward` that runs in a frame, or None.

    The frame is one of some function of that name.
    """
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] == "self":
        return None  # the locals of a frame are copied when they are asked for
    first = frame.f_locals.get(code.co_varnames[0])
    return first if isinstance(first, BackwardCFunction) else None


def repeats_itself(checkpoint: Any) -> bool:
    """Whether what `checkpoint_at_work` has found runs the same calls again in the same order: PyTorch's own do."""
    return getattr(checkpoint, "_forward_cls", CheckpointFunction) is CheckpointFunction


def after_backward(function: Callable[[], None]) -> None:
    """Have `function` called when the backward pass that runs in this thread has ended. PyTorch has it for engines."""
    torch.autograd.Variable._execution_engine.queue_callback(function)


def saved_tensors_hook() -> Any:
    """What gives back the tensors that autograd saves now, None without hooks. PyTorch asks the innermost alone."""
    innermost = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return None if innermost is None else innermost[1]


def gradient_is_watched(x: Tensor, *modules: nn.Module) -> bool:
    """Whether somebody will look at the gradient of this very tensor, or of the inputs and outputs of `modules`.

    Leaves and `retain_grad` have public questions; hooks on a tensor and backward hooks on a module have none.
    """
    if any(module._backward_hooks or module._backward_pre_hooks for module in modules):
        return True
    return x.requires_grad and bool(x.is_leaf or x.retains_grad or x._backward_hooks)


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


@contextmanager
def recording() -> Iterator[None]:
    """Have autograd record inside an operator, which runs below it. PyTorch has no public way up."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in (torch._C.DispatchKey.AutogradFunctionality, torch._C.DispatchKey.ADInplaceOrView):
        excluded = excluded.remove(key)
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded), torch.enable_grad():
        yield


class _Lean(FunctionMeta):
    """Makes the nodes of a function call its `backward` at once: PyTorch's own ask for it at every pass."""

    def __init__(cls, *given: Any) -> None:
        super().__init__(*given)
        function: Any = cls
        function._backward_cls.apply = function.backward
        for name, value in function.at_first.items():
            setattr(function._backward_cls, name, value)
        called = function if function.setup_context is torch.autograd.Function.setup_context else _at_once(function)
        function.outside = super(torch.autograd.Function, called).apply  # type: ignore[misc]  # of a base in C


def _at_once(function: Any) -> Any:
    """The same function as one whose `forward` is given the context, which no transform of `torch.func` can take.

    From PyTorch 2.15 on its base in C, too, binds the arguments of a function that has a `setup_context`.
    """

    def run(ctx: Any, *args: Any) -> Any:
        found = function.forward(*args)
        function.setup_context(ctx, args, found)
        return found

    plain = torch.autograd.Function.setup_context
    return type(function)(
        function.__name__, (function,), {"forward": staticmethod(run), "setup_context": staticmethod(plain)}
    )


class LeanFunction(torch.autograd.Function, metaclass=_Lean):
    """An autograd function whose `apply` takes positional arguments alone.

    PyTorch's own binds them to the signature of `forward` at every call, which takes longer than a small kernel.
    - `outside`: the same for a call of which it is known that no transform of `torch.func` is at work.
    - `at_first`: what its nodes have under these names until it is set: to set it takes longer.
    """

    outside: ClassVar[Callable[..., Any]]
    at_first: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return cls.outside(*args)
