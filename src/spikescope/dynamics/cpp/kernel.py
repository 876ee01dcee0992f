"""The C++ kernels: two loops over blocks of neurons, forwards and backwards in time, around the printed bodies.

A block of neurons runs through all its time steps with its state in the first-level cache. The backward pass saves
nothing but the input: it runs a segment of `K` steps again into a scratch that stays in the second-level cache (see
`min_cut.py`), then goes back through it. Runs longer than `K` steps leave their state at every K-th step behind as
checkpoints.
"""

from __future__ import annotations

import torch

from ..graphs.min_cut import kept
from ..graphs.printing import Assignment, assignments, each
from ..graphs.slopes import with_slopes
from ..graphs.trace import Body
from ..layout import BLOCK
from .borrowed import Borrowed, declarations, header, once
from .chunks import SUMS, chunk_constant, in_chunks
from .phases import Phases, arranged, ends, functions_of, path_of_spikes
from .sums import summed
from .taps import statements

__all__ = ["backward_source", "backward_step_source", "block", "forward_source", "loops", "numbers", "prelude"]

IO_TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "_Float16"}

NARROW = {torch.bfloat16: "bfloat16.h", torch.float16: "float16.h"}
"""The dtypes whose rows are converted by themselves, before and after the loops, and what does it."""

AHEAD = 2
"""Rows that a kernel fetches before their turn: with one, a pass over what is in no cache waits a tenth longer."""


def block(lines: list[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines)


def _real(io: torch.dtype) -> torch.dtype:
    return torch.float64 if io is torch.float64 else torch.float32


def _rows(io: torch.dtype, *names: str) -> list[str]:
    """The memory in which rows of these names are floats."""
    return [f"alignas(64) real {name}_[B];" for name in names if io in NARROW]


def _read(io: torch.dtype, name: str, gained: bool = False) -> str:
    """A value of the row `<name>t`, multiplied by the `gain` of its step where the input is to be."""
    return f"const real {name} = {name}{'_' if io in NARROW else 't'}[i]{' * gain' if gained else ''};"


def _write(io: torch.dtype, name: str, text: str) -> str:
    """A value for the row `<name>t`."""
    return f"{name}_[i] = real({text});" if io in NARROW else f"{name}t[i] = io(real({text}));"


def _widened(io: torch.dtype, name: str) -> str:
    return f"widen({name}t, {name}_, e);" if io in NARROW else ""


def _narrowed(io: torch.dtype, name: str) -> str:
    return f"narrow({name}_, {name}t, e);" if io in NARROW else ""


def loops(
    body: Phases,
    opening: list[str],
    closing: list[str],
    indent: int,
    reduction: str = "",
    start: str = "0",
    end: str = "e",
) -> str:
    """The loops over the neurons of a block, one a phase, each with the `opening`, the last with the `closing`.

    They run from `start` to `end`, the functions of PyTorch that they call on all neurons of the block.
    """
    lines = []
    for phase in body.phases:
        last = phase is body.phases[-1]
        lines += [f"#pragma omp simd{reduction if last else ''}", f"for (long i = {start}; i < {end}; i++) {{"]
        lines += [f"  {line}" for line in (*opening, *phase.lines, *(closing if last else ()))]
        lines += ["}", *phase.calls]
    return block(lines, indent)


def prelude(
    io: torch.dtype,
    states: int,
    taps: frozenset[str] = frozenset(),
    functions: frozenset[Borrowed] = frozenset(),
    neurons: int = BLOCK,
) -> str:
    real = "double" if io is torch.float64 else "float"
    return f"""{header("math.h")}
{header("bits.h") + header("taps.h") if taps else ""}
using real = {real};
using io = {IO_TYPES[io]};
constexpr long B = {neurons}, S = {states}, AHEAD = {AHEAD};
{declarations(functions)}
{header(NARROW[io]) if io in NARROW else ""}"""


def numbers(body: Body, source: str, settled: frozenset[str]) -> list[str]:
    """The constants that are one number, from the array `source`, and the reciprocals of powers of two among them."""
    names = [(i, name) for i, name in enumerate(body.constants.values()) if name not in body.arrays]
    zero = settled & body.others
    return [
        *(f"const real {name} = {'0' if name in zero else f'{source}[{i}]'};" for i, name in names),
        *(f"const real {name}_inverse = 1 / {name};" for _, name in names if name in settled & body.divisors),
    ]


def _array_names(body: Body) -> list[str]:
    return [name for name in body.constants.values() if name in body.arrays]


def _arrays(body: Body, source: str, periods: str) -> list[str]:
    """Per block: the constants that have a value per neuron, repeated over the batch with their period."""
    return [
        f"alignas(64) real {name}_[B]; gather({name}_, {source}[{k}], {periods}[{k}], o, e);"
        for k, name in enumerate(_array_names(body))
    ]


def _array_values(body: Body) -> list[str]:
    return [f"const real {name} = {name}_[i];" for name in _array_names(body)]


def forward_source(
    body: Body,
    io: torch.dtype,
    taps: frozenset[str] = frozenset(),
    settled: frozenset[str] = frozenset(),
    gained: bool = False,
) -> str:
    """The forward kernel: output, last state, and what is asked for of potentials, checkpoints and taps.

    - `settled` names constants for whose value the kernel is made, see `assignments`.
    - `gained`: whether each step of the input is multiplied by a number, of the row GAIN.
    """
    states = len(body.inputs) - 1
    made, outputs = assignments(body, "cpp", settled=settled)
    told = len(outputs) if any(name not in ("count", "packed") for name in taps) else 1 + states  # the last is h
    printed = arranged(made, outputs[:told], functions_of(made, _real(io)))
    y, *rest = printed.outputs
    begin, step, row, after = statements(taps, y, rest[-1])
    opening = [_read(io, "x", gained), *each("const real s@ = s@_[i];", states), *_array_values(body)]
    results = [_write(io, "y", y), *(f"s{j}_[i] = {rest[j]};" for j in range(states)), *step]
    chunk = f"""if (ahead) {{
          fetch(X + u * sx + at + c, end - c);
          if (!streamed) fetch_to_write(Y + u * n + at + c, end - c);
          if (V) fetch_to_write(V + u * n + at + c, end - c);
          {"fetch_to_write((real*)TAP[2] + u * n + at + c, end - c);" if "h" in taps else ""}
        }}
        {loops(printed, opening, results, 8, start="c", end="end")}
        if (streamed) stream(yt + c, Y + t * n + o + c, end - c);"""
    return f"""{prelude(io, states, taps, printed.functions)}
{header("stream.h")}
{chunk_constant(bool(printed.functions))}
extern "C" void forward(const io* __restrict X, long sx, io* __restrict Y, const real* const* S0, const long* L,
    real* const* S1, const double* C, const real* const* A, const long* P, real* __restrict V, real* __restrict CK,
    long K, void* const* TAP, const double* W, long T, long n, bool past, int threads{_GAIN if gained else ""}) {{
  in_large_pages(Y, T * n * sizeof(io));
  in_large_pages(V, T * n * sizeof(real));
  {"in_large_pages(TAP[2], T * n * sizeof(real));" if "h" in taps else ""}
  {block([*numbers(body, "C", settled), *once(printed.functions)], 2)}
  const bool streamed = {"false" if io in NARROW else "past && CHUNK < B && in_parts(Y, n)"};
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {{
  #pragma omp for schedule(static) nowait
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    alignas(64) io row_[B];
    {block(each("alignas(64) real s@_[B]; start(s@_, S0[@], L[@], o, e);", states), 4)}
    {block(_arrays(body, "A", "P"), 4)}
    {block(begin + printed.arrays + _rows(io, "x", "y"), 4)}
    for (long t = 0; t < T; t++) {{
      const io* __restrict xt = X + t * sx + o;{_gain(gained)}
      io* __restrict yt = streamed ? row_ : Y + t * n + o;
      const bool here = t + AHEAD < T;  // the rows of this block, else the first ones of the next
      const long u = here ? t + AHEAD : t + AHEAD - T, at = here ? o : o + B;
      const bool ahead = u < T && at < n;
      {block(each("if (t == 0) fetch_to_write(S1[@] + o, e);", states), 6)}
      const bool keep = CK && t && t % K == 0;
      {block(each("if (keep) memcpy(CK + ((t / K - 1) * S + @) * n + o, s@_, e * sizeof(real));", states), 6)}
      {_widened(io, "x")}
      {in_chunks(chunk)}
      {_narrowed(io, "y")}
      if (V) memcpy(V + t * n + o, s0_, e * sizeof(real));
      {block(row, 6)}
    }}
    {block(each("memcpy(S1[@] + o, s@_, e * sizeof(real));", states), 4)}
    {block(after, 4)}
  }}
  if (streamed) settle();
  }}
}}
"""


def _there_and_back(
    body: Body, io: torch.dtype, settled: frozenset[str]
) -> tuple[list[Assignment], list[str], list[str], dict[str, Borrowed]]:
    """The assignments of a step and its gradient, the names of the gradients and of the states after the step, and
    which are functions of PyTorch.
    """
    states = len(body.inputs) // 2 - 1
    made, outputs = assignments(body, "cpp", settled=settled)
    gradients, states_after = outputs[: len(outputs) - states], outputs[len(outputs) - states :]
    exact = path_of_spikes(made, states_after)
    functions = functions_of(made, _real(io), exact)
    return with_slopes(made, exact, in_parts=True, there=functions), gradients, states_after, functions


def _sums(scalars: tuple[bool, ...]) -> tuple[list[int], list[int]]:
    """Of the values that get a gradient those of one for all neurons, and those of one per neuron."""
    places = range(len(scalars))
    return [j for j in places if scalars[j]], [j for j in places if not scalars[j]]


def _gain(gained: bool, step: str = "t") -> str:
    return f" const real gain = GAIN[{step}];" if gained else ""


_GAIN = ", const real* GAIN"
"""The numbers by which the steps of the input are multiplied."""


def _squares(io: torch.dtype, text: str) -> str:
    """The text where sums of squares may be asked for: of float32."""
    return text if io is torch.float32 else ""


def backward_source(
    body: Body,
    io: torch.dtype,
    scalars: tuple[bool, ...],
    settled: frozenset[str] = frozenset(),
    gained: bool = False,
) -> str:
    """The backward kernel. A segment runs again forwards, which leaves for each step what the way back needs of it.

    The gradient of the input may take the place of the input: a step is read before its gradient is written, and what
    is read again later are steps before it.

    `scalars`: of each value that gets a gradient whether it is one for all neurons. The others get one per neuron.
    Where SQ is there, float32 leaves the sums of squares of the gradient of the output there, see `squares.h`.
    """
    names = list(body.inputs.values())
    states = len(names) // 2 - 1
    made, gradients, states_after, functions = _there_and_back(body, io, settled)
    gx, *grads = gradients
    gstates, gvalues = grads[:states], grads[states:]
    totals, fields = _sums(scalars)
    sums = summed(made, body, [gvalues[j] for j in totals])
    wanted = [gx, *gstates, *(gvalues[j] for j in fields), *sums.values]
    held = kept(made, wanted, names[: 1 + states], names[1 + states :], functions)
    redo = arranged(made, [*held, *states_after], functions, ends(made) - functions.keys())
    back = arranged(made, wanted, functions, ends(made) - functions.keys(), held)
    forth = [_read(io, "x", gained), *each("const real s@ = s@_[i];", states), *_array_values(body)]
    reached = [
        *(f"now[{k} * B + i] = {name};" for k, name in enumerate(held)),
        *(f"s{j}_[i] = {after};" for j, after in enumerate(states_after)),
    ]
    opening = [
        _read(io, "gy"),
        *each("const real g@ = g@_[i];", states),
        *(f"const real {name} = now[{k} * B + i];" for k, name in enumerate(held)),
        *_array_values(body),
    ]
    results = [
        _write(io, "gx", gx),
        *(f"g{j}_[i] = {grad};" for j, grad in enumerate(gstates)),
        *(f"p{j}_[i] += {gvalues[j]};" for j in fields),
        *(f"q{k} += {value};" for k, value in enumerate(sums.values)),
    ]
    arrays = sorted({*redo.arrays, *back.arrays})  # one is done before the other begins
    whole = bool(back.functions) or len(sums.values) > SUMS
    chunk = f"""if (t >= AHEAD) {{
          fetch(gyt - AHEAD * sgy + c, end - c);
          fetch_to_write(gxt - AHEAD * n + c, end - c);
        }}
        if (ahead) fetch(X + u * sx + at + c, end - c);
        {loops(back, opening, results, 8, sums.reduction, start="c", end="end")}"""
    return f"""{prelude(io, states, functions=back.functions | redo.functions)}
{_squares(io, header("squares.h"))}
{chunk_constant(whole)}
extern "C" void backward(const io* X, long sx, const real* const* S0, const long* L, const double* C,
    const real* const* A, const long* P, const real* __restrict CK, long K, const io* __restrict GY, long sgy,
    const real* __restrict GV, const real* const* G1, io* GX, real* const* G0, double* GP, double* SQ,
    real* const* GA, long T, long n, bool large, int threads{_GAIN if gained else ""}) {{
  in_large_pages(GX, T * n * sizeof(io));
  {block([*numbers(body, "C", settled), *once(back.functions | redo.functions)], 2)}
  constexpr long KEPT = {len(held)};
  const bool far = CHUNK < B && large;
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {{
  real* __restrict scratch = (real*)aligned_alloc(64, (K * KEPT + 1) * B * sizeof(real));
  #pragma omp for schedule(static)
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    {block(each("alignas(64) real s@_[B];", states), 4)}
    {block(each("alignas(64) real g@_[B]; begin(g@_, G1[@], o, e);", states), 4)}
    {block(each("double w@ = 0;", len(sums.values)) + [f"alignas(64) real p{j}_[B] = {{}};" for j in fields], 4)}
    {block(_arrays(body, "A", "P") + arrays + _rows(io, "x", "gy", "gx"), 4)}
    for (long k = (T - 1) / K; k >= 0; k--) {{
      const long from = k * K, to = from + K < T ? from + K : T;
      for (long t = to - 1; t >= from && t >= to - AHEAD; t--) {{
        fetch(GY + t * sgy + o, e);
        fetch_to_write(GX + t * n + o, e);
      }}
      if (KEPT) {{
        {block(each("start(s@_, k ? CK + ((k - 1) * S + @) * n : S0[@], k ? 1 : L[@], o, e);", states), 8)}
      }}
      for (long t = from; KEPT && t < to; t++) {{
        const io* __restrict xt = X + t * sx + o;{_gain(gained)}
        real* __restrict now = scratch + (t - from) * KEPT * B;
        if (t + AHEAD < T) fetch(xt + AHEAD * sx, e);
        {_widened(io, "x") if held else ""}
        {loops(redo, forth, reached, 8) if held else "// nothing is kept"}
      }}
      const long later = k ? k - 1 : (T - 1) / K, at = k ? o : o + B;  // the segment after this, and its block
      for (long t = to - 1; t >= from; t--) {{
        const io* __restrict gyt = GY + t * sgy + o;
        io* __restrict gxt = GX + t * n + o;
        const real* __restrict now = scratch + (t - from) * KEPT * B;
        const long u = later * K + t - from;
        const bool ahead = KEPT && u < T && at < n && (far || t - from < AHEAD);
        {block(each("if (t == 0 && G0[@]) fetch_to_write(G0[@] + o, e);", states), 8)}
        {_squares(io, "if (SQ) SQ[(2 + o / B) * T + t] = squares(gyt, e);")}
        if (GV && t >= AHEAD) fetch(GV + (t - AHEAD) * n + o, e);
        if (GV) for (long i = 0; i < e; i++) g0_[i] += GV[t * n + o + i];
        {block(each("real q@ = 0;", len(sums.values)), 8)}
        {_widened(io, "gy")}
        {f"const long c = 0, end = e; {chunk}" if whole else in_chunks(chunk, "far && ")}
        {_narrowed(io, "gx")}
        {block(each("w@ += q@;", len(sums.values)), 8)}
      }}
    }}
    {block(each("if (G0[@]) memcpy(G0[@] + o, g@_, e * sizeof(real));", states), 4)}
    {block(sums.left("T * e"), 4)}
    {block([f"memcpy(GA[{j}] + o, p{j}_, e * sizeof(real));" for j in fields], 4)}
  }}
  __builtin_free(scratch);
  }}
  {block(sums.of_all(totals), 2)}
  {_squares(io, "if (SQ) add_squares(SQ, (n + B - 1) / B, T, n);")}
}}
"""


def backward_step_source(
    body: Body,
    io: torch.dtype,
    scalars: tuple[bool, ...],
    settled: frozenset[str] = frozenset(),
    gained: bool = False,
) -> str:
    """The backward kernel of a single step, with the entry and the bits of that of any number of them.

    There is no way forwards to go again: each neuron is read once, and what is known of it stays in registers. States
    and gradients are read and written where they lie; a block stands for those that are one number, or not there.
    """
    states = len(body.inputs) // 2 - 1
    made, gradients, _, functions = _there_and_back(body, io, settled)
    gx, *grads = gradients
    gstates, gvalues = grads[:states], grads[states:]
    totals, fields = _sums(scalars)
    sums = summed(made, body, [gvalues[j] for j in totals])
    wanted = [gx, *gstates, *(gvalues[j] for j in fields), *sums.values]
    back = arranged(made, wanted, functions, ends(made) - functions.keys())
    opening = [
        _read(io, "x", gained),
        _read(io, "gy"),
        *each("const real s@ = s@t[i];", states),
        *each("const real g@ = g@t[i];", states),
        *_array_values(body),
    ]
    results = [
        _write(io, "gx", gx),
        *(f"d{j}t[i] = {grad};" for j, grad in enumerate(gstates)),
        *(f"p{j}_[i] = {gvalues[j]};" for j in fields),
        *(f"q{k} += {value};" for k, value in enumerate(sums.values)),
    ]
    return f"""{prelude(io, states, functions=back.functions)}
{_squares(io, header("squares.h"))}
extern "C" void backward(const io* X, long, const real* const* S0, const long* L, const double* C,
    const real* const* A, const long* P, const real*, long, const io* __restrict GY, long,
    const real* __restrict GV, const real* const* G1, io* GX, real* const* G0, double* GP, double* SQ,
    real* const* GA, long, long n, bool, int threads{_GAIN if gained else ""}) {{
  in_large_pages(GX, n * sizeof(io));
  {block([*numbers(body, "C", settled), *once(back.functions)], 2)}
  #pragma omp parallel for num_threads(threads) if(threads > 1) schedule(static)
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    const io *xt = X + o, *__restrict gyt = GY + o;
    io* gxt = GX + o;{_gain(gained, "0")}
    {block(each("alignas(64) real s@_[B], g@_[B], d@_[B];", states), 4)}
    {block(each("if (!L[@]) start(s@_, S0[@], 0, o, e);", states), 4)}
    {block(each("if (!G1[@]) begin(g@_, G1[@], o, e);", states), 4)}
    if (GV) for (long i = 0; i < e; i++) g0_[i] = (G1[0] ? G1[0][o + i] : real(0)) + GV[o + i];
    {block(each("const real* __restrict s@t = L[@] ? S0[@] + o : s@_;", states), 4)}
    {block(each("const real* __restrict g@t = G1[@] ? G1[@] + o : g@_;", states), 4)}
    if (GV) g0t = g0_;
    {block(each("real* __restrict d@t = G0[@] ? G0[@] + o : d@_;", states), 4)}
    {block(_arrays(body, "A", "P") + back.arrays + _rows(io, "x", "gy", "gx"), 4)}
    {block([f"alignas(64) real p{j}_[B];" for j in fields] + each("real q@ = 0;", len(sums.values)), 4)}
    {_squares(io, "if (SQ) SQ[2 + o / B] = squares(gyt, e);")}
    {_widened(io, "x")}
    {_widened(io, "gy")}
    {loops(back, opening, results, 4, sums.reduction)}
    {_narrowed(io, "gx")}
    {block(each("const double w@ = q@;", len(sums.values)) + sums.left("e"), 4)}
    {block([f"memcpy(GA[{j}] + o, p{j}_, e * sizeof(real));" for j in fields], 4)}
  }}
  {block(sums.of_all(totals), 2)}
  {_squares(io, "if (SQ) add_squares(SQ, (n + B - 1) / B, 1, n);")}
}}
"""
