"""What a convolution of a few numbers gave, as the call that gives it again: of images of one to three channels.

Its output is many times as large as its input, which is kept for the gradient of the weight anyway, and takes few
multiplications a value: to compute it again takes little more time than a pass over memory.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from .slices import learns
from .stand_ins import Recomputed, through_views

__all__ = ["Convolved", "convolved_again"]

_CHEAP = 32  # multiplications a value: as many channels at one point, or 3 x 3 of three
_OF_IMAGES = 160  # the same where images have one to three channels: 7 x 7 of three takes 147
_LARGER = 4  # times the input


class Convolved(Recomputed):
    """Memory that holds what a convolution gave.

    Two ask for it in turn, the neuron for the normalisation of it and then the normalisation itself, so that it is held
    from the first time to the second.
    """

    operation, shared = "convolution", True

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, node: Any) -> None:
        self.dtype = y.dtype
        self._held = [None if each is None else each.detach() for each in (x, weight, bias)]
        self._versions = self.versions()
        settings = node._saved_stride, node._saved_padding, node._saved_dilation
        self._settings: list[tuple[int, ...]] = [tuple(map(int, each)) for each in settings]
        self._groups = node._saved_groups
        self._made: Tensor | None = None

    def operands(self) -> list[Tensor]:
        return [each for each in self._held if each is not None]

    def memory(self) -> Tensor:
        """The memory again, as a tensor of one axis; RuntimeError if what it comes from was changed."""
        self.check_operands()
        if self._made is not None:
            made, self._made = self._made, None
            return made
        x, weight, bias = (None if each is None else each.to(self.dtype) for each in self._held)
        assert x is not None
        assert weight is not None
        folded = x.reshape(-1, *x.shape[x.ndim - weight.ndim + 1 :])
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            again = torch.ops.aten.convolution(
                folded, weight, bias, *self._settings, False, [0] * len(self._settings[0]), self._groups
            )
        self._made = torch.empty(0, dtype=again.dtype, device=again.device).set_(again.untyped_storage())
        return self._made


_proved: weakref.WeakKeyDictionary[nn.Module, dict[Any, bool]] = weakref.WeakKeyDictionary()


def convolved_again(module: Any, x: Tensor, y: Tensor) -> Convolved | None:
    """What `module` made of `x`, as a call; None where that takes long, or gives other bits, or is no convolution."""
    node = through_views(y.grad_fn)
    if type(node).__name__ != "ConvolutionBackward0" or node._saved_transposed or x.device.type != "cpu":
        return None
    weight, whole = module.weight, y.untyped_storage().nbytes() == y.numel() * y.itemsize
    at_most = _OF_IMAGES if weight.shape[1] <= 3 else _CHEAP
    if math.prod(weight.shape[1:]) > at_most or x.numel() * _LARGER > y.numel() or not whole or y._version:
        return None
    if not type(x) is type(y) is Tensor or not weight.requires_grad:
        return None
    if not learns(node, module):
        return None
    made = Convolved(x, weight, module.bias, y, node)
    form = (x.shape, x.stride(), y.dtype, torch.get_num_threads(), torch.backends.mkldnn.enabled)
    proved = _proved.setdefault(module, {})
    if form not in proved:
        again = made.memory()
        made.memory()
        proved[form] = again.numel() == y.numel() and torch.equal(again.as_strided(y.shape, y.stride()), y.detach())
    return made if proved[form] else None
