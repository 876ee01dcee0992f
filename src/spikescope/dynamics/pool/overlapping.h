// The largest value of each window, and where in the window it is: of equal values the first, of values among which
// there is no number the last of those. KH x KW are the values of a window, SH x SW the way to the next one, PH x PW
// what is put around an image. For windows that have rows in common: each row is read once, of it the largest of KW
// values for each window, then of KH such rows the largest for the windows that have them. The values of a row are put
// in order of their place in a window, the first of each window side by side, so that vectors are read as they lie.
#include <string.h>

constexpr real lowest = -(real)__builtin_huge_val();
constexpr long LANES = 8;  // windows of one turn; a block of windows ends with some that are none
constexpr long ORDERS = KW < SW ? KW : SW;
constexpr long REACH = (KW - 1) / SW;  // windows further on begins the last value of a window

typedef real values __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));
typedef place places __attribute__((vector_size(LANES * sizeof(place)), aligned(sizeof(place)), may_alias));

// The rows of a window that lie inside, the first and the one past the last.
static inline long first_of(long start) { return start < 0 ? -start : 0; }
static inline long past_of(long start, long size, long K) { return size - start < K ? size - start : K; }

static inline void take(const values& v, const places& at, values& best, places& found) {
  const places more = (v > best) | (v != v);
  best = more ? v : best;
  found = more ? at : found;
}

struct Best {  // of the windows of a block in one row: the largest values, and their places in it
  real value[MOST + LANES];
  place at[MOST + LANES];
};

struct Row {  // the values of a row in the order of the windows of a block
  real value[ORDERS][MOST + LANES + REACH];
  long start[ORDERS], from[ORDERS], to[ORDERS];  // where it begins, and which windows have such a value inside

  // For a block of `e` windows from `begin` on; outside there are values that are never taken.
  void begin_at(long begin, long e, long W) {
    for (long l = 0; l < ORDERS; l++) {
      const long at = begin * SW + l - PW, end = e + REACH;
      const long before = (first_of(at) + SW - 1) / SW, inside = W <= at ? 0 : (W - at + SW - 1) / SW;
      start[l] = at;
      from[l] = before < end ? before : end;
      to[l] = inside < from[l] ? from[l] : inside < end ? inside : end;
      for (long i = 0; i < from[l]; i++) value[l][i] = lowest;
      for (long i = to[l]; i < end; i++) value[l][i] = lowest;
    }
  }

  void put(const real* __restrict row) {
    for (long l = 0; l < ORDERS; l++) {
      const real* __restrict given = row + start[l];
      real* __restrict out = value[l];
      for (long i = from[l]; i < to[l]; i++) out[i] = given[i * SW];
    }
  }
};

static inline void best_of_row(const Row& row, const place* first, long e, Best& out) {
  for (long i = 0; i < e; i += LANES) {
    values best = values{} + lowest;
    places at = *(const places*)(first + i);
    for (long l = 0; l < KW; l++) take(*(const values*)(row.value[l % SW] + i + l / SW), places{} + (place)l, best, at);
    *(values*)(out.value + i) = best;
    *(places*)(out.at + i) = at;
  }
}

// Of the rows of a window, of which the first that is inside is `inside`.
static inline void best_of_rows(const Best* const* rows, long inside, const place* first, long e, Best& out) {
  for (long i = 0; i < e; i += LANES) {
    values best = values{} + lowest;
    places at = *(const places*)(first + i) + (place)(inside * KW);
    for (long k = 0; k < KH; k++)
      take(*(const values*)(rows[k]->value + i), *(const places*)(rows[k]->at + i) + (place)(k * KW), best, at);
    *(values*)(out.value + i) = best;
    *(places*)(out.at + i) = at;
  }
}

extern "C" void pool(const real* __restrict X, real* __restrict Y, uint8_t* __restrict AT,
    long planes, long H, long W, long OH, long OW, int threads) {
  const long together = planes < threads ? 1 : OH, tasks = planes * (OH / together);  // rows of windows of a task
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {
    Row in_order;
    place first[MOST + LANES];
    Best held[KH], none, out;
    long known = -1;  // block of windows that these are ready for
    #pragma omp for schedule(static)
    for (long task = 0; task < tasks; task++) {
      const long plane = task * together / OH, o0 = task * together % OH;
      for (long begin = 0; begin < OW; begin += MOST) {
        const long e = OW - begin < MOST ? OW - begin : MOST, whole = (e + LANES - 1) / LANES * LANES;
        if (begin != known) {
          for (long i = 0; i < whole; i++) {
            first[i] = first_of((begin + i) * SW - PW);
            none.value[i] = lowest;
            none.at[i] = 0;
          }
          in_order.begin_at(begin, whole, W);
          known = begin;
        }
        long next = 0;  // row that is not yet held
        for (long o = o0; o < o0 + together; o++) {
          const long top = o * SH - PH, k0 = first_of(top), k1 = past_of(top, H, KH);
          const Best* rows[KH];
          for (long k = 0; k < KH; k++) rows[k] = k < k0 || k >= k1 ? &none : &held[(top + k) % KH];
          for (long row = next < top + k0 ? top + k0 : next; row < top + k1; row++) {
            in_order.put(X + (plane * H + row) * W);
            best_of_row(in_order, first, whole, held[row % KH]);
          }
          next = top + k1;
          best_of_rows(rows, k0, first, whole, out);
          const long at = (plane * OH + o) * OW + begin;
          memcpy(Y + at, out.value, e * sizeof(real));
          if (AT) for (long i = 0; i < e; i++) AT[at + i] = (uint8_t)out.at[i];
        }
      }
    }
  }
}
