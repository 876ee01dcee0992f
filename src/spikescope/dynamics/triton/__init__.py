"""The Triton kernels that run on a GPU: generating their source, and launching them."""
