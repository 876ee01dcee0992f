// The sum of squares in float64, in sums side by side: to wait for one addition before the next takes eight times as
// long. A product of two float32 is exact there, so that to multiply and add at once gives the same. GCC takes a vector
// of float32 apart into halves, where it is not told of the one instruction that makes float64 of it as it is read. What
// is asked for seldom stands apart, so that a compiler leaves the loops around it as they are.
#if defined __AVX512F__ && BUILT_IN(__builtin_ia32_cvtps2pd512_mask) && BUILT_IN(__builtin_ia32_vfmaddpd512_mask)
#define AT_ONCE 8
#else
#define AT_ONCE 4
#endif
constexpr long SIDE_BY_SIDE = 32 / AT_ONCE;
typedef float single __attribute__((vector_size(AT_ONCE * sizeof(float))));
typedef float single_at __attribute__((vector_size(AT_ONCE * sizeof(float)), aligned(4), may_alias));
typedef double wide __attribute__((vector_size(AT_ONCE * sizeof(double))));

static inline wide plus_squares(wide sum, const float* at) {
  const single v = *(const single_at*)at;
#if AT_ONCE == 8
  const wide x = __builtin_ia32_cvtps2pd512_mask(v, wide{}, -1, AS_IT_IS);
  return __builtin_ia32_vfmaddpd512_mask(x, x, sum, -1, AS_IT_IS);
#else
#if defined __AVX__ && BUILT_IN(__builtin_ia32_cvtps2pd256)
  const wide x = __builtin_ia32_cvtps2pd256(v);
#else
  const wide x = __builtin_convertvector(v, wide);
#endif
#if defined __FMA__ && BUILT_IN(__builtin_ia32_vfmaddpd256)
  return __builtin_ia32_vfmaddpd256(x, x, sum);
#else
  return sum + x * x;
#endif
#endif
}

static __attribute__((noinline)) double squares(const float* __restrict x, long e) {
  wide sums[SIDE_BY_SIDE] = {};
  const long whole = e - e % 32;
  for (long i = 0; i < whole; i += 32)
    for (long k = 0; k < SIDE_BY_SIDE; k++) sums[k] = plus_squares(sums[k], x + i + k * AT_ONCE);
  double sum = 0;
  for (long i = whole; i < e; i++) sum += (double)x[i] * (double)x[i];
  for (long k = SIDE_BY_SIDE / 2; k; k /= 2)
    for (long j = 0; j < k; j++) sums[j] += sums[j + k];
  for (long j = 0; j < AT_ONCE; j++) sum += sums[0][j];
  return sum;
}

// Memory of 2 + blocks rows of T sums. The first two hold of each step, one after the other, the sum and how many values
// these are; they come from the others, one for each block: so they are the same whatever the number of threads.
static inline void add_squares(double* __restrict sums, long blocks, long T, long n) {
  for (long t = 0; t < T; t++) {
    double sum = 0;
    for (long b = 0; b < blocks; b++) sum += sums[(2 + b) * T + t];
    sums[2 * t] = sum, sums[2 * t + 1] = n;
  }
}
