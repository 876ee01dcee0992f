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

struct Window {  // what all windows of a row have in common: their first row, and which of it lie inside
  const real* __restrict first;
  long W, k0, k1;

  // One window, of whose columns some may be outside.
  void put_one(long i, real* __restrict y, uint8_t* at) const {
    const long l0 = first_of(i * SW - PW), l1 = past_of(i * SW - PW, W, KW);
    real best = lowest;
    place found = k0 * KW + l0;
    for (long k = k0; k < k1; k++)
      for (long l = l0; l < l1; l++) take(first[k * W + i * SW + l], k * KW + l, best, found);
    y[i] = best;
    if (at) at[i] = (uint8_t)found;
  }

  // V windows that are inside: a number that is known, for rows that are no multiple of a vector and often shorter.
  template <long V>
  void put(long begin, real* __restrict y, uint8_t* at) const {
    real best[V];
    place found[V];
    for (long i = 0; i < V; i++) {
      best[i] = lowest;
      found[i] = k0 * KW;
    }
    for (long k = k0; k < k1; k++) {
      const real* __restrict row = first + k * W + begin * SW;
      #pragma omp simd
      for (long i = 0; i < V; i++)
        for (long l = 0; l < KW; l++) take(row[i * SW + l], k * KW + l, best[i], found[i]);
    }
    for (long i = 0; i < V; i++) y[begin + i] = best[i];
    if (at) for (long i = 0; i < V; i++) at[begin + i] = (uint8_t)found[i];
  }

  // All from `begin` to `end`, V at least: the last V once more, where they are no multiple.
  template <long V>
  void put_all(long begin, long end, real* __restrict y, uint8_t* at) const {
    for (long i = begin; i < end; i += V) put<V>(i + V <= end ? i : end - V, y, at);
  }
};

extern "C" void pool(const real* __restrict X, real* __restrict Y, uint8_t* __restrict AT,
    long planes, long H, long W, long OH, long OW, int threads) {
  const Row windows(OW, W);
  const long begin = windows.inside, end = windows.beyond, whole = end - begin;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long task = 0; task < planes * OH; task++) {
    const long plane = task / OH, top = (task % OH) * SH - PH;
    const Window window{X + (plane * H + top) * W - PW, W, first_of(top), past_of(top, H, KH)};
    real* __restrict y = Y + task * OW;
    uint8_t* const at = AT ? AT + task * OW : nullptr;
    for (long i = 0; i < begin; i++) window.put_one(i, y, at);
    if (whole >= 16) window.put_all<16>(begin, end, y, at);
    else if (whole >= 8) window.put_all<8>(begin, end, y, at);
    else if (whole >= 4) window.put_all<4>(begin, end, y, at);
    else for (long i = begin; i < end; i++) window.put_one(i, y, at);
    for (long i = end; i < OW; i++) window.put_one(i, y, at);
  }
}
