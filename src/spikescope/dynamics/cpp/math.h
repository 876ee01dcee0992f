// Scalar functions that the kernels use, written so that the compiler turns loops over them into vector code. What the
// library's headers would bring, GCC and clang have built in: to read <cmath> takes a fifth of a small kernel's
// compilation, and <immintrin.h>, the names of the processor's instructions, longer than all the rest of it.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#ifdef __has_builtin  // GCC before version 10 takes the loops without
#define BUILT_IN(name) __has_builtin(name)
#else
#define BUILT_IN(name) 0
#endif

// The functions of the library, of either type.
namespace math {
#define OF_BOTH(name) \
  static inline float name(float x) { return __builtin_##name##f(x); } \
  static inline double name(double x) { return __builtin_##name(x); }
OF_BOTH(fabs) OF_BOTH(floor) OF_BOTH(ceil) OF_BOTH(nearbyint) OF_BOTH(sqrt) OF_BOTH(exp) OF_BOTH(log) OF_BOTH(log1p)
OF_BOTH(sin) OF_BOTH(cos) OF_BOTH(tanh) OF_BOTH(atan) OF_BOTH(erf) OF_BOTH(erfc)
#undef OF_BOTH
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }
static inline float copysign(float x, float y) { return __builtin_copysignf(x, y); }
static inline double copysign(double x, double y) { return __builtin_copysign(x, y); }
}

extern "C" void* aligned_alloc(size_t alignment, size_t bytes);  // of the C library
constexpr double INFINITE = __builtin_huge_val();
constexpr int AS_IT_IS = 4;  // of instructions that may round otherwise: as the processor is set to

// Results are fresh memory, whose pages the system clears when they are first touched: in pages of 4 kB that takes
// longer than the kernel. This asks for pages of 2 MB where the system leaves the choice to programs.
static inline void in_large_pages(void* start, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t from = ((uintptr_t)start + 4095) & ~(uintptr_t)4095, to = (uintptr_t)start + bytes;
  if (start && bytes >= (size_t(4) << 20)) madvise((void*)from, to - from, MADV_HUGEPAGE);
#else
  (void)start, (void)bytes;
#endif
}

// Asks for a row that is needed soon. The rows of a block lie a whole step apart, which the processor does not foresee,
// and a row has to be read even to be overwritten: waiting for that would be a third of a forward pass.
template <class E> static inline void fetch(const E* row, long e) {
  for (long i = 0; i < e; i += 64 / sizeof(E)) __builtin_prefetch(row + i);
}
template <class E> static inline void fetch_to_write(const E* row, long e) {
  for (long i = 0; i < e; i += 64 / sizeof(E)) __builtin_prefetch(row + i, 1);
}

// NaN passes through, as in PyTorch. Two choices of one condition each: of two conditions the compiler makes a branch.
template <class R> static inline R maximum(R a, R b) {
  const R larger = a > b ? a : b;
  return a != a ? a : larger;
}
template <class R> static inline R minimum(R a, R b) {
  const R smaller = a < b ? a : b;
  return a != a ? a : smaller;
}

// a * b + c in one rounding where the processor has it, else in two: only in functions that are approximate anyway.
static inline float fused(float a, float b, float c) {
#ifdef __FMA__
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// y times 2^n, where that is in the range; the low bits of `power` hold n, which goes straight into the exponent.
static inline float times_power(float y, float power) {
  uint32_t bits, shift;
  memcpy(&bits, &y, 4);
  memcpy(&shift, &power, 4);
  bits += shift << 23;
  memcpy(&y, &bits, 4);
  return y;
}

// exp(x) = 2^n exp(r), r in [-ln2/2, ln2/2]; a polynomial of degree 6 on r, relative error about 1e-7. It
// reaches the largest float; below the smallest normal one: 0. For -87.3 <= x < 88.73 alone; of NaN some number.
static inline float raised(float bounded) {
  const float shifted = bounded * 1.44269504f + 12582912.f;  // adding 1.5 * 2^23 rounds to an integer
  const float n = shifted - 12582912.f;
  const float r = fused(n, -1.42860677e-6f, fused(n, -0.693145751953125f, bounded));
  const float s = r * r;  // in pairs of terms: what does not wait for another is computed at the same time
  const float high = fused(s, 1.f / 720.f, fused(r, 1.f / 120.f, 1.f / 24.f));
  return times_power(1.f + fused(s, fused(s, high, fused(r, 1.f / 6.f, 0.5f)), r), shifted);
}
// Within two bounds, which are where the result is known; NaN stays. Each is one instruction, and what follows asks for
// the bounded value: a second condition on x itself would be merged with these into a tree of blends.
static inline float within(float low, float x, float high) {
  const float above = low > x ? low : x;
  return high < above ? high : above;
}
// NaN where x is, else y; x is finite or NaN.
static inline float unless_nan(float x, float y) { return fused(x, 0.f, y); }

// As above, for all x.
static inline float exponential(float x) {
  const float low = -87.3f, high = 88.72284f;  // e^high is the first beyond the range
  const float bounded = within(low, x, high), y = unless_nan(bounded, raised(bounded));
  return bounded == low ? 0.f : (bounded == high ? __builtin_huge_valf() : y);
}
static inline double exponential(double x) { return math::exp(x); }

// Beyond 87 the exponential leaves the range; there the quotient is 1, or so small that 0 is taken.
static inline float logistic(float x) {
  const float bounded = within(-87.f, x, 87.f);
  return bounded == -87.f ? 0.f : unless_nan(bounded, 1.f / (1.f + raised(-bounded)));
}
static inline double logistic(double x) { return 1. / (1. + math::exp(-x)); }

// e^-|x| = 2^n e^r in three parts, each of which a kernel may compute in a loop of its own: n + 127, as the low bits of a
// float; r, in [-ln2/2, ln2/2]; a polynomial of degree 5 on r, of the least relative error, about 1e-7, times 2^n. That
// is a number of the exponent n + 127 alone, so that from 87.7 on, where n is -127, the product is 0. NaN stays.
static inline float decay_bound(float x) {
  const float a = math::fabs(x);
  return 88.f < a ? 88.f : a;
}
static inline float decay_power(float x) { return fused(decay_bound(x), -1.44269504f, 12583039.f); }  // 1.5 * 2^23 + 127
static inline float decay_rest(float x, float power) {
  const float n = power - 12583039.f;
  return fused(n, -1.42860677e-6f, fused(n, -0.693145751953125f, -decay_bound(x)));
}
static inline float decay(float r, float power) {
  const float s = r * r, high = fused(r, 8.3125243e-3f, 4.1890122e-2f);
  const float p = 1.f + fused(s, fused(s, high, fused(r, 0.16667114f, 0.49999231f)), r);
  uint32_t bits;
  memcpy(&bits, &power, 4);
  bits <<= 23;
  float scale;
  memcpy(&scale, &bits, 4);
  return p * scale;
}
static inline double decay_power(double x) { return math::fabs(x); }
static inline double decay_rest(double, double power) { return power; }
static inline double decay(double r, double) { return math::exp(-r); }

// s (1 - s) of the logistic s of x, given e = e^-|x|: that is e / (1 + e)^2. Far from zero it is 0, as in PyTorch: what
// it is a factor of may be infinite.
template <class R> static inline R slope_of_decay(R e) {
  const R d = 1 + e;
  return e / (d * d);
}
template <class R> static inline R logistic_slope(R x) {
  const R power = decay_power(x);
  return slope_of_decay(decay(decay_rest(x, power), power));
}

// Near zero the quotient loses digits; the odd series to x^7 does not.
template <class R> static inline R hyperbolic_tangent(R x) {
  const R a = math::fabs(x), e = exponential(R(-2) * a), s = x * x;
  const R far = math::copysign((R(1) - e) / (R(1) + e), x);
  const R near = x * (R(1) + s * (R(-1.0 / 3) + s * (R(2.0 / 15) + s * R(-17.0 / 315))));
  return a < R(0.1) ? near : far;
}
static inline double hyperbolic_tangent(double x) { return math::tanh(x); }

// Half precision inputs and outputs; the state is float.
struct bfloat16 {
  uint16_t bits;
  operator float() const {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float y;
    memcpy(&y, &wide, 4);
    return y;
  }
  bfloat16() = default;
  static uint16_t nearest(uint32_t wide) {  // of the bits of a float; ties to even
    const uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
    return static_cast<uint16_t>((wide & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
  bfloat16(float x) {
    uint32_t wide;
    memcpy(&wide, &x, 4);
    bits = nearest(wide);
  }
};

// A field that has a value per neuron, for the block that begins at `o`. A short period is repeated value by value.
template <class R> static inline void gather(R* block, const R* values, long period, long o, long e) {
  long j = o % period;
  if (period < 16) {
    for (long i = 0; i < e; i++) {
      block[i] = values[j];
      if (++j == period) j = 0;
    }
    return;
  }
  for (long i = 0, run; i < e; i += run, j = 0) {
    run = e - i < period - j ? e - i : period - j;
    memcpy(block + i, values + j, run * sizeof(R));
  }
}

// The first state of a block: a value per neuron, or one for all where the stride is 0. As one loop over both it would
// be no vector code.
template <class R> static inline void start(R* block, const R* state, long stride, long o, long e) {
  if (stride) memcpy(block, state + o, e * sizeof(R));
  else for (long i = 0; i < e; i++) block[i] = state[0];
}

// The gradient of the last state, zero where nothing depends on it.
template <class R> static inline void begin(R* block, const R* grad, long o, long e) {
  for (long i = 0; i < e; i++) block[i] = grad ? grad[o + i] : R(0);
}

// A sum of sums that blocks have left, `stride` numbers apart: the same whatever the number of threads.
static inline double of_blocks(const double* left, long stride, long blocks) {
  double sum = 0;
  for (long b = 0; b < blocks; b++) sum += left[b * stride];
  return sum;
}

template <class R> static inline double total(const R* block, long e) {
  double sum = 0;
  for (long i = 0; i < e; i++) sum += block[i];
  return sum;
}
