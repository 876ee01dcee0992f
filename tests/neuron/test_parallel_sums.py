"""A parallel neuron sums, fires and learns in kernels: with the spikes of PyTorch's operations, and their gradients."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikescope import neuron, surrogate
from spikescope.dynamics.parallel import run
from spikescope.errors import ShapeError
from spikescope.neuron import parallel

NEURONS = {
    "PSN": neuron.PSN,
    "MaskedPSN": lambda T, **given: neuron.MaskedPSN(min(3, T), T, 0.5, step_mode="m", **given),
    "SlidingPSN": lambda T, **given: neuron.SlidingPSN(3, exp_init=False, step_mode="m", **given),
}
SHAPES = [(1, 40), (2, 7), (4, 193), (5, 3, 130), (7, 20, 21), (13, 1), (16, 400), (32, 50), (64, 17), (4, 9300)]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def made(name, T, **given):
    torch.manual_seed(T)
    node = NEURONS[name](T, **given)
    with torch.no_grad():
        node.weight.mul_(2)
        node.bias.fill_(-0.1)
    return node


def given(*shape, dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)


def passes(node, x, g, by_operations=False):
    """Spikes and gradients; those of PyTorch's operations where that is asked for."""
    x = x.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        if by_operations:
            patch.setattr(parallel, "fired", lambda *args: None)
            patch.setattr(parallel, "LARGE", 1 << 60)
        y = node(x)
        assert has_kernel(y) is not by_operations
    if hasattr(node, "reset"):
        node.reset()
    return y.detach(), torch.autograd.grad(y, [x, *node.parameters()], g)


def has_kernel(y):
    """Whether a node of the kernels stands behind the spikes."""
    nodes = [y.grad_fn]
    while nodes:
        node = nodes.pop()
        if node.name() == "_FiredBackward":
            return True
        nodes += [before for before, _ in node.next_functions if before is not None]
    return False


def check(node, x, g):
    y, grads = passes(node, x, g)
    want, told = passes(node, x, g, by_operations=True)
    assert torch.equal(y, want)
    assert y.dtype is x.dtype
    assert 0 < y.float().mean() < 1
    for grad, right in zip(grads, told, strict=True):
        scale = right.abs().max().item() + 1
        torch.testing.assert_close(grad / scale, right / scale, **(CLOSE if x.itemsize > 2 else {}))


def spiking():
    """The surrogates that give spikes, and whose slope is a function of the potential alone."""
    return [name for name, cls in surrogate.registry.items() if of(name).gives_spikes and cls.pointwise]


def of(name):
    return surrogate.registry[name](**surrogate.registry[name].example)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", spiking())
def test_every_surrogate(name, dtype):
    x, g = given(6, 450, dtype=dtype)
    check(made("PSN", 6, surrogate_function=of(name)), x, g)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_every_shape(name, shape):
    check(made(name, shape[0]), *given(*shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_every_dtype(name, dtype):
    check(made(name, 8), *given(8, 300, dtype=dtype))


@pytest.mark.parametrize("neurons", [40, 192, 800, 801, 6400])
def test_stored_past_the_caches(neurons, monkeypatch):
    monkeypatch.setattr(run, "streamed_from", lambda: 0)
    node, (x, g) = made("PSN", 8), given(8, neurons)
    check(node, x, g)
    with torch.no_grad():
        sums, spikes = (
            run._by_the_kernel(run._forward_kernel(x.dtype), node.weight, node.bias, x, told) for told in (True, False)
        )
        torch.testing.assert_close(sums, run.weighted(node.weight, node.bias, x))
    assert torch.equal(spikes, surrogate.heaviside(sums))


def test_all_threads_give_the_same():
    node, (x, g), threads = made("PSN", 8), given(8, 20_000), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(passes(node, x, g))
            assert torch.equal(found[-1][0], passes(node, x, g, by_operations=True)[0])
    finally:
        torch.set_num_threads(threads)
    for y, grads in found[1:]:
        assert torch.equal(y, found[0][0])
        assert all(map(torch.equal, grads, found[0][1]))


def test_sums_at_the_threshold():
    """Sums of quarters, many of which are 0 exactly."""
    node = made("PSN", 4)
    with torch.no_grad():
        node.weight.copy_(torch.randint(-4, 5, (4, 4)) / 4)
        node.bias.fill_(-0.25)
    x = torch.randint(-2, 3, (4, 500)).float()
    assert (torch.addmm(node.bias, node.weight, x) == 0).float().mean() > 0.02
    check(node, x, torch.randn(4, 500))


@pytest.mark.parametrize("odd", ["transposed", "expanded", "every other", "misaligned"])
def test_inputs_that_lie_otherwise(odd):
    x = {
        "transposed": torch.randn(300, 8).t(),
        "expanded": torch.randn(300).expand(8, 300),
        "every other": torch.randn(8, 600)[:, ::2],
        "misaligned": torch.randn(2401)[1:].view(8, 300),
    }[odd]
    node, g = made("PSN", 8), torch.randn(300, 8).t()
    x = x.detach()
    y = node(x)
    assert has_kernel(y)
    grads = torch.autograd.grad(y, list(node.parameters()), g)
    want, told = passes(node, x.contiguous(), g, by_operations=True)
    assert torch.equal(y, want)
    torch.testing.assert_close(grads, told[1:], **CLOSE)


def test_values_that_are_no_numbers_stay_in_their_neuron():
    node, (x, g) = made("PSN", 8), given(8, 300)
    x[2, 7], x[5, 200] = torch.inf, torch.nan
    (y, grads), (want, told) = passes(node, x, g), passes(node, x, g, by_operations=True)
    assert torch.equal(y, want)
    for grad, right in zip(grads, told, strict=True):
        torch.testing.assert_close(grad, right, equal_nan=True, **CLOSE)
    assert grads[0].isnan().any(0).nonzero().flatten().tolist() == [200]  # far out a slope is 0


def test_a_weight_without_bounds_leaves_gradients_without_them_alone():
    node, (x, g) = made("PSN", 8), given(8, 300)
    with torch.no_grad():
        node.weight[3, 2] = torch.inf
    (_, grads), (_, told) = passes(node, x, g), passes(node, x, g, by_operations=True)
    assert told[1].isfinite().all()
    for grad, right in zip(grads, told, strict=True):
        torch.testing.assert_close(grad, right, equal_nan=True, **CLOSE)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("learns", [True, False])
def test_only_what_is_wanted(learns, frozen):
    node, (x, g) = made("PSN", 4), given(4, 300)
    _, want = passes(node, x, g)
    for name in frozen:
        getattr(node, name).requires_grad_(False)
    x = x.clone().requires_grad_(learns)
    leaves = [held for held in (x, *node.parameters()) if held.requires_grad]
    y = node(x)
    assert y.requires_grad is bool(leaves)
    if leaves:
        y.backward(g)
    for held, right in zip((x, *node.parameters()), want, strict=True):
        assert torch.equal(held.grad, right) if held.requires_grad else held.grad is None


def test_the_inputs_alone_are_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda held: kept.append(held.shape) or held, lambda held: held):
        made("PSN", 4)(torch.randn(4, 500, requires_grad=True))
    assert sorted(kept) == [(4, 1), (4, 4), (4, 500)]


def test_an_input_that_was_changed_is_told():
    node, x = made("PSN", 4), torch.randn(4, 300)
    y = node(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="PSN"):
        y.sum().backward()


@pytest.mark.parametrize("shape", [(4, 2), (4, 8), (4, 1), (4,)], ids=str)
def test_weights_that_do_not_fit_are_refused(shape):
    node, x = made("PSN", 4), torch.randn(4, 300)
    node.weight = nn.Parameter(torch.randn(shape))
    assert run.fired("PSN", node.surrogate_function, node.weight, node.bias, x) is None  # it would write past the ends
    with pytest.raises(ShapeError, match=r"PSN: weight must be a tensor of the shape \[4, 4\], but got \[4"):
        node(x)


def test_weights_that_are_no_matrix_are_refused():
    node, x = made("PSN", 4), torch.randn(4, 300)
    for shape in ((), (4,), (0, 4), (4, 4, 1)):
        node.weight = nn.Parameter(torch.randn(shape))
        assert "no matrix" in node.implementation(x).reason
        with pytest.raises(ShapeError, match="PSN: weight must be a tensor of the shape"):
            node(x)


def test_a_gradient_of_few_values_is_taken():
    node, (x, g) = made("PSN", 4), given(4, 300)
    g = g * (g > 1)
    _, want = passes(node, x, g)
    _, got = passes(node, x, g.to_sparse())
    for grad, right in zip(got, want, strict=True):
        torch.testing.assert_close(grad, right, **CLOSE)


def test_a_bias_that_does_not_fit_is_refused():
    node = made("PSN", 4)
    node.bias = nn.Parameter(torch.zeros(5))
    with pytest.raises(ShapeError, match=r"PSN: bias must be a tensor of the shape \[4, 1\] or \[4\], but got \[5\]"):
        node(torch.randn(4, 300))


def test_weights_that_lie_elsewhere_are_refused(monkeypatch):
    monkeypatch.setattr(run, "is_plain", lambda *tensors: True)  # as those of a GPU are, which has addresses
    node, x = made("PSN", 4), torch.randn(4, 300)
    away = node.weight.detach().to("meta")
    for weight, bias in [(away, node.bias), (node.weight, node.bias.detach().to("meta"))]:
        assert "on the CPU" in (run.refused(node.surrogate_function, weight, bias, x) or "")


def test_what_a_hook_on_saved_tensors_changed_comes_to_no_kernel(monkeypatch):
    node = made("PSN", 4)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda held: held, lambda held: held[:, :1] if len(held[0]) > 4 else held
    ):
        y = node(torch.randn(4, 300))
    monkeypatch.setattr(run, "_backward", lambda *args: pytest.fail("a kernel was given what it was not made for"))
    with pytest.raises(RuntimeError, match="A hook on saved tensors gave PSN"):
        y.sum().backward()


def test_a_checkpoint_gives_the_same():
    node, (x, g) = made("PSN", 4), given(4, 300)
    _, want = passes(node, x, g)
    x = x.clone().requires_grad_()
    y = checkpoint(node, x, use_reentrant=False)
    assert all(map(torch.equal, torch.autograd.grad(y, [x, *node.parameters()], g), want))


def _second(node, x, g):
    (grad,) = torch.autograd.grad(node(x), x, g, create_graph=True)
    return torch.autograd.grad(grad.square().sum(), [x, *node.parameters()], create_graph=True)


def _third(node, x, g):
    return torch.autograd.grad(_second(node, x, g)[1].sum(), [x, *node.parameters()])


def _many(node, x, g):
    several = torch.stack([g, 2 * g, g.flip(1)])
    return torch.autograd.grad(node(x), [x, *node.parameters()], several, is_grads_batched=True)


@pytest.mark.parametrize("derivative", [_second, _third, _many], ids=lambda held: held.__name__)
def test_other_derivatives(derivative, monkeypatch):
    node, (x, g) = made("PSN", 4).double(), given(4, 30, dtype=torch.float64)
    x.requires_grad_()
    assert has_kernel(node(x))
    found = derivative(node, x, g)
    monkeypatch.setattr(parallel, "fired", lambda *args: None)
    torch.testing.assert_close(found, derivative(node, x, g))


def test_transforms_take_operations():
    node, (x, _) = made("PSN", 4), given(4, 3, 20)
    alone = functools.partial(torch.func.functional_call, node, dict(node.named_parameters()))
    mapped = torch.func.vmap(alone, in_dims=1, out_dims=1)(x)
    assert torch.equal(mapped, node(x))
    assert torch.func.grad(lambda held: node(held).sum())(x).shape == x.shape


def test_what_runs_is_told():
    x = torch.randn(4, 20)
    for name in NEURONS:
        assert made(name, 4).implementation(x).backend == "cpp"
        assert has_kernel(made(name, 4)(x))
    told = {
        "backend='conv'": (neuron.SlidingPSN(2, step_mode="m", backend="conv"), x),
        "may learn": (made("PSN", 4, surrogate_function=surrogate.ATan(nn.Parameter(torch.tensor(2.0)))), x),
        "gives? spikes": (made("PSN", 4, surrogate_function=surrogate.ATan(spiking=False)), x),
        "up to 64 steps": (made("PSN", 65), torch.randn(65, 20)),
        "at least one neuron": (made("PSN", 4), torch.randn(4, 0)),
    }
    for reason, (node, inputs) in told.items():
        planned = node.implementation(inputs)
        assert planned.backend == "torch"
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(planned.reason)
        assert not has_kernel(node(inputs))


@pytest.mark.parametrize(
    "node",
    [neuron.SlidingPSN(3, step_mode="m"), neuron.SlidingPSN(70), neuron.MaskedPSN(3, 70, 1.0)],
    ids=["whole", "long window", "one of many steps"],
)
def test_what_is_told_is_of_this_very_call(node):
    """Of the weights of a call as many count as it takes."""
    x = torch.randn(64, 20)
    for inputs in [x] if node.step_mode == "m" else x[:3]:
        told = node.implementation(inputs).backend
        assert has_kernel(node(inputs)) is (told == "cpp")


def test_who_sums_is_told(monkeypatch):
    node, x = made("PSN", 4), torch.randn(4, 300)
    for alike, told in ((True, "the same spikes"), (False, "the sums PyTorch's")):
        monkeypatch.setattr(run, "_alike", lambda *args, alike=alike: alike)
        assert told in node.implementation(x).reason


def test_where_the_sums_are_others_pytorch_sums(monkeypatch):
    node, (x, g) = made("PSN", 6), given(6, 300)
    monkeypatch.setattr(run, "_alike", lambda *args: False)
    monkeypatch.setattr(run, "_by_the_kernel", lambda *args: pytest.fail("the kernel summed"))
    check(node, x, g)


def test_few_numbers_do_not_show_that_sums_are_alike(monkeypatch):
    """A single sum has PyTorch's bits by chance."""
    calls, own = [], run._by_the_kernel
    monkeypatch.setattr(run, "_by_the_kernel", lambda *args: calls.append(args[3].numel()) or own(*args))
    run._alike.cache_clear()
    run._alike(4, 4, 20, torch.float32, torch.get_num_threads())
    assert not run._alike(4, 4, run.FEW - 1, torch.float32, torch.get_num_threads())
    run._alike.cache_clear()
    assert sum(calls) >= run.TRIED
