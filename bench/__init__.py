"""The benchmarks: ours against the other libraries of spiking networks, interleaved in one run."""
