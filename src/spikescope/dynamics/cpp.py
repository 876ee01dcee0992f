"""The C++ kernels: two loops over blocks of neurons, forwards and backwards in time, around the printed bodies.

A block of neurons runs through all its time steps with its state in the first-level cache. The backward pass saves
nothing but the input: it runs a segment of `K` steps again into a scratch that stays in the second-level cache, then
goes back through it. Runs longer than `K` steps leave their state at every K-th step behind as checkpoints.
"""

from __future__ import annotations

from importlib import resources

import torch

from .printing import print_body
from .trace import Body

__all__ = ["BLOCK", "IO_TYPES", "backward_source", "forward_source", "segment_length"]

BLOCK = 256

IO_TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "_Float16"}


def segment_length(steps: int, states: int) -> int:
    """How many steps the backward pass runs again at a time: what fits the cache, at least 8, at most 64."""
    return max(1, min(steps, max(8, 64 // states)))


def _prelude(io: torch.dtype, block: int) -> str:
    real = "double" if io is torch.float64 else "float"
    math = resources.files(__package__).joinpath("math.h").read_text()
    return f"{math}\n#include <cstdlib>\nusing real = {real};\nusing io = {IO_TYPES[io]};\nconstexpr long B = {block};\n"


def _constants(body: Body, numbers: str = "C") -> list[str]:
    """The constants that are one number, from the array `numbers`."""
    names = list(body.constants.values())
    return [f"const real {name} = {numbers}[{i}];" for i, name in enumerate(names) if name not in body.arrays]


def _array_names(body: Body) -> list[str]:
    return [name for name in body.constants.values() if name in body.arrays]


def _gather(body: Body, arrays: str = "A", periods: str = "P") -> list[str]:
    """Per block: the constants that have a value per neuron, repeated over the batch with their period."""
    return [
        f"alignas(64) real {name}_[B]; for (long i = 0, j = o % {periods}[{k}]; i < e; i++) "
        f"{{ {name}_[i] = {arrays}[{k}][j]; if (++j == {periods}[{k}]) j = 0; }}"
        for k, name in enumerate(_array_names(body))
    ]


def _loads(body: Body, states: range, state: str) -> list[str]:
    return [
        *(f"const real s{j} = {state.format(j=j)};" for j in states),
        *(f"const real {name} = {name}_[i];" for name in _array_names(body)),
    ]


def _join(lines: list[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines)


def forward_source(body: Body, io: torch.dtype, taps: frozenset[str] = frozenset(), block: int = BLOCK) -> str:
    """The forward kernel: output, last state, and what is asked for of potentials, checkpoints and taps."""
    states = range(len(body.inputs) - 1)
    lines, outputs = print_body(body, "cpp")
    tap_begin, tap_step, tap_row, tap_end = _taps(taps, outputs)
    return f"""{_prelude(io, block)}
extern "C" void forward(const io* __restrict X, long sx, io* __restrict Y, const real* const* S0, const long* L,
    real* const* S1, const double* C, const real* const* A, const long* P, real* __restrict V, real* __restrict CK,
    long K, void* const* TAP, long T, long n, int threads) {{
  {_join(_constants(body), 2)}
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    {_join([f"alignas(64) real s{j}_[B]; for (long i = 0; i < e; i++) s{j}_[i] = S0[{j}][L[{j}] * (o + i)];"
            for j in states], 4)}
    {_join(_gather(body), 4)}
    {_join(tap_begin, 4)}
    for (long t = 0; t < T; t++) {{
      const io* __restrict xt = X + t * sx + o;
      io* __restrict yt = Y + t * n + o;
      {_join([f"if (CK && t % K == 0) std::memcpy(CK + ((t / K) * {len(states)} + {j}) * n + o, s{j}_, e * sizeof(real));"
              for j in states], 6)}
      #pragma omp simd
      for (long i = 0; i < e; i++) {{
        const real x = xt[i];
        {_join(_loads(body, states, "s{j}_[i]"), 8)}
        {_join(lines, 8)}
        yt[i] = io(real({outputs[0]}));
        {_join([f"s{j}_[i] = {outputs[1 + j]};" for j in states], 8)}
        {_join(tap_step, 8)}
      }}
      if (V) std::memcpy(V + t * n + o, s0_, e * sizeof(real));
      {_join(tap_row, 6)}
    }}
    {_join([f"std::memcpy(S1[{j}] + o, s{j}_, e * sizeof(real));" for j in states], 4)}
    {_join(tap_end, 4)}
  }}
}}
"""


def _taps(taps: frozenset[str], outputs: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """The statements of the taps that are on: before the time loop, per neuron, per step, after the loop."""
    begin, step, row, end = [], [], [], []
    if "count" in taps:
        begin.append("alignas(64) int32_t count_[B] = {};")
        step.append(f"count_[i] += ({outputs[0]} != 0);")
        end.append("store_counts(TAP[0], T, o, e, count_);")
    if "packed" in taps:
        row.append("pack(yt, e, (uint8_t*)TAP[1] + t * ((n + 7) / 8) + o / 8);")
    if "h" in taps:
        step.append(f"((real*)TAP[2])[t * n + o + i] = {outputs[-1]};")
    if "range" in taps:
        begin.append("alignas(64) real low_[B], high_[B], sum_[B] = {};")
        begin.append("for (long i = 0; i < B; i++) { low_[i] = real(HUGE_VAL); high_[i] = -real(HUGE_VAL); }")
        step.append(f"{{ const real h = {outputs[-1]}; low_[i] = h < low_[i] ? h : low_[i];")
        step.append("high_[i] = h > high_[i] ? h : high_[i]; sum_[i] += h; }")
        end.append("store_range((double*)TAP[3] + o / B * 3, e, low_, high_, sum_);")
    return begin, step, row, end


def backward_source(body: Body, again: Body, io: torch.dtype, block: int = BLOCK) -> str:
    """The backward kernel, from the forward body `again` (to run a segment again) and the backward body."""
    states = range(len(again.inputs) - 1)
    wanted = range(len(body.outputs) - 1 - len(states))
    lines, outputs = print_body(body, "cpp")
    redo, redone = print_body(again, "cpp")
    size = len(states)
    return f"""{_prelude(io, block)}
extern "C" void backward(const io* __restrict X, long sx, const real* const* S0, const long* L, const double* C,
    const real* const* A, const long* P, const double* FC, const real* const* FA, const long* FP,
    const real* __restrict CK, long K, const io* __restrict GY, long sgy, const real* __restrict GV,
    const real* const* G1, io* __restrict GX, real* const* G0, double* GP, real* const* GA, long T, long n,
    int threads) {{
  {_join(_constants(body), 2)}
  {_join(_constants(again, "FC"), 2)}
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {{
  real* __restrict scratch = (real*)std::aligned_alloc(64, K * {size} * B * sizeof(real));
  #pragma omp for schedule(static)
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    {_join([f"alignas(64) real g{j}_[B]; for (long i = 0; i < e; i++) g{j}_[i] = G1[{j}] ? G1[{j}][o + i] : real(0);"
            for j in states], 4)}
    {_join([f"alignas(64) real p{j}_[B] = {{}};" for j in wanted], 4)}
    {_join(_gather(body), 4)}
    {_join(_gather(again, "FA", "FP"), 4)}
    for (long k = (T - 1) / K; k >= 0; k--) {{
      const long from = k * K, to = from + K < T ? from + K : T;
      {_join([f"for (long i = 0; i < e; i++) scratch[{j} * B + i] = "
              f"k ? CK[(k * {size} + {j}) * n + o + i] : S0[{j}][L[{j}] * (o + i)];" for j in states], 6)}
      for (long t = from; t < to - 1; t++) {{
        const io* __restrict xt = X + t * sx + o;
        const real* __restrict now = scratch + (t - from) * {size} * B;
        real* __restrict next = scratch + (t - from + 1) * {size} * B;
        #pragma omp simd
        for (long i = 0; i < e; i++) {{
          const real x = xt[i];
          {_join(_loads(again, states, "now[{j} * B + i]"), 10)}
          {_join(redo, 10)}
          {_join([f"next[{j} * B + i] = {redone[1 + j]};" for j in states], 10)}
        }}
      }}
      for (long t = to - 1; t >= from; t--) {{
        const io* __restrict xt = X + t * sx + o;
        const io* __restrict gyt = GY + t * sgy + o;
        io* __restrict gxt = GX + t * n + o;
        const real* __restrict now = scratch + (t - from) * {size} * B;
        if (GV) for (long i = 0; i < e; i++) g0_[i] += GV[t * n + o + i];
        #pragma omp simd
        for (long i = 0; i < e; i++) {{
          const real x = xt[i], gy = gyt[i];
          {_join([f"const real g{j} = g{j}_[i];" for j in states], 10)}
          {_join(_loads(body, states, "now[{j} * B + i]"), 10)}
          {_join(lines, 10)}
          gxt[i] = io(real({outputs[0]}));
          {_join([f"g{j}_[i] = {outputs[1 + j]};" for j in states], 10)}
          {_join([f"p{j}_[i] += {outputs[1 + size + j]};" for j in wanted], 10)}
        }}
      }}
    }}
    {_join([f"if (G0[{j}]) std::memcpy(G0[{j}] + o, g{j}_, e * sizeof(real));" for j in states], 4)}
    {_join([f"if (GA[{j}]) std::memcpy(GA[{j}] + o, p{j}_, e * sizeof(real)); else "
            f"{{ double sum = 0; for (long i = 0; i < e; i++) sum += p{j}_[i]; GP[o / B * {len(wanted)} + {j}] = sum; }}"
            for j in wanted], 4)}
  }}
  std::free(scratch);
  }}
}}
"""
