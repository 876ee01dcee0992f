"""The kernels of a CPU: their text, and calling them."""
