"""`torch.compile` and `torch.export`: what they trace through, and what they are told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

__all__ = [
    "checkpoint_may_keep_state",
    "constant_when_compiled",
    "exporting",
    "forget_compiled_code",
    "hooks_read_their_call",
    "in_compiled_derivatives",
    "in_compiled_transform",
    "keep_in_order",
    "never_a_frame_of_its_own",
]


def exporting() -> bool:
    """Whether `torch.export` is tracing.

    `torch.compiler.is_exporting` says so too, but up to PyTorch 2.11 `torch.compile` takes it to be true in everything
    that it traces. The flag behind it is right in all of these versions, and compiled code is guarded by it.
    """
    return torch.compiler._is_exporting_flag


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


def checkpoint_may_keep_state() -> bool:
    """Whether `torch.compile` accepts a module that changes its state inside an activation checkpoint.

    It is a setting of the user's, there from PyTorch 2.11 on.
    """
    return bool(getattr(torch._dynamo.config, "skip_fwd_side_effects_in_bwd_under_checkpoint", False))


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


def hooks_read_their_call() -> bool:
    """Whether the hook on a tensor in compiled code may read what the call before it has computed.

    PyTorch up to 2.12 or so moves the hook, and what it reads, up to where the tensor was made, with the wrong order.
    """
    return find_spec("torch._higher_order_ops.register_hook") is not None


def forget_compiled_code() -> None:
    """Have all that `torch.compile` has compiled compiled anew, each when it is called next.

    Compiled code does not notice a first hook on a module (its setting `skip_nnmodule_hook_guards`), and nothing tells
    which code a module is part of. `torch.compiler.reset` would forget what belongs to others besides.
    """
    frames: Any = sys.modules.get("torch._dynamo.convert_frame")
    if frames is None:
        return
    for reference in (*frames.input_codes.seen, *frames.output_codes.seen):
        code = reference()
        if code is not None:
            torch._C._dynamo.eval_frame.reset_code(code)
