"""The kernels of recurrent layers against the loop of their steps: the same spikes, gradients up to rounding."""

import copy

import pytest
import torch
from rnn_cases import CELLS, LAYERS, smooth
from torch import nn

from spikescope import monitor, rnn, surrogate
from spikescope.dynamics.cpp.native import threads_for
from spikescope.dynamics.recurrent import run as recurrent
from spikescope.rnn import cells
from spikescope.surrogate.core import registry
from spikescope.toolchain.compiler import CompileError

every = pytest.mark.parametrize("name", LAYERS)
ROUNDINGS = 256
"""The tolerance of a gradient, in roundings of its largest value: sums in another order, and an exponential."""

SURROGATES = sorted(
    name for name, made in registry.items() if made.pointwise and made.__module__.startswith("spikescope.")
)


def tensors(states):
    return states if isinstance(states, tuple) else (states,)


def made(name, *args, dtype=torch.float32, **kwargs):
    torch.manual_seed(0)
    net = LAYERS[name](*args, **kwargs).to(dtype)
    with torch.no_grad():
        for held in net.parameters():
            held.mul_(3)  # so that all layers fire now and then
    return net


def run(net, x, states=None):
    """Outputs and states, and the gradients of a sum of them by all that could have one."""
    x = x.detach().requires_grad_()
    start = None if states is None else tuple(held.detach().requires_grad_() for held in states)
    y, ends = net(x, start if start is None or len(start) > 1 else start[0])
    forward = (y, *tensors(ends))
    weighted = [held * torch.linspace(-1, 2, held.numel(), dtype=held.dtype).view_as(held) for held in forward]
    inputs = [x, *(start or ()), *(held for held in net.parameters() if held.requires_grad)]
    return forward, torch.autograd.grad(sum(held.sum() for held in weighted), inputs)


@pytest.fixture
def only_kernels(monkeypatch):
    """The loop fails where it is called."""

    def loop(*args):
        raise AssertionError("the loop ran")

    monkeypatch.setattr(cells, "loop", loop)


@pytest.fixture
def by_loop(monkeypatch):
    """What a function gives where no kernel runs."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(cells, "run_kernels", lambda *args: None)
            return function(*args)

    return call


def assert_same(got, wanted):
    for held, told in zip(got[0], wanted[0], strict=True):
        assert torch.equal(held, told)
    for held, told in zip(got[1], wanted[1], strict=True):
        size = told.abs().max().item()
        torch.testing.assert_close(held, told, rtol=0, atol=ROUNDINGS * torch.finfo(held.dtype).eps * size)


def runs_the_loop(net, x):
    """Whether a call goes through the loop."""
    with pytest.MonkeyPatch.context() as patch:
        called = []
        loop = cells.loop
        patch.setattr(cells, "loop", lambda *args: called.append(None) or loop(*args))
        net(x)
    return bool(called)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("units", [5, 300])  # within one block of a kernel, and more than one
def test_kernels_give_what_the_loop_gives(name, dtype, bias, units, by_loop):
    net = made(name, 3, units, 2, bias, bidirectional=True, dtype=dtype)
    x = torch.randn(6, 4, 3, dtype=dtype) * 3
    states = [(torch.rand(4, 4, units) < 0.5).to(dtype) for _ in range(net.states_num())]
    assert not runs_the_loop(net, x)
    got = run(net, x, states)
    assert_same(got, by_loop(run, net, x, states))
    assert 0.02 < got[0][0].mean() < 0.98
    with torch.no_grad():
        plain = net(x, tuple(states) if len(states) > 1 else states[0])
    for held, told in zip((plain[0], *tensors(plain[1])), got[0], strict=True):
        assert torch.equal(held, told)


@pytest.mark.parametrize("kind", SURROGATES)
def test_every_surrogate_has_its_slope_in_the_kernel(kind, by_loop):
    cls = registry[kind]
    net = made("GRU", 3, 9, 1, surrogate_function1=cls(**cls.example), surrogate_function2=surrogate.ATan(3.0))
    x = torch.randn(6, 4, 3) * 2
    assert not runs_the_loop(net, x)
    assert_same(run(net, x), by_loop(run, net, x))


def test_two_surrogates_and_no_bound(only_kernels, monkeypatch):
    class Unbounded(rnn.SpikingLSTMCell):
        highest = float("inf")

    net = made("LSTM", 3, 7, 1, surrogate_function2=surrogate.ATan())
    net.cells[0] = Unbounded(3, 7, surrogate_function1=surrogate.Rect())
    with torch.no_grad():
        net.cells[0].linear_ih.bias.fill_(2.0)
    _, (_, c) = net(torch.rand(5, 2, 3))
    assert c.max() > 1


@every
def test_threads_share_the_samples(name, by_loop):
    net = made(name, 3, 280, 1)
    x = torch.randn(3, 130, 3) * 3
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert threads_for(x.shape[1] * net.cells[0].gates * 280) == 3
        assert_same(run(net, x), by_loop(run, net, x))
    finally:
        torch.set_num_threads(before)


@every
def test_single_steps_are_those_of_the_loop(name, by_loop):
    torch.manual_seed(0)
    cell = CELLS[name](3, 9)
    with torch.no_grad():
        for held in cell.parameters():
            held.mul_(3)

    def steps(x):
        x, states, seen = x.detach().requires_grad_(), None, []
        for step in x:
            states = cell(step, states)
            seen += tensors(states)
        weighted = [(place + 1) * held.sum() for place, held in enumerate(seen)]
        return seen, torch.autograd.grad(sum(weighted), [x, *cell.parameters()])

    x = torch.randn(6, 4, 3) * 2
    got = steps(x)
    assert_same(got, by_loop(steps, x))
    assert got[0][0].grad_fn.name() == got[0][-1].grad_fn.name() == "_RunBackward"


@every
def test_outputs_and_states_may_be_changed_in_place(name, by_loop):
    net = made(name, 3, 5, 1)

    def changed(x):
        x = x.detach().requires_grad_()
        y, ends = net(x)
        y += 1
        for held in tensors(ends):
            held.mul_(2)
        return (y,), torch.autograd.grad((y * y).sum() + sum(held.sum() for held in tensors(ends)), x)

    x = torch.randn(4, 2, 3)
    assert_same(changed(x), by_loop(changed, x))


@every
def test_a_number_that_is_edited_acts_on_the_next_run(name, only_kernels):
    function = surrogate.ATan(2.0)
    key = "surrogate_function" if name == "VanillaRNN" else "surrogate_function1"
    net = made(name, 3, 9, 1, **{key: function})
    x = torch.randn(6, 4, 3)
    before = run(net, x)
    function.alpha = 5.0
    after = run(net, x)
    assert torch.equal(before[0][0], after[0][0])
    assert not torch.allclose(before[1][0], after[1][0])
    fresh = made(name, 3, 9, 1, **{key: surrogate.ATan(5.0)})
    assert all(map(torch.equal, run(fresh, x)[1], after[1]))


@every
def test_parts_that_are_frozen_get_no_gradient(name, by_loop):
    net = made(name, 3, 9, 1)
    x = torch.randn(6, 4, 3) * 2
    net.cells[0].linear_hh.weight.requires_grad_(False)
    net.cells[0].linear_ih.requires_grad_(False)
    assert_same(run(net, x), by_loop(run, net, x))
    y, _ = net(x)
    y.sum().backward()
    assert net.cells[0].linear_hh.weight.grad is None
    assert net.cells[0].linear_hh.bias.grad is not None


@every
def test_gradients_of_gradients_are_those_of_the_loop(name, by_loop):
    key = "surrogate_function" if name == "VanillaRNN" else "surrogate_function1"
    net = made(name, 3, 5, 1, dtype=torch.float64, **{key: surrogate.Sigmoid()})

    def second(x):
        x = x.detach().requires_grad_()
        inputs = [x, *net.parameters()]
        first = torch.autograd.grad(net(x)[0].square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(held.square().sum() for held in first), inputs)

    x = torch.randn(4, 2, 3, dtype=torch.float64)
    assert not runs_the_loop(net, x)
    torch.testing.assert_close(second(x), by_loop(second, x), rtol=1e-10, atol=1e-12)


@every
def test_many_gradients_at_once(name, by_loop):
    net = made(name, 3, 5, 1)

    def jacobian(x):
        x = x.detach().requires_grad_()
        y = net(x)[0]
        seeds = torch.eye(y.numel()).view(-1, *y.shape)[::7]
        return torch.autograd.grad(y, x, seeds, is_grads_batched=True)[0]

    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(jacobian(x), by_loop(jacobian, x), rtol=1e-5, atol=1e-6)


@every
def test_checkpoints_and_functions_on_saved_tensors(name):
    net = made(name, 3, 5, 1)
    x = torch.randn(4, 2, 3).requires_grad_()
    inputs = [x, *net.parameters()]
    wanted = torch.autograd.grad(net(x)[0].sum(), inputs)
    y = torch.utils.checkpoint.checkpoint(lambda x: net(x)[0], x, use_reentrant=False)
    assert all(map(torch.equal, torch.autograd.grad(y.sum(), inputs), wanted))
    with torch.autograd.graph.save_on_cpu():
        y = net(x)[0]
    assert all(map(torch.equal, torch.autograd.grad(y.sum(), inputs), wanted))


class TestTheLoopRuns:
    """Where a call of a module is more than its class says, or numbers are not those of a kernel."""

    x = torch.randn(5, 2, 3)

    @every
    def test_where_somebody_listens_to_the_product(self, name):
        net = made(name, 3, 5, 1)
        seen = []
        handle = net.cells[0].linear_hh.register_forward_hook(lambda module, args, output: seen.append(output))
        assert runs_the_loop(net, self.x)
        assert len(seen) == 5
        handle.remove()
        assert not runs_the_loop(net, self.x)
        with monitor.record(net, ["moments"], where="cells.0.linear_hh", signal="output"):
            assert runs_the_loop(net, self.x)
        assert not runs_the_loop(net, self.x)

    @every
    def test_where_a_surrogate_is_watched_learns_or_is_smooth(self, name):
        key = "surrogate_function" if name == "VanillaRNN" else "surrogate_function1"
        function = surrogate.ATan()
        net = made(name, 3, 5, 1, **{key: function})
        handle = function.register_forward_hook(lambda module, args, output: None)
        assert runs_the_loop(net, self.x)
        handle.remove()
        assert not runs_the_loop(net, self.x)
        function.alpha = nn.Parameter(torch.tensor(2.0))
        assert runs_the_loop(net, self.x)
        assert runs_the_loop(made(name, 3, 5, 1, **smooth(name)), self.x)

    @every
    def test_where_the_step_is_somebody_elses(self, name):
        class Quiet(CELLS[name]):
            def step(self, drive, states):
                return super().step(drive - 100, states)

        net = made(name, 3, 5, 1)
        net.cells[0] = Quiet(3, 5)
        assert runs_the_loop(net, self.x)
        assert not net(self.x)[0].any()

    @every
    def test_where_dtypes_are_mixed_or_narrow(self, name):
        net = made(name, 3, 5, 1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert runs_the_loop(net, self.x)
        assert runs_the_loop(copy.deepcopy(net).bfloat16(), self.x.bfloat16())

    @every
    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_in_transforms_traces_and_forward_mode(self, name, by_loop):
        net = made(name, 3, 5, 1)

        def first(x):
            return net(x)[0]

        wanted = by_loop(first, self.x)
        assert torch.equal(torch.func.vmap(first)(torch.stack((self.x, -self.x)))[0], wanted)
        assert torch.equal(torch.jit.trace(net, self.x)(self.x)[0], wanted)
        assert torch.equal(torch.func.jvp(first, (self.x,), (self.x,))[0], wanted)
        assert torch.equal(torch.compile(first, backend="eager", fullgraph=True)(self.x), wanted)

    @every
    def test_where_the_compiler_fails_with_one_warning(self, name, monkeypatch, by_loop):
        def load(source):
            raise CompileError("no space left")

        monkeypatch.setattr(recurrent, "load", load)
        monkeypatch.setattr(recurrent, "_told", set())
        key = "surrogate_function" if name == "VanillaRNN" else "surrogate_function1"
        nets = [made(name, 3, 5, 1, **{key: surrogate.ATan(alpha)}) for alpha in (7.25, 7.5)]  # none is ready
        with pytest.warns(RuntimeWarning, match=f"Spiking{name}Cell could not be compiled, .*: no space left") as told:
            found = [net(self.x)[0] for net in nets]
        assert len(told) == 1
        assert all(torch.equal(y, by_loop(net, self.x)[0]) for y, net in zip(found, nets, strict=True))
        recurrent._kernels.cache_clear()
