// What a kernel tells besides its output. A spike is an output that is not zero: in 16 bits, but for the sign.
template <class IO> static inline bool fires(const IO& y) {
  if (sizeof(IO) > 2) return y != 0;
  uint16_t bits;
  memcpy(&bits, &y, 2);
  return bits & 0x7fff;
}

// What instructions that compare ask, NaN included.
constexpr int NOT_EQUAL = 4;

#if defined __AVX512BW__ && BUILT_IN(__builtin_ia32_cmpps512_mask) && BUILT_IN(__builtin_ia32_cvtmask2b512)
#define BITS_AT_ONCE
static inline uint32_t sixteen(const float* y) {
  typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
  return __builtin_ia32_cmpps512_mask(*(const floats*)y, floats{}, NOT_EQUAL, 0xffff, AS_IT_IS);
}
static inline uint32_t thirty_two(const float* y) { return __builtin_ia32_kunpcksi(sixteen(y + 16), sixteen(y)); }
static inline uint32_t thirty_two(const void* y) {  // of 16 bits each
  typedef short words __attribute__((vector_size(64), aligned(1), may_alias));
  return __builtin_ia32_cmpw512_mask(*(const words*)y & 0x7fff, words{}, NOT_EQUAL, ~0u);
}
#endif

// Counts of outputs of so many bytes. With AVX-512 a row is counted at once: the bits of 64 comparisons become bytes in
// one instruction; and of 16 bits each always, for what is not zero is known once they are rounded. Else a neuron is
// counted where it is computed, downwards, for a comparison of vectors gives -1.
template <int BYTES> struct Counted { typedef int32_t type; };
template <> struct Counted<2> { typedef uint8_t type; };
#ifdef BITS_AT_ONCE
template <> struct Counted<4> { typedef uint8_t type; };
#endif
template <class IO> static inline void count_row(const IO*, long, int32_t*) {}
template <class IO> static inline void count_row(const IO* __restrict y, long e, uint8_t* __restrict counts) {
  long i = 0;
#ifdef BITS_AT_ONCE
  typedef char bytes __attribute__((vector_size(64), aligned(1), may_alias));
  for (; sizeof(IO) <= 4 && i + 64 <= e; i += 64) {
    const uint64_t fired = __builtin_ia32_kunpckdi(thirty_two(y + i + 32), thirty_two(y + i));
    *(bytes*)(counts + i) -= (bytes)__builtin_ia32_cvtmask2b512(fired);
  }
#endif
  for (; i < e; i++) counts[i] += fires(y[i]);
}

// Bytes are full after 255 steps, where more follow.
static inline void carry_counts(void* out, long t, long o, long e, uint8_t* counts) {
  int32_t* sums = (int32_t*)out + o;
  for (long i = 0; i < e; i++) sums[i] = (t == 254 ? 0 : sums[i]) + counts[i];
  memset(counts, 0, e);
}
static inline void carry_counts(void*, long, long, long, int32_t*) {}

// What is stored is the smallest integer that holds T.
static inline void store_bytes(uint8_t* out, long e, const int32_t* down) {
  long i = 0;
#if defined __AVX2__ && BUILT_IN(__builtin_ia32_packssdw256) && BUILT_IN(__builtin_ia32_packuswb256)
  typedef int ints __attribute__((vector_size(32), aligned(1), may_alias));
  for (; i + 32 <= e; i += 32) {
    const ints* from = (const ints*)(down + i);
    const auto low = -__builtin_ia32_packssdw256(from[0], from[1]), high = -__builtin_ia32_packssdw256(from[2], from[3]);
    const ints b = (ints)__builtin_ia32_packuswb256(low, high);  // the halves of both apart
    *(ints*)(out + i) = ints{b[0], b[4], b[1], b[5], b[2], b[6], b[3], b[7]};
  }
#endif
  for (; i < e; i++) out[i] = (uint8_t)-down[i];
}
static inline void store_counts(void* out, long T, long o, long e, const int32_t* down) {
  if (T < 256) store_bytes((uint8_t*)out + o, e, down);
  else for (long i = 0; i < e; i++) ((int32_t*)out)[o + i] = -down[i];
}
static inline void store_counts(void* out, long T, long o, long e, const uint8_t* counts) {
  if (T < 256) memcpy((uint8_t*)out + o, counts, e);
  else for (long i = 0; i < e; i++) ((int32_t*)out)[o + i] += counts[i];
}

template <class R> static inline void store_range(double* out, long e, const R* low, const R* high, const R* sum) {
  double a = INFINITE, b = -INFINITE, c = 0;
  for (long i = 0; i < e; i++) { a = minimum<double>(low[i], a); b = maximum<double>(high[i], b); c += sum[i]; }
  out[0] = a; out[1] = b; out[2] = c;
}

// One bit a neuron, least significant first.
template <class IO> static inline void pack(const IO* y, long e, uint8_t* out) {
  long o = 0;
#ifdef BITS_AT_ONCE
  for (; sizeof(IO) == 2 && o + 32 <= e; o += 32) {
    const uint32_t bits = thirty_two(y + o);
    memcpy(out + o / 8, &bits, 4);
  }
#endif
  for (; o < e; o += 64) {
    alignas(64) uint8_t fired[64] = {};
    if (o + 64 <= e) for (long i = 0; i < 64; i++) fired[i] = fires(y[o + i]);
    else for (long i = 0; i < e - o; i++) fired[i] = fires(y[o + i]);
    for (long i = 0; i < 64 && o + i < e; i += 8) out[(o + i) / 8] = bits_of(fired + i);
  }
}
#ifdef BITS_AT_ONCE
static inline void pack(const float* y, long e, uint8_t* out) {
  long i = 0;
  for (; i + 16 <= e; i += 16) {
    const uint16_t bits = (uint16_t)sixteen(y + i);
    memcpy(out + i / 8, &bits, 2);
  }
  if (i < e) pack<float>(y + i, e - i, out + i / 8);
}
#elif defined __AVX__ && BUILT_IN(__builtin_ia32_cmpps256) && BUILT_IN(__builtin_ia32_movmskps256)
static inline void pack(const float* y, long e, uint8_t* out) {
  typedef float floats __attribute__((vector_size(32), aligned(4), may_alias));
  const auto fired = [y](long i) { return __builtin_ia32_cmpps256(floats{}, *(const floats*)(y + i), NOT_EQUAL); };
  const auto eight = [fired](long i) { return (uint32_t)__builtin_ia32_movmskps256(fired(i)); };
  long i = 0;
#if defined __AVX2__ && BUILT_IN(__builtin_ia32_packsswb256) && BUILT_IN(__builtin_ia32_pmovmskb256)
  typedef int ints __attribute__((vector_size(32)));
  typedef char bytes __attribute__((vector_size(32)));
  for (; i + 32 <= e; i += 32) {  // as a byte a neuron first, which takes two thirds of the instructions
    const auto low = __builtin_ia32_packssdw256((ints)fired(i), (ints)fired(i + 8));
    const auto high = __builtin_ia32_packssdw256((ints)fired(i + 16), (ints)fired(i + 24));
    const ints b = (ints)__builtin_ia32_packsswb256(low, high);
    const uint32_t bits = __builtin_ia32_pmovmskb256((bytes)ints{b[0], b[4], b[1], b[5], b[2], b[6], b[3], b[7]});
    memcpy(out + i / 8, &bits, 4);
  }
#endif
  for (; i + 32 <= e; i += 32) {  // a store of bytes each would fill the queue of a processor where a row is not at hand
    const uint32_t bits = eight(i) | eight(i + 8) << 8 | eight(i + 16) << 16 | eight(i + 24) << 24;
    memcpy(out + i / 8, &bits, 4);
  }
  for (; i + 8 <= e; i += 8) out[i / 8] = (uint8_t)eight(i);
  if (i < e) pack<float>(y + i, e - i, out + i / 8);
}
#endif
