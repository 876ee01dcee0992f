"""PyTorch's transformations of a neuron: each gives the eager loop's numbers, or is refused in words."""

import io
import warnings
from functools import partial

import pytest
import torch
from neuron_cases import BOTH_MODES, POINTWISE, sequence
from neuron_cases import NEURONS as ALL_NEURONS
from neuron_cases import make as make_any
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functionalize, hessian, jacfwd, jacrev, jvp, linearize, vjp
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor

from spikescope import functional, layer
from spikescope.errors import StateError
from spikescope.neuron import IFNode, LIFNode, NoisyLIFNode, ParametricLIFNode
from spikescope.surrogate import ATan
from spikescope.surrogate import registry as surrogates

# of PyTorch itself
pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]


SURROGATES = sorted((cls for cls in surrogates.values() if cls.pointwise), key=lambda cls: cls.__name__)


def inputs(*shape, dtype=torch.float32, seed=3):
    """A random input with values of both signs, so strong that neurons fire at some steps and not at others."""
    generator = torch.Generator().manual_seed(seed)
    return (2.3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.41).to(dtype)


def make(cls, backend, **fields):
    return make_any(cls, backend=backend, step_mode="m", **fields)


def assert_equal(got, want, name):
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, msg=lambda text: f"{name}: {text}")


def assert_close(got, want, name):
    """Up to sums in another order."""
    size = want.abs().max().item() if want.numel() else 0.0
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * size, msg=lambda text: f"{name}: {text}")


def learn(node):
    """All numbers of the equations as Parameters."""
    for part in (node, *(getattr(node, name) for name in type(node).parts)):
        if part is node or type(part).has_primitive():
            for name in type(part).dynamic:
                if (held := getattr(part, name)) is not None:
                    setattr(part, name, nn.Parameter(torch.as_tensor(held).detach() * 1.0137 + 0.0173))


def fresh(node):
    """The node as a function of its input alone."""

    def run(x):
        node.reset()
        torch.manual_seed(1)  # of the noise, for a neuron that has it
        return node(x)

    return run


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("cls", ALL_NEURONS, ids=lambda cls: cls.__name__)
def test_the_forward_derivative_is_the_transpose_of_the_backward_one(cls, step_mode):
    """For every neuron: <u, J t> = <J^T u, t>."""
    if step_mode not in cls.supported_step_modes:
        pytest.skip("has no such step mode")
    x = sequence(cls, dtype=torch.float64)
    x = x if step_mode == "m" else x[0]
    run = fresh(make_any(cls, step_mode=step_mode).double())
    y, pull = vjp(run, x)
    u, t = inputs(*y.shape, dtype=torch.float64), inputs(*x.shape, dtype=torch.float64, seed=4)
    (pulled,) = pull(u)
    value, pushed = jvp(run, (x,), (t,))
    assert_equal(value, y, "value")
    torch.testing.assert_close((u * pushed).sum(), (pulled * t).sum())


@pytest.mark.parametrize("cls", SURROGATES, ids=lambda cls: cls.__name__)
def test_the_forward_derivative_of_every_surrogate_is_its_slope(cls):
    surrogate = cls(**cls.example)
    x = inputs(40, dtype=torch.float64) / 3
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(surrogate(leaf).sum(), leaf)
    assert want.count_nonzero() > 0
    assert_equal(jvp(surrogate, (x,), (torch.ones_like(x),))[1], want, "slope")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_jacobians_forwards_and_backwards_agree(backend):
    x = inputs(4, 2, 3, dtype=torch.float64)
    run = fresh(make(LIFNode, backend, v_reset=None))
    want = jacrev(run)(x)
    assert want.count_nonzero() > 10
    torch.testing.assert_close(jacfwd(run)(x), want)
    y, push = linearize(run, x)
    assert_equal(y, run(x), "output")
    torch.testing.assert_close(push(torch.ones_like(x)), jvp(run, (x,), (torch.ones_like(x),))[1])
    weighted = lambda q: (run(q) * q.square()).sum()  # noqa: E731
    found = hessian(weighted)(x)
    assert found.count_nonzero() > 10
    torch.testing.assert_close(found, jacrev(jacrev(weighted))(x))


@pytest.mark.parametrize("name", ["v", "v_threshold", "tau", "alpha"])
def test_dual_numbers_in_state_and_fields(name):
    """Against the reverse mode."""
    x, start = inputs(5, 2, 3, dtype=torch.float64), torch.tensor([1.9, 2.2, 1.4], dtype=torch.float64)
    tangent, u = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64), inputs(5, 2, 3, dtype=torch.float64, seed=9)

    def run(held):
        node = LIFNode(tau=3.0, surrogate_function=ATan(2.0), step_mode="m")
        setattr(node.surrogate_function if name == "alpha" else node, name, held if name != "v" else held.expand(2, 3))
        return node(x)

    leaf = start.clone().requires_grad_()
    (want,) = torch.autograd.grad(run(leaf), leaf, u)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(run(forward_ad.make_dual(start, tangent))).tangent
    assert want.count_nonzero() > 0
    torch.testing.assert_close((found * u).sum(), (want * tangent).sum())


@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_many_gradients_of_one_long_run(cls):
    """So long that states are kept along the way, which are the same for all of the gradients."""
    node = make(cls, "auto" if "auto" in cls.supported_backends else "torch")
    x = sequence(cls, 5, length=70)

    def run(x):
        functional.reset_net(node)
        return node(x)

    y, pull = vjp(run, x)
    seeds = inputs(3, *y.shape)
    (found,) = torch.func.vmap(pull)(seeds)
    for seed, got in zip(seeds, found, strict=True):
        assert_close(got, pull(seed)[0], cls.__name__)


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_many_gradients_at_once(cls):
    """`is_grads_batched` and vectorized Jacobians, with learnable fields, against one gradient after the other."""
    node = make(cls, "auto")
    learn(node)
    x = sequence(cls, 2, 3, length=4).requires_grad_()
    y = fresh(node)(x)
    wanted = [x, *node.parameters()]
    grads = torch.stack([inputs(*y.shape, seed=i) for i in range(3)])
    each = [torch.autograd.grad(y, wanted, g, retain_graph=True, allow_unused=True) for g in grads]
    found = torch.autograd.grad(y, wanted, grads, is_grads_batched=True, allow_unused=True)
    for got, *want in zip(found, *each, strict=True):
        assert (got is None) == (want[0] is None)
        if got is not None:
            assert_close(got, torch.stack(want), "gradient")


def test_many_gradients_at_once_with_a_graph_and_vectorized_jacobians():
    x = inputs(4, 2, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian
    found = [
        jacobian(fresh(make(LIFNode, backend)), x, vectorize=vectorize, create_graph=graph)
        for backend, vectorize, graph in (("torch", False, False), ("auto", True, False), ("cpp", True, True))
    ]
    assert found[0].count_nonzero() > 10
    for got in found[1:]:
        torch.testing.assert_close(got.detach(), found[0])
    double = [
        torch.autograd.functional.hvp(lambda q, b=b: (fresh(make(LIFNode, b))(q) * q.exp()).sum(), x, x)[1]
        for b in ("torch", "cpp")
    ]
    assert double[0].count_nonzero() > 10
    torch.testing.assert_close(double[1], double[0])


def network(step_mode):
    torch.manual_seed(2)
    last = ParametricLIFNode(v_threshold=0.1)
    net = nn.Sequential(layer.Linear(6, 20), LIFNode(v_threshold=0.3), layer.Linear(20, 5), last)
    functional.set_step_mode(net, step_mode)
    return net


def at_rest(net, x):
    functional.reset_net(net)
    return net(x)


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
def test_a_trace_gives_the_networks_numbers_and_holds_operations_of_pytorch_alone(grad):
    net = network("m")
    x, other = inputs(4, 2, 6), inputs(4, 3, 6, seed=8)
    with torch.set_grad_enabled(grad):
        functional.reset_net(net)
        traced = torch.jit.trace(net, x)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert "spikescope::" not in str(loaded.inlined_graph)
    for run in (traced, loaded):
        for held in (x, other, x):
            assert_equal(run(held), at_rest(net, held), "output")
    leaf, same = (x.clone().requires_grad_() for _ in range(2))
    at_rest(net, leaf).square().sum().backward()
    if grad:
        loaded(same).square().sum().backward()
        assert_close(same.grad, leaf.grad, "gradient")


@pytest.mark.parametrize("cls", ALL_NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_can_be_traced(cls):
    node, x = make_any(cls, **({"backend": "auto"} if cls in POINTWISE else {}), step_mode="m").eval(), sequence(cls)
    with torch.no_grad():
        torch.manual_seed(1)
        want = node(x)
        node.reset()
        traced = torch.jit.trace(node, x, check_trace=cls.__name__ != "NoisyLIFNode")
        torch.manual_seed(1)
        assert_equal(traced(x), want, "output")


def test_a_trace_of_a_loop_over_single_steps_carries_the_state():
    net = network("s")

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x_seq):
            return torch.stack([self.net(x) for x in x_seq.unbind(0)])

    x = inputs(5, 2, 6)
    loop = Loop()
    want = at_rest(loop, x)
    functional.reset_net(loop)
    with torch.no_grad(), pytest.warns(UserWarning, match="starts from rest at every call"):
        traced = torch.jit.trace(loop, x)
    assert want.count_nonzero() > 0
    assert_equal(traced(x), want, "output")


def test_a_trace_of_a_state_that_is_not_at_rest_and_scripting_are_refused_in_words():
    net = network("m")
    net(inputs(4, 2, 6))
    with pytest.raises(StateError, match=r"functional\.reset_net\(net\)"):
        torch.jit.trace(net, inputs(4, 2, 6))
    with pytest.raises(TypeError, match=r"torch\.jit\.script cannot take Linear from spikescope.*torch\.export"):
        torch.jit.script(net)
    with pytest.raises(TypeError, match=r"torch\.jit\.script cannot take ATan"):
        torch.jit.script(ATan())


@pytest.mark.filterwarnings("ignore:The tensor attribute")
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_network_gives_its_numbers_and_leaves_no_state(strict):
    net, x = network("m"), inputs(4, 2, 6)
    exported = torch.export.export(net, (x,), strict=strict)
    assert not any("spikescope" in str(node.target) for node in exported.graph.nodes)
    for held in (x, inputs(4, 2, 6, seed=8)):
        assert_equal(exported.module()(held), at_rest(net, held), "output")
    if not strict:
        with pytest.raises(StateError, match=r"torch\.export would write.*reset_net"):
            torch.export.export(net, (x,), strict=False)


@pytest.mark.filterwarnings("ignore")  # of PyTorch itself
@pytest.mark.parametrize(
    ("cls", "step_mode"),
    [(cls, "m") for cls in ALL_NEURONS if cls is not NoisyLIFNode]
    + [(cls, "s") for cls in BOTH_MODES if cls not in POINTWISE],
)
def test_is_exported_for_any_number_of_samples(cls, step_mode):
    """Also where there are so many that a kernel would be taken."""
    node = make_any(cls, step_mode=step_mode, **({"backend": "auto"} if cls in POINTWISE else {})).eval()
    x = sequence(cls, 3, 5, length=3)
    few, many = (x, x.repeat(1, 900, 1)) if step_mode == "m" else (x[0], x[0].repeat(900, 1))
    free = ({few.ndim - 2: torch.export.Dim("N")},)
    program = torch.export.export(nn.Sequential(node), (few,), dynamic_shapes=free).module()
    for held in (few, many):
        assert_equal(program(held), at_rest(node, held), "output")


@pytest.mark.filterwarnings("ignore")  # of PyTorch itself
@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_strict_export_of_a_state_that_is_not_at_rest_is_refused_in_words(step_mode):
    node, x = LIFNode(step_mode=step_mode), torch.rand(4, 3)
    node(x)
    with pytest.raises(Exception, match=r"has a state from an earlier call, which torch\.export would write"):
        torch.export.export(node, (x,), strict=True)
    node.reset()
    exported = torch.export.export(node, (x,), strict=True).module()
    assert_equal(exported(x), LIFNode(step_mode=step_mode)(x), "output")
    node(x)
    node.reset()
    node.v = torch.full((3,), 0.25)
    with pytest.raises(Exception, match="has a state from an earlier call"):
        torch.export.export(node, (x,), strict=True)


class Unrolled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.node = LIFNode()

    def forward(self, x):
        return torch.stack([self.node(step) for step in x])


@pytest.mark.filterwarnings("ignore:The tensor attribute")
def test_an_export_of_single_steps_says_that_it_carries_no_state():
    x, words = torch.rand(4, 3) * 2, "torch.export of LIFNode in step_mode='s'"
    for net, told in ((LIFNode(), 1), (Unrolled(), 1), (LIFNode(step_mode="m"), 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            program = torch.export.export(net, (x,)).module()
        assert sum(words in str(one.message) for one in caught) == told
        functional.reset_net(net)
        assert_equal(program(x), net(x), "output")
        assert_equal(program(x), at_rest(net, x), "a second call")


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx(tmp_path):
    """A network exported at rest gives its numbers in another runtime; one that is not at rest is refused."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), LIFNode(step_mode="m"), nn.Linear(8, 4), IFNode(v_reset=None, step_mode="m"))
    x, file = 3 * torch.rand(4, 2, 6), str(tmp_path / "net.onnx")
    torch.onnx.export(net, (x,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_equal(torch.from_numpy(found), net(x), "output")
    with pytest.raises(Exception, match=r"Failed to export the model|has a state from an earlier call"):
        torch.onnx.export(net, (x,), file, dynamo=True, verbose=False)


def test_functionalize_and_make_fx():
    x = inputs(4, 2, 6)
    for transform in (
        functionalize,
        lambda run: make_fx(run)(x),
        lambda run: make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(x),
    ):
        net = network("m").requires_grad_(False)
        assert_equal(transform(partial(at_rest, net))(x), at_rest(network("m"), x), "output")
        functional.reset_net(net)
        net(x)
    leaf, same = (x.clone().requires_grad_() for _ in range(2))
    at_rest(network("m"), leaf).square().sum().backward()
    functionalize(lambda q: at_rest(network("m"), q))(same).square().sum().backward()
    assert_close(same.grad, leaf.grad, "gradient")


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("cls", ALL_NEURONS, ids=lambda cls: cls.__name__)
def test_compiled_code_maps_over_samples(cls):
    """With a state that is at rest at the end of each, since PyTorch can bring none out."""
    node = make_any(cls, step_mode="m" if "m" in cls.supported_step_modes else "s")

    def run(x):
        functional.reset_net(node)
        y = node(x)
        functional.reset_net(node)
        return y

    if cls is NoisyLIFNode:
        node.sigma = 0.0
    many = torch.stack([held * sequence(cls) for held in (1.0, 0.7, -1.3)])
    many = many if node.step_mode == "m" else many[:, 0]
    torch._dynamo.reset()
    got = torch.compile(torch.func.vmap(run), backend="aot_eager", fullgraph=True)(many)
    for found, x in zip(got, many, strict=True):
        assert_equal(found, run(x), "output")


def left_by_fake(node, x):
    with FakeTensorMode() as mode:
        node(mode.from_tensor(x))


def left_by_vmap(node, x):
    torch.func.vmap(node, in_dims=1)(x.unsqueeze(1).expand(-1, 2, -1, -1))


def left_on_meta(node, x):
    node.v = torch.empty(x.shape[1:], device="meta")


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("leave", [left_by_fake, left_by_vmap, left_on_meta], ids=lambda f: f.__name__)
def test_a_state_without_values_is_refused_in_words(leave, backend):
    node, x = LIFNode(step_mode="m", backend=backend), inputs(4, 2, 5)
    leave(node, x)
    with pytest.raises(StateError, match=r"the state 'v'.*reset_net"):
        node(x)
    node.reset()
    assert node(x).count_nonzero() > 0


def test_every_tensor_of_a_call_is_looked_at():
    """Input, state, field, gradients: a tensor that is none, of zeros or a pair of two, is no memory for a kernel."""
    x, zeros, pair = inputs(4, 2, 5), torch._efficientzerotensor((2, 5)), lambda held: TwoTensor(held, held.clone())
    want = LIFNode(step_mode="m")(x)
    for v, field, x_seq in (
        (zeros, 1.0, x),
        (pair(torch.zeros(2, 5)), 1.0, x),
        (0.0, pair(torch.ones(5)), x),
        (0.0, 1.0, pair(x)),
    ):
        node = LIFNode(step_mode="m", v_threshold=field)
        node.v = v
        y = node(x_seq)
        assert_equal(y.a if isinstance(y, TwoTensor) else y, want, "output")
    node = LIFNode(step_mode="m", store_v_seq=True)
    leaf = x.clone().requires_grad_()
    y = node(leaf)
    nothing = torch._efficientzerotensor
    torch.autograd.backward([y, node.v_seq, node.v], [nothing(y.shape), nothing(y.shape), nothing(node.v.shape)])
    assert_equal(leaf.grad, torch.zeros_like(x), "gradient")
    leaf, same = (x.clone().requires_grad_() for _ in range(2))
    LIFNode(step_mode="m")(leaf).backward(torch.ones_like(x).to_sparse())
    LIFNode(step_mode="m")(same).backward(torch.ones_like(x))
    assert_equal(leaf.grad, same.grad, "gradient")
    freed = inputs(4, 2, 5)
    freed.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"has no memory|storage"):
        IFNode(step_mode="m")(freed)


@pytest.mark.parametrize("cls", BOTH_MODES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_training_goes_on_from_a_state_of_inference_mode(cls, step_mode):
    """As from a state of no_grad."""
    found = []
    for mode in (torch.inference_mode, torch.no_grad):
        node, x = make_any(cls, step_mode=step_mode), sequence(cls)
        x = x if step_mode == "m" else x[0]
        with mode():
            node(x)
        if cls.__name__ in ("PSN", "MaskedPSN") and step_mode == "m":
            node.reset()
        leaf = x.clone().requires_grad_()
        torch.manual_seed(1)
        y = node(leaf)
        (y.sum() + 0 * leaf.sum()).backward()  # of one step there may be no gradient
        found.append((y.detach(), leaf.grad))
    assert_equal(found[0][0], found[1][0], "output")
    assert_equal(found[0][1], found[1][1], "gradient")


@pytest.mark.slow(keep=5)  # each with a kernel for its learned fields
@pytest.mark.parametrize("cls", ALL_NEURONS, ids=lambda cls: cls.__name__)
def test_the_users_default_device_and_dtype_decide_nothing_once_a_neuron_is_made(cls):
    """An input of the CPU where new tensors would be made on the meta device, or in double precision."""
    kernel = {"backend": "auto"} if cls in POINTWISE else {}
    found = []
    for device, dtype in (("cpu", torch.float32), ("meta", torch.float32), ("cpu", torch.float64)):
        node, leaf = make_any(cls, step_mode="m", **kernel), sequence(cls).requires_grad_()
        if cls in POINTWISE:
            learn(node)
        torch.manual_seed(1)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                y = node(leaf)
                (grad,) = torch.autograd.grad(y.sum(), leaf)
        finally:
            torch.set_default_dtype(torch.float32)
        found.append((y.detach(), grad))
    for y, grad in found[1:]:
        assert_equal(y, found[0][0], "output")
        assert_equal(grad, found[0][1], "gradient")
