#include <string.h>

// The ways from the start of a window to its values. Places come back from whoever was given them to keep: what leads
// out of a plane is taken for its first value, and told.
struct Ways {
  long of[256], size;
  Ways(long H, long W) : size(H * W) {
    for (long k = 0; k < 256; k++) of[k] = k < KH * KW ? k / KW * W + k % KW - PW : size + PH * W;
  }
  long inside(long start, uint8_t place, int& told) const {
    const long at = start + of[place];
    const bool out = (unsigned long)at >= (unsigned long)size;
    told |= out;
    return out ? 0 : at;
  }
};

// Gradients are added in the order of the windows, as PyTorch does; of a sum that begins with 0 none is -0.
extern "C" int unpool(const real* __restrict GY, const uint8_t* __restrict AT, real* __restrict GX,
    long planes, long H, long W, long OH, long OW, int threads) {
  const Ways ways(H, W);
  int told = 0;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1) reduction(|:told)
  for (long plane = 0; plane < planes; plane++) {
    real* __restrict gx = GX + plane * H * W;
    memset(gx, 0, H * W * sizeof(real));
    for (long o = 0; o < OH; o++) {
      const real* __restrict g = GY + (plane * OH + o) * OW;
      const uint8_t* __restrict at = AT + (plane * OH + o) * OW;
      for (long i = 0; i < OW; i++) gx[ways.inside((o * SH - PH) * W + i * SW, at[i], told)] += g[i];
    }
  }
  return told;
}

// Of each window the value at the place that was written down.
extern "C" int gather(const real* __restrict X, const uint8_t* __restrict AT, real* __restrict Y,
    long planes, long H, long W, long OH, long OW, int threads) {
  const Ways ways(H, W);
  int told = 0;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1) reduction(|:told)
  for (long task = 0; task < planes * OH; task++) {
    const real* __restrict x = X + task / OH * H * W;
    const long start = (task % OH * SH - PH) * W;
    for (long i = 0; i < OW; i++) Y[task * OW + i] = x[ways.inside(start + i * SW, AT[task * OW + i], told)];
  }
  return told;
}
