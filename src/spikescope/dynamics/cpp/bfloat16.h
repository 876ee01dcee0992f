// Rows of bfloat16 as floats and back. Where a loop converts each number as it is used, it is no vector code.
typedef uint32_t __attribute__((may_alias)) word;
static inline void widen(const bfloat16* in, float* out, long e) {
  #pragma omp simd
  for (long i = 0; i < e; i++) {
    ((word*)out)[i] = (uint32_t)in[i].bits << 16;
  }
}
static inline void narrow(const float* in, bfloat16* out, long e) {
  #pragma omp simd
  for (long i = 0; i < e; i++) {
    out[i].bits = bfloat16::nearest(((const word*)in)[i]);
  }
}
