"""A network within a budget of memory: what to keep of it, and what to compute again, by measurement."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils import _pytree as pytree

from ...display import Displayed, Overview, bytes_in, size_of
from ...errors import check_module, check_switches
from ...internals import out_of_inference
from ..checkpoint import untouched
from ..network import reset_net
from .measured import Course, follow
from .peak import most_allocated
from .plan import Choice, Model, again, cheapest, model, smallest
from .saved_tensors import is_lean, lean
from .segments import Stretch, held_stretches, put_segments, take_segments_off

__all__ = ["MemoryPlan", "fit_memory", "unfit_memory"]

_GUESS = 4.0  # largest tensors at work at a time, until it is measured
_ROUNDS = 5
_NEAR = 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5  # times the floor: what the least peak may be mistaken by
_APART = 1000, 1024  # two measurements of one step differ by less than a thousandth or a KiB: threads let go late


@dataclass(frozen=True, repr=False)
class MemoryPlan(Displayed):
    """What `fit_memory` has found and done; it prints as a table.

    - `budget`, `floor`: bytes: what was given, and the least that is never refused: what checkpointing comes to at
      least, and as much as two measurements of it may differ by.
    - `before`, `after`: the peak of a training step, beyond what was there before it. They are measured, and so is the
      floor; but `before` follows from what was measured of each part where the step is over the budget.
    - `segments`: the names of what is computed again; `seconds` it takes, of a step of `step` seconds.
    - `rows`: of each part its name, the bytes kept before and now, and the seconds it takes to compute it again.
    """

    budget: int
    floor: int
    before: int
    after: int
    segments: tuple[str, ...]
    seconds: float
    step: float
    rows: tuple[tuple[str, int, int, float], ...]

    def overview(self) -> Overview:
        cells = [["part", "kept before", "kept now", "computed again"]]
        for name, before, after, seconds in self.rows:
            cells.append([name, size_of(before), size_of(after), f"{seconds * 1e3:.1f} ms" if seconds else ""])
        kept = size_of(sum(row[1] for row in self.rows)), size_of(sum(row[2] for row in self.rows))
        cells.append(["in all", *kept, f"{self.seconds * 1e3:.1f} ms"])
        share = self.seconds / (self.step - self.seconds) if self.step > self.seconds else 0.0
        number = f"{len(self.segments)} segments are" if len(self.segments) != 1 else "1 segment is"
        return Overview(
            f"fit_memory: a step of {size_of(self.before)} takes {size_of(self.after)}, within {size_of(self.budget)}",
            cells,
            [f"{number} computed again, {100 * share:.0f} % of a step. The floor is {size_of(self.floor)}."],
        )


def fit_memory(net: nn.Module, x: Any, budget: int | str, *, keep_lean: bool = True, show: bool = True) -> MemoryPlan:
    """Have training steps of `net` stay within a budget of memory, at the least time; prints a table of it.

    - `x`: an input as training has it, or a tuple of all arguments.
    - `budget`: bytes, or a text such as `'12 GB'` (1 GB = 1024³ bytes), for what a step allocates beyond what is there
      before it: activations, what is at work, and the gradients of the parameters; not the network, the optimizer or
      other processes.
    - `keep_lean`: whether `lean(net)` is part of it. Where that is enough, there are no segments.
    - `show`: whether to print the plan, which is also what is returned.

    It follows forward passes that keep nothing, to measure what each module keeps and how long it takes; finds the
    cheapest set of checkpointed segments, which are modules or neighbours in an `nn.Sequential`; and measures whole
    steps, the first of them with the least memory that there is. Losses and gradients stay the same, bit for bit. The
    network is left with its weights, buffers, gradients, states and random numbers; `fit_memory` again plans anew, and
    `unfit_memory(net)` undoes it.

    - ValueError with the floor, and a network as it was, if the budget is below it.
    - Call it in training mode, under the `torch.autocast` of the training, once the network is complete; a network
      within DDP or DataParallel may be given wrapped. Of several processes each has to call it, and all do the same.
    - In `step_mode='s'` the budget is that of one step of time, for each keeps as much.
    - As with `lean`, compiled code and calls within other hooks on saved tensors are left alone; a module that runs
      several times in one call, or that has a `reset()` without being a `MemoryModule`, is in no segment of its own.

    Chen et al., *Training deep nets with sublinear memory cost* (2016).

    >>> net = nn.Sequential(*(spikescope.layer.Linear(64, 64) if i % 2 else nn.GELU() for i in range(24)))
    >>> plan = fit_memory(net, torch.rand(256, 64), "1 MB", show=False)
    >>> plan.after <= plan.budget < plan.before
    True
    """
    check_module("fit_memory", net)
    check_switches("fit_memory", keep_lean=keep_lean, show=show)
    limit = _limit(budget)
    inner: nn.Module = net.module if isinstance(net, (DataParallel, DistributedDataParallel)) else net
    args = x if isinstance(x, tuple) else (x,)
    device = _device(inner, args)
    before = is_lean(inner), held_stretches(inner)
    try:
        with torch.inference_mode(False), torch.enable_grad():  # its steps are those of a training
            args = pytree.tree_map_only(Tensor, out_of_inference, args)
            plan = _Search(inner, args, device, limit, keep_lean).run()
    except BaseException:
        lean(inner, before[0])
        put_segments(inner, before[1])
        raise
    if show:
        print(plan)
    return plan


def unfit_memory(net: nn.Module) -> nn.Module:
    """Take away the segments that `fit_memory` has put on `net`, and the switch of `lean`. Gives `net` back."""
    check_module("unfit_memory", net)
    inner: nn.Module = net.module if isinstance(net, (DataParallel, DistributedDataParallel)) else net
    take_segments_off(inner)
    lean(inner, on=False)
    return net


def keeps_less(net: nn.Module) -> bool:
    """Whether a part of `net` keeps less for its backward pass than its layers save: is lean, or in segments."""
    return any(is_lean(module) or held_stretches(module) for module in net.modules())


def _limit(budget: int | str) -> int:
    found = budget if isinstance(budget, int) and not isinstance(budget, bool) else bytes_in(str(budget))
    if found is None or found < 1:
        raise ValueError(
            f"fit_memory: the budget must be a number of bytes or a text such as '12 GB', but got {budget!r}."
        )
    return found


def _device(net: nn.Module, args: tuple[Any, ...]) -> torch.device:
    tensors = [held for held in (*pytree.tree_leaves(args), *net.parameters()) if isinstance(held, Tensor)]
    if not any(held.requires_grad for held in tensors):
        raise ValueError("fit_memory: neither the network nor its input learns, so that a step keeps nothing.")
    return tensors[0].device


class _Search:
    """The plan for one network, input and budget: read it from `run` downwards."""

    def __init__(self, net: nn.Module, args: tuple[Any, ...], device: torch.device, limit: int, leanly: bool) -> None:
        self.net, self.args, self.device, self.limit, self.leanly = net, args, device, limit, leanly

    def run(self) -> MemoryPlan:
        """Measure, choose, and leave the network with what was chosen."""
        take_segments_off(self.net)
        lean(self.net)
        course = _of_the_first(self._course())
        lean(self.net, self.leanly)
        of = model(course, self.leanly)
        floor, least, grow = self._floor(of)
        enough = least + max(least // _APART[0], _APART[1])
        if self.limit < least:
            raise ValueError(
                f"fit_memory: a training step takes {size_of(enough)} ({enough} bytes) at least, more than the budget "
                f"of {size_of(self.limit)}. Give it as much, or train on smaller batches; the network is as it was."
            )
        chosen, after = self._chosen(of, floor, least, grow)
        before = round(model(course, lean=False).nothing.peak(grow))
        if before <= self.limit:
            before = self._plain_peak(chosen)
        return MemoryPlan(
            self.limit,
            enough,
            before,
            after,
            tuple(stretch.name for stretch in chosen.stretches),
            chosen.seconds,
            self._time(),
            tuple(_rows(course, of, chosen)),
        )

    def _course(self) -> Course:
        """What is kept of each part, and the shortest of the times that it has taken."""
        courses = [follow(self.net, self.args, self.device) for _ in range(3)]
        course = courses[-1]  # the first has kernels to make
        if len({len(held.parts) for held in courses}) == 1:
            for part, *others in zip(course.parts, *(held.parts for held in courses), strict=True):
                part.seconds = min(other.seconds for other in others)
        return course

    def _floor(self, of: Model) -> tuple[Choice, int, float]:
        """The segments with the least peak, that peak, and the number of largest tensors at work that it tells."""
        choice = smallest(of, _GUESS)
        put_segments(self.net, choice.stretches)
        self._time()  # kernels are made in the first step, which takes memory of its own
        peak = self._peak(choice)
        grow = choice.grown(peak)
        other = smallest(of, math.ceil(10 * grow) / 10)  # rounded, that a few bytes lead to no other segments
        if other.stretches != choice.stretches:
            found = self._peak(other)
            grow = max(grow, other.grown(found))
            choice, peak = (other, found) if found < peak else (choice, peak)
        for near in self._near(of, peak, grow, {choice.stretches, other.stretches}):
            found = self._peak(near)
            choice, peak = (near, found) if found < peak else (choice, peak)
        return choice, peak, grow

    def _near(self, of: Model, peak: int, grow: float, tried: set[tuple[Stretch, ...]]) -> Iterator[Choice]:
        """Cheaper choices that may take less than was thought, for a plan could be one of them: none far above it."""
        chosen = [cheapest(of, more * peak, grow, again) for more in _NEAR]
        for choice in (held for held in chosen if held is not None):
            if choice.stretches not in tried:
                tried.add(choice.stretches)
                yield choice

    def _chosen(self, of: Model, floor: Choice, least: int, grow: float) -> tuple[Choice, int]:
        """The cheapest segments whose measured peak is within the budget, put on the network, and that peak."""
        for _ in range(_ROUNDS):
            choice = cheapest(of, self.limit, grow)
            if choice is None or choice.stretches == floor.stretches:
                break
            peak = self._peak(choice)
            if peak <= self.limit:
                return choice, peak
            grow = max(grow, choice.grown(peak))
        put_segments(self.net, floor.stretches)
        return floor, least

    def _peak(self, choice: Choice) -> int:
        """The most that a step with these segments allocates, on any of the processes."""
        put_segments(self.net, choice.stretches)
        with untouched(self.net), self._own_gradients():
            return _of_all(most_allocated(self._step, self.device))

    def _plain_peak(self, chosen: Choice) -> int:
        """The peak of a step of the network as it was."""
        lean(self.net, on=False)
        peak = self._peak(Choice(()))
        lean(self.net, self.leanly)
        put_segments(self.net, chosen.stretches)
        return peak

    def _time(self) -> float:
        with untouched(self.net), self._own_gradients():
            start = time.perf_counter()
            self._step()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - start

    def _step(self) -> None:
        reset_net(self.net)
        with torch.enable_grad():
            given = [x for x in pytree.tree_leaves(self.net(*self.args)) if isinstance(x, Tensor) and x.requires_grad]
            if not given:
                raise ValueError("fit_memory: no output of the network depends on a parameter or an input that learns.")
            torch.autograd.backward(given, [torch.ones_like(y) for y in given])
        del given
        reset_net(self.net)

    @contextmanager
    def _own_gradients(self) -> Iterator[None]:
        """Put the gradients that there are back at the end."""
        leaves = [*self.net.parameters(), *(x for x in pytree.tree_leaves(self.args) if isinstance(x, Tensor))]
        held = [(leaf, leaf.grad) for leaf in leaves if leaf.is_leaf]
        try:
            for leaf, _ in held:
                leaf.grad = None
            yield
        finally:
            for leaf, gradient in held:
                leaf.grad = gradient


def _of_the_first(course: Course) -> Course:
    """What the first of several processes has measured: all must choose alike, for norms may meet in a segment."""
    held = [course]
    if distributed.is_initialized():
        distributed.broadcast_object_list(held, src=0)
    return held[0]


def _of_all(peak: int) -> int:
    """The largest of the peaks that several processes have measured."""
    found: list[Any] = [peak]
    if distributed.is_initialized():
        found = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, peak)
    return max(found)


def _rows(course: Course, of: Model, chosen: Choice) -> Iterator[tuple[str, int, int, float]]:
    """Of each segment, and of each module outside of them, the bytes kept before and now and the seconds."""
    spans = [(of.places[held.first], of.places[held.last]) for held in chosen.options if held.stretch is not None]
    around = [
        call
        for call in reversed(course.calls)  # the outer before the inner
        if call.path and not any(call.first <= first and last <= call.last for first, last in spans)
    ]
    rows: dict[str, list[float]] = {}
    for held in chosen.options:
        first, last = of.places[held.first], of.places[held.last]
        name = next((call.path for call in around if call.first <= first and last <= call.last), "between them")
        row = rows.setdefault(name if held.stretch is None else held.stretch.name, [0, 0, 0.0])
        row[0] += sum(part.plain for part in course.parts[first:last])
        row[1] += held.kept
        row[2] += held.seconds
    for name, (before, now, seconds) in rows.items():
        if before or now:
            yield name, round(before), round(now), seconds
