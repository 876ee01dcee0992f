"""The Triton kernels: the same two loops over time as in C++, a block of neurons a program, the state in registers.

The backward pass runs segments of `K` steps again and keeps in registers what it needs of each (see `min_cut.py`), so
its steps are printed one by one. Where a run is longer, the forward pass leaves the state at every K-th step behind.
What a step loads is asked for before the step that comes first is computed.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from typing import NamedTuple

import torch

from ..cpp.phases import needed, path_of_spikes
from ..graphs.min_cut import kept
from ..graphs.printing import LITERAL, Assignment, Language, assignments, each
from ..graphs.slopes import with_slopes
from ..graphs.trace import Body
from ..layout import TAPS, supports

__all__ = [
    "BACKWARD",
    "FORWARD",
    "TRIAL",
    "WHOLE",
    "Form",
    "Way",
    "backward_source",
    "forward_source",
    "norm_source",
    "trial_source",
]

FORWARD, BACKWARD, TRIAL = "spikescope_forward", "spikescope_backward", "spikescope_trial"
"""The names of the kernels, as a profiler shows them."""


def _block(lines: list[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines) if lines else "pass"


def _prelude(real: torch.dtype) -> str:
    wide = real is torch.float64
    text = resources.files(__package__).joinpath("math.txt").read_text()
    text = text.replace("{divide}", "a / b" if wide else "tl.div_rn(a, b)")
    text = text.replace("{square_root}", "tl.sqrt(a)" if wide else "tl.sqrt_rn(a)")
    return f"{text}\n\nreal = tl.constexpr(tl.float{64 if wide else 32})\n"


class Form(NamedTuple):
    """What of a kernel differs from call to call besides its body."""

    real: torch.dtype
    numbers: frozenset[str]  # the constants that come by value; the others are pointers
    starts: tuple[bool, ...]  # for each state whether it starts from a number, which comes by value too
    gpu: bool  # not the interpreter
    channels: frozenset[str] = frozenset()  # the constants that have a value per channel; where some have, see `Way`
    cuda: bool = False  # on a GPU of NVIDIA, whose functions `ops.CUDA` has

    @property
    def by_value(self) -> str:
        """The type of a number among the arguments, which would be float32 without it."""
        return f": tl.{'float64' if self.real is torch.float64 else 'float32'}, "

    def assignments(self, body: Body) -> tuple[list[Assignment], list[str]]:
        """The assignments of the body and its outputs; on a GPU PyTorch divides by no number, see `assignments`."""
        language: Language = "cuda" if self.cuda and self.real is torch.float32 else "triton"
        return assignments(body, language, {LITERAL, *self.numbers} if self.gpu else ())

    def arguments(self, body: Body) -> str:
        """The constants as arguments: a number, or a pointer, with the period of those that have a value per neuron;
        then, where some have one per channel, the number of channels and the distance between two.
        """
        found = "".join(self._argument(name, name in body.arrays) for name in body.constants.values())
        return f"{found}C, inner, " if self.channels else found

    def _argument(self, name: str, array: bool) -> str:
        if name in self.numbers:
            return f"{name}_is{self.by_value}"
        if name in self.channels:
            return f"{name}_at, "
        return f"{name}_at, {name}_period, " if array else f"{name}_at, "

    def constants(self, body: Body, of_one_channel: bool = False) -> list[str]:
        """The constants as blocks; a program may have one channel."""
        return [self._block(name, name in body.arrays, of_one_channel) for name in body.constants.values()]

    def _block(self, name: str, array: bool, of_one_channel: bool) -> str:
        if name in self.numbers:
            return f"{name} = tl.full([BLOCK], {name}_is, real)"
        if name in self.channels:
            return _by_channel(name, of_one_channel)
        if array:
            return f"{name} = tl.load({name}_at + i % {name}_period, mask=inside, other=1.0)"
        return f"{name} = tl.full([BLOCK], tl.load({name}_at), real)"

    def states(self, pointers: str, after: str) -> str:
        """The states as arguments: a number or `pointers`, then `after`."""
        return "".join(
            (f"S@{self.by_value}" if number else pointers).replace("@", str(j)) + after.replace("@", str(j))
            for j, number in enumerate(self.starts)
        )

    def first(self) -> list[str]:
        """The states at the start as blocks."""
        return [
            f"s{j} = tl.full([BLOCK], S{j}, real)"
            if number
            else f"s{j} = tl.load(S{j} + i * L{j}, mask=inside, other=0.0)"
            for j, number in enumerate(self.starts)
        ]


def _by_channel(name: str, of_one: bool) -> str:
    """A block of what has a value per channel."""
    if of_one:
        return f"{name} = tl.full([BLOCK], tl.load({name}_at + channel), real)"
    return f"{name} = tl.load({name}_at + channel, mask=inside, other=1.0)"


class Way(NamedTuple):
    """What a backward pass is for: the whole gradient, or one of two passes behind a normalisation.

    There the gradient of an input depends on sums over its whole channel. The first pass gives these alone, `sums`. The
    second gives the gradient of the input as the normalisation makes it of these sums, which is an affine function of
    the input more, with two numbers a channel. A program takes a tile of rows times `width` neighbouring channels; in
    the second pass, where channels lie side by side, neurons as they lie.
    """

    sums: bool = False
    width: int = 1
    corrected: bool = False

    @property
    def tiled(self) -> bool:
        """Whether programs take tiles."""
        return self.sums or (self.corrected and self.width == 1)


WHOLE = Way()


def _begin(form: Form, way: Way = WHOLE) -> list[str]:
    """Which neurons a program takes, and what is needed in every kernel."""
    return [
        *(_AS_THEY_LIE if not way.tiled else _OF_ONE_CHANNEL if way.width == 1 else _of_channels(way.width)),
        *(_CHANNEL if form.channels and not way.tiled else ()),
        "wide = tl.program_id(0).to(tl.int64) * 0",  # offsets past 2^31 elements do not fit the numbers of a launch
        "n = n + wide",
        "sx = sx + wide",
        "zero = tl.zeros([BLOCK], real)",
        "one = zero + 1",
    ]


def _inside(way: Way, when: str) -> str:
    """Which of the neurons of a program there are, none but `when` that holds."""
    if not way.tiled:
        return f"i < tl.where({when}, n, 0)"
    there = f"at < tl.where({when}, rows, 0)"
    return there if way.width == 1 else f"(channel < C) & ({there})"


_AS_THEY_LIE = ["i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)", "inside = i < n"]

_CHANNEL = ["channel = ((i // inner) % C).to(tl.int32)"]

_OF_ONE_CHANNEL = [  # whose numbers are the same for all of a program; what lies side by side can be seen to do so
    "channel = tl.program_id(0) % C",
    "first = (tl.program_id(0) // C).to(tl.int64) * BLOCK",
    "at = first + tl.arange(0, BLOCK)",
    "inside = at < rows",
    "in_row = (first % inner).to(tl.int32) + tl.arange(0, BLOCK)",
    "row = in_row // inner",
    "i = (first // inner + row) * (inner * C) + channel.to(tl.int64) * inner + (in_row - row * inner)",
]


def _of_channels(width: int) -> list[str]:
    return [
        f"across = (C + {width - 1}) // {width}",
        "lane = tl.arange(0, BLOCK)",
        f"channel = (tl.program_id(0) % across) * {width} + lane % {width}",
        f"at = (tl.program_id(0) // across).to(tl.int64) * (BLOCK // {width}) + lane // {width}",
        "inside = (channel < C) & (at < rows)",
        "i = (at // inner) * (inner * C) + channel * inner + at % inner",
    ]


def forward_source(body: Body, form: Form, taps: frozenset[str] = frozenset()) -> str:
    """The forward kernel: output, last state, and what is asked for of potentials, checkpoints and taps."""
    states = len(form.starts)
    made, (y, *rest) = form.assignments(body)
    lines = [f"{name} = {expression}" for _, name, expression, *_ in made]
    begin, step, end = _taps(taps, rest[-1])
    number = form.by_value
    more = "".join(
        f"TAP{len(TAPS) + j}, " + "".join(f"W{j}_{k}{number}" for k in range(3)) for j, _ in enumerate(supports(taps))
    )
    return f"""{_prelude(form.real)}

@triton.jit(do_not_specialize=["T"])
def {FORWARD}(X, sx, Y, {form.states("S@, L@, ", "E@, ")}V, CK, TAP0, TAP1, TAP2, TAP3, {more}
            {form.arguments(body)}T, n,
            K: tl.constexpr, KEEP_V: tl.constexpr, KEEP_CK: tl.constexpr, BLOCK: tl.constexpr):
    {_block(_begin(form) + form.constants(body), 4)}
    {_block(form.first(), 4)}
    {_block(begin, 4)}
    ahead = tl.load(X + i, mask=i < tl.where(T > 0, n, 0), other=0.0)
    for t in range(T):
        x = ahead.to(real)
        ahead = tl.load(X + (t + 1) * sx + i, mask=i < tl.where(t + 1 < T, n, 0), other=0.0)
        if KEEP_CK:
            if (t % K == 0) & (t > 0):
                {_block(each(f"tl.store(CK + ((t // K - 1) * {states} + @) * n + i, s@, mask=inside)", states), 16)}
        {_block(lines, 8)}
        y = {y} + zero
        tl.store(Y + t * n + i, y.to(Y.dtype.element_ty), mask=inside)
        {_block(step, 8)}
        {_block([f"e{j} = {rest[j]}" for j in range(states)], 8)}
        {_block(each("s@ = e@", states), 8)}
        if KEEP_V:
            tl.store(V + t * n + i, s0, mask=inside)
    {_block(each("tl.store(E@ + i, s@, mask=inside)", states), 4)}
    {_block(end, 4)}
"""


def _taps(taps: frozenset[str], h: str) -> tuple[list[str], list[str], list[str]]:
    """The statements of the taps that are on: before the time loop, per step, after the loop."""
    begin, step, end = [], [], []
    if "count" in taps:
        begin.append("count = tl.zeros([BLOCK], tl.int32)")
        step.append("count += (y != 0).to(tl.int32)")
        end.append("tl.store(TAP0 + i, count.to(TAP0.dtype.element_ty), mask=inside)")
    if "packed" in taps:
        begin.append("j = tl.program_id(0).to(tl.int64) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)")
        begin.append("row = (n + 7) // 8")
        step.append("tl.store(TAP1 + t * row + j, pack((y != 0) & inside, BLOCK), mask=j < row)")
    if "h" in taps:
        step.append(f"tl.store(TAP2 + t * n + i, {h} + zero, mask=inside)")
    if "range" in taps:
        begin += ["low = zero + float('inf')", "high = zero - float('inf')", "level = zero"]
        step += [
            f"low = tl.minimum(low, {h}, propagate_nan=tl.PropagateNan.ALL)",
            f"high = tl.maximum(high, {h}, propagate_nan=tl.PropagateNan.ALL)",
            f"level += {h}",
        ]
        end.append("at = TAP3 + tl.program_id(0) * 3")
        end.append("nan = tl.where(tl.max((inside & (low != low)).to(tl.int32), 0) > 0, float('nan'), 0.0)")
        end.append("tl.store(at, (tl.min(tl.where(inside, low, float('inf')), 0) + nan).to(tl.float64))")
        end.append("tl.store(at + 1, (tl.max(tl.where(inside, high, -float('inf')), 0) + nan).to(tl.float64))")
        end.append("tl.store(at + 2, tl.sum(tl.where(inside, level, 0.0).to(tl.float64), 0))")
    for j, _ in enumerate(supports(taps)):
        begin += [f"w{j}_{k} = tl.full([BLOCK], W{j}_{k}, real)" for k in range(3)]
        begin.append(f"within{j} = tl.zeros([BLOCK], tl.int64)")
        step.append(f"off = {h} - w{j}_0")
        step.append(f"within{j} += ((off >= w{j}_1) & (off <= w{j}_2) & inside).to(tl.int64)")
        end.append(f"tl.store(TAP{len(TAPS) + j} + tl.program_id(0), tl.sum(within{j}, 0))")
    return begin, step, end


def _forth(lines: list[str], held: list[str], states_after: list[str], k: int) -> list[str]:
    """Step `k` of a segment, run again, with what is kept of it."""
    return [
        f"x = x{k}.to(real)",
        *lines,
        *(f"k{k}_{name} = {name} + zero" for name in held),
        *(f"e{j} = {after} + zero" for j, after in enumerate(states_after)),
        *each("s@ = e@", len(states_after)),
    ]


def _back(lines: list[str], held: list[str], gradients: list[str], states: int, k: int, way: Way) -> list[str]:
    """Step `k` of a segment, backwards; a step past the end changes nothing."""
    gx, gstates, gvalues = gradients[0], gradients[1 : 1 + states], gradients[1 + states :]
    gx = f"{gx} + (more + slope * x{k}.to(real))" if way.corrected else f"{gx} + zero"
    store = f"tl.store(GX + (start + {k}) * n + i, ({gx}).to(GX.dtype.element_ty), mask=inside{k})"
    return [
        f"gy = gy{k}.to(real)",
        *(f"{name} = k{k}_{name}" for name in held),
        "if KEEP_V:",
        f"    g0 += tl.load(GV + (start + {k}) * n + i, mask=inside{k}, other=0.0)",
        *lines,
        *(() if way.sums else (store,)),
        *(f"p{j} += tl.where(inside{k}, {grad}, zero)" for j, grad in enumerate(gvalues)),
        *(f"m{j} = {grad} + zero" for j, grad in enumerate(gstates)),
        *each(f"g@ = tl.where(inside{k}, m@, g@)", states),
    ]


class _Parts(NamedTuple):
    """The printed lines of the way back."""

    held: list[str]
    forth: list[str]
    last: list[str]  # those of the last step of a segment, of which no state is needed
    back: list[str]
    states_after: list[str]
    gradients: list[str]


def _parts(body: Body, form: Form) -> _Parts:
    names, states = list(body.inputs.values()), len(form.starts)
    made, outputs = form.assignments(body)
    gradients, states_after = outputs[: len(outputs) - states], outputs[len(outputs) - states :]
    exact = path_of_spikes(made, states_after)
    made = [_approximate(line, exact) for line in with_slopes(made, exact)]
    held = kept(made, gradients, names[: 1 + states], names[1 + states :])
    wanted: list[tuple[list[str], list[str]]] = [([*held, *states_after], []), (held, []), (gradients, held)]
    forth, last, back = ([f"{n} = {e}" for _, n, e, *_ in needed(made, *told)] for told in wanted)
    return _Parts(held, forth, last, back, states_after, gradients)


_QUICK = {"divide(": "ratio(", "cuda_exp(": "tl.exp(", "cuda_tanh(": "hyperbolic_tangent("}


def _approximate(line: Assignment, exact: Collection[str]) -> Assignment:
    """A line that no spike depends on, with what a GPU has in hardware."""
    if line.name in exact:
        return line
    expression = line.expression
    for slow, quick in _QUICK.items():
        expression = expression.replace(slow, quick)
    return line._replace(expression=expression)


def backward_source(body: Body, form: Form, length: int, scalars: tuple[bool, ...], way: Way = WHOLE) -> str:
    """The backward kernel for segments of `length` steps; `scalars` tells which wanted gradients are of one number."""
    states, parts = len(form.starts), _parts(body, form)
    ends = [f"tl.store(E{j} + i, g{j}, mask=inside)" for j, number in enumerate(form.starts) if not number]
    load = "tl.load({0} + (start + {1}) * s{2} + i, mask=inside{1}, other=0.0)"
    loads = [
        *(f"inside{k} = {_inside(way, f'start + {k} < T')}" for k in range(length)),
        *(f"x{k} = {load.format('X', k, 'x')}" for k in range(length if parts.held or way.corrected else 0)),
        *(f"gy{k} = {load.format('GY', k, 'gy')}" for k in range(length)),
    ]
    alone = way.tiled and way.width == 1
    correction = [_by_channel(name, alone) for name in ("more", "slope")]
    more = "more_at, slope_at, " * way.corrected + "rows, " * way.tiled
    constants = form.constants(body, alone)
    begin = [*_begin(form, way), "sgy = sgy + wide", *constants, *(correction if way.corrected else ())]
    forth = [line for k in range(length - 1) for line in _forth(parts.forth, parts.held, parts.states_after, k)]
    forth = [*forth, *_forth(parts.last, parts.held, [], length - 1)] if parts.held else []
    backwards = reversed(range(length))
    back = [line for k in backwards for line in _back(parts.back, parts.held, parts.gradients, states, k, way)]
    final = _channel_sums(len(scalars), way.width) if way.sums else [*ends, *_totals(scalars)]
    sums = "".join(each("P@, ", min(len(scalars), 1) if way.sums else len(scalars)))
    return f"""{_prelude(form.real)}

@triton.jit(do_not_specialize=["T"])
def {BACKWARD}(X, sx, {form.states("S@, L@, E@, ", "G@, ")}CK, GY, sgy, GV, GX,
             {sums}{form.arguments(body)}{more}T, n,
             HAS_CK: tl.constexpr, KEEP_V: tl.constexpr, HAS_G: tl.constexpr, BLOCK: tl.constexpr):
    {_block(begin, 4)}
    {_block(each("g@ = zero", states), 4)}
    if HAS_G:
        {_block(each("g@ = tl.load(G@ + i, mask=inside, other=0.0)", states), 8)}
    {_block(each("p@ = zero", len(scalars)), 4)}
    segments = (T + {length - 1}) // {length}
    for back in range(segments):
        segment = segments - 1 - back
        start = segment * {length}
        {_block(loads, 8)}
        {_block(form.first(), 8)}
        if HAS_CK:
            if segment > 0:
                {_block(each(f"s@ = tl.load(CK + ((segment - 1) * {states} + @) * n + i, inside, 0.0)", states), 16)}
        {_block(forth, 8)}
        {_block(back, 8)}
    {_block(final, 4)}
"""


def _totals(scalars: tuple[bool, ...]) -> list[str]:
    """What is left of the gradients of fields: a sum a program, or a value a neuron."""
    return [
        f"tl.store(P{j} + tl.program_id(0), tl.sum(p{j}.to(tl.float64), 0))"
        if scalar
        else f"tl.store(P{j} + i, p{j}, mask=inside)"
        for j, scalar in enumerate(scalars)
    ]


def _channel_sums(count: int, width: int) -> list[str]:
    """Of each gradient the sums of a tile, one a channel: `[gradients, C, tiles]`."""
    if width == 1:
        sums, channel, across, mask = "tl.sum(p@, 0)", "channel", "C", ""
    else:
        sums, mask = f"tl.sum(tl.reshape(p@, [BLOCK // {width}, {width}]), 0)", ", mask=own < C"
        channel, across = "own", "across"
    return [
        *([] if width == 1 else [f"own = (tl.program_id(0) % across) * {width} + tl.arange(0, {width})"]),
        f"tiles = (rows + (BLOCK // {width} - 1)) // (BLOCK // {width})",
        f"into = P0 + {channel} * tiles + tl.program_id(0) // {across}",
        *each(f"tl.store(into + @ * C * tiles, {sums}{mask})", count),
    ]


def trial_source(text: str) -> str:
    """A kernel that gives a function of every number: `text`, with the place `{0}` for the number."""
    return f"""{_prelude(torch.float32)}

@triton.jit
def {TRIAL}(X, Y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    one = tl.full([BLOCK], 1.0, real)
    x = tl.load(X + i, mask=i < n, other=0.0)
    tl.store(Y + i, {text.format("x")}, mask=i < n)
"""


def norm_source(real: torch.dtype) -> str:
    """The kernels of a normalisation: its sums, what follows from them, and the same backwards."""
    return _prelude(real) + "\n\n" + resources.files(__package__).joinpath("norm.txt").read_text()
