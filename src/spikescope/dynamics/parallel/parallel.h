// Weighted sums over time of many neurons, with what follows them, a block of neurons at a time. A block is copied
// together first: its rows lie a step apart, in memory often at the same places of a cache, and each is read by all sums.
typedef real lanes __attribute__((vector_size(32)));
typedef real loaded __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
constexpr long L = sizeof(lanes) / sizeof(real);
constexpr long ROWS = 4, VECTORS = 3;  // of a tile, whose sums fill the registers: so none waits for another
constexpr long PAIR = 2;  // rows of a tile of products

static inline long filled(long rows, long to) { return (rows + to - 1) / to * to; }
static inline real* taken(long numbers) { return (real*)aligned_alloc(64, filled(numbers * sizeof(real), 64)); }
static inline lanes at(const real* p) { return *(const loaded*)p; }
static inline void put(real* p, lanes x) { *(loaded*)p = x; }

// a * b + c in one rounding where the processor has it.
#if defined __FMA__ && BUILT_IN(__builtin_ia32_vfmaddps256) && BUILT_IN(__builtin_ia32_vfmaddpd256)
typedef float floats __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(32)));
static inline floats fused_all(floats a, floats b, floats c) { return __builtin_ia32_vfmaddps256(a, b, c); }
static inline doubles fused_all(doubles a, doubles b, doubles c) { return __builtin_ia32_vfmaddpd256(a, b, c); }
#define IN_REGISTER(x) __asm__("" : "+x"(x))  // GCC would read it from memory at every use
#else
static inline lanes fused_all(lanes a, lanes b, lanes c) { return a * b + c; }
#define IN_REGISTER(x) (void)(x)
#endif

// The matrix [rows, columns] in tiles of ROWS rows, filled up with zeros: [tiles][columns][ROWS].
static inline void in_tiles(const real* A, long rows, long columns, long by_row, long by_column, real* out) {
  for (long r = 0; r < filled(rows, ROWS); r++)
    for (long k = 0; k < columns; k++)
      out[(r / ROWS * columns + k) * ROWS + r % ROWS] = r < rows ? A[r * by_row + k * by_column] : 0;
}

// The product of such a matrix with a block, [columns, B], into another. Each sum begins at zero, in the order of the
// columns: where PyTorch's product does too, these are its bits.
static inline void product(const real* A, long rows, long columns, const real* __restrict X, real* __restrict out) {
  for (long r = 0; r < rows; r += ROWS, A += ROWS * columns)
    for (long c = 0; c < B; c += VECTORS * L) {
      lanes sums[ROWS][VECTORS] = {};
      for (long k = 0; k < columns; k++) {
        lanes x[VECTORS];
        for (long v = 0; v < VECTORS; v++) {
          x[v] = at(X + k * B + c + v * L);
          IN_REGISTER(x[v]);
        }
        for (long j = 0; j < ROWS; j++) {
          const lanes w = A[k * ROWS + j] - lanes{};  // which leaves -0 as it is
          for (long v = 0; v < VECTORS; v++) sums[j][v] = fused_all(w, x[v], sums[j][v]);
        }
      }
      for (long j = 0; j < ROWS; j++)
        for (long v = 0; v < VECTORS; v++) put(out + (r + j) * B + c + v * L, sums[j][v]);
    }
}

// Adds the products of each row of one block with each of another, lane by lane: [rows][columns][L].
static inline void correlate(const real* __restrict G, const real* __restrict X, long rows, long columns, real* to) {
  for (long r = 0; r < rows; r += ROWS)
    for (long k = 0; k < columns; k += PAIR) {
      real* sums = to + (r * columns + k) * L;
      lanes own[ROWS][PAIR];
      for (long j = 0; j < ROWS; j++)
        for (long i = 0; i < PAIR; i++) own[j][i] = at(sums + (j * columns + i) * L);
      for (long c = 0; c < B; c += L) {
        lanes low = at(X + k * B + c), high = at(X + (k + 1) * B + c);
        IN_REGISTER(low);
        IN_REGISTER(high);
        for (long j = 0; j < ROWS; j++) {
          lanes g = at(G + (r + j) * B + c);
          IN_REGISTER(g);
          own[j][0] = fused_all(g, low, own[j][0]);
          own[j][1] = fused_all(g, high, own[j][1]);
        }
      }
      for (long j = 0; j < ROWS; j++)
        for (long i = 0; i < PAIR; i++) put(sums + (j * columns + i) * L, own[j][i]);
    }
}

static inline void fetch_rows(const real* X, long rows, long n, long o) {
  for (long r = 0; r < rows && o < n; r++) fetch(X + r * n + o, n - o < B ? n - o : B);
}
static inline void fetch_rows_to_write(const real* Y, long rows, long n, long o) {
  for (long r = 0; r < rows && o < n; r++) fetch_to_write(Y + r * n + o, n - o < B ? n - o : B);
}

// The rows of a block side by side, filled up with zeros; those of the next block are asked for.
static inline void gather_rows(const real* X, long rows, long n, long o, long e, real* block) {
  for (long k = 0; k < rows; k++) {
    const real* from = X + k * n + o;
    if (e == B) memcpy(block + k * B, from, B * sizeof(real));
    else for (long i = 0; i < B; i++) block[k * B + i] = i < e ? from[i] : 0;
  }
  fetch_rows(X, rows, n, o + B);
}
