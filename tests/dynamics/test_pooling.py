"""Pools by kernels against PyTorch's: values and gradients bit for bit, in Triton's interpreter."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from spikescope import layer
from spikescope.dynamics.triton import launch, pooling

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
        run(function, x) for function in (lambda x: max_pool2d(x, window), lambda x: pooling.pool(x, window))
    )
    assert y.stride() == want.stride()
    assert gradient.stride() == want_gradient.stride()
    torch.testing.assert_close(y, want, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(gradient, want_gradient, rtol=0, atol=0)


def test_places_past_32_bits(monkeypatch):
    monkeypatch.setattr(pooling, "_WIDE", 0)
    x = images(2, 3, 7, 12)
    for a, b in zip(run(lambda x: max_pool2d(x, 2), x), run(lambda x: pooling.pool(x, (2, 2)), x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_second_derivatives_and_many_gradients_at_once():
    x = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: pooling.pool(x, (2, 2)) ** 2, x)
    y = pooling.pool(x, (2, 2))
    many = torch.rand(3, *y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, x, many, is_grads_batched=True, retain_graph=True)[0]
    assert torch.equal(got, torch.stack([torch.autograd.grad(y, x, each, retain_graph=True)[0] for each in many]))


def test_saved_values_that_come_back_laid_otherwise():
    """Whoever keeps saved tensors elsewhere may give them back in an order of axes that no kernel reads."""
    x = images(2, 3, 4, 6)
    _, want = run(lambda x: pooling.pool(x, (2, 2)), x)
    packed = torch.autograd.graph.saved_tensors_hooks(lambda held: held.mT.contiguous(), lambda held: held.mT)
    with packed:
        _, got = run(lambda x: pooling.pool(x, (2, 2)), x)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_what_is_left_to_pytorch():
    x = torch.rand(2, 3, 8, 6)
    assert pooling.pools(x, (2, 2))
    for odd in (x[0], x[..., ::2], x.to(torch.int32), x[:0], nn.Parameter(x), torch.empty(2, 3, 8, 6, device="meta")):
        assert not pooling.pools(odd, (2, 2))
    assert not pooling.pools(x, (9, 1))
    seen = []
    torch.func.vmap(lambda x: seen.append(pooling.pools(x, (2, 2))) or x)(x[None])
    torch.func.vmap(lambda x: seen.append(pooling.pools(x.detach(), (2, 2))) or x)(x[None])
    assert seen == [False, False]


def test_one_channel_keeps_its_strides():
    x = images(2, 1, 4, 6)
    for each in (x, x.as_strided(x.shape, (24, 1, 6, 1))):
        assert pooling.pool(each, (2, 2)).stride() == max_pool2d(each, 2).stride()


@pytest.fixture
def seen(monkeypatch):
    """The windows that layers give to the kernel, which runs on the CPU in Triton's interpreter."""
    windows = []
    monkeypatch.setattr("spikescope.layer.pooling.has_pool", lambda x: True)
    monkeypatch.setattr(
        "spikescope.layer.pooling.pool", lambda x, window: windows.append(window) or pooling.pool(x, window)
    )
    return windows


@pytest.mark.parametrize(
    "settings", [{"stride": 1}, {"padding": 1}, {"dilation": 2}, {"ceil_mode": True}, {"return_indices": True}], ids=str
)
def test_windows_that_do_not_lie_side_by_side_are_not_taken(settings, seen):
    x = torch.rand(2, 3, 8, 6)
    got, want = layer.MaxPool2d(2, **settings)(x), nn.MaxPool2d(2, **settings)(x)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)
    assert not seen


@pytest.mark.parametrize("window", [0, -1, 100, 2.0, "2", (2, 2, 2), (2, "2"), None], ids=str)
def test_a_window_that_is_none_has_the_words_of_pytorch(window, seen):
    x = torch.rand(2, 3, 8, 6)
    with pytest.raises((RuntimeError, TypeError)) as want:
        nn.MaxPool2d(window)(x)
    with pytest.raises(want.type) as got:
        layer.MaxPool2d(window)(x)
    assert str(got.value) == str(want.value)
    assert not seen


@pytest.mark.parametrize("window", [2, (2,), (2, 3)], ids=str)
def test_a_layer_takes_the_kernel_in_both_step_modes(window, seen):
    x_seq = torch.rand(4, 2, 3, 8, 6)
    made = layer.MaxPool2d(window, step_mode="m")
    assert torch.equal(made(x_seq).flatten(0, 1), max_pool2d(x_seq.flatten(0, 1), window))
    made.step_mode = "s"
    assert torch.equal(made(x_seq[0]), max_pool2d(x_seq[0], window))
    assert len(seen) == 2


@pytest.mark.parametrize("size", [np.int64(2), [2], (np.int64(2), 2), torch.tensor(2), None], ids=repr)
def test_a_stride_in_any_form_that_pytorch_takes_is_taken(size, seen):
    x = torch.rand(2, 3, 8, 6)
    made, want = layer.MaxPool2d(2), nn.MaxPool2d(2)
    made.stride = want.stride = size
    assert torch.equal(made(x), want(x))
