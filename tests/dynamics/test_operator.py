"""The operators in everything that PyTorch does with an operator: checks, transforms, compilation, modes, threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from dynamics_cases import assert_close, assert_equal, inputs, make, unround
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, jacrev, jvp, vmap

from spikescope import functional
from spikescope.neuron import AdaptiveLIFNode, ComplementaryLIFNode, LIFNode, ParametricLIFNode
from spikescope.surrogate import ATan, Sigmoid

# of torch.compile itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def network(backend):
    """Two neurons of different kinds with learnable fields between linear layers."""
    torch.manual_seed(2)
    reset = nn.Parameter(torch.tensor(0.137))
    surrogate = ATan(nn.Parameter(torch.tensor(2.3)))
    return nn.Sequential(
        nn.Linear(5, 7),
        LIFNode(tau=2.37, step_mode="m", surrogate_function=surrogate, backend=backend),
        nn.Linear(7, 3),
        ParametricLIFNode(step_mode="m", v_reset=reset, backend=backend),
    )


def loss(y):
    return (y * torch.linspace(0.13, 1.7, y.shape[0]).view(-1, *(1,) * (y.ndim - 1))).sum()


def gradients(net, x_seq, run=None):
    functional.reset_net(net)
    x = x_seq.clone().requires_grad_()
    y = (run or net)(x)
    found = torch.autograd.grad(loss(y), [x, *net.parameters()])
    return y.detach(), found


def assert_alike(got, want):
    assert_equal(got[0], want[0], "output")
    for a, b in zip(got[1], want[1], strict=True):
        assert_close(a, b, "gradient")


def test_compiled_code_is_one_graph_and_gives_the_same():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, example)

    net, reference = network("cpp"), network("torch")
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    for seed in (3, 4):
        x_seq = inputs(6, 2, 5, seed=seed)
        assert_alike(gradients(net, x_seq, compiled), gradients(reference, x_seq))
    assert len(graphs) == 1
    assert "spikescope.neuron" in graphs[0].code


def test_editing_a_field_acts_on_compiled_code():
    torch._dynamo.reset()
    node = LIFNode(step_mode="m", surrogate_function=Sigmoid(2.3), backend="cpp")
    compiled = torch.compile(node, fullgraph=True, backend="aot_eager")
    x_seq = inputs(6, 2, 5)
    for alpha, threshold in ((2.3, 1.0), (5.9, 1.0), (5.9, 0.37)):
        node.surrogate_function.alpha, node.v_threshold = alpha, threshold
        reference = LIFNode(v_threshold=threshold, step_mode="m", surrogate_function=Sigmoid(alpha), backend="torch")
        found = []
        for module, run in ((node, compiled), (reference, reference)):
            module.reset()
            x = x_seq.clone().requires_grad_()
            y = run(x)
            found.append((y, torch.autograd.grad(loss(y), [x])))
        assert_alike(*found)


def test_compiled_code_for_another_batch():
    torch._dynamo.reset()
    node = make(LIFNode, "cpp")
    compiled = torch.compile(node, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((4, 2, 5), (6, 3, 5), (70, 3, 5)):
        node.reset()
        y = compiled(inputs(*shape))
        assert_equal(y, make(LIFNode, "torch")(inputs(*shape)), "output")


def per_sample(net, x_batch):
    parameters = dict(net.named_parameters())

    def scalar(p, x):
        functional.reset_net(net)
        return loss(functional_call(net, p, (x,)))

    return scalar, parameters, x_batch


@pytest.mark.parametrize("steps", [6, 70])
def test_gradients_per_sample_with_vmap_are_those_of_a_loop(steps):
    scalar, parameters, x_batch = per_sample(network("cpp"), inputs(3, steps, 2, 5))
    got = vmap(grad(scalar), (None, 0))(parameters, x_batch)
    reference = per_sample(network("torch"), x_batch)[0]
    want = [grad(reference)(parameters, x) for x in x_batch]
    for name, held in got.items():
        assert_close(held, torch.stack([grads[name] for grads in want]), name)


@pytest.mark.parametrize("dims", [(0, None, None), (1, 0, 0), (2, 1, None), (None, 0, 0)])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["scalar", "neuron"])
def test_vmap_over_input_start_and_field(dims, shape):
    def run(backend):
        def scalar(x, v, threshold):
            fields = {"v_threshold": nn.Parameter(torch.ones(shape))}
            node = make(AdaptiveLIFNode, backend, fields, store_v_seq=True)
            node.v = v
            y = functional_call(node, {"v_threshold": threshold}, (x,))
            return loss(y) + node.v.square().sum() + node.w.sum() + 0.37 * loss(node.v_seq)

        return scalar

    x, v, threshold = inputs(6, 2, 5), inputs(2, 5, seed=8) / 5, torch.full(shape, 1.137)
    parts = []
    for held, dim in zip((x, v, threshold), dims, strict=True):
        moved = held if dim is None else torch.stack([held * (1 + 0.1 * i) for i in range(3)], min(dim, held.ndim))
        parts.append(moved)
    dims = tuple(None if d is None else min(d, held.ndim) for d, held in zip(dims, (x, v, threshold), strict=True))
    got = vmap(grad(run("cpp"), (0, 1, 2)), dims)(*parts)
    for i in range(3):
        sample = [held if d is None else held.select(d, i) for held, d in zip(parts, dims, strict=True)]
        want = grad(run("torch"), (0, 1, 2))(*sample)
        for a, b in zip(got, want, strict=True):
            assert_close(a[i], b, "gradient")


def test_jacobians_with_jacrev():
    x = inputs(4, 3)
    assert_close(jacrev(make(LIFNode, "cpp"))(x), jacrev(make(LIFNode, "torch"))(x), "jacobian")


def test_nested_derivatives_fall_back_and_are_right():
    def curvature(backend):
        def value(x):
            node = make(LIFNode, backend)
            return loss(node(x))

        return vmap(grad(lambda x: grad(value)(x).square().sum()))

    x = inputs(3, 4, 2, 5)
    got, want = curvature("auto")(x), curvature("torch")(x)
    assert want.count_nonzero() > 0
    assert_close(got, want, "second derivative")
    with pytest.raises(RuntimeError, match="no second derivative under"):
        curvature("cpp")(x)


def test_forward_mode_falls_back_and_is_right():
    def node(backend):
        return make(LIFNode, backend, surrogate_function=Sigmoid(spiking=False))

    x, tangent = inputs(4, 2, 5), inputs(4, 2, 5, seed=9)
    assert_close(jvp(node("auto"), (x,), (tangent,))[1], jvp(node("torch"), (x,), (tangent,))[1], "tangent")
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        jvp(node("cpp"), (x,), (tangent,))


@pytest.mark.parametrize("cls", [LIFNode, AdaptiveLIFNode], ids=lambda cls: cls.__name__)
def test_the_second_derivative_is_that_of_the_eager_loop(cls):
    found = []
    for backend in ("torch", "cpp"):
        node = make(cls, backend, store_v_seq=True)
        unround(node, ())
        x, v = inputs(5, 2, 3, dtype=torch.float64).requires_grad_(), inputs(2, 3, dtype=torch.float64).requires_grad_()
        node.double().v = v
        y = node(x)
        wanted = [x, v, *node.parameters()]
        value = loss(y) + node.v.square().sum() + 0.37 * loss(node.v_seq)
        first = torch.autograd.grad(value, wanted, create_graph=True, allow_unused=True, materialize_grads=True)
        second = sum((held.square() * 0.37).sum() for held in first)
        found.append([*first, *torch.autograd.grad(second, wanted, allow_unused=True, materialize_grads=True)])
    for got, want in zip(found[1], found[0], strict=True):
        assert_close(got, want, "derivative")


def test_modes_of_pytorch():
    x_seq = inputs(6, 2, 5)
    want = network("torch")(x_seq)
    net = network("cpp")
    with torch.inference_mode():
        y = net(x_seq)
        assert y.is_inference()
    assert_equal(y, want, "output")
    functional.reset_net(net)
    with torch.no_grad():
        assert not net(x_seq).requires_grad
    functional.reset_net(net)
    with FakeTensorMode() as mode:
        fake = make(LIFNode, "cpp")(mode.from_tensor(x_seq))
    assert fake.shape == x_seq.shape


def test_meta_tensors_have_no_kernel():
    x = torch.empty(4, 2, 5, device="meta")
    node = LIFNode(step_mode="m")
    assert node.implementation(x) == ("torch", "there is no fused kernel for the device 'meta'")
    assert node(x).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    found = []
    for backend in ("torch", "cpp"):
        net = network(backend)
        with torch.autocast("cpu", dtype):
            y = net(inputs(6, 2, 5))
        assert y.dtype is dtype
        assert net[1].v.dtype is torch.float32
        found.append((y, torch.autograd.grad(loss(y.float()), list(net.parameters()))))
    assert_equal(found[1][0], found[0][0], "output")
    for got, want in zip(found[1][1], found[0][1], strict=True):
        size = want.abs().max()  # of a linear layer in half precision
        torch.testing.assert_close(got, want, rtol=0, atol=4 * torch.finfo(dtype).eps * size.item())


@pytest.mark.parametrize("field", ["v_threshold", "v_reset"])
def test_a_field_on_another_device_is_told_by_its_name(field):
    node = LIFNode(**{field: torch.ones(3)}, step_mode="m").to("meta")
    with pytest.raises(RuntimeError, match=f"LIFNode: {field} is on the device 'meta', but the input on 'cpu'"):
        node(torch.rand(4, 3))
    node = LIFNode(surrogate_function=ATan(nn.Parameter(torch.tensor(2.0, device="meta"))), step_mode="m")
    with pytest.raises(RuntimeError, match="a field of its surrogate is on the device 'meta'"):
        node(torch.rand(4, 3))


@pytest.mark.parametrize("backend", ["cpp", "triton"])
def test_tensors_with_a_lazy_sign(backend):
    """The imaginary part of a conjugate shares memory with the number, and is its negative; of one neuron, dense."""
    z = torch.view_as_complex(torch.randn(2, 7, 1, 2, generator=torch.Generator().manual_seed(3)))
    x_seq, v = z[0].conj().imag, z[1, 0].conj().imag
    assert x_seq.is_neg()
    results = []
    for name in ("torch", backend):
        node = LIFNode(step_mode="m", backend=name, store_v_seq=True)
        node.v = v
        leaf = x_seq.detach().requires_grad_()
        y = node(leaf)
        torch.autograd.backward([y, node.v_seq], [z[1].conj().imag, torch._neg_view(z[0].real.contiguous())])
        results.append((y, node.v, leaf.grad))
    for got, want in zip(*reversed(results), strict=True):
        assert_close(got, want, "with a lazy sign")


@pytest.mark.parametrize("backend", ["torch", "cpp", "triton"])
def test_a_sequence_of_no_steps_has_a_graph(backend):
    x_seq = torch.empty(0, 3, requires_grad=True)
    LIFNode(step_mode="m", backend=backend)(x_seq).sum().backward()
    assert x_seq.grad.shape == (0, 3)


def test_copies_and_pickles_run():
    x_seq = inputs(6, 2, 5)
    net = network("cpp")
    want = gradients(net, x_seq)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        got = gradients(other, x_seq)
        assert_alike(got, want)


def test_activation_checkpoints():
    net = network("cpp")
    x_seq = inputs(6, 2, 5)
    want = gradients(network("torch"), x_seq)
    assert_alike(gradients(net, x_seq, lambda x: functional.checkpoint(net, x)), want)


def test_many_threads_at_once():
    """The same and different neurons, some of them compiled for the first time."""
    cases = [(0.3 + 0.1 * i, v_reset) for i in range(6) for v_reset in (None, 0.0)]

    def one(case, backend="cpp"):
        threshold, v_reset = case
        node = LIFNode(v_threshold=threshold, v_reset=v_reset, decay_input=False, step_mode="m", backend=backend)
        x = inputs(6, 2, 300).requires_grad_()
        y = node(x)
        return y.detach(), torch.autograd.grad(loss(y), [x])

    with ThreadPoolExecutor(8) as pool:
        for case, got in zip(cases, pool.map(one, cases), strict=True):
            assert_alike(got, one(case, "torch"))


def test_compiled_derivatives_of_torch_func_take_the_eager_loop_and_give_the_same():
    torch.compiler.reset()
    net = network("auto")
    parameters, x = dict(net.named_parameters()), inputs(2, 2, 5)

    def measure(held):
        y = functional_call(net, held, (x,))
        functional.reset_net(net)  # a state that outlives the transform would be a tensor of it
        return loss(y)

    found = torch.compile(grad(measure), backend="aot_eager", fullgraph=True)(parameters)
    for name, wanted in grad(measure)(parameters).items():
        assert_close(found[name], wanted, name)


def test_compiled_forward_mode_has_the_slope_of_the_surrogate():
    torch.compiler.reset()
    node, x = LIFNode(step_mode="m"), inputs(2, 2, 5)

    def run(x):
        y = node(x)
        node.reset()
        return y

    def derivative(x):
        return torch.func.jvp(run, (x,), (torch.ones_like(x),))[1]

    wanted = derivative(x)
    assert wanted.count_nonzero() > 0
    assert_close(torch.compile(derivative, backend="aot_eager", fullgraph=True)(x), wanted, "tangent")


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_forgotten_reset_is_named(step_mode):
    node = LIFNode(step_mode=step_mode)
    x = inputs(4, 2, 5)[0 if step_mode == "s" else slice(None)].requires_grad_()
    node(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"call functional\.reset_net\(net\) before each batch"):
        node(x).sum().backward()
    node.reset()
    node(x).sum().backward()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_sizes_that_the_compiler_does_not_know_of_a_neuron_that_depends_on_its_place(order):
    x = torch.rand(2, 3, 4, 5, 6).flatten(0, 1).to(memory_format=order).unflatten(0, (2, 3))
    torch._dynamo.reset()
    node, other = (ComplementaryLIFNode(v_threshold=0.3, step_mode="m") for _ in range(2))
    compiled = torch.compile(node, fullgraph=True, backend="eager", dynamic=True)
    for steps in (2, 1):
        assert torch.equal(compiled(x[:steps]), other(x[:steps]))
        functional.reset_net(node)
        functional.reset_net(other)
