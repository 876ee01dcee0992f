// The largest value of each window, and where in the window it is: of equal values the first, of values among which
// there is no number the last of those. KH x KW are the values of a window, SH x SW the way to the next one, PH x PW
// what is put around an image. For windows that have few values in common or none: planes are taken one by one, of each
// a row of windows at a time, in vectors of windows.

constexpr real lowest = -(real)__builtin_huge_val();

// The rows of a window that lie inside, the first and the one past the last.
static inline long first_of(long start) { return start < 0 ? -start : 0; }
static inline long past_of(long start, long size, long K) { return size - start < K ? size - start : K; }

struct Row {  // of windows: the first whose values are all inside, and the one past the last of these
  long inside, beyond;
  Row(long OW, long W) {
    const long last = W - KW + PW;
    inside = (PW + SW - 1) / SW < OW ? (PW + SW - 1) / SW : OW;
    beyond = last < 0 || last / SW + 1 < inside ? inside : last / SW + 1 < OW ? last / SW + 1 : OW;
  }
};

static inline void take(real v, place at, real& best, place& found) {
  const bool more = (v > best) | (v != v);
  best = more ? v : best;
  found = more ? at : found;
}

extern "C" void pool(const real* __restrict X, real* __restrict Y, uint8_t* __restrict AT,
    long planes, long H, long W, long OH, long OW, int threads) {
  const Row windows(OW, W);
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long task = 0; task < planes * OH; task++) {
    const long plane = task / OH, top = (task % OH) * SH - PH, k0 = first_of(top), k1 = past_of(top, H, KH);
    real* __restrict best = Y + task * OW;
    place found[MOST];
    for (long begin = 0; begin < OW; begin += MOST) {
      const long e = OW - begin < MOST ? OW - begin : MOST;
      const long from = windows.inside < begin ? begin : windows.inside < begin + e ? windows.inside : begin + e;
      const long to = windows.beyond < from ? from : windows.beyond < begin + e ? windows.beyond : begin + e;
      for (long i = 0; i < e; i++) {
        best[begin + i] = lowest;
        found[i] = k0 * KW + first_of((begin + i) * SW - PW);
      }
      for (long k = k0; k < k1; k++) {
        const real* __restrict row = X + (plane * H + top + k) * W - PW;
        const auto odd = [&](long i) {
          for (long l = first_of(i * SW - PW); l < past_of(i * SW - PW, W, KW); l++)
            take(row[i * SW + l], k * KW + l, best[i], found[i - begin]);
        };
        for (long i = begin; i < from; i++) odd(i);
        #pragma omp simd
        for (long i = from; i < to; i++)
          for (long l = 0; l < KW; l++) take(row[i * SW + l], k * KW + l, best[i], found[i - begin]);
        for (long i = to; i < begin + e; i++) odd(i);
      }
      if (AT) for (long i = 0; i < e; i++) AT[task * OW + begin + i] = (uint8_t)found[i];
    }
  }
}
