"""Neurons whose steps are driven by a number each: the kernel multiplies, to the bits of the eager loop."""

import pytest
import torch
from torch import nn

from spikescope import neuron
from spikescope.dynamics import gain, prepared
from spikescope.dynamics.cpp import native
from spikescope.dynamics.donated import donate
from spikescope.fields import Value, value
from spikescope.neuron import prebuilt
from spikescope.neuron.fast.shortcut import Shortcut
from spikescope.toolchain.compiler import CompileError

T = 5


class FadingNode(neuron.LIFNode):
    """A LIF neuron whose input fades from step to step, from the first of each call on."""

    fade: Value = value(0.9)
    example = {}

    def gain_in_time(self, x_seq):
        return (self.fade ** torch.arange(len(x_seq))).to(x_seq).reshape(-1, *(1,) * (x_seq.ndim - 1))

    def _gains_numbers(self):
        return True


FadingNode.ways = (*neuron.LIFNode.ways, FadingNode.gain_in_time)


def gated(**fields):
    return neuron.GatedLIFNode(T, **fields)


def fading(**fields):
    node = FadingNode(**fields)
    node.fade = nn.Parameter(torch.tensor(0.87))
    return node


MADE = (gated, fading)


def twins(make, mode="m", dtype=torch.float32, shape=(T, 3, 261), surrogate=None, calls=3):
    """The same neuron by kernels, after calls that make those to come short, and by the eager loop."""
    pair = []
    for backend in ("cpp", "torch"):
        node = make(step_mode=mode, backend=backend).to(dtype)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for held in node.parameters():
                held.add_(0.1 * torch.randn(held.shape, generator=generator, dtype=torch.float64).to(dtype))
        pair.append(node)
    for learn in (True, False):
        for _ in range(calls):
            pair[0].reset()
            pair[0](given(mode, dtype, shape).requires_grad_(learn))
    pair[0].reset()
    return pair


def given(mode="m", dtype=torch.float32, shape=(T, 3, 261)):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) + 0.4
    return x if mode == "m" else x[0].clone()


def gained(node):
    """Whether the last runs that were prepared multiply by themselves."""
    made = [held for held in node._short.runs.values() if held is not None]
    assert made
    return {held.gained for held in made} == {True}


def results(node, x, weights, **options):
    x = x.clone().requires_grad_()
    y, inputs = node(x), [x, *node.parameters()]
    out = torch.autograd.grad(y, inputs, weights, allow_unused=True, materialize_grads=True, **options)
    return [y, *(held for held in node.memories() if isinstance(held, torch.Tensor))], list(out)


def assert_alike(pair, x, weights):
    (exact, close), (told, found) = (results(node, x, weights) for node in pair)
    assert all(torch.equal(one, other) for one, other in zip(exact, told, strict=True))
    tolerance = 1e-9 if x.dtype is torch.float64 else 2e-4
    for one, other in zip(close, found, strict=True):
        assert one.shape == other.shape
        assert one.dtype is other.dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("make", MADE)
def test_the_kernel_gives_the_bits_of_the_eager_loop(make, mode, dtype):
    pair = twins(make, mode, dtype)
    x = given(mode, dtype)
    weights = torch.randn(x.shape, dtype=dtype)
    for _ in range(2):  # also from a state that is not at rest
        assert_alike(pair, x[: T // 2] if mode == "m" else x, weights[: T // 2] if mode == "m" else weights)
        for node in pair:
            node.detach()
    assert gained(pair[0])


@pytest.mark.parametrize("make", MADE)
def test_so_it_does_in_chunks(make, monkeypatch):
    monkeypatch.setattr(native, "far_from", lambda: 1)
    native._known_backward.cache_clear()
    pair, x = twins(make), given()
    assert_alike(pair, x, torch.randn(x.shape))
    native._known_backward.cache_clear()


@pytest.mark.parametrize("make", MADE)
def test_of_many_steps_a_segment_runs_again(make):
    steps = 150
    pair = twins(fading if make is fading else lambda **fields: neuron.GatedLIFNode(steps, **fields), shape=(steps, 7))
    x = given(shape=(steps, 7))
    assert_alike(pair, x, torch.randn(x.shape))
    assert gained(pair[0])


@pytest.mark.parametrize("alone", ["x", "gain", "none"])
def test_what_learns_alone(alone):
    pair = twins(gated)
    for node in pair:
        for name, held in node.named_parameters():
            held.requires_grad_(alone == "gain" and name in ("conduct", "beta"))
    x, found = given(), []
    for node in pair:
        for _ in range(3):
            node.reset()
            leaf = x.clone().requires_grad_(alone == "x")
            y = node(leaf)
        inputs = [held for held in (leaf, node.conduct, node.beta) if held.requires_grad]
        found.append([y, *(torch.autograd.grad(y.sum(), inputs) if inputs else ())])
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)
    assert gained(pair[0])


@pytest.mark.parametrize("make", MADE)
def test_second_derivatives(make):
    pair, x = twins(make, dtype=torch.float64), given(dtype=torch.float64)
    found = []
    for node in pair:
        leaf = x.clone().requires_grad_()
        inputs = [leaf, *node.parameters()]
        first = torch.autograd.grad((node(leaf) * x).sum(), inputs, create_graph=True, materialize_grads=True)
        total = sum((held * held).sum() for held in first)
        found.append([*first, *torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)])
    assert any(held.abs().sum() > 0 for held in found[1][len(found[1]) // 2 :])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make", MADE)
def test_many_gradients_at_once(make):
    pair, x = twins(make), given()
    weights = torch.randn(3, *x.shape)
    found = [results(node, x, weights, is_grads_batched=True)[1] for node in pair]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("make", MADE)
def test_what_is_saved_may_be_kept_elsewhere(make):
    pair, x = twins(make), given()
    with torch.autograd.graph.saved_tensors_hooks(lambda held: held.double(), lambda held: held.float()):
        assert_alike(pair, x, torch.ones_like(x))


def test_an_input_that_was_changed_is_told_in_words():
    node, _ = twins(gated)
    x = given().requires_grad_()
    held = x * 1
    y = node(held)
    held.add_(1)
    with pytest.raises(RuntimeError, match=r"GatedLIFNode.*in place"):
        y.sum().backward()


def test_only_numbers_a_step_are_multiplied_by_the_kernel():
    for fields, shape in (({"inplane": 3}, (T, 2, 3, 4, 4)), ({}, (T, 3, 8))):
        pair = twins(lambda fields=fields, **more: gated(**fields, **more), shape=shape)
        x = given(shape=shape)
        assert_alike(pair, x, torch.randn(shape))
        assert gained(pair[0]) is not bool(fields)


def test_a_gain_that_takes_another_form_goes_another_way():
    pair, x = twins(gated), given()
    for node in pair:
        node.conduct = nn.Parameter(torch.linspace(-1, 1, T * 261).view(T, 1, 261))
    for _ in range(3):
        for node in pair:
            node.reset()
        assert_alike(pair, x, torch.randn(x.shape))
    assert not gained(pair[0])


def test_a_gain_that_was_written_anew_is_the_one_that_is_taken():
    pair, x = twins(gated), given()
    for node in pair:
        node.gain_in_time = lambda x_seq: torch.full((len(x_seq), 1, 1), 0.5)
    assert_alike(pair, x, torch.randn(x.shape))
    assert torch.equal(pair[0].drive(x), x / 2)


def test_what_is_told_of_spikes_is_of_those_that_fire():
    (node, twin), x = twins(gated), given()
    node.request_taps(["count"])
    for _ in range(3):
        node.reset()
        node(x.requires_grad_()).sum().backward()
    assert torch.equal(node.tapped["count"].float(), twin(x).sum(0))
    assert gained(node)


def test_where_its_kernels_cannot_be_made_there_is_another_way(monkeypatch):
    entered = native._entered

    def refused(source, name):
        if "GAIN" in source:
            raise CompileError("none here")
        return entered(source, name)

    monkeypatch.setattr(native, "_entered", refused)
    for held in (native._forward_kernel, native._backward_kernel, native._known_forward, native._known_backward):
        held.cache_clear()
    pair, x = twins(gated), given()
    assert_alike(pair, x, torch.randn(x.shape))
    assert not gained(pair[0])


def test_a_backward_kernel_that_cannot_be_made_is_that_of_the_product(monkeypatch):
    entered = native._entered

    def refused(source, name):
        if "GAIN" in source and name == "enter_backward":
            raise CompileError("none here")
        return entered(source, name)

    monkeypatch.setattr(native, "_entered", refused)
    for held in (native._backward_kernel, native._known_backward):
        held.cache_clear()
    pair, x = twins(gated), given()
    assert_alike(pair, x, torch.randn(x.shape))
    assert gained(pair[0])


def test_its_kernels_are_among_those_that_come_compiled(monkeypatch):
    asked, entered = [], native._entered
    monkeypatch.setattr(native, "_entered", lambda source, name: asked.append(source) or entered(source, name))
    for held in (native._forward_kernel, native._backward_kernel, native._known_forward, native._known_backward):
        held.cache_clear()
    for wanted in prebuilt.of_neurons(["GatedLIFNode"], [torch.float32], []):
        wanted.ask()
    found = [("void backward" in text, "pack(yt" in text, "count_[B]" in text) for text in asked if "GAIN" in text]
    backward = [kind for kind in found if kind[0]]
    assert len(backward) == 2  # that of a single step is another
    assert len(set(found)) == 5


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("make", MADE)
def test_the_product_by_itself_has_the_same_gradients_to_the_bit(make, mode, monkeypatch):
    """So a training is the same whether or not somebody looks, or its calls have become short."""
    node, x = twins(make, mode)[0], given(mode)
    weights = torch.randn(x.shape)
    short, again = results(node, x, weights)
    assert gained(node)
    node.reset()
    monkeypatch.setattr(Shortcut, "_is_open_to", lambda *_: False)
    long, anew = results(node, x, weights)
    assert all(torch.equal(one, other) for one, other in zip((*short, *again), (*long, *anew), strict=True))


def test_an_input_that_was_computed_again_is_read_until_the_end():
    """Its memory may take the gradient of another neuron's input; here it is a factor of that of the gains."""
    pair, x = twins(gated), given()

    def again(held):
        return donate(held.clone()) if held.shape == x.shape else held

    with torch.autograd.graph.saved_tensors_hooks(lambda held: held, again):
        assert_alike(pair, x, torch.ones_like(x))


def test_without_a_kernel_the_gradients_are_those_of_pytorch(monkeypatch):
    asked = []
    monkeypatch.setattr(gain, "_kernel", asked.append)
    pair, x = twins(gated), given()
    assert_alike(pair, x, torch.randn(x.shape))
    assert asked
    asked.clear()
    pair[1].reset()
    results(pair[1], x, torch.randn(x.shape))
    assert not asked  # the eager loop is that of PyTorch throughout


def test_a_gradient_that_lies_otherwise_than_the_input():
    pair, x = twins(gated, shape=(T, 6, 8)), given(shape=(T, 6, 8))
    assert_alike(pair, x, torch.randn(T, 8, 6).transpose(1, 2))
    x = given(shape=(T, 8, 6)).transpose(1, 2)
    for node in pair:
        node.reset()
    assert_alike(pair, x, torch.randn(T, 6, 8))
    for node in pair:
        node.reset()
    assert_alike(pair, x[:0], torch.randn(0, 6, 8))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 4095, 4097, 33_000])
def test_the_gradients_of_a_product(size, threads):
    x, grad = torch.randn(2, T, size, generator=torch.Generator().manual_seed(1))
    factors = torch.linspace(0.2, 2, T).view(T, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            found = gain.gradients_of_product(grad, x, factors)
            own = grad.clone()
            again = gain.gradients_of_product(own, x, factors, own=True)
            alone = gain.gradients_of_product(grad, x, factors, wants_x=False)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], grad * factors)
    torch.testing.assert_close(
        found[1], (grad.double() * x.double()).sum(1, keepdim=True).float(), rtol=1e-4, atol=1e-3
    )
    assert again[0] is own
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert alone[0] is None
    assert torch.equal(alone[1], found[1])


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("make", MADE)
def test_no_gradient_is_made_for_an_input_that_needs_none(make, looked_at, monkeypatch):
    asked, given_by = [], gain.gradients_of_product

    def asking(*args, **options):
        asked.append(given_by(*args, **options))
        return asked[-1]

    monkeypatch.setattr(gain, "gradients_of_product", asking)
    monkeypatch.setattr(prepared, "gradients_of_product", asking)
    node, _ = twins(make)
    if looked_at:
        node.register_forward_hook(lambda *call: None)
    x, found = given(), []
    for learns in (False, True):
        node.reset()
        y = node(x.clone().requires_grad_(learns))
        found.append(torch.autograd.grad(y.sum(), list(node.parameters()), allow_unused=True))
    assert [held[0] is None for held in asked] == [True, False]
    for one, other in zip(*found, strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", MADE)
def test_compiled_code_has_the_same_gradients_to_the_bit(make):
    node, twin = make(step_mode="m"), make(step_mode="m")
    compiled, x = torch.compile(node, fullgraph=True, backend="aot_eager"), given()
    weights = torch.randn(x.shape)
    found = [results(held, x, weights)[1] for held in (compiled, twin)]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
