// The sum of squares in float64, in sums side by side: to wait for one addition before the next takes eight times as
// long. What is asked for seldom stands apart, so that a compiler leaves the loops around it as they are.
template <class IO> static __attribute__((noinline)) double squares(const IO* __restrict x, long e) {
  constexpr long L = 32;
  alignas(64) double lanes[L] = {};
  long i = 0;
  for (; i + L <= e; i += L) {
    #pragma omp simd
    for (long j = 0; j < L; j++) lanes[j] += (double)x[i + j] * (double)x[i + j];
  }
  for (; i < e; i++) lanes[i % L] += (double)x[i] * (double)x[i];
  double sum = 0;
  #pragma omp simd reduction(+ : sum)
  for (long j = 0; j < L; j++) sum += lanes[j];
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
