// PyTorch's sigmoid on a block, behind `borrowed.h`.

// How many of `n` numbers each of PyTorch's threads takes.
static inline long share(void* get_num_threads, long n) {
  const long most = ((int (*)())get_num_threads)(), grain = 32768;
  if (n <= grain || most == 1) return n;
  const long wanted = (n + grain - 1) / grain, used = wanted < most ? wanted : most;
  return (n + used - 1) / used;
}

// The sigmoids of a block as PyTorch computes them by vectors, by a function. The quotients have a loop of their own:
// behind the function a processor would mostly wait for them.
struct Called {
  void* exponential;
  void operator()(real* block, long e) const {
    for (long i = 0; i < e; i += WIDTH / sizeof(real))
      *(vector*)(block + i) = of_vector(exponential, 0 - *(vector*)(block + i));
    for (long i = 0; i < e; i += WIDTH / sizeof(real)) *(vector*)(block + i) = 1 / (1 + *(vector*)(block + i));
  }
};

// The sigmoid of the numbers from `o` on: of each share two vectors at a time, `by_vectors`, the rest, fewer than these,
// one by one.
template <class Vectors> static inline void sigmoid(Vectors by_vectors, real* block, long e, long o, long n, long share) {
  const long pair = 2 * WIDTH / sizeof(real);
  alignas(64) real given[B];
  for (long begin = o / share * share; begin < o + e; begin += share) {
    const long end = begin + share < n ? begin + share : n, rest = end - (end - begin) % pair;
    for (long j = rest > o ? rest : o; j < end && j < o + e; j++) given[j - o] = block[j - o];
  }
  by_vectors(block, e);
  for (long begin = o / share * share; begin < o + e; begin += share) {
    const long end = begin + share < n ? begin + share : n, rest = end - (end - begin) % pair;
    for (long j = rest > o ? rest : o; j < end && j < o + e; j++) block[j - o] = 1 / (1 + math::exp(-given[j - o]));
  }
}
