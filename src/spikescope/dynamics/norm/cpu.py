r"""The backward pass of a batch normalisation on a CPU, in one pass a channel and with no memory but its result.

With $\delta$ the gradient that comes in, $s = \sum \delta$ and $q = \sum (x - \mu)\,\delta$ of each channel of $n$
values, the gradient of the input is $(\delta - s/n - (x - \mu)\,q r^2/n)\,r\gamma$, where $r$ is the inverse deviation;
those of shift and gain are $s$ and $q r$. Sums are taken in the order of PyTorch's vector code, which is what makes
their bits: each plane of a channel in as many partial sums as a vector has lanes, these in halves, planes in double
precision; a product is added without being rounded where its compiler has put both into one instruction. A channel is
in the cache when it is read for the second time.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...toolchain.compiler import function
from ..cpp.borrowed import header
from ..cpp.native import threads_for

__all__ = ["norm_backward"]

SOURCE = """
constexpr long W = 8;  // lanes of PyTorch's vectors, also where there are wider ones: it has this for AVX2 alone
typedef float vector __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));

// The sum of the lanes, in halves; of a plane with fewer values than that, one after the other.
static inline float total_of(vector lanes, long size) {
  float held[W];
  memcpy(held, &lanes, sizeof held);
  if (size < W) for (long i = 1; i < size; i++) held[0] += held[i];
  else for (long half = W / 2; half; half /= 2) for (long i = 0; i < half; i++) held[i] += held[i + half];
  return held[0];
}

extern "C" void norm_backward(const float* __restrict GY, const float* __restrict X, const float* __restrict weight,
    const float* __restrict mean, const float* __restrict inverse, float* __restrict GX, float* __restrict GW,
    float* __restrict GB, long N, long C, long size, int threads) {
  in_large_pages(GX, N * C * size * sizeof(float));
  const long whole = size - size % W;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long c = 0; c < C; c++) {
    const float m = mean[c], r = inverse[c], g = weight ? weight[c] : 1.f;
    double sum = 0, product = 0;
    for (long n = 0; n < N; n++) {
      const float *gy = GY + (n * C + c) * size, *x = X + (n * C + c) * size;
      vector s = {}, q = {};
      for (long i = 0; i < whole; i += W) {
        const vector d = *(const vector*)(gy + i), p = (*(const vector*)(x + i) - m) * d;
        s = i ? s + d : d;
        q = i ? q + p : p;
      }
      for (long i = whole; i < size; i++) {
        const float d = gy[i], off = x[i] - m;
        s[i - whole] = whole ? s[i - whole] + d : d;
        q[i - whole] = whole ? fused(off, d, q[i - whole]) : off * d;
      }
      sum += total_of(s, size);
      product += total_of(q, size);
    }
    const float k = (float)product * r * r / (float)(N * size), middle = (float)(sum / (double)(N * size));
    for (long n = 0; n < N; n++) {
      const float *gy = GY + (n * C + c) * size, *x = X + (n * C + c) * size;
      float* gx = GX + (n * C + c) * size;
      for (long i = 0; i < size; i++) gx[i] = fused(m - x[i], k, gy[i] - middle) * r * g;
    }
    if (GW) GW[c] = (float)(product * (double)r);
    if (GB) GB[c] = (float)sum;
  }
}
"""


@cache
def _kernel() -> Callable[..., Any] | None:
    source = header("math.h") + SOURCE
    return function(source, "norm_backward", *[ctypes.c_void_p] * 8, *[ctypes.c_long] * 3, ctypes.c_int)


def norm_backward(
    gy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
    """The gradients of input, gain and shift of a normalisation of `[N, C, *]` by the moments of its batch.

    None for other than float32 without gaps, and where there is no kernel. Whether these are PyTorch's bits depends on
    the PyTorch: whoever needs that has to try it.
    """
    held = [each for each in (gy, x, weight, mean, inverse) if each is not None]
    if not all(each.dtype is torch.float32 and each.is_contiguous() and each.device.type == "cpu" for each in held):
        return None
    kernel = _kernel()
    if kernel is None or not x.numel():
        return None
    gx = torch.empty_like(x)
    learned = [] if weight is None else [torch.empty_like(weight), torch.empty_like(weight)]
    of_learned = [each.data_ptr() for each in learned] or [0, 0]
    inputs = [0 if each is None else each.data_ptr() for each in (gy, x, weight, mean, inverse)]
    sizes = (*x.shape[:2], math.prod(x.shape[2:]))
    kernel(*inputs, gx.data_ptr(), *of_learned, *sizes, threads_for(x.numel()))
    return gx, *(learned or (None, None))
