// The gradients of x[t, i] * gain[t] from that of the product: of x, which may take the memory of the other and is left
// out where GX is null, and of the gains a partial sum for each CHUNK neurons. Products are summed in one order whoever
// asks, by vectors of the processor: so one loop serves both, and what nobody wants never leaves the cache.
constexpr long CHUNK = 4096;

extern "C" void gain_backward(const real* G, const real* X, const real* GAIN, real* GX, double* S, long T, long n,
    int threads) {
  const long chunks = (n + CHUNK - 1) / CHUNK;
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long k = 0; k < T * chunks; k++) {
    const long t = k / chunks, o = k % chunks * CHUNK, e = n - o < CHUNK ? n - o : CHUNK;
    const real *g = G + t * n + o, *x = X + t * n + o, gain = GAIN[t];
    real unwanted[CHUNK], *gx = GX ? GX + t * n + o : unwanted;
    real sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (long i = 0; i < e; i++) {
      const real grad = g[i];
      sum += grad * x[i];
      gx[i] = grad * gain;
    }
    S[k] = sum;
  }
}
