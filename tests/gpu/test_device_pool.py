"""The pool of windows side by side on a GPU: values and gradients of PyTorch's, bit for bit."""

import pytest
import torch
from device_cases import DTYPES, SMALL
from dynamics_cases import inputs
from torch.nn.functional import max_pool2d

from spikescope import layer
from spikescope.dynamics.pool import gpu

SHAPE = (2, 2, 3, 6, 5) if SMALL else (5, 3, 24, 29, 28)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
def test_the_pool_of_pytorch(dtype, last, device, monkeypatch):
    seen = []
    by_kernel = gpu.pool
    monkeypatch.setattr(gpu, "pool", lambda x, window: seen.append(window) or by_kernel(x, window))
    if SMALL:  # no GPU is here: what a layer asks for goes to the kernel of one all the same
        monkeypatch.setattr("spikescope.layer.pooling.has_pool", lambda x: True)
        monkeypatch.setattr("spikescope.layer.pooling.pooled", lambda x, windows: gpu.pool(x, windows.size))
    x = (inputs(*SHAPE) > 0.8).to(device, dtype).flatten(0, 1)  # spikes: values that are equal
    x[0, 0, 0, :2], x[0, 1, :2, 0] = float("nan"), float("inf")
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    x_seq = x.unflatten(0, SHAPE[:2]).requires_grad_()
    y = layer.MaxPool2d(2, step_mode="m")(x_seq)
    gy = inputs(*y.shape, seed=5).to(y)
    (got,) = torch.autograd.grad(y, x_seq, gy)
    want = max_pool2d(x_seq.flatten(0, 1), 2)
    (want_gradient,) = torch.autograd.grad(want, x_seq, gy.flatten(0, 1))
    assert seen == [(2, 2)]
    assert torch.equal(y.flatten(0, 1).nan_to_num(), want.nan_to_num())
    assert torch.equal(got, want_gradient)
