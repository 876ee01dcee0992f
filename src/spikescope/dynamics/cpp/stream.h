// Rows that are stored past the caches, where nobody reads them before they would have left these: a row need not be
// read to be overwritten. What is stored so is seen by other threads after `settle`.
#if BUILT_IN(__builtin_nontemporal_store)  // clang
#define STORE(out, value) __builtin_nontemporal_store(value, out)
#elif defined __AVX__ && BUILT_IN(__builtin_ia32_movntps256)
#define STORE(out, value) __builtin_ia32_movntps256((float*)(out), value)
#else
#define STORE(out, value) (*(out) = value)
#endif
typedef float part __attribute__((vector_size(32), may_alias));

// Whether each row of `n` numbers consists of whole parts, at places that these are stored to.
template <class E> static inline bool in_parts(const E* out, long n) {
  return (uintptr_t)out % sizeof(part) == 0 && n * sizeof(E) % sizeof(part) == 0;
}
template <class E> static inline void stream(const E* row, E* out, long e) {
  const part* from = (const part*)row;
  part* to = (part*)out;
  for (long i = 0; i < e * (long)sizeof(E) / (long)sizeof(part); i++) STORE(to + i, from[i]);
}
static inline void settle() {
#ifdef __SSE__
  __builtin_ia32_sfence();
#endif
}
