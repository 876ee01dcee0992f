"""The squares of a gradient, summed by the kernel that reads it anyway, so that a monitor need not read it again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

from torch import Tensor

from ..internals import goes_on

__all__ = ["Squared", "common", "listen"]

LARGE = 1 << 16
"""Values from which on it is worth it: fewer are still in a cache."""

Hook = Callable[[Any], None]
"""Takes a gradient, or an error in place of it."""

Squared = Callable[[Hook, Any, Tensor | None], None]
"""Has a hook take a gradient, of which the sums of squares of the steps are known, `[T, 2]` with how many values these
are; None: they are not.
"""


class _Waiting(NamedTuple):
    """A gradient that the node has not read yet, in the version that it had."""

    grad: Tensor
    version: int
    squares: Tensor | None = None


class Handed:
    """The gradient of the output of a node, taken when that has run, with its squares if a kernel has told them.

    Where somebody else has put a hook there too, or the backward pass ends there, it is taken at once. Threads may go
    backwards through one graph side by side: each has a gradient of its own.
    """

    __slots__ = ("_hooks", "_node", "_take", "_waiting")

    def __init__(self, y: Tensor, take: Callable[[Any, Tensor | None], None]) -> None:
        self._take = take
        self._waiting: dict[int, _Waiting] = {}  # by thread
        y.register_hook(self)
        node: Any = y.grad_fn
        node.handed = self
        node.register_hook(self.settle)
        self._node, self._hooks = weakref.ref(node), weakref.ref(y._backward_hooks)  # both hold this

    def __call__(self, grad: Tensor) -> None:
        """The hook on the output of the node."""
        self.settle()  # of a backward pass that broke off before the node
        node, hooks = self._node(), self._hooks()
        alone = node is not None and hooks is not None and len(hooks) == 1
        if alone and type(grad) is Tensor and goes_on(node):
            self._waiting[get_ident()] = _Waiting(grad, grad._version)
        else:
            self._take(grad, None)

    def is_read_as(self, given: Tensor | None) -> bool:
        """Whether what the node was given is this gradient, as it was."""
        held = self._waiting.get(get_ident())
        return (
            held is not None
            and given is not None
            and given.data_ptr() == held.grad.data_ptr()
            and given.shape == held.grad.shape
            and given.stride() == held.grad.stride()
            and held.grad._version == held.version
        )

    def tell(self, squares: Tensor) -> None:
        """Leave the squares of the gradient that is waiting."""
        thread = get_ident()
        self._waiting[thread] = self._waiting[thread]._replace(squares=squares)

    def settle(self, *_: Any) -> None:
        """Have it taken, if it is still there. The hook behind the node."""
        held = self._waiting.pop(get_ident(), None)
        if held is None:
            return
        if held.grad._version == held.version:
            self._take(held.grad, held.squares)
        else:
            text = (
                "The gradient of a neuron's output was changed in place before its node had read it: what would be "
                "recorded is another one. Have the hook on the node give back a new tensor."
            )
            self._take(RuntimeError(text), None)


def common(listening: Iterable[object]) -> Squared | None:
    """How all who listen take gradients of which the squares are known, by their `squared`; None if they do not agree:
    others want the gradient as it comes.
    """
    wanted: set[Any] = {getattr(held, "squared", None) for held in listening}
    return wanted.pop() if len(wanted) == 1 else None


def listen(y: Tensor, hook: Hook, squared: Squared | None) -> None:
    """Put a hook on a tensor. Where the squares are wanted and its node tells them, it is called when that has run."""
    if squared is None or y.numel() < LARGE or y.output_nr or getattr(y.grad_fn, "handed", y) is not None:
        y.register_hook(hook)  # a node that tells none has no such attribute
    else:
        Handed(y, partial(squared, hook))  # the tensor and the node hold it
