// The sigmoid of floats in the steps of arithmetic of Sleef's exponential, without a call for every vector.

// e^-x = p 2^n: n, with 1.5 * 2^23 added to it, which rounds it to an integer; and p. Of NaN both are NaN.
static inline float power_of_negative(float x) { return x * -1.44269504f + 12582912.f; }
static inline float factor_of_negative(float x, float power) {
  const float n = power - 12582912.f;
  const float r = fused(n, -1.42860677e-6f, fused(n, -0.693145752f, -x));
  const float p = fused(fused(fused(1.98527618e-4f, r, 1.39304355e-3f), r, 8.33336077e-3f), r, 4.16664854e-2f);
  return 1.f + fused(r * r, fused(fused(p, r, 0.166666672f), r, 0.5f), r);
}

// Above 87 the exponential adds nothing to 1, so that it need not be right there. AVX-512 scales by any power, to the
// infinite too; else a power goes into the exponent of its factor, and what it would not fit is chosen apart.
#if defined __AVX512F__ && BUILT_IN(__builtin_ia32_scalefps512_mask)
struct InSteps {
  typedef float floats __attribute__((vector_size(64), may_alias));
  static floats scaled(floats p, floats n) { return __builtin_ia32_scalefps512_mask(p, n, p, -1, 4); }

  void operator()(float* block, long e) const {
    alignas(64) float powers[B];
    #pragma omp simd
    for (long i = 0; i < e; i++) {
      const float x = within(-104.f, block[i], 87.f), power = power_of_negative(x);
      powers[i] = power - 12582912.f;
      block[i] = factor_of_negative(x, power);
    }
    for (long i = 0; i < e; i += 16) {
      floats* at = (floats*)(block + i);
      *at = 1 / (1 + scaled(*at, *(floats*)(powers + i)));
    }
  }
};
#else
struct InSteps {
  static float exponential_of_negative(float x) {  // of NaN some number
    const float power = power_of_negative(x);
    return times_power(factor_of_negative(x, power), power);
  }

  void operator()(float* block, long e) const {
    const float low = -88.72284f;  // the exponential of its negative is the first beyond the range
    #pragma omp simd
    for (long i = 0; i < e; i++) {
      const float x = within(low, block[i], 87.f), y = unless_nan(x, exponential_of_negative(x));
      block[i] = x == low ? __builtin_huge_valf() : y;
    }
    #pragma omp simd
    for (long i = 0; i < e; i++) block[i] = 1.f / (1.f + block[i]);
  }
};
#endif
