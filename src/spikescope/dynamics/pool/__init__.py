"""The largest value of windows of an image: the values and gradients of PyTorch's pool, in less time and memory."""
