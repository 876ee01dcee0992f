"""What stands in for a saved tensor, so that it need not be kept: the bits of spikes, a normalisation done again.

Sums of spikes, which are small whole numbers, are kept in four bits each, or in as many more as the largest takes, and
so are numbers of 64 bits, as a pool tells the places of what it took.
"""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn

from ...dynamics.norm.batch import moments_of
from ...dynamics.pool.cpu import Largest, largest_of
from ...layer.norm import BatchNorm
from ...spikes.bits import pack_bool, unpack
from ...spikes.gpu import pack_on_gpu
from ...spikes.kernel import WORDS, may_pack, pack_rows
from ...spikes.whole import WIDTHS, pack_whole, unpack_whole

__all__ = [
    "LEAST",
    "Counts",
    "Format",
    "Memory",
    "Normed",
    "Packed",
    "Places",
    "Recomputed",
    "Spikes",
    "made_again",
    "seen",
    "taken_again",
    "through_views",
]

_VIEWS = ("ViewBackward0", "UnsafeViewBackward0", "UnflattenBackward0")
LEAST = 1 << 14  # elements under which a tensor is kept as it is
_GLANCE = 64  # values that tell real numbers from what may be spikes, or sums of them
_UNITS = 1.0, 0.5, 0.25, 0.125  # of sums of spikes, which attention scales
_NARROW = (torch.int16, torch.int32)


class Memory:
    """What is known of a piece of memory, which so need not be kept.

    - `binary`: that it holds zeros and ones; `sure`: and that nobody need look.
    - `width`: how many bits are kept of each element.
    """

    dtype: torch.dtype
    width = 0
    binary = sure = False
    shared = False  # whether what `memory` gives has other readers

    def size(self, storage: UntypedStorage) -> int:
        """How many bytes are kept instead of the memory."""
        return -(-(storage.nbytes() // self.dtype.itemsize) * self.width // 8)

    def ready(self, storage: UntypedStorage) -> bool:
        """Whether this stands for the memory from now on."""
        raise NotImplementedError

    def memory(self) -> Tensor:
        """The memory again, as a tensor of one axis."""
        raise NotImplementedError


class Format(NamedTuple):
    """How numbers lie in bytes: how many bits each takes, and what a 1 stands for."""

    width: int = 1
    unit: float = 1.0

    def numbers(self, packed: Tensor, dtype: torch.dtype) -> Tensor:
        """All numbers of some bytes, as a tensor of one axis."""
        if self.width > 1:
            return unpack_whole(packed.reshape(-1), *self)
        return unpack(packed.view(1, -1), 8 * packed.numel(), dtype).reshape(-1)


class Packed(Memory):
    """Memory whose numbers are kept in a few bits each, from when autograd first keeps it."""

    format = Format()
    _bytes: Tensor | None = None
    _count = 0

    @property
    def count(self) -> int:
        """How many numbers are kept; 0 before there are any."""
        return 0 if self._bytes is None else self._count

    @property
    def bytes(self) -> Tensor:
        """What they are kept in."""
        assert self._bytes is not None
        return self._bytes

    def memory(self) -> Tensor:
        return self.format.numbers(self.bytes, self.dtype)[: self._count]


class Spikes(Packed):
    """Memory that holds zeros and ones, as its bits; they are made when autograd first keeps it.

    - `sure`: whether it can hold nothing else. Where the host would wait for a GPU to look, nobody looks then.
    """

    binary, width = True, 1

    def __init__(self, dtype: torch.dtype, sure: bool = False) -> None:
        self.dtype, self.sure = dtype, sure

    def ready(self, storage: UntypedStorage) -> bool:
        """Whether the bits stand for this memory: not for little of it, nor if other values are seen."""
        if self._bytes is None:
            flat = torch.empty(0, dtype=self.dtype, device=storage.device).set_(storage)
            self._count = flat.numel()
            if self._count < LEAST:
                return False
            quick, known = pack_rows(flat, 1, self._count), self.sure and not _sees_at_once(flat)
            if quick is None and (may_pack(flat) or (not known and captured(flat))):
                return False
            if quick is None:
                quick = pack_on_gpu(flat, 1, self._count, known)
            if quick is None and not known and not bool(((flat == 0) | (flat == 1)).all()):
                return False
            self._bytes = pack_bool(flat.view(1, -1).bool()) if quick is None else quick
        return True


class Counts(Packed):
    """Memory that holds small whole multiples of a unit, as sums of spikes are, in the fewest bits that all fit."""

    def __init__(self, packed: Tensor, count: int, form: Format) -> None:
        self.dtype, self.width, self.format = torch.float32, form.width, form
        self._bytes, self._count = packed, count

    @classmethod
    def of(cls, x: Tensor, some: list[float]) -> Counts | None:
        """What `x` holds, whose values are `some` among others; None if these are other numbers, or many digits."""
        unit = next((unit for unit in _UNITS if all((value / unit).is_integer() for value in some)), None)
        if unit is None or min(some) < 0:
            return None
        for width in WIDTHS:
            if max(some) < unit * (1 << width) and (packed := pack_whole(x, width, unit)) is not None:
                return cls(packed, x.numel(), Format(width, unit))
        return None

    def ready(self, storage: UntypedStorage) -> bool:
        return True


class Places(Memory):
    """Memory that holds whole numbers, in a dtype that they all fit."""

    def __init__(self, narrow: Tensor) -> None:
        self.dtype, self.width = torch.int64, 8 * narrow.itemsize
        self._narrow = narrow

    def ready(self, storage: UntypedStorage) -> bool:
        return True

    def memory(self) -> Tensor:
        return self._narrow.to(self.dtype)


def seen(x: Tensor) -> Memory | None:
    """What the values tell of memory that is all of `x`: copies and sums of spikes, which no module gave, and places.

    Looking takes no time on a CPU alone. What was not computed here, as weights and inputs, is held by others anyway.
    """
    storage = x.untyped_storage()
    if x.device.type != "cpu" or x.numel() < LEAST or storage.nbytes() != x.numel() * x.itemsize:
        return None
    if x.dtype is torch.int64:
        flat = x.detach().as_strided((x.numel(),), (1,), 0)
        least, most = (int(end) for end in flat.aminmax())
        fits = [torch.iinfo(dtype).min <= least and most <= torch.iinfo(dtype).max for dtype in _NARROW]
        return Places(flat.to(_NARROW[fits.index(True)])) if any(fits) else None
    base = x._base if x._is_view() else x
    if base is None or base.grad_fn is None or x.dtype not in WORDS:
        return None
    number = min(_GLANCE, x.numel())
    apart = (x.numel() // number - 1) | 1  # odd: in even steps it would be the same corner of each plane
    glance: list[float] = x.detach().as_strided((number,), (apart,), 0).tolist()
    if not all(map(math.isfinite, glance)):
        return None
    spikes = Spikes(x.dtype)
    if all(value in (0.0, 1.0) for value in glance) and spikes.ready(storage):
        return spikes
    return Counts.of(x.detach().as_strided((x.numel(),), (1,), 0), glance) if x.dtype is torch.float32 else None


class Recomputed(Memory):
    """Memory that holds the output of an operation, as the call that gives it again.

    - `operation`: what errors call it.
    """

    operation = ""
    _versions: list[int]

    def operands(self) -> list[Tensor]:
        """The input and the parameters of the call."""
        raise NotImplementedError

    def versions(self) -> list[int]:
        """How often each of these was changed in place."""
        return [held._version for held in self.operands()]

    def check_operands(self) -> None:
        """RuntimeError if one of these was changed since the call."""
        if self._versions != self.versions():
            raise RuntimeError(
                f"functional.lean computes the output of a {self.operation} again, whose input or parameters were "
                "changed in place between the forward and the backward pass. Step the optimizer after the backward "
                "pass."
            )

    def ready(self, storage: UntypedStorage) -> bool:
        return storage.nbytes() >= LEAST * self.dtype.itemsize


class Normed(Recomputed):
    """Memory that holds what a batch normalisation gave."""

    operation = "normalisation"

    def __init__(self, module: BatchNorm, x: Tensor, y: Tensor, of: Memory | None = None) -> None:
        self.dtype, self._folded = y.dtype, module.step_mode == "m"
        self._x = x.detach() if of is None else None
        self._of, self._geometry = of, (x.size(), x.stride(), x.storage_offset())
        self._training = module.training or module.running_mean is None
        seen = (None, None) if self._training else (module.running_mean, module.running_var)
        self._mean, self._variance = (None if held is None else held.detach().clone() for held in seen)
        self._learned = [None if held is None else held.detach() for held in (module.weight, module.bias)]
        self._eps = module.eps
        self._inverse: Tensor | None = None
        self._largest: Largest | None = None
        self._versions = self.versions()
        device = x.device.type
        self._autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))

    def by_moments(self, y: Tensor) -> Normed | None:
        """The same from the mean and the deviation that autograd keeps of the batch: one pass instead of three."""
        moments = _moments(y) if self._training else None
        if moments is None:
            return None
        made = copy.copy(self)
        made._training, (made._mean, made._inverse) = False, moments
        return made

    def with_others_learned(self) -> Normed:
        """The same with another gain and shift, if it has any: at the start these are 1 and 0, which round nothing."""
        made = copy.copy(self)
        made._learned = [
            None if held is None else torch.linspace(first, last, len(held), dtype=held.dtype, device=held.device)
            for held, first, last in zip(self._learned, (0.3, -0.7), (1.7, 0.9), strict=True)
        ]
        made._versions = made.versions()
        return made

    def taken(self, largest: Largest) -> Normed | None:
        """What a pool took of the same; None where the moments are to be taken of all."""
        if self._training:
            return None
        made = copy.copy(self)
        made._largest = largest
        return made

    def operands(self) -> list[Tensor]:
        return [held for held in (self._x, *self._learned) if held is not None]

    def memory(self) -> Tensor:
        """The memory again, as a tensor of one axis; RuntimeError if what it comes from was changed."""
        self.check_operands()
        device, precision, enabled = self._autocast
        x = self._x
        if x is None:
            assert self._of is not None
            x = self._of.memory().as_strided(*self._geometry)
        x = x.flatten(0, 1) if self._folded else x
        x = x if self._largest is None else self._largest.gather(x)
        with torch.no_grad(), torch.autocast(device, precision, enabled):
            made = self._again(x)
        return torch.empty(0, dtype=made.dtype, device=made.device).set_(made.untyped_storage())

    def _again(self, x: Tensor) -> Tensor:
        (weight, bias), variance, eps = self._learned, self._variance, self._eps
        if x.is_cuda and self._inverse is not None and self._mean is not None:
            # PyTorch's own kernel of the second half there: the gain and the deviation are rounded in its order
            return torch.batch_norm_elemt(x, weight, bias, self._mean, self._inverse, eps)
        if self._inverse is not None:  # as the gain of a variance of 1: of not every deviation there is a variance
            weight = self._inverse if weight is None else self._inverse * weight
            variance, eps = torch.ones_like(self._inverse), 0.0
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, weight, bias, self._mean, variance, self._training, 0.0, eps, cudnn)


def _sees_at_once(x: Tensor) -> bool:
    """Whether the host can look at values without waiting for them."""
    return x.device.type == "cpu"


def captured(x: Tensor) -> bool:
    """Whether what happens to `x` is being captured as a graph: then nothing may be asked of its values."""
    return x.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def through_views(node: Any) -> Any:
    """The node of the graph that made what `node` only shows in another shape."""
    while node is not None and type(node).__name__ in _VIEWS:
        node = node.next_functions[0][0]
    return node


def _moments(y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and inverse deviation of the batch that `y` is the normalisation of, as its node in the graph keeps them."""
    node = through_views(y.grad_fn)
    held = moments_of(node)
    if held is not None:
        return held
    if node is None or "BatchNormBackward" not in type(node).__name__:
        return None
    mean, inverse = (getattr(node, f"_saved_result{i}", None) for i in (1, 2))
    if not isinstance(mean, Tensor) or not isinstance(inverse, Tensor) or (mean.ndim, inverse.ndim) != (1, 1):
        return None
    return mean.detach(), inverse.detach()


_proved: weakref.WeakKeyDictionary[nn.Module, dict[Any, bool]] = weakref.WeakKeyDictionary()


def made_again(module: BatchNorm, whole: Normed, y: Tensor, has_moments: bool) -> Normed | None:
    """The cheapest second computation that gives the bits of the first; None where there is none.

    - `has_moments`: whether autograd keeps the moments of the batch, and so can be asked for them.

    Each is tried once for a module and a form of its input; none can be while a graph is captured.
    """
    settings = torch.get_num_threads(), torch.backends.cudnn.enabled
    form = (y.shape, y.stride(), y.dtype, y.device, module.training, *settings)
    proved = _proved.setdefault(module, {})
    for kind in ("by moments", "whole") if has_moments else ("whole",):
        if proved.get((kind, form), True):
            made = whole.by_moments(y) if kind == "by moments" else whole
            if made is None:
                continue
            if (kind, form) not in proved:
                if captured(y):
                    return None
                again = made.memory()
                same = again.numel() == y.numel() and torch.equal(again.as_strided(y.shape, y.stride()), y.detach())
                if same and made is not whole:
                    same = torch.equal(made.with_others_learned().memory(), whole.with_others_learned().memory())
                proved[kind, form] = same
            if proved[kind, form]:
                return made
    return None


def taken_again(pool: nn.Module, of: Normed, y: Tensor) -> Normed | None:
    """What `pool` took of `of`, as a normalisation of those values alone; None where that gives other bits.

    It is tried once for a module and a form of its input.
    """
    largest = largest_of(through_views(y.grad_fn))
    made = None if largest is None else of.taken(largest)
    if largest is None or made is None or y.untyped_storage().nbytes() != y.numel() * y.itemsize:
        return None
    form = (largest.shape, largest.windows, y.dtype, torch.get_num_threads())
    proved = _proved.setdefault(pool, {})
    if form not in proved:
        again, *others = (each.memory() for each in (made, *(held.with_others_learned() for held in (made, of))))
        proved[form] = torch.equal(again, y.detach().reshape(-1)) and torch.equal(
            others[0], largest.gather(others[1].view(largest.shape)).reshape(-1)
        )
    return made if proved[form] else None
