"""The short way of a call gives what the long way gives, and is left wherever the long way would see something else.

The law: a neuron whose calls have become short and a twin in the eager loop, which has no short way, stay equal in
outputs, states, gradients and errors, whatever is done to both.
"""

import gc
import threading
import weakref
from functools import partial

import pytest
import torch
from neuron_cases import POINTWISE, READOUTS, assert_same_state, make, sequence
from shortcut_cases import assert_equal, input_of, runs, twins
from torch._subclasses.fake_tensor import FakeTensorMode

from spikescope import internals, neuron, surrogate
from spikescope.dynamics.cpp.prepared import PreparedOnCpu
from spikescope.dynamics.triton import launch
from spikescope.dynamics.triton.prepared import PreparedOnGpu


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_short_way_is_the_eager_loop(cls, mode, short):
    node, twin = twins(cls, mode)
    runs_a_kernel = node.implementation(input_of(cls, mode)).backend == "cpp"
    keeps = cls in READOUTS and mode == "m"  # the last step of a sequence
    for learn in (True, False, True):
        node.reset(), twin.reset()
        short.clear()
        got, want = runs(node, mode, cls, learn), runs(twin, mode, cls, learn)
        assert_equal(got, want, 3 + len(cls.State._fields))
        assert len(short) == (3 if runs_a_kernel and not keeps else 0)


@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_steps_whose_output_nobody_took_have_gradients_by_the_kernel(cls, monkeypatch):
    node, twin = twins(cls)
    if node.implementation(input_of(cls, "s")).backend != "cpp":
        pytest.skip("no kernel")
    backs, backward = [], PreparedOnCpu.backward

    def noted(self, *args):
        backs.append(args[3])
        return backward(self, *args)

    monkeypatch.setattr(PreparedOnCpu, "backward", noted)
    found = []
    for each in (node, twin):
        x = sequence(cls)[:3].clone().requires_grad_()
        *_, last = [each(step) for step in x]
        found.append(torch.autograd.grad(last.sum(), [x, *each.parameters()], allow_unused=True))
    assert_equal(*found, 0)
    assert [gy is None for gy in backs] == [False, True, True]


ON_A_GPU = [
    neuron.LIFNode,
    neuron.ParametricLIFNode,
    neuron.AdaptiveLIFNode,
    neuron.KLIFNode,
    neuron.IzhikevichNode,
    neuron.GatedLIFNode,
]


@pytest.mark.skipif(not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter")
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", ON_A_GPU, ids=lambda cls: cls.__name__)
def test_short_way_on_a_gpu_is_the_eager_loop(cls, mode, short):
    node, twin = twins(cls, mode, backend="triton")
    for learn in (True, False, True):
        node.reset(), twin.reset()
        short.clear()
        assert_equal(runs(node, mode, cls, learn), runs(twin, mode, cls, learn), 3 + len(cls.State._fields))
        assert [type(made) for made in short] == [PreparedOnGpu] * 3


@pytest.mark.skipif(not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter")
def test_short_way_on_a_gpu_takes_long_runs_and_gradients_as_they_come():
    """Runs of several segments, a gradient that is expanded, one of the last state alone, one that is not aligned."""
    node, twin = twins(neuron.LIFNode, "m", backend="triton")
    x = 2 * torch.rand(11, 3, 6)
    for loss in (
        lambda y, v: (y * torch.arange(11.0).view(-1, 1, 1)).sum() + v.sum(),
        lambda y, v: y.sum(),
        lambda y, v: (y * 2).sum() + (v * v).sum(),
        lambda y, v: v.sum(),
    ):
        found = []
        for each in (node, twin):
            for _ in range(3):  # the third call is short
                each.reset()
                leaf = x.clone().requires_grad_()
                y = each(leaf)
            found.append((y, *torch.autograd.grad(loss(y, each.v), leaf)))
        assert_equal(*found, 1)


def test_tensors_of_a_device_are_known_by_their_keys():
    """Without one: a stand-in of a tensor on a GPU has the keys of that tensor, and those of the stand-in."""
    with FakeTensorMode():
        for device in ("cpu", "cuda"):
            held = torch.empty(3, device=device)
            own = torch._C._dispatch_keys(held)
            for key in ("Python", "PythonTLSSnapshot"):
                own = own.remove(getattr(torch._C.DispatchKey, key))
            assert own.raw_repr() in internals.tensors._ORDINARY
            assert not internals.is_ordinary(held)
    with torch.inference_mode():
        held = torch.empty(3)
        assert internals.is_ordinary(held)
    assert not internals.is_ordinary(held)


def test_neuron_goes_with_its_last_user(short):
    gc.collect()
    gc.disable()
    try:
        node, _ = twins()
        node(torch.ones(3, 5))
        assert short
        seen = weakref.ref(node)
        del node
        assert seen() is None
    finally:
        gc.enable()


def test_bad_input_has_words_on_every_way():
    node, _ = twins()
    for _ in range(3):
        node.reset()
        node(torch.ones(3, 5))
        with pytest.raises(ValueError, match="the shapes differ"):
            node(torch.ones(4, 5))
        with pytest.raises(TypeError, match="integrates real numbers"):
            node(torch.ones(3, 5, dtype=torch.int64))
        with pytest.raises(TypeError):
            node()
        with pytest.raises(TypeError):
            node(torch.ones(3, 5), 1)


def test_what_a_call_gives_is_nobody_elses():
    node, twin = twins()
    for _ in range(3):
        for each in (node, twin):
            x = torch.full((3, 5), 0.75)
            y = each(x)
            y += 5
            x.fill_(100)
            each.v.add_(0)
    assert_same_state(node, twin)


def test_change_of_what_was_saved_is_refused():
    for calls in range(4):
        node, _ = twins()
        x = torch.ones(3, 5).requires_grad_() * 1
        for _ in range(calls):
            node(x)
        y = node(x)
        x += 1
        with pytest.raises(RuntimeError, match=r"LIFNode.*changed in place"):
            y.sum().backward()


def test_threads_have_one_neuron_each():
    shared = surrogate.Sigmoid()
    nodes = [make(neuron.LIFNode, backend="auto", surrogate_function=shared) for _ in range(4)]
    given = sequence(neuron.LIFNode)  # here: threads share the generator that it is drawn from
    want, found = runs(make(neuron.LIFNode), learn=False, given=given), [None] * 4

    def work(i):
        for _ in range(20):
            nodes[i].reset()
            found[i] = runs(nodes[i], learn=False, given=given)

    threads = [threading.Thread(target=partial(work, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got in found:
        assert_equal(got, want, 4)


def test_shapes_that_never_come_again_leave_nothing():
    node = make(neuron.LIFNode, backend="auto")
    for length in range(1, 200):
        node.reset()
        node(torch.ones(length))
    assert len(node._short.seen) <= 64
    assert not node._short.runs


def test_a_run_is_prepared_for_the_state_that_its_kind_was_told_of(monkeypatch):
    """Also where another thread runs the neuron between the two."""
    node, twin = twins()
    x = torch.ones(3, 7)
    for each in (node, twin):
        each(x)
        each.reset()
    short, params = node._short, type(node).params

    def late(held):
        held.v = torch.full((3, 7), 0.25)
        return params(held)

    with monkeypatch.context() as patched:
        patched.setattr(type(node), "params", late)
        assert short._way(node, x) is None
    node.reset()
    for _ in range(3):
        assert torch.equal(node(x), twin(x))
        assert torch.equal(node.v, twin.v)
