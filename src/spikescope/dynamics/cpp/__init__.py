"""The C++ kernels that run on a CPU: generating their source, and calling them."""
