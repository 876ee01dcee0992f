"""Pools by the kernels of a CPU against PyTorch's: values and gradients bit for bit."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d
from torch.utils.checkpoint import checkpoint

from spikescope import layer
from spikescope.dynamics import Windows, pooled
from spikescope.dynamics.pool import cpu
from spikescope.toolchain import compiler

pytestmark = pytest.mark.skipif(bool(compiler.trouble()), reason="no kernel can be compiled")

ODD = torch.tensor([0.0, 1.0, 1.0, -0.0, float("nan"), float("inf"), -float("inf"), 2.0, -3.0])
SIDE = Windows((2, 2), (2, 2))
CASES = [
    ((2, 3, 8, 12), SIDE),
    ((2, 3, 9, 13), SIDE),
    ((1, 2, 7, 9), Windows((3, 2), (3, 2))),
    ((3, 1, 4, 5), Windows((1, 4), (1, 4))),
    ((2, 5, 3, 3), Windows((3, 3), (3, 3))),
    ((2, 3, 8, 11), Windows((3, 3), (2, 2), (1, 1))),
    ((2, 3, 9, 6), Windows((3, 3), (1, 1), (1, 1))),
    ((1, 2, 10, 7), Windows((2, 3), (3, 4))),
    ((1, 2, 2, 1), Windows((5, 4), (2, 1), (2, 2))),
    ((1, 1, 3, 1300), Windows((3, 3), (2, 1), (1, 1))),
    ((3, 4, 9, 5), Windows((3, 3), (2, 2), (1, 1))),
    ((2, 2, 11, 1100), Windows((5, 5), (2, 2), (2, 2))),
    ((2, 1, 70, 9), Windows((32, 2), (1, 3), (16, 1))),
    ((1, 3, 9, 9), Windows((3, 1), (1, 2))),
    ((1, 2, 1, 1), Windows((2, 2), (1, 1), (1, 1))),
]


def bits(x):
    """Values by their bits, in which -0 is not 0; all that are no number are one."""
    whole = torch.int32 if x.dtype is torch.float32 else torch.int64
    return torch.where(x.isnan(), torch.full((), float("nan"), dtype=x.dtype), x).view(whole)


def images(*shape, dtype=torch.float32):
    """Values that are often equal, and some that are no numbers."""
    return ODD[torch.randint(len(ODD), shape, generator=torch.Generator().manual_seed(3))].to(dtype)


def run(function, x):
    x = x.detach().clone().requires_grad_()
    y = function(x)
    gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(y.dtype)
    gy.view(-1)[::3] = -0.0
    return y, torch.autograd.grad(y, x, gy)[0]


def plain(windows):
    return lambda x: max_pool2d(x, *windows)


def same(got, want):
    assert got.stride() == want.stride()
    assert torch.equal(bits(got), bits(want))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", list(cpu.TYPES), ids=str)
@pytest.mark.parametrize(("shape", "windows"), CASES, ids=str)
def test_the_pool_of_pytorch(shape, windows, dtype, threads, monkeypatch):
    monkeypatch.setattr(cpu, "threads_for", lambda elements: threads)
    x = images(*shape, dtype=dtype)
    for got, want in zip(run(lambda x: cpu.pool(x, windows), x), run(plain(windows), x), strict=True):
        same(got, want)
    same(cpu.pool(x, windows), max_pool2d(x, *windows))  # without a gradient


@pytest.mark.parametrize("value", [-float("inf"), float("nan"), 0.0], ids=str)
@pytest.mark.parametrize(("shape", "windows"), CASES, ids=str)
def test_of_values_that_are_all_one_the_place_is_inside(shape, windows, value):
    x = torch.full(shape, value)
    for got, want in zip(run(lambda x: cpu.pool(x, windows), x), run(plain(windows), x), strict=True):
        same(got, want)


def test_gradients_that_lie_otherwise():
    x = torch.rand(2, 3, 8, 8)
    wanted = [
        torch.autograd.grad(y.mT.contiguous().mT.square().sum(), x)[0]
        for x in [x.requires_grad_()]
        for y in (cpu.pool(x, SIDE), max_pool2d(x, 2))
    ]
    same(*wanted)


def test_second_derivatives_and_many_gradients_at_once():
    x, windows = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True), Windows((3, 3), (2, 1), (1, 1))
    assert torch.autograd.gradgradcheck(lambda x: cpu.pool(x, windows) ** 2, x)
    y = cpu.pool(x, windows)
    many = torch.rand(3, *y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, x, many, is_grads_batched=True, retain_graph=True)[0]
    assert torch.equal(got, torch.stack([torch.autograd.grad(y, x, each, retain_graph=True)[0] for each in many]))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_finds_again_what_was_kept(reentrant):
    x = torch.rand(2, 8, 32, 32, requires_grad=True)
    net = layer.MaxPool2d(2)
    found = []
    for y in (net(x), checkpoint(net, x, use_reentrant=reentrant)):
        x.grad = None
        y.square().sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


def test_what_is_kept_is_a_byte_for_each_window():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda held: kept.append(held) or held, lambda held: held):
        y = cpu.pool(torch.rand(2, 3, 8, 8, requires_grad=True), SIDE)
    assert [(held.dtype, held.shape) for held in kept] == [(torch.uint8, y.shape)]


@pytest.mark.parametrize("other", [lambda held: held[:1].clone(), lambda held: held.int()], ids=["shape", "dtype"])
def test_saved_places_that_come_back_as_others_are_refused_in_words(other):
    with torch.autograd.graph.saved_tensors_hooks(lambda held: held, other):
        y = cpu.pool(torch.rand(2, 3, 8, 8, requires_grad=True), SIDE)
    with pytest.raises(RuntimeError, match="A hook on saved tensors gave MaxPool2d"):
        y.sum().backward()


def test_what_is_left_to_pytorch(monkeypatch):
    x = torch.rand(2, 3, 8, 6)
    assert pooled(x, SIDE) is not None
    odd = [x[0], x[..., ::2], x.to(torch.int32), x.half(), x[:0], nn.Parameter(x), x.to("meta")]
    odd.append(x.contiguous(memory_format=torch.channels_last))
    for each in odd:
        assert pooled(each, SIDE) is None
    for windows in (((9, 1), (9, 1)), ((2, 2), (0, 2)), ((2, 2), (2, 2), (2, 0)), ((2, 2), (2, 2), (0, -1))):
        assert pooled(x, Windows(*windows)) is None
    assert pooled(torch.rand(1, 1, 9, 9), Windows((9, 9), (1, 1))) is None  # more values than are told apart
    seen = []
    torch.func.vmap(lambda x: seen.append(pooled(x, SIDE)) or x)(x[None])
    torch.func.vmap(lambda x: seen.append(pooled(x.detach(), SIDE)) or x)(x[None])
    assert seen == [None, None]
    monkeypatch.setattr(cpu, "function", lambda *arguments: None)  # no compiler
    assert pooled(x, Windows((2, 2), (2, 1))) is None


@pytest.fixture
def seen(monkeypatch):
    """The windows of layers that the kernel has taken, however small."""
    windows = []

    def note(x, asked):
        y = pooled(x, asked)
        windows.extend([] if y is None else [asked])
        return y

    monkeypatch.setattr(cpu, "SMALL", 0)
    monkeypatch.setattr("spikescope.layer.pooling.pooled", note)
    return windows


@pytest.mark.parametrize("settings", [{"stride": 1}, {"padding": 1}, {"stride": (3, 1), "padding": (0, 1)}], ids=str)
def test_windows_that_overlap_or_leave_gaps_are_taken(settings, seen):
    x = torch.rand(2, 3, 8, 6)
    assert torch.equal(layer.MaxPool2d(2, **settings)(x), nn.MaxPool2d(2, **settings)(x))
    assert len(seen) == 1


@pytest.mark.parametrize("settings", [{"dilation": 2}, {"ceil_mode": True}, {"return_indices": True}], ids=str)
def test_what_a_kernel_has_not_is_left_to_pytorch(settings, seen):
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


@pytest.mark.parametrize("settings", [{"padding": 2}, {"padding": -1}, {"stride": 0}, {"stride": -1}], ids=str)
def test_a_way_that_is_none_has_the_words_of_pytorch(settings, seen):
    x = torch.rand(2, 3, 8, 6)
    with pytest.raises(RuntimeError) as want:
        nn.MaxPool2d(2, **settings)(x)
    with pytest.raises(RuntimeError) as got:
        layer.MaxPool2d(2, **settings)(x)
    assert str(got.value) == str(want.value)


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


def test_a_pool_in_a_trained_network_gives_pytorchs_gradients():
    torch.manual_seed(0)
    x = torch.rand(4, 8, 2, 32, 32, requires_grad=True)
    net, want = layer.MaxPool2d(3, 2, 1, step_mode="m"), nn.MaxPool2d(3, 2, 1)
    got = net(x)
    (a,) = torch.autograd.grad((got * got).sum(), x)
    y = want(x.flatten(0, 1)).view_as(got)
    (b,) = torch.autograd.grad((y * y).sum(), x)
    assert torch.equal(got, y)
    assert torch.equal(a, b)
