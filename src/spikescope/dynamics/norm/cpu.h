// A batch normalisation of [N, C, size] in training, and its gradients: the bits of PyTorch's, in less time. What makes
// these bits is where and in which order it rounds. Forwards each channel is summed value by value in double precision,
// which leaves a processor waiting for every sum; so GROUP channels are summed side by side, HALF of their values at a
// time turned in the registers, which takes a third of the time of reading them one by one. Backwards each plane is
// summed in as many partial sums as a vector has lanes, these in halves, planes in double precision.
constexpr long GROUP = 8;  // channels; two vectors of sums, so that one is added to while the other waits
constexpr long HALF = GROUP / 2;
constexpr long SMALL = 128;  // values of a plane under which the planes of a group are read as they lie, side by side
constexpr long W = 8;  // lanes of PyTorch's vectors, also where there are wider ones: it has this for AVX2 alone
typedef float channels __attribute__((vector_size(HALF * sizeof(float))));
typedef double sums __attribute__((vector_size(HALF * sizeof(double))));
typedef float channels_at __attribute__((vector_size(HALF * sizeof(float)), aligned(4), may_alias));
typedef float lanes __attribute__((vector_size(W * sizeof(float))));
typedef float loaded __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));

static inline lanes at(const float* p) { return *(const loaded*)p; }
static inline channels four(const float* p) { return *(const channels_at*)p; }
static inline channels across(const float* const* x, long i) { return channels{x[0][i], x[1][i], x[2][i], x[3][i]}; }

// Four values of four channels each, from `i` on: the k-th of every channel in `turned[k]`.
static inline void turn(const float* const* x, long i, channels* turned) {
#if BUILT_IN(__builtin_shufflevector)
  const channels a = four(x[0] + i), b = four(x[1] + i), c = four(x[2] + i), d = four(x[3] + i);
  const channels ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const channels AB = __builtin_shufflevector(a, b, 2, 6, 3, 7), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  turned[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  turned[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  turned[2] = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
  turned[3] = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
#else
  for (long k = 0; k < HALF; k++) turned[k] = across(x, i + k);
#endif
}

// In double precision; GCC takes it apart into halves, where it is not told of the one instruction.
static inline sums widened(channels v) {
#if defined __AVX__ && !defined __clang__
  return __builtin_ia32_cvtps2pd256(v);
#else
  return __builtin_convertvector(v, sums);
#endif
}

// Of each channel the sum of `of(values, half)` over all planes; `first` is the plane of the first sample and channel.
// Of fewer than GROUP channels the last one is summed again in the place of those that are missing.
template <class Of>
static inline void sum_up(const float* first, long held, long N, long C, long size, double* totals, Of of) {
  sums low = {}, high = {};
  const long whole = size - size % HALF;
  for (long n = 0; n < N; n++) {
    const float* x[GROUP];
    for (long j = 0; j < GROUP; j++) x[j] = first + (n * C + (j < held ? j : held - 1)) * size;
    for (long i = 0; i < whole; i += HALF) {
      channels a[HALF], b[HALF];
      turn(x, i, a);
      turn(x + HALF, i, b);
      for (long k = 0; k < HALF; k++) {
        low += widened(of(a[k], 0));
        high += widened(of(b[k], 1));
      }
    }
    for (long i = whole; i < size; i++) {
      low += widened(of(across(x, i), 0));
      high += widened(of(across(x + HALF, i), 1));
    }
  }
  memcpy(totals, &low, sizeof low);
  memcpy(totals + HALF, &high, sizeof high);
}

static inline void scale_plane(const float* __restrict x, float* __restrict y, long size, float scale, float shift) {
  for (long i = 0; i < size; i++) y[i] = fused(x[i], scale, shift);
}

extern "C" void norm_forward(const float* X, const float* weight, const float* bias, float* running_mean,
    float* running_variance, float* mean, float* inverse, float* Y, long N, long C, long size, double eps, double taken,
    int threads) {
  in_large_pages(Y, N * C * size * sizeof(float));
  const long count = N * size;
  const float share = (float)taken;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long c0 = 0; c0 < C; c0 += GROUP) {
    const long held = C - c0 < GROUP ? C - c0 : GROUP;
    const float* x = X + c0 * size;
    double total[GROUP], squares[GROUP];
    sum_up(x, held, N, C, size, total, [](channels v, int) { return v; });
    float middle[GROUP];
    for (long j = 0; j < GROUP; j++) middle[j] = (float)(total[j] / count);
    channels middles[2];
    memcpy(middles, middle, sizeof middle);
    sum_up(x, held, N, C, size, squares, [&](channels v, int half) { return (v - middles[half]) * (v - middles[half]); });
    for (long j = 0; j < held; j++) {
      const long c = c0 + j;
      const float square = (float)squares[j], rate = (float)(1 / __builtin_sqrt(square / (float)count + eps));
      mean[c] = middle[j];
      inverse[c] = rate;
      if (running_mean) running_mean[c] = share * middle[j] + (1 - share) * running_mean[c];
      if (running_variance) {
        const double unbiased = square / (float)(count - 1);
        running_variance[c] = (float)(share * unbiased + (1 - share) * running_variance[c]);
      }
      const float scale = rate * (weight ? weight[c] : 1), shift = fused(-middle[j], scale, bias ? bias[c] : 0);
      for (long n = 0; n < N; n++) scale_plane(x + (n * C + j) * size, Y + (n * C + c) * size, size, scale, shift);
    }
  }
}

// The sum of the lanes, in halves.
static inline float total_of(lanes sum) {
  channels half[2];
  memcpy(half, &sum, sizeof sum);
  const channels quarter = half[0] + half[1];
  return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

// Adds the values past the last whole vector to the first lanes; a product without being rounded, in one instruction.
static inline void add_rest(const float* gy, const float* x, long whole, long size, float mean, lanes& sum, lanes& product) {
  float s[W], q[W];
  memcpy(s, &sum, sizeof s);
  memcpy(q, &product, sizeof q);
  for (long i = whole; i < size; i++) {
    const float d = gy[i], off = x[i] - mean;
    s[i - whole] += d;
    q[i - whole] = fused(off, d, q[i - whole]);
  }
  memcpy(&sum, s, sizeof s);
  memcpy(&product, q, sizeof q);
}

// The same as below of a plane with fewer values than a vector: one after the other, each product rounded.
static inline void add_small_plane(const float* gy, const float* x, long size, float mean, double& sum, double& product) {
  float s = gy[0], q = (x[0] - mean) * gy[0];
  for (long i = 1; i < size; i++) {
    const float of = (x[i] - mean) * gy[i];
    s += gy[i];
    q += of;
  }
  sum += s;
  product += q;
}

// Adds of a plane the sum of its gradients, and that of their products with the values off the mean.
static inline void add_plane(const float* gy, const float* x, long size, float mean, double& sum, double& product) {
  if (size < W) return add_small_plane(gy, x, size, mean, sum, product);
  const long whole = size - size % W;
  lanes s = at(gy), q = (at(x) - mean) * s;
  for (long i = W; i < whole; i += W) {
    const lanes d = at(gy + i);
    s += d;
    q += (at(x + i) - mean) * d;
  }
  if (whole < size) add_rest(gy, x, whole, size, mean, s, q);
  sum += total_of(s);
  product += total_of(q);
}

static inline void gradient_of_plane(const float* __restrict gy, const float* __restrict x, float* __restrict gx,
    long size, float mean, float slope, float middle, float rate, float weight) {
  for (long i = 0; i < size; i++) gx[i] = fused(mean - x[i], slope, gy[i] - middle) * rate * weight;
}

extern "C" void norm_backward(const float* GY, const float* X, const float* weight, const float* mean,
    const float* inverse, float* GX, float* GW, float* GB, long N, long C, long size, int threads) {
  in_large_pages(GX, N * C * size * sizeof(float));
  const long together = size < SMALL ? GROUP : 1;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long c0 = 0; c0 < C; c0 += together) {
    const long end = C - c0 < together ? C : c0 + together;
    double sum[GROUP] = {}, product[GROUP] = {};
    for (long n = 0; n < N; n++) {
      for (long c = c0; c < end; c++) {
        const long o = (n * C + c) * size;
        add_plane(GY + o, X + o, size, mean[c], sum[c - c0], product[c - c0]);
      }
    }
    float slope[GROUP], middle[GROUP];
    for (long c = c0; c < end; c++) {
      const long j = c - c0;
      const float r = inverse[c];
      slope[j] = (float)product[j] * r * r / (float)(N * size);
      middle[j] = (float)(sum[j] / (double)(N * size));
      if (GW) GW[c] = (float)(product[j] * (double)r);
      if (GB) GB[c] = (float)sum[j];
    }
    for (long n = 0; n < N; n++) {
      for (long c = c0; c < end; c++) {
        const long o = (n * C + c) * size, j = c - c0;
        const float g = weight ? weight[c] : 1;
        gradient_of_plane(GY + o, X + o, GX + o, size, mean[c], slope[j], middle[j], inverse[c], g);
      }
    }
  }
}
