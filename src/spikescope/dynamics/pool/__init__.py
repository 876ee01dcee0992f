"""Max pooling: the values and gradients of PyTorch's, in less time and memory."""
