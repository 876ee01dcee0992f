import torch

torch.set_num_threads(1)  # the test workers share the cores; no result depends on it
