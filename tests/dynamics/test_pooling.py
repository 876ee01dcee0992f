"""Pools by the kernels of a GPU against PyTorch's: values and gradients bit for bit, in Triton's interpreter."""

import pytest
import torch
from torch.nn.functional import max_pool2d

from spikescope.dynamics.pool import gpu
from spikescope.dynamics.triton import launch

pytestmark = pytest.mark.skipif(
    not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter"
)

ODD = torch.tensor([0.0, 1.0, 1.0, -0.0, float("nan"), float("inf"), -float("inf"), 2.0])


def images(*shape, dtype=torch.float32, last=False):
    """Values that are often equal, and some that are no numbers."""
    x = ODD[torch.randint(len(ODD), shape, generator=torch.Generator().manual_seed(3))].to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def run(function, x):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    gy = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).view(y.shape).to(y.dtype)
    return y, torch.autograd.grad(y, x, gy)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [((2, 3, 8, 12), (2, 2)), ((1, 2, 7, 9), (3, 2)), ((3, 1, 4, 5), (1, 4)), ((2, 5, 3, 3), (3, 3))],
)
def test_the_pool_of_pytorch(shape, window, last, dtype):
    x = images(*shape, dtype=dtype, last=last)
    (want, want_gradient), (y, gradient) = (
        run(function, x) for function in (lambda x: max_pool2d(x, window), lambda x: gpu.pool(x, window))
    )
    assert y.stride() == want.stride()
    assert gradient.stride() == want_gradient.stride()
    torch.testing.assert_close(y, want, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(gradient, want_gradient, rtol=0, atol=0)


def test_places_past_32_bits(monkeypatch):
    monkeypatch.setattr(gpu, "_WIDE", 0)
    x = images(2, 3, 7, 12)
    for a, b in zip(run(lambda x: max_pool2d(x, 2), x), run(lambda x: gpu.pool(x, (2, 2)), x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_second_derivatives_and_many_gradients_at_once():
    x = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: gpu.pool(x, (2, 2)) ** 2, x)
    y = gpu.pool(x, (2, 2))
    many = torch.rand(3, *y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, x, many, is_grads_batched=True, retain_graph=True)[0]
    assert torch.equal(got, torch.stack([torch.autograd.grad(y, x, each, retain_graph=True)[0] for each in many]))


def test_saved_values_that_come_back_laid_otherwise():
    """Whoever keeps saved tensors elsewhere may give them back in an order of axes that no kernel reads."""
    x = images(2, 3, 4, 6)
    _, want = run(lambda x: gpu.pool(x, (2, 2)), x)
    packed = torch.autograd.graph.saved_tensors_hooks(lambda held: held.mT.contiguous(), lambda held: held.mT)
    with packed:
        _, got = run(lambda x: gpu.pool(x, (2, 2)), x)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_one_channel_keeps_its_strides():
    x = images(2, 1, 4, 6)
    for each in (x, x.as_strided(x.shape, (24, 1, 6, 1))):
        assert gpu.pool(each, (2, 2)).stride() == max_pool2d(each, 2).stride()
