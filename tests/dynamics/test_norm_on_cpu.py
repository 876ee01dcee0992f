"""Batch normalisations by the kernels of a CPU against PyTorch's: results, statistics and gradients bit for bit."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spikescope import layer
from spikescope.dynamics.norm import batch, cpu
from spikescope.toolchain import compiler

pytestmark = [
    pytest.mark.skipif(bool(compiler.trouble()), reason="no kernel can be compiled"),
    pytest.mark.skipif(not cpu.gives_the_same(64), reason="this PyTorch takes sums in another order"),
]

SHAPES = [
    (4, 8, 8, 8),
    (3, 11, 7, 7),
    (2, 5, 2, 2),
    (5, 16, 1, 3),
    (1, 9, 33),
    (2, 4, 3, 4, 5),
    (7, 19, 1, 127),
    (2, 24, 131),
]
LAYERS = {3: layer.BatchNorm1d, 4: layer.BatchNorm2d, 5: layer.BatchNorm3d}
GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """The kernel takes small batches too."""
    monkeypatch.setattr(batch, "SMALL", 1)
    GENERATOR.manual_seed(5)


@pytest.fixture
def used(monkeypatch):
    """Counts the calls of the kernels: forwards, backwards."""
    counts = [0, 0]

    def counted(function, place):
        def call(*args):
            counts[place] += 1
            return function(*args)

        return call

    monkeypatch.setattr(batch, "norm_forward", counted(cpu.norm_forward, 0))
    monkeypatch.setattr(batch, "norm_backward", counted(cpu.norm_backward, 1))
    return counts


def random(*shape):
    return torch.randn(shape, generator=GENERATOR) * 2 + 0.5


def pair(shape, **kwargs):
    """Ours, and PyTorch's of the same weights; PyTorch 2.11 adds up the values of most planes in another order."""
    if not cpu.gives_the_same(math.prod(shape[2:])):
        pytest.skip("this PyTorch takes sums of such planes in another order: it computes them itself")
    ours = LAYERS[len(shape)](shape[1], **kwargs)
    plain = getattr(nn, type(ours).__name__)(shape[1], **kwargs)
    for held in (*ours.parameters(), *ours.buffers()):
        if held.is_floating_point():
            held.data.copy_(random(*held.shape).abs() + 0.1)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def run(module, x, gy):
    x = x.detach().clone().requires_grad_()
    y = module(x)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], gy), *module.buffers()]


def same(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.stride() == b.stride()
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(torch.where(a.isnan(), 0, a), torch.where(b.isnan(), 0, b))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "kwargs",
    [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"momentum": 0.37, "eps": 1e-3}],
    ids=str,
)
def test_the_normalisation_of_pytorch(shape, kwargs, threads, used, monkeypatch):
    for module in (batch, cpu):
        monkeypatch.setattr(module, "threads_for", lambda elements: threads)
    monkeypatch.setattr(batch, "_LEAST", 1)
    ours, plain = pair(shape, **kwargs)
    for _ in range(3):
        x, gy = random(*shape), random(*shape)
        x[:, 1] = 3.25  # of a constant there is no deviation
        same(run(ours, x, gy), run(plain, x, gy))
    assert used == [3, 3]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e30, 1e-40])
def test_numbers_at_the_end_of_the_range(odd, used):
    ours, plain = pair((4, 8, 5, 5))
    x, gy = random(4, 8, 5, 5), random(4, 8, 5, 5)
    x[1, 2, 3, 3], gy[0, 4, 0, 0] = odd, odd
    same(run(ours, x, gy), run(plain, x, gy))
    assert used == [1, 1]


def test_over_time_and_of_a_repeated_frame(used):
    ours, plain = pair((6, 8, 5, 5))
    ours.step_mode = "m"
    x, gy = random(3, 2, 8, 5, 5), random(3, 2, 8, 5, 5)
    got = run(ours, x, gy)
    got[:2] = [each.flatten(0, 1) for each in got[:2]]
    same(got, run(plain, x.flatten(0, 1), gy.flatten(0, 1)))
    frame = random(2, 8, 5, 5)
    assert torch.equal(ours(frame.expand(3, *frame.shape))[1], plain(frame))
    assert used == [2, 1]


def test_gradients_of_some_alone(used):
    ours, plain = pair((4, 8, 5, 5))
    for module in (ours, plain):
        module.weight.requires_grad_(False)
    x, gy = random(4, 8, 5, 5), random(4, 8, 5, 5)
    for module in (ours, plain):
        module(x).backward(gy)
    assert ours.weight.grad is None
    assert torch.equal(ours.bias.grad, plain.bias.grad)
    assert used == [1, 1]


def test_second_derivatives_and_many_gradients_at_once(used):
    ours, plain = pair((3, 4, 3, 3))
    x = random(3, 4, 3, 3).requires_grad_()
    found = []
    for module in (ours, plain):
        y = module(x)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        found.append([first, *torch.autograd.grad(first.square().sum(), [x, module.weight])])
        many = random(2, *y.shape)
        y = module(x)
        found[-1] += torch.autograd.grad(y, x, torch.ones_like(many), is_grads_batched=True)
    same(*found)
    assert used == [2, 1]  # of the second derivative what goes through the values


def test_gradients_that_lie_otherwise(used):
    ours, plain = pair((4, 8, 6, 6))
    x, gy = random(4, 8, 6, 6), random(4, 8, 6, 6).mT
    same(run(ours, x, gy), run(plain, x, gy))
    same(run(ours, x, gy[:1, :1, :1, :1].expand(gy.shape)), run(plain, x, gy[:1, :1, :1, :1].expand(gy.shape)))
    assert used == [2, 2]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_finds_again_what_was_kept(reentrant):
    ours, plain = pair((4, 8, 5, 5))
    x, gy = random(4, 8, 5, 5), random(4, 8, 5, 5)
    found = []
    for module in (ours, plain):
        given = x.clone().requires_grad_()
        checkpoint(module, given, use_reentrant=reentrant).backward(gy)
        found.append([given.grad, module.weight.grad, *module.buffers()])
    same(*found)


def test_the_graph_tells_of_changes_in_place_and_of_a_second_backward():
    ours, _ = pair((4, 8, 5, 5))
    x = random(4, 8, 5, 5).requires_grad_() * 1
    y = ours(x)
    y += 1  # nobody needs it
    x.mul_(2)
    with pytest.raises(RuntimeError, match="BatchNorm needs its input, its weight"):
        y.sum().backward()
    y = ours(random(4, 8, 5, 5).requires_grad_())
    y.sum().backward()
    with pytest.raises(RuntimeError, match="has freed"):
        y.sum().backward()


def test_what_is_left_to_pytorch(used, monkeypatch):
    ours, plain = pair((4, 8, 5, 5))
    x, tangent = random(4, 8, 5, 5), random(4, 8, 5, 5)
    with torch.autograd.graph.saved_tensors_hooks(lambda held: held, lambda held: held):
        assert torch.equal(ours(x), plain(x))
    bare = pair((4, 8, 5, 5), track_running_stats=False)
    same(*(torch.func.jvp(module, (x,), (tangent,)) for module in bare))
    with pytest.raises(ValueError, match="eps"):
        layer.BatchNorm2d(8, eps=0.0)(x)
    assert torch.equal(ours(x.to(memory_format=torch.channels_last)), plain(x.to(memory_format=torch.channels_last)))
    assert torch.equal(ours(x[::2]), plain(x[::2]))
    twice = copy.deepcopy(ours).double()
    assert twice(x.double()).dtype is torch.float64
    one = layer.BatchNorm2d(1)
    one(x[:, :1])
    layer.BatchNorm1d(8)(random(64, 8))
    ours.eval()
    plain.eval()
    assert torch.equal(ours(x), plain(x))
    ours.train()
    monkeypatch.setattr(batch, "SMALL", x.numel() + 1)
    ours(x)
    monkeypatch.setattr(batch, "SMALL", 1)
    monkeypatch.setattr(batch, "gives_the_same", lambda size: False)
    ours(x)
    assert used == [0, 0]


def test_a_kernel_that_gives_other_bits_is_found_out(monkeypatch):
    cpu.gives_the_same.cache_clear()
    monkeypatch.setattr(cpu, "norm_backward", lambda *args: [held + 1e-6 for held in args[:1]])
    assert not cpu.gives_the_same(64)
    monkeypatch.undo()
    cpu.gives_the_same.cache_clear()

    def off(x, *args):
        y, *moments = real(x, *args)
        return torch.nextafter(y, y + 1), *moments

    real = cpu.norm_forward
    monkeypatch.setattr(cpu, "norm_forward", off)
    assert not cpu.gives_the_same(64)
    monkeypatch.undo()
    cpu.gives_the_same.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert cpu.gives_the_same(64)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_compiled_code_and_traces_have_pytorchs():
    ours, plain = pair((4, 8, 5, 5))
    x = random(4, 8, 5, 5)
    traced = torch.jit.trace(copy.deepcopy(ours), x)
    assert "aten::batch_norm" in str(traced.inlined_graph)
    exported = torch.export.export(copy.deepcopy(ours), (x,))
    assert "batch_norm" in exported.graph_module.code
    assert torch.equal(ours(x), F.batch_norm(x, None, None, plain.weight, plain.bias, True))
