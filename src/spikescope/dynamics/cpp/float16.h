// Rows of float16 as floats and back. Compilers make no vector code of single conversions; the processor has some.
#if defined __F16C__ && BUILT_IN(__builtin_ia32_vcvtph2ps256) && BUILT_IN(__builtin_ia32_vcvtps2ph256)
#define EIGHT_AT_ONCE
typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef short eight_halves __attribute__((vector_size(16), aligned(2), may_alias));
#endif
static inline void widen(const _Float16* in, float* out, long e) {
  long i = 0;
#ifdef EIGHT_AT_ONCE
  for (; i + 8 <= e; i += 8) *(eight*)(out + i) = __builtin_ia32_vcvtph2ps256(*(const eight_halves*)(in + i));
#endif
  for (; i < e; i++) out[i] = in[i];
}
static inline void narrow(const float* in, _Float16* out, long e) {
  long i = 0;
#ifdef EIGHT_AT_ONCE  // 0: to the nearest
  for (; i + 8 <= e; i += 8) *(eight_halves*)(out + i) = __builtin_ia32_vcvtps2ph256(*(const eight*)(in + i), 0);
#endif
  for (; i < e; i++) out[i] = (_Float16)in[i];
}
