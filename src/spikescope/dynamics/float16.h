// Rows of float16 as floats and back. Compilers make no vector code of single conversions; the processor has some.
#ifdef __F16C__
#include <immintrin.h>
#endif
static inline void widen(const _Float16* in, float* out, long e) {
  long i = 0;
#ifdef __F16C__
  for (; i + 8 <= e; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(in + i))));
#endif
  for (; i < e; i++) out[i] = in[i];
}
static inline void narrow(const float* in, _Float16* out, long e) {
  long i = 0;
#ifdef __F16C__
  for (; i + 8 <= e; i += 8)
    _mm_storeu_si128((__m128i*)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < e; i++) out[i] = (_Float16)in[i];
}
