// The sigmoid of floats in the steps of arithmetic of Sleef's exponential, without a call for every vector.

// e^-x. Below 2^-24 it adds nothing to 1, so that it need not be right there. Of NaN some number.
static inline float exponential_of_negative(float x) {
  const float shifted = x * -1.44269504f + 12582912.f;  // adding 1.5 * 2^23 rounds to an integer
  const float n = shifted - 12582912.f;
  const float r = fused(n, -1.42860677e-6f, fused(n, -0.693145752f, -x));
  const float p = fused(fused(fused(1.98527618e-4f, r, 1.39304355e-3f), r, 8.33336077e-3f), r, 4.16664854e-2f);
  const float y = 1.f + fused(r * r, fused(fused(p, r, 0.166666672f), r, 0.5f), r);
  uint32_t bits, power;
  memcpy(&bits, &y, 4);
  memcpy(&power, &shifted, 4);  // its low bits hold n
  bits += power << 23;
  float raised;
  memcpy(&raised, &bits, 4);
  return raised;
}
struct InSteps {
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
