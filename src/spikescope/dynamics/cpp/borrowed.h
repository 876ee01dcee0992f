// PyTorch's own functions on a block of numbers, in place, for the very bits of the eager loop. `WIDTH` is the size of
// PyTorch's vectors in bytes.

// A function of arrays, of MKL: of high accuracy, without flushing small numbers to zero and without messages.
static inline void by_array(void* function, real* block, long e) {
  ((void (*)(long, const real*, real*, long long))function)(e, block, block, 0x140102);
}

// For as long as it is there, MKL takes this thread alone, as `threads` tells it: after `torch.set_num_threads` it would
// open a team of its own for each call, within ours, and take four times as long. Telling it takes a tenth of a call.
struct Alone {
  int (*const take)(int);
  const int others;
  explicit Alone(void* threads) : take((int (*)(int))threads), others(take(1)) {}
  ~Alone() { take(others); }
};

typedef real vector __attribute__((vector_size(WIDTH), may_alias));

// A function of a vector, of Sleef. A block has room for whole vectors.
static inline vector of_vector(void* function, vector a) { return ((vector(*)(vector))function)(a); }
static inline void by_vector(void* function, real* block, long e) {
  for (long i = 0; i < e; i += WIDTH / sizeof(real)) *(vector*)(block + i) = of_vector(function, *(vector*)(block + i));
}
