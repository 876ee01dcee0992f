#include <string.h>

// Gradients are added in the order of the windows, as PyTorch does; of a sum that begins with 0 none is -0.
extern "C" void unpool(const real* __restrict GY, const uint8_t* __restrict AT, real* __restrict GX,
    long planes, long H, long W, long OH, long OW, int threads) {
  long way[KH * KW];
  for (long k = 0; k < KH * KW; k++) way[k] = k / KW * W + k % KW - PW;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long plane = 0; plane < planes; plane++) {
    real* __restrict gx = GX + plane * H * W;
    memset(gx, 0, H * W * sizeof(real));
    for (long o = 0; o < OH; o++) {
      const real* __restrict g = GY + (plane * OH + o) * OW;
      const uint8_t* __restrict at = AT + (plane * OH + o) * OW;
      for (long i = 0; i < OW; i++) gx[(o * SH - PH) * W + i * SW + way[at[i]]] += g[i];
    }
  }
}

// Of each window the value at the place that was written down.
extern "C" void gather(const real* __restrict X, const uint8_t* __restrict AT, real* __restrict Y,
    long planes, long H, long W, long OH, long OW, int threads) {
  long way[KH * KW];
  for (long k = 0; k < KH * KW; k++) way[k] = k / KW * W + k % KW - PW;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long task = 0; task < planes * OH; task++) {
    const real* __restrict x = X + task / OH * H * W + (task % OH * SH - PH) * W;
    for (long i = 0; i < OW; i++) Y[task * OW + i] = x[i * SW + way[AT[task * OW + i]]];
  }
}
