"""The kernels of reducers on a CPU: one pass over a signal where PyTorch would take ten; see `core.py`."""
