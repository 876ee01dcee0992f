"""Training in less memory: the tensors that autograd saves are kept as bits, or computed again.

A network keeps for its backward pass what every layer was given. Of spikes one bit of 32 says all; the output of a
batch normalisation, which the neuron after it keeps, follows from the input, which the normalisation keeps anyway. Both
are recognised by the memory they lie in, also through views.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from ... import layer
from ...dynamics.donated import donate
from ...dynamics.norm.batch import allow
from ...errors import check_module, check_switches
from ...hooks import may_change_output, put_hooks, take_hooks_off
from ...internals import in_transform, jit_trace, saved_tensors_hook
from ...layer.norm import BatchNorm, does_no_more
from ...neuron import Neuron
from ...neuron.spiking import as_in_the_library, gives_spikes
from .convolved import Convolved, convolved_again
from .norm_node import normed_without_waste
from .pooled import pooled_by_shape
from .slices import CONVOLUTIONS, convolved_by_slices, lies_in_order
from .stand_ins import Memory, Normed, Packed, Spikes, made_again, seen, taken_again
from .workspace import Room

__all__ = ["lean"]

_NOTE, _CALL = "spikescope lean note", "spikescope lean call"
_METHODS = "forward", "_conv_forward", "normalize"  # in which a convolution or a normalisation makes its result
_AS_WRITTEN = {vars(base).get(name) for c in (*CONVOLUTIONS, layer.Conv2d) for base in c.__mro__ for name in _METHODS}
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def lean(net: nn.Module, on: bool = True) -> nn.Module:
    """Have `net` keep less for its backward pass, with the same outputs, gradients and losses, bit for bit.

    - spikes, what max-pooling makes of them and, on a CPU, copies of them are kept as bits: a 32nd of float32; on a
      CPU sums of them in 4, 8 or 16 bits, and the places that PyTorch's max-pooling remembers in 16 instead of 64,
      where these are enough;
    - what a batch normalisation gives a neuron is computed again from its input when the neuron needs it; so is, on a
      CPU, what max-pooling takes of it, and what a convolution makes of images, of one to three channels.

    A layer of convolution, normalisation and neuron so keeps one tensor of floats instead of three. On a CPU its
    backward pass also takes three such tensors at a time instead of five: a convolution in slices, a neuron over what
    was computed again, a normalisation without the second gradient that PyTorch allocates. `lean(net, on=False)`
    undoes it; the network itself is returned.

    Compiled code keeps what its compiler chooses, and is left alone; so is a call within a checkpoint, or within other
    hooks on saved tensors: those keep what they are made for. An in-place change of what is kept is told by the
    RuntimeError that PyTorch gives elsewhere; a change that PyTorch does not count, through `.data` or NumPy, is not
    seen. The switch is on the modules: put it on when the network is complete.

    >>> from spikescope import functional, layer, neuron
    >>> net = nn.Sequential(layer.Conv2d(1, 8, 3), layer.BatchNorm2d(8), neuron.LIFNode(), layer.Conv2d(8, 8, 3))
    >>> functional.set_step_mode(net, "m")
    >>> functional.lean(net)(torch.rand(2, 1, 1, 8, 8)).sum().backward()
    """
    check_module("lean", net)
    check_switches("lean", on=on)
    for module in net.modules():
        take_hooks_off(module, _NOTE)
    take_hooks_off(net, _CALL)
    always: dict[Any, bool] = net._forward_hooks_always_called
    always.pop(_CALL, None)
    if on:
        for module in net.modules():
            if isinstance(module, (Neuron, BatchNorm, nn.AdaptiveAvgPool2d, *_POOLS, *CONVOLUTIONS)):
                put_hooks(module, _NOTE, _nothing, _note)
        put_hooks(net, _CALL, _begin, _end)
        always[_CALL] = True  # also after an error
    return net


def is_lean(net: nn.Module) -> bool:
    """Whether `lean` was put on `net`."""
    return _CALL in net._forward_hooks  # type: ignore[comparison-overlap]  # ours have names


class _Here(threading.local):
    """The calls that are under way in this thread, the innermost last."""

    def __init__(self) -> None:
        self.ledgers: list[Ledger | None] = []
        self.kind: Callable[[], Ledger] | None = None


_here = _Here()


class Ledger:
    """What is known, during one call, of the memory of tensors: that it holds spikes, or how it comes about."""

    keeps = True  # whether autograd has what it saves

    def __init__(self) -> None:
        self._known: dict[int, tuple[StorageWeakRef, int, Memory]] = {}
        self.room = Room()
        self._around = ExitStack()
        self._around.enter_context(saved_tensors_hooks(self._keep, _give))

    def close(self) -> None:
        """At the end of the call. PyTorch keeps hooks as long as what they gave, and so this, but not what it knows."""
        self._around.close()
        self._known.clear()
        self.room.close()

    def note(self, y: Tensor, what: Memory) -> None:
        """Say of the memory of `y`, as it is now, what it is."""
        reference = StorageWeakRef(y.untyped_storage())
        self._known[reference.cdata] = (reference, y._version, what)
        self.room.made(reference, y.nbytes)

    def known(self, x: Tensor) -> Memory | None:
        """What is known of the memory of `x`; None if nothing is, or if it was written to since."""
        if type(x) not in (Tensor, nn.Parameter) or x.layout is not torch.strided or x.is_meta or x.is_neg():
            return None
        held = self._known.get(x.untyped_storage()._cdata)
        if held is None or held[0].expired() or held[1] != x._version:
            return None
        return held[2] if held[2].dtype == x.dtype else None

    def kept_as(self, x: Tensor) -> Memory | None:
        """What stands for the memory of `x` when it is kept: what is known of it, or else what it is seen to hold."""
        what = self.known(x)
        if what is not None or type(x) is not Tensor or x.layout is not torch.strided or x.is_meta or x.is_neg():
            return what
        found = seen(x)
        if found is not None:
            self.note(x, found)
        return self.known(x)

    def _keep(self, x: Tensor) -> Kept:
        what, storage = self.kept_as(x), x.untyped_storage()
        if what is None or not what.ready(storage):
            if not isinstance(x, nn.Parameter):  # which is there anyway
                self.room.keep(storage, storage.nbytes())
            return Kept(x, x._version)
        self.room.keep(storage, what.size(storage))
        return Kept(None, 0, what, (x.size(), x.stride(), x.storage_offset()))


@dataclass
class Kept:
    """A saved tensor: itself with the version of its memory, or its geometry in memory that can be made again."""

    itself: Tensor | None
    version: int
    what: Memory | None = None
    geometry: tuple[Any, Any, Any] = ((), (), 0)


def _give(kept: Kept) -> Tensor:
    if kept.what is not None:
        memory = kept.what.memory()
        return (memory if kept.what.shared else donate(memory)).as_strided(*kept.geometry)
    assert kept.itself is not None
    if kept.itself._version != kept.version:  # PyTorch does not look where hooks are
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"{tuple(kept.itself.shape)} of {kept.itself.dtype} is at version {kept.itself._version}, and was saved at "
            f"version {kept.version}."
        )
    return kept.itself


allow(_give)


def _begin(module: nn.Module, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling():
        return
    _here.ledgers.append((_here.kind or Ledger)() if may_keep_less() else None)


@contextmanager
def keeping_books_by(kind: Callable[[], Ledger]) -> Iterator[None]:
    """Have the calls of lean networks in this thread keep their books by another ledger."""
    before, _here.kind = _here.kind, kind
    try:
        yield
    finally:
        _here.kind = before


def may_keep_less() -> bool:
    """Whether autograd writes down a call as it is, and nobody else has a say in what it keeps."""
    if not torch.is_grad_enabled() or in_transform() or jit_trace() is not None:
        return False
    return saved_tensors_hook() in (None, _give)


def _end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    if torch.compiler.is_compiling() or not _here.ledgers:
        return
    ledger = _here.ledgers.pop()
    if ledger is not None:
        ledger.close()


def _nothing(module: nn.Module, args: Any, kwargs: Any) -> None:
    """Hooks come in pairs."""


def _note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
    """Note what a module has given, if it is what the module is known for; or give it with another backward pass."""
    if torch.compiler.is_compiling():
        return None
    ledger = _here.ledgers[-1] if _here.ledgers else None
    if ledger is None or not isinstance(output, Tensor) or not output.requires_grad:
        return None
    if not vars(module).keys().isdisjoint(_METHODS) or may_change_output(module):
        return None
    if isinstance(module, Neuron):
        if gives_spikes(module):
            ledger.note(output, Spikes(output.dtype, as_in_the_library(module)))
        return None
    x = args[0] if args else kwargs.get("input")
    if not isinstance(x, Tensor):
        return None
    if isinstance(module, _POOLS):
        _of_pool(ledger, module, x, output)
        return None
    if saved_tensors_hook() is not _give:
        return None  # a checkpoint is at work inside: it keeps nothing, and the input would be kept for nobody
    if isinstance(module, BatchNorm):
        return _of_norm(ledger, module, x, output)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return pooled_by_shape(x, output) if ledger.keeps else None
    return _of_convolution(ledger, module, x, output)


def _of_pool(ledger: Ledger, module: nn.Module, x: Tensor, y: Tensor) -> None:
    of = ledger.known(x)
    if of is not None and of.binary:
        ledger.note(y, Spikes(y.dtype, of.sure and _gives_what_it_takes(module)))
    elif isinstance(of, Normed) and saved_tensors_hook() is _give and lies_in_order(x):
        taken = taken_again(module, of, y) if x.nbytes == x.untyped_storage().nbytes() else None
        if taken is not None:
            ledger.note(y, taken)


def _of_convolution(ledger: Ledger, module: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
    if not all(vars(base).get(name) in _AS_WRITTEN for base in type(module).__mro__ for name in _METHODS):
        return None  # what a class of the user's does with the result on the way is not to be seen from here
    what = ledger.known(x)
    again = convolved_again(module, x, y) if what is None else None
    if again is not None:
        ledger.note(y, again)
        return None
    if not ledger.keeps:
        return None
    return convolved_by_slices(module, x, y, what if isinstance(what, Packed) else None, ledger.room)


def _of_norm(ledger: Ledger, module: BatchNorm, x: Tensor, y: Tensor) -> Tensor | None:
    if not does_no_more(module) or not _is_its_own(module, x, y):
        return None
    known = ledger.known(x)
    of = known if isinstance(known, Convolved) and ledger.keeps else None
    whole = Normed(module, x, y, of)
    made = made_again(module, whole, y, ledger.keeps)
    if made is not None:
        ledger.note(y, made)
    ledger.room.layer(x, (2 if of is None else 3) * x.nbytes)  # both gradients, and the input where it is not kept
    return normed_without_waste(module, x, y) if ledger.keeps else None


def _gives_what_it_takes(pool: Any) -> bool:
    """Whether a pool gives values of its input and no others: with gaps a window may lie in the padding alone."""
    written = (vars(base).get("forward") for base in type(pool).__mro__)
    ours = all(held is None or held.__module__.startswith(("torch.", "spikescope.")) for held in written)
    return ours and pool.dilation in (1, (1,), (1, 1), (1, 1, 1))


def _is_its_own(module: BatchNorm, x: Tensor, y: Tensor) -> bool:
    """Whether `y` is fresh memory with the normalisation of all of `x`, in this process alone."""
    whole = y.untyped_storage().nbytes() == y.numel() * y.dtype.itemsize
    return whole and y.shape == x.shape and y._version == 0 and not module.synchronized
