"""Gradients of every registered neuron: against finite differences, by hand, and through PyTorch's transformations."""

import math

import pytest
import torch
from neuron_cases import ANY_LENGTH, NEURONS, POINTWISE, make, sequence, step_by_step, tensors
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from sample import WHOLE
from spikescope import functional
from spikescope.errors import RecomputeError
from spikescope.neuron import PSN, GatedLIFNode, IFNode, LIFNode, NonSpikingLIFNode, ParametricLIFNode, SlidingPSN
from spikescope.surrogate import Sigmoid

SMOOTH = [
    cls
    for cls in NEURONS
    if "surrogate_function" not in cls.fields or type(make(cls).surrogate_function).has_primitive()
]


def double(cls, spiking=False):
    """A neuron in double precision; unless `spiking`, the primitive stands in for the spike: it is differentiable."""
    node = make(cls, step_mode="m").double()
    if "surrogate_function" in cls.fields and not spiking:
        node.surrogate_function.set_spiking_mode(False)
    return node


def inner(cls, name, held):
    """A number that is not round and has room on both sides of it."""
    try:
        return cls.fields[name].admit(cls.__name__, name, held + 0.0371)
    except ValueError:
        return held - 0.0371


def leaves(held):
    return {name: torch.as_tensor(value).detach().double().requires_grad_() for name, value in held.items()}


def fields(cls):
    """The numbers of the equations as leaves, by name."""
    node = double(cls, spiking=True)
    numbers = {name: getattr(node, name) for name in cls.dynamic if isinstance(getattr(node, name), float)}
    learnable = dict(node.named_parameters(recurse=False))
    return leaves({name: inner(cls, name, held) for name, held in numbers.items()} | learnable)


def start(cls):
    """The state to start from as leaves, by name."""
    held = double(cls, spiking=True)._memories if cls in POINTWISE else {}
    inexact = {name: value for name, value in held.items() if name in cls.State._fields and value != -math.inf}
    return leaves({name: 0.125 * torch.rand(2, 2) + (value or 0.0) for name, value in inexact.items()})


def run(cls, names, spiking=False):
    """A pure function of the input, the fields and the initial state."""

    def outcome(x_seq, *values):
        node = double(cls, spiking)
        for name, held in zip(names, values, strict=True):
            if name in cls.fields or name in node._memories:
                setattr(node, name, held)
            else:
                del node._parameters[name]
                setattr(node, name, held)
        out = node(x_seq)
        return (out, *(held for held in tensors(node).values() if held.requires_grad))

    return outcome


def double_input(cls):
    return sequence(cls, 2, 2, dtype=torch.float64, length=3).requires_grad_()


@pytest.mark.parametrize("cls", SMOOTH)
def test_gradients_are_those_of_the_smooth_neuron(cls):
    leaf = fields(cls) | start(cls)
    assert gradcheck(run(cls, list(leaf)), (double_input(cls), *leaf.values()), fast_mode=not WHOLE)


@pytest.mark.parametrize("cls", [IFNode, LIFNode, ParametricLIFNode, NonSpikingLIFNode, PSN, SlidingPSN])
def test_second_derivatives(cls):
    leaf = fields(cls) | start(cls)
    assert gradgradcheck(run(cls, list(leaf)), (double_input(cls), *leaf.values()), fast_mode=not WHOLE)


@pytest.mark.parametrize("cls", NEURONS)
def test_every_field_gets_a_gradient(cls):
    leaf, x_seq = fields(cls), sequence(cls, dtype=torch.float64)
    outputs = run(cls, list(leaf), spiking=True)(x_seq, *leaf.values())
    total = sum((out * torch.randn_like(out)).sum() for out in outputs)
    for name, held in leaf.items():
        (grad,) = torch.autograd.grad(total, held, retain_graph=True)
        assert grad.any(), f"{name} has no influence"


def by_hand(x, weights, kind, tau, decay_input, v_threshold, v_reset, detach_reset):
    """Spikes, and the gradient of sum(weights * spikes) + sum(V_T), by the recursion written out."""
    alpha, rest = 4.0, 0.0 if v_reset is None else v_reset
    v, potentials, spikes = rest, [], []
    for value in x:
        drawn = v - rest
        h = v + value if kind is IFNode else v + (value - drawn) / tau if decay_input else v - drawn / tau + value
        s = 1.0 if h >= v_threshold else 0.0
        potentials.append(h)
        spikes.append(s)
        v = h - s * v_threshold if v_reset is None else s * v_reset + (1 - s) * h
    grads, into_v = [], 1.0
    for h, s, weight in reversed(list(zip(potentials, spikes, weights, strict=True))):
        sigma = 1 / (1 + math.exp(-alpha * (h - v_threshold)))
        g = alpha * sigma * (1 - sigma)
        through = 0.0 if detach_reset else g
        ratio = 1 - v_threshold * through if v_reset is None else 1 - s + (v_reset - h) * through
        into_h = weight * g + into_v * ratio
        grads.append(into_h / tau if kind is LIFNode and decay_input else into_h)
        into_v = into_h if kind is IFNode else into_h * (1 - 1 / tau)
    return spikes, grads[::-1]


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.37])
@pytest.mark.parametrize(("kind", "decay_input"), [(IFNode, True), (LIFNode, True), (LIFNode, False)])
def test_the_gradient_recursion_by_hand(kind, decay_input, v_reset, detach_reset):
    torch.manual_seed(2)
    scale = 2.3 if kind is LIFNode and decay_input else 1.1
    x = (scale * torch.rand(6, dtype=torch.float64)).requires_grad_()
    weights = torch.randn(6, dtype=torch.float64)
    more = {} if kind is IFNode else {"tau": 2.7, "decay_input": decay_input}
    node = kind(v_threshold=0.83, v_reset=v_reset, detach_reset=detach_reset, step_mode="m", backend="torch", **more)
    spikes = node(x.unsqueeze(1)).squeeze(1)
    ((spikes * weights).sum() + node.v.sum()).backward()
    want, grads = by_hand(x.tolist(), weights.tolist(), kind, 2.7, decay_input, 0.83, v_reset, detach_reset)
    assert spikes.tolist() == want
    assert 0 < sum(want) < 6
    torch.testing.assert_close(x.grad, torch.tensor(grads, dtype=torch.float64))


@pytest.mark.slow(keep=4)  # that every neuron is traced whole is a law of test_transforms
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("cls", NEURONS)
def test_compiled_gives_the_same(cls):
    assert_compiled_gives_the_same(cls, "eager", calls=1, length=2)


@pytest.mark.slow(keep=2)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # likewise
@pytest.mark.parametrize("cls", [LIFNode, ParametricLIFNode, GatedLIFNode, NonSpikingLIFNode, SlidingPSN])
def test_compiled_goes_on_from_its_state(cls):
    assert_compiled_gives_the_same(cls, "aot_eager", calls=2, length=2)


def assert_compiled_gives_the_same(cls, backend, calls, length):
    torch.compiler.reset()
    x_seq, results = sequence(cls, length=length), []
    for wrap in (lambda node: node, lambda node: torch.compile(node, fullgraph=True, backend=backend)):
        node, x = make(cls, step_mode="m"), x_seq.clone().requires_grad_()
        call = wrap(node)
        outputs = [call(x) for _ in range(calls)]
        torch.manual_seed(4)
        sum((out * torch.randn(out.shape)).sum() for out in outputs).backward()
        results.append([outputs, x.grad, *(p.grad for p in node.parameters()), *tensors(node).values()])
    plain, compiled = results
    assert all(map(torch.equal, compiled[0], plain[0]))
    # sums over neurons are free in their order
    torch.testing.assert_close(compiled[1:], plain[1:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", NEURONS)
def test_vmap_of_grad_equals_a_loop_over_samples(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls)
    torch.manual_seed(4)
    weight = torch.randn_like(x_seq[0])

    def loss(x, w):
        node.reset()
        return (node(x) * w).sum()

    got = torch.func.vmap(torch.func.grad(loss), in_dims=(1, 0), out_dims=1)(x_seq, weight)
    for n in range(x_seq.shape[1]):
        torch.testing.assert_close(got[:, n], torch.func.grad(loss)(x_seq[:, n], weight[n]))


@pytest.mark.parametrize("cls", NEURONS)
def test_functional_call_and_gradients_of_the_parameters(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls)
    parameters = {name: p.detach() for name, p in node.named_parameters()}

    def loss(parameters, x):
        node.reset()
        return torch.func.functional_call(node, parameters, (x,)).square().sum()

    got = torch.func.grad(loss)(parameters, x_seq)
    node.reset()
    if parameters:
        want = torch.autograd.grad(node(x_seq).square().sum(), list(node.parameters()))
        for name, grad in zip(parameters, want, strict=True):
            torch.testing.assert_close(got[name], grad)


@pytest.mark.parametrize("cls", NEURONS)
def test_autocast_keeps_the_state_in_single_precision(cls):
    x_seq, node, plain = sequence(cls), make(cls, step_mode="m"), make(cls, step_mode="m")
    with torch.autocast("cpu", torch.bfloat16):
        out = node(x_seq)
    assert torch.equal(out, plain(x_seq))
    assert all(held.dtype == torch.float32 for held in tensors(node).values())


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("cls", NEURONS)
def test_a_plain_activation_checkpoint_is_right_or_refused_in_words(cls, use_reentrant):
    node, x_seq = make(cls, step_mode="m"), sequence(cls).requires_grad_()
    start = dict(node.named_memories())
    out = checkpoint(node, x_seq, use_reentrant=use_reentrant).square().sum()
    moved = any(held is not start[name] for name, held in node.named_memories())
    if moved and (use_reentrant or "surrogate_function" in cls.fields):
        words = rf"{cls.__name__} keeps a state.*spikescope\.functional\.checkpoint"
        with pytest.raises(RecomputeError, match=words):
            out.backward()
    else:  # no state, one that a sequence leaves as it was, or nothing that is computed again
        out.backward()
        again = x_seq.detach().requires_grad_()
        make(cls, step_mode="m")(again).square().sum().backward()
        assert torch.equal(x_seq.grad, again.grad)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", NEURONS)
def test_a_checkpoint_of_ours_gives_what_the_call_gives(cls, mode):
    """Also where calls have become short: the recomputation saves what the first computation saved."""
    if mode not in cls.supported_step_modes:
        pytest.skip("sequences alone")
    x = sequence(cls) if mode == "m" else sequence(cls)[0]
    own = {"backend": "auto"} if cls in POINTWISE else {}
    node, plain = (make(cls, step_mode=mode, **own) for _ in range(2))
    for _ in range(3):
        found = []
        for each, call in ((node, functional.checkpoint), (plain, lambda module, x: module(x))):
            functional.reset_net(each)
            given = x.clone().requires_grad_()
            y = call(each, given)
            if not y.requires_grad:
                pytest.skip("the output of a single step is no function of its input")
            learned = [given, *(held for held in each.parameters() if held.requires_grad)]
            grads = torch.autograd.grad(y.square().sum(), learned, allow_unused=True, materialize_grads=True)
            found.append([y, *tensors(each).values(), *grads])
        assert len(found[0]) == len(found[1])
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("cls", ANY_LENGTH)
def test_the_gradient_crosses_calls_until_detach(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls, length=4)
    for detached in (False, True):
        node.reset()
        first = x_seq[:2].clone().requires_grad_()
        node(first)
        if detached:
            node.detach()
        later = x_seq[2:].clone().requires_grad_()
        grad, _ = torch.autograd.grad(node(later).square().sum(), [first, later], allow_unused=True)
        assert (grad is None) == detached


def test_single_steps_have_the_gradient_of_the_sequence():
    results = []
    for call in (step_by_step, lambda node, x: node(x)):
        node, x_seq = make(LIFNode, step_mode="m"), sequence(LIFNode).requires_grad_()
        (call(node, x_seq).cumsum(0) ** 2).sum().backward()
        results.append(x_seq.grad)
    assert torch.equal(*results)


def test_a_learnable_reset_potential_acts_through_the_start_too():
    start = nn.Parameter(torch.tensor(0.25))
    node = make(LIFNode, tau=4.0, v_threshold=9.0, v_reset=start)
    node(torch.tensor([1.0]))  # V = r + (x - (r - r)) / tau
    node.v.sum().backward()
    assert node.v.item() == 0.5
    assert start.grad.item() == 1.0


def test_a_learnable_threshold_by_hand():
    threshold = nn.Parameter(torch.tensor(1.0))
    node = make(IFNode, v_threshold=threshold, v_reset=None, surrogate_function=Sigmoid(alpha=4.0))
    node(torch.tensor([1.0])).sum().backward()
    assert threshold.grad.item() == -1.0  # minus the slope alpha / 4 at the threshold
    threshold.grad = None
    node.reset()
    node(torch.tensor([1.0]))
    node.v.sum().backward()
    assert threshold.grad.item() == 0.0  # V = H - S theta: -S - theta dS/dtheta = -1 + 1
