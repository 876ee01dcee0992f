// PyTorch's own functions on a block of numbers, in place, for the very bits of the eager loop. `WIDTH` is the size of
// PyTorch's vectors in bytes.

// A function of arrays, of MKL: of high accuracy, without flushing small numbers to zero and without messages.
static inline void by_array(void* function, real* block, long e) {
  ((void (*)(long, const real*, real*, long long))function)(e, block, block, 0x140102);
}

typedef real vector __attribute__((vector_size(WIDTH), may_alias));

// A function of a vector, of Sleef. A block has room for whole vectors.
static inline vector of_vector(void* function, vector a) { return ((vector(*)(vector))function)(a); }
static inline void by_vector(void* function, real* block, long e) {
  for (long i = 0; i < e; i += WIDTH / sizeof(real)) *(vector*)(block + i) = of_vector(function, *(vector*)(block + i));
}

// How many of `n` numbers each of PyTorch's threads takes.
static inline long share(void* get_num_threads, long n) {
  const long most = ((int (*)())get_num_threads)(), grain = 32768;
  if (n <= grain || most == 1) return n;
  const long wanted = (n + grain - 1) / grain, used = wanted < most ? wanted : most;
  return (n + used - 1) / used;
}

// The sigmoid of the numbers from `o` on: of each share two vectors at a time, the rest, fewer than these, one by one.
// The quotients have a loop of their own: behind the function a processor would mostly wait for them.
static inline void sigmoid(void* exponential, real* block, long e, long o, long n, long share) {
  const long pair = 2 * WIDTH / sizeof(real);
  alignas(64) real given[B];
  for (long begin = o / share * share; begin < o + e; begin += share) {
    const long end = begin + share < n ? begin + share : n, rest = end - (end - begin) % pair;
    for (long j = rest > o ? rest : o; j < end && j < o + e; j++) given[j - o] = block[j - o];
  }
  for (long i = 0; i < e; i += WIDTH / sizeof(real))
    *(vector*)(block + i) = of_vector(exponential, 0 - *(vector*)(block + i));
  for (long i = 0; i < e; i += WIDTH / sizeof(real)) *(vector*)(block + i) = 1 / (1 + *(vector*)(block + i));
  for (long begin = o / share * share; begin < o + e; begin += share) {
    const long end = begin + share < n ? begin + share : n, rest = end - (end - begin) % pair;
    for (long j = rest > o ? rest : o; j < end && j < o + e; j++) block[j - o] = 1 / (1 + math::exp(-given[j - o]));
  }
}
