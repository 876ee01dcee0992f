import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported: its kernels run on the CPU

import torch

torch.set_num_threads(1)  # the test workers share the cores; no result depends on it
