"""The kernels of a GPU: their text, and calling them."""
