"""The gradient norm of a neuron's output, which its kernel tells while it reads the gradient, against the gradient."""

import threading
import weakref

import pytest
import torch
from torch import nn

from spikescope import monitor, neuron
from spikescope.monitor.reduce import squares
from spikescope.sockets import gradient_squares


@pytest.fixture
def read(monkeypatch):
    """How often a gradient was read for its squares alone."""
    found, kernel = [], squares._kernel
    monkeypatch.setattr(squares, "_kernel", lambda: found.append(None) or kernel())
    return found


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    monkeypatch.setattr(gradient_squares, "LARGE", 1)


class Net(nn.Module):
    def __init__(self, cls=neuron.LIFNode, shape=(5, 3, 40), dtype=torch.float32):
        super().__init__()
        self.node = cls(step_mode="m")
        self.x = nn.Parameter(torch.randn(shape, dtype=dtype) + 0.5)
        self.weights = torch.randn(shape, dtype=dtype)

    def forward(self):
        self.node.reset()
        return self.node(self.x * 1)  # calls with a parameter are not short


def warm(net):
    """Have its calls become short."""
    for _ in range(3):
        (net() * net.weights).sum().backward()
    return net


def norms(grad):
    return grad.double().flatten(1).norm(dim=1)


def check(net, backward, wanted=None):
    """The recorded norms of one call against `wanted`, or what a hook of its own sees in another call."""
    seen = []
    y = net()
    y.register_hook(lambda grad: seen.append(norms(grad)))
    backward(y)
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        backward(net())
    wanted = seen[-1] if wanted is None else wanted
    torch.testing.assert_close(recording["node"], wanted, rtol=1e-6, atol=0)


SHAPES = [(5, 3, 40), (1, 3, 40), (4, 7, 257), (2, 1, 1), (4, 2, 3, 5, 7), (70, 2, 100)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_tells_the_squares_of_each_step(shape, read):
    net = warm(Net(shape=shape))
    check(net, lambda y: (y * net.weights).sum().backward())
    assert not read


@pytest.mark.parametrize(
    "cls", [neuron.ParametricLIFNode, neuron.KLIFNode, neuron.QIFNode], ids=lambda cls: cls.__name__
)
def test_the_kernels_of_other_neurons_do(cls, read):
    net = warm(Net(cls))
    check(net, lambda y: (y * net.weights).sum().backward())
    assert not read


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_of_other_dtypes_are_read(dtype):
    net = warm(Net(dtype=dtype))
    check(net, lambda y: (y * net.weights).sum().backward())


def test_a_gradient_that_is_one_number_for_all(read):
    check(warm(Net()), lambda y: y.sum().backward(), torch.full((5,), 120.0, dtype=torch.float64).sqrt())
    assert not read


def test_a_gradient_whose_axes_lie_otherwise(read):
    net = warm(Net(shape=(4, 2, 3, 5)))
    check(net, lambda y: (y.transpose(2, 3) * net.weights.transpose(2, 3).contiguous()).sum().backward())
    assert not read


def test_of_an_output_that_is_used_twice_the_sum_is_told(read):
    net = warm(Net())
    check(net, lambda y: ((y * net.weights).sum() + (y * y).sum()).backward())
    assert not read


def test_each_backward_pass_of_a_graph_is_told(read):
    net = warm(Net())

    def twice(y):
        loss = (y * net.weights).sum()
        loss.backward(retain_graph=True)
        loss.backward()

    with monitor.record(net, {"norm": "gradient norm", "sum": "norm"}, signal="grad_output") as recording:
        twice(net())
    torch.testing.assert_close(recording["node"]["norm"], norms(net.weights) * 2**0.5)
    assert recording["node"]["sum"] == pytest.approx(recording["node"]["norm"].norm().item())


@pytest.mark.parametrize("to", ["output", "input", "both"])
def test_a_part_of_a_graph_is_told_whether_or_not_the_node_runs(to, read):
    net = warm(Net())

    def backward(y):
        inputs = {"output": [y], "input": [net.x], "both": [y, net.x]}[to]
        torch.autograd.grad((y * net.weights).sum(), inputs)

    check(net, backward, norms(net.weights))
    assert len(read) == (to == "output")


def test_a_gradient_with_a_graph_of_its_own():
    net = warm(Net())
    check(net, lambda y: torch.autograd.grad((y * net.weights).sum(), net.x, create_graph=True), norms(net.weights))


@pytest.mark.parametrize("change", [lambda grad: 3 * grad, lambda grad: grad.mul_(3)], ids=["anew", "in place"])
@pytest.mark.parametrize("put", ["before", "after"])
def test_a_hook_that_changes_the_gradient(put, change):
    """Of one that was put there after it, a recording sees nothing."""
    net = warm(Net())

    def changed(module, args, y):
        y.register_hook(change)

    if put == "before":
        net.node.register_forward_hook(changed)
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        y = net()
        if put == "after":
            changed(None, None, y)
        (y * net.weights.clone()).sum().backward()
    torch.testing.assert_close(recording["node"], norms(net.weights) * (3 if put == "before" else 1))


def doubled(grads):
    grads[0].mul_(2)


def test_a_change_in_place_before_the_node_ends_the_recording():
    net = warm(Net())
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        y = net()
        y.grad_fn.register_prehook(doubled)
        with pytest.warns(RuntimeWarning, match="changed in place"):
            (y * net.weights).sum().backward()
        with pytest.raises(RuntimeError, match="changed in place"):
            recording["node"]


def test_a_backward_pass_that_breaks_off_leaves_it_to_the_next():
    net = warm(Net())

    def fail(grads):
        raise KeyError("no")

    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        y = net()
        loss = (y * net.weights).sum()
        handle = y.grad_fn.register_prehook(fail)
        with pytest.raises(KeyError):
            loss.backward(retain_graph=True)
        handle.remove()
        loss.backward()
    torch.testing.assert_close(recording["node"], norms(net.weights) * 2**0.5)


def test_what_two_recordings_and_a_monitor_see(read):
    net = warm(Net())
    with (
        monitor.record(net, "gradient norm", signal="grad_output") as one,
        monitor.record(net, "gradient norm", signal="grad_output", subset=monitor.Subset(samples=slice(1))) as other,
        monitor.GradOutputMonitor(net, neuron.LIFNode) as whole,
    ):
        (net() * net.weights).sum().backward()
    torch.testing.assert_close(one["node"], norms(net.weights))
    torch.testing.assert_close(other["node"], norms(net.weights[:, :1]))
    assert torch.equal(whole.records[0], net.weights)


def test_who_wants_the_gradient_itself_has_it_before_the_node(read):
    net = warm(Net())
    seen = []
    with monitor.record(net, "gradient norm", signal="grad_output") as one:
        with monitor.GradOutputMonitor(net, neuron.LIFNode) as whole:
            y = net()
            y.grad_fn.register_prehook(lambda grads: seen.append(len(whole.records)))
            (y * net.weights).sum().backward()
        assert seen == [1]
        assert len(read) == 1
        (net() * net.weights).sum().backward()
        assert len(read) == 1  # now the node tells it again
    with monitor.GradOutputMonitor(net, neuron.LIFNode) as whole:
        y = net()
        y.grad_fn.register_prehook(lambda grads: seen.append(len(whole.records)))
        (y * net.weights).sum().backward()
    assert seen == [1, 1]  # nobody wants the squares any more
    torch.testing.assert_close(one["node"], norms(net.weights) * 2**0.5)


def test_of_a_single_step_the_kernel_tells_them_too(read):
    net = warm(Net(shape=(3, 40)))
    net.node.step_mode = "s"
    warm(net)
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        (net() * net.weights).sum().backward()
    torch.testing.assert_close(recording["node"], net.weights.double().norm().reshape(1))
    assert not read


def test_threads_that_go_backwards_through_one_graph_have_a_gradient_each(monkeypatch):
    """Between the hook of the one and its node comes the other."""
    net = warm(Net())
    weights = [net.weights, 3 * net.weights]
    turn, waiting = threading.Barrier(2, timeout=20), gradient_squares.Handed.is_read_as

    def in_turns(self, given):
        turn.wait()  # both gradients have come to the hook
        return waiting(self, given)

    monkeypatch.setattr(gradient_squares.Handed, "is_read_as", in_turns)
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        y = net()
        losses = [(y * held).sum() for held in weights]
        threads = [threading.Thread(target=loss.backward, kwargs={"retain_graph": True}) for loss in losses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    torch.testing.assert_close(recording["node"], norms(net.weights) * 10**0.5)


def test_a_scaled_gradient_is_divided():
    net = warm(Net())

    class Scaler:
        def get_scale(self):
            return 8.0

    with monitor.record(net, "gradient norm", signal="grad_output", scaler=Scaler()) as recording:
        (net() * net.weights * 8).sum().backward()
    torch.testing.assert_close(recording["node"], norms(net.weights))


def test_the_graph_goes_with_its_last_user():
    net = warm(Net())
    with monitor.record(net, "gradient norm", signal="grad_output"):
        y = net()
        node = weakref.ref(y.grad_fn)
        del y
        net.node.reset()
        assert node() is None
