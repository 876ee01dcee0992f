"""Where PyTorch sums, many values of a parallel neuron fire in a kernel: as by the surrogate alone, and only where
nobody looks at that.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from spikescope import neuron, surrogate
from spikescope.neuron import parallel

T = 4
MADE = {
    "PSN": lambda **given: neuron.PSN(T, **given),
    "MaskedPSN": lambda **given: neuron.MaskedPSN(2, T, 0.5, step_mode="m", **given),
    "SlidingPSN": lambda **given: neuron.SlidingPSN(3, step_mode="m", **given),
}


@pytest.fixture
def ran(monkeypatch):
    """The runs by kernels, while all sizes count as large, and none has a kernel for its sums."""
    runs, run = [], parallel.run_sequence
    monkeypatch.setattr(parallel, "fired", lambda *args: None)
    monkeypatch.setattr(parallel, "LARGE", 0)
    monkeypatch.setattr(parallel, "run_sequence", lambda *args: runs.append(args[1].key) or run(*args))
    return runs


def made(name, **given):
    torch.manual_seed(0)
    return MADE[name](**given)


def passes(node, x, monkeypatch=None):
    """Spikes and gradients; by the surrogate alone with `monkeypatch`."""
    x = x.clone().requires_grad_()
    if monkeypatch is not None:
        monkeypatch.setattr(parallel, "fired", lambda *args: None)
        monkeypatch.setattr(parallel, "LARGE", 1 << 60)
    y = node(x)
    if monkeypatch is not None:
        monkeypatch.undo()
    return y.detach(), torch.autograd.grad(
        (y.double() * torch.arange(y.numel()).view_as(y)).sum(), [x, *node.parameters()]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MADE)
def test_the_kernel_fires_as_the_surrogate_does(name, dtype, ran):
    x = (2 * torch.randn(T, 5, 3)).to(dtype)
    y, grads = passes(made(name), x)
    assert len(ran) == 1
    with pytest.MonkeyPatch.context() as plain:
        want, expected = passes(made(name), x, plain)
    assert len(ran) == 1
    assert torch.equal(y, want)
    assert 0 < y.float().mean() < 1
    for grad, told in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, told)


def test_a_surrogate_that_learns_has_its_gradient(ran):
    found = []
    for large in (0, 1 << 60):
        parallel.LARGE = large  # the fixture puts it back
        node = made("PSN", surrogate_function=surrogate.ATan(alpha=nn.Parameter(torch.tensor(1.5))))
        torch.manual_seed(1)
        found.append(passes(node, torch.randn(T, 40)))
    assert len(ran) == 1
    assert len(found[0][1]) == 4
    for grad, told in zip(*(grads for _, grads in found), strict=True):
        torch.testing.assert_close(grad, told, rtol=1e-4, atol=1e-5)


def test_another_surrogate_or_another_number_acts_at_the_next_call(ran):
    node, x = made("PSN"), torch.randn(T, 50)
    first = passes(node, x)[1][0]
    node.surrogate_function.alpha = 7.0
    second = passes(node, x)[1][0]
    node.surrogate_function = surrogate.Sigmoid()
    third = passes(node, x)[1][0]
    assert len(ran) == 3
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    other = made("PSN", surrogate_function=surrogate.Sigmoid())
    assert torch.equal(third, passes(other, x)[1][0])


def test_who_looks_at_the_surrogate_sees_it_run(ran):
    node, seen = made("PSN"), []
    handle = node.surrogate_function.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    node(torch.randn(T, 6))
    assert seen == [(T, 6)]
    assert ran == []
    handle.remove()
    node(torch.randn(T, 6))
    assert len(ran) == 1


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))], ids=["copy", "pickle"]
)
def test_copies_have_surrogates_of_their_own(copied, ran):
    node, x = made("PSN"), torch.randn(T, 30)
    before = passes(node, x)
    other = copied(node)
    assert "_threshold" in vars(node)
    assert "_threshold" not in vars(other)
    assert list(other.state_dict()) == list(node.state_dict()) == ["weight", "bias"]
    assert list(dict(other.named_modules())) == ["", "surrogate_function"]
    other.surrogate_function.alpha = 9.0
    assert not torch.equal(passes(other, x)[1][0], before[1][0])
    assert torch.equal(passes(node, x)[1][0], before[1][0])


def test_derivatives_of_other_kinds(ran):
    node = made("PSN").double()
    x = torch.randn(T, 6, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(node(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    parallel.LARGE = 1 << 60
    (grad,) = torch.autograd.grad(node(x).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(grad.sum(), x)
    torch.testing.assert_close(second, want)
    parallel.LARGE = 0
    batch = torch.randn(3, T, 6, dtype=torch.float64)
    by_sample = torch.func.vmap(torch.func.grad(lambda x: node(x).sum()))(batch)
    want = torch.stack([torch.func.grad(lambda x: node(x).sum())(x) for x in batch])
    torch.testing.assert_close(by_sample, want)


def test_few_values_go_without_a_kernel(monkeypatch):
    monkeypatch.setattr(parallel, "run_sequence", lambda *args: pytest.fail("a kernel was called"))
    made("PSN")(torch.randn(T, 6))
    assert "Threshold" not in neuron.registry
