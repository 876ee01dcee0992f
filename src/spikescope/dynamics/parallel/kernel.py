"""The C++ kernels of parallel neurons: blocks of neurons with all their steps, forwards and backwards.

Forwards the sums of a block become spikes where they lie in the cache. Backwards they are computed again from the
inputs, so that nothing else is kept; each block then gives its gradient of the input, and adds to those of the weights.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import torch

from ...toolchain.declared import declared
from ..cpp.borrowed import header
from ..cpp.kernel import block, loops, numbers, prelude
from ..cpp.phases import arranged, ends
from ..graphs.printing import assignments
from ..graphs.slopes import with_slopes
from ..graphs.trace import Body

__all__ = ["backward_source", "forward_source", "parts"]

NEURONS = 192
"""Of a block: whole tiles, and so many that rows of 32 steps stay in the first-level cache."""

PART = 16 * NEURONS
"""Neurons whose products are added up by themselves: so threads make no difference."""

_NOTHING = frozenset[str]()


def parts(neurons: int) -> int:
    """How many such sums there are."""
    return -(-neurons // PART)


@cache
def _common(real: torch.dtype) -> str:
    own = resources.files(__package__).joinpath("parallel.h").read_text()
    return f"{prelude(real, 0, neurons=NEURONS)}\n{header('stream.h')}\n{own}"


@declared("parallel", dtypes=(torch.float32, torch.float64))
def forward_source(real: torch.dtype) -> str:
    """The kernel of the spikes.

    - fixed: rows and columns of the weights, neurons, whether the results are stored past the caches, whether these are
      the sums themselves
    - given: threads, weights, bias, inputs, spikes
    """
    return f"""{_common(real)}
extern "C" void enter_forward(const long* F, void* const* M) {{
  const long R = F[0], K = F[1], n = F[2], rows = filled(R, ROWS);
  const real *W = (const real*)M[1], *bias = (const real*)M[2], *X = (const real*)M[3];
  real* Y = (real*)M[4];
  const int threads = (int)(long)M[0];
  const bool past = F[3] && in_parts(Y, n);
  in_large_pages(Y, R * n * sizeof(real));
  real* A = taken(rows * K);
  in_tiles(W, R, K, K, 1, A);
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {{
  real *x = taken((K + rows) * B), *h = x + K * B;
  #pragma omp for schedule(static)
  for (long o = 0; o < n; o += B) {{
    const long e = n - o < B ? n - o : B;
    gather_rows(X, K, n, o, e, x);
    if (!past) fetch_rows_to_write(Y, R, n, o + B);
    product(A, R, K, x, h);
    for (long r = 0; r < R; r++) {{
      real *from = h + r * B, *to = past ? from : Y + r * n + o;
      const real b = bias[r];
      if (F[4]) for (long i = 0; i < e; i++) to[i] = from[i] + b;
      else for (long i = 0; i < e; i++) to[i] = from[i] + b >= 0 ? real(1) : real(0);
      if (past) stream(from, Y + r * n + o, e);
    }}
  }}
  if (past) settle();
  __builtin_free(x);
  }}
  __builtin_free(A);
}}
"""


def backward_source(body: Body, real: torch.dtype) -> str:
    """The kernel of the gradients, around the slope of a surrogate.

    - fixed: rows and columns of the weights, neurons, whether the gradient is stored past the caches, the constants
    - given: threads, weights, bias, inputs, the gradient of the spikes, then where the gradients go, 0 for nowhere: of
      the inputs, of the weights, of the bias; and memory for `parts` times as many sums as there are weights and bias
    """
    made, outputs = assignments(body, "cpp")
    made = with_slopes(made, _NOTHING)
    printed = arranged(made, outputs, {}, ends(made))
    opening = ["const real h = own[i] + b;", "const real gy = given[i];"]
    closing = [f"const real gh = {outputs[0]};", "own[i] = gh;", "sum += gh;"]
    return f"""{_common(real)}
extern "C" void enter_backward(const long* F, void* const* M) {{
  const long R = F[0], K = F[1], n = F[2], rows = filled(R, ROWS), columns = filled(K, ROWS);
  const double* C = (const double*)(F + 4);
  const real *W = (const real*)M[1], *bias = (const real*)M[2], *X = (const real*)M[3], *GY = (const real*)M[4];
  real *GX = (real*)M[5], *GW = (real*)M[6], *GB = (real*)M[7];
  const int threads = (int)(long)M[0];
  const bool past = F[3] && in_parts(GX, n);
  const long parts = (n + {PART} - 1) / {PART}, held = R * (K + 1);
  {block(numbers(body, "C", _NOTHING), 2)}
  in_large_pages(GX, K * n * sizeof(real));
  real *A = taken(rows * K), *T = taken(columns * R);
  double* sums = (double*)M[8];
  in_tiles(W, R, K, K, 1, A);
  in_tiles(W, K, R, 1, K, T);
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {{
  real *x = taken((2 * columns + rows) * B + rows * columns * L), *g = x + columns * B;
  real *back = g + rows * B, *products = back + columns * B;
  for (long i = 0; i < (columns + rows) * B; i++) x[i] = 0;
  #pragma omp for schedule(static)
  for (long p = 0; p < parts; p++) {{
    double* q = sums + p * held;
    for (long i = 0; i < held; i++) q[i] = 0;
    for (long i = 0; i < rows * columns * L; i++) products[i] = 0;
    for (long o = p * {PART}; o < n && o < (p + 1) * {PART}; o += B) {{
      const long e = n - o < B ? n - o : B;
      gather_rows(X, K, n, o, e, x);
      fetch_rows(GY, R, n, o + B);
      if (GX && !past) fetch_rows_to_write(GX, K, n, o + B);
      product(A, R, K, x, g);
      for (long r = 0; r < R; r++) {{
        real* __restrict own = g + r * B;
        for (long i = e; i < B; i++) own[i] = 0;
        const real* __restrict given = GY + r * n + o;
        const real b = bias[r];
        real sum = 0;
        {block(printed.arrays, 8)}
        {loops(printed, opening, closing, 8, " reduction(+ : sum)")}
        q[R * K + r] += sum;
      }}
      if (GX) {{
        product(T, K, R, g, back);
        for (long k = 0; k < K; k++) {{
          real* to = GX + k * n + o;
          if (past) stream(back + k * B, to, e);
          else memcpy(to, back + k * B, e * sizeof(real));
        }}
      }}
      if (GW) correlate(g, x, rows, columns, products);
    }}
    for (long r = 0; GW && r < R; r++)
      for (long k = 0; k < K; k++) q[r * K + k] = total(products + (r * columns + k) * L, L);
  }}
  if (past) settle();
  __builtin_free(x);
  }}
  for (long i = 0; i < held; i++) {{
    double all = 0;
    for (long p = 0; p < parts; p++) all += sums[p * held + i];
    real* to = i < R * K ? GW : GB;
    if (to) to[i < R * K ? i : i - R * K] = real(all);
  }}
  __builtin_free(A);
  __builtin_free(T);
}}
"""
