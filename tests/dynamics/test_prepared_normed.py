"""The prepared run of a normalisation and its neuron: bit for bit the run that is not prepared."""

import copy
import threading

import pytest
import torch
from dynamics_cases import inputs
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from spikescope import functional, layer, neuron, surrogate
from spikescope.dynamics.graphs.prologue import Rest
from spikescope.dynamics.triton import launch
from spikescope.layer import norm_handover
from spikescope.neuron.fast import after_norm

pytestmark = pytest.mark.skipif(
    not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter"
)

C = 3


def pair(cls=neuron.LIFNode, mode="m", **options):
    net = nn.Sequential(layer.BatchNorm2d(C, **options), cls(backend="triton"))
    functional.set_step_mode(net, mode)
    return functional.fuse_bn_neurons(net, training=True)


def sequence(last=False, dtype=torch.float32, steps=2):
    x = (inputs(steps, 2, C, 2, 3) + 0.7).to(dtype)
    return x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, 2)) if last else x


def call(net, x):
    """Whether a call was prepared, and all that comes of it from the same statistics."""
    net[0].reset_running_stats()
    functional.reset_net(net)
    leaf = x.detach().requires_grad_()
    y = net(leaf)
    loss = (y * inputs(*y.shape).to(y)).double().sum() + net[1].v.double().sum()
    grads = torch.autograd.grad(loss, [leaf, *net.parameters()])
    return y.grad_fn.fixed.ready is not None, [y, net[1].v, *grads, *(held.clone() for held in net.buffers())]


CASES = {
    "in order": lambda: (pair(), sequence()),
    "channels last": lambda: (pair(), sequence(True)),
    "half precision, channels last": lambda: (pair(), sequence(True, torch.bfloat16)),
    "a field that learns": lambda: (pair(neuron.ParametricLIFNode), sequence()),
    "single steps": lambda: (pair(mode="s"), sequence()[0]),
    "not affine": lambda: (pair(affine=False), sequence()),
    "without buffers": lambda: (pair(track_running_stats=False), sequence()),
    "a mean over all batches": lambda: (pair(momentum=None), sequence()),
    "running statistics": lambda: (pair().eval(), sequence()),
}


@pytest.mark.parametrize("case", CASES)
def test_calls_of_a_kind_are_the_first(case):
    net, x = CASES[case]()
    (first, want), *later = [call(net, x) for _ in range(3)]
    assert not first
    assert [ready for ready, _ in later[1:]] == [True]
    for _, got in later:
        assert all(map(torch.equal, got, want))
    if net.training and net[0].running_mean is not None:
        assert net[0].num_batches_tracked.item() == 1


def test_what_follows_from_the_fields_is_computed_once_a_pass(monkeypatch):
    net, x = pair(neuron.ParametricLIFNode), sequence().requires_grad_()
    asked, computed = [], Rest.computed
    monkeypatch.setattr(Rest, "computed", lambda self, fields: asked.append(self) or computed(self, fields))
    for _ in range(4):
        functional.reset_net(net)
        y = net(x)
        asked.clear()
        y.backward(torch.ones_like(y))
    assert len(asked) == 1
    assert len(asked[0].operations) == 1  # the decay of its parameter


def test_what_changes_is_seen():
    """Weights, momentum and mode of a network whose run is prepared; a weight of another form runs apart."""
    net, x = pair(), sequence()
    for _ in range(3):
        call(net, x)
    with torch.no_grad():
        net[0].weight.copy_(torch.linspace(0.5, 2, C))
    net[0].momentum = 0.7
    ready, got = call(net, x)
    assert ready
    fresh = pair()
    fresh.load_state_dict(net.state_dict())
    fresh[0].momentum = 0.7
    ready, want = call(fresh, x)
    assert not ready
    assert all(map(torch.equal, got, want))
    net.eval()
    functional.reset_net(net), functional.reset_net(fresh.eval())
    assert torch.equal(net(x), fresh(x))
    net.train()[0].weight = nn.Parameter(torch.ones(2 * C)[::2])
    functional.reset_net(net)
    assert type(net(x).grad_fn).__name__ != "_NormedBackward"


def _assigned(net):
    net[0].weight, net[0].bias = nn.Parameter(torch.linspace(0.5, 2, C)), nn.Parameter(torch.linspace(-1, 1, C))


def _without_weight(net):
    net[0].weight = net[0].bias = None


def _without_statistics(net):
    net[0].track_running_stats, net[0].running_mean, net[0].running_var = False, None, None


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


CHANGES = {
    "weights by assignment": _assigned,
    "no weights": _without_weight,
    "weights that do not learn": lambda net: net[0].requires_grad_(False),
    "a weight that follows from another": lambda net: register_parametrization(net[0], "weight", Doubled()),
    "no running statistics": _without_statistics,
    "a mean over all batches": lambda net: setattr(net[0], "momentum", None),
    "another eps": lambda net: setattr(net[0], "eps", 0.5),
    "running statistics": lambda net: net.eval(),
    "another forward": lambda net: setattr(net[0], "forward", lambda x: 2 * x),
    "another normalisation": lambda net: setattr(net[0], "normalize", lambda x: 2 * x),
    "a hook on what is normalised": lambda net: net[0].register_forward_hook(lambda module, given, y: 2 * y),
    "a hook before it": lambda net: net[0].register_forward_pre_hook(lambda module, given: 2 * given[0]),
    "a hook before the neuron": lambda net: net[1].register_forward_pre_hook(lambda module, given: 2 * given[0]),
    "a hook on the gradient": lambda net: net[0].register_full_backward_hook(lambda module, gx, gy: (2 * gx[0],)),
    "a module between": lambda net: net.insert(1, Doubled()),
    "another threshold": lambda net: setattr(net[-1], "v_threshold", 0.4),
    "another start": lambda net: setattr(net[-1], "v_reset", None),
    "a field in place": lambda net: net[-1].w.data.add_(1),
    "another surrogate": lambda net: setattr(net[-1], "surrogate_function", surrogate.ATan(alpha=5.0)),
    "a surrogate edited": lambda net: setattr(net[-1].surrogate_function, "alpha", 0.7),
    "another backend": lambda net: setattr(net[-1], "backend", "torch"),
    "potentials that are kept": lambda net: setattr(net[-1], "store_v_seq", True),
}


def everything(net, x):
    """All that comes of a call from rest, and from the same statistics."""
    net[0].reset_running_stats()
    functional.reset_net(net)
    leaf = x.detach().requires_grad_()
    y = net(leaf)
    loss = (y * inputs(*y.shape)).sum() + net[-1].v.sum()
    learned = [held for held in net.parameters() if held.requires_grad]
    grads = torch.autograd.grad(loss, [leaf, *learned], materialize_grads=True)
    kept = [net[-1].v_seq.detach()] if net[-1].store_v_seq else []
    return [y.detach(), net[-1].v.detach(), *kept, *grads, *(held.clone() for held in net.buffers())]


@pytest.mark.slow(keep=6)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_calls_that_were_prepared_is_one_before_the_first(change):
    net, fresh, x = pair(neuron.ParametricLIFNode), pair(neuron.ParametricLIFNode), sequence()
    plain = [everything(net, x) for _ in range(3)][-1]
    assert any(made is not None for made in net[1]._short.runs.values())
    fresh.load_state_dict(net.state_dict())
    for each in (net, fresh):
        CHANGES[change](each)
    for _ in range(3):  # the third is prepared, where it can be
        got, want = everything(net, x), everything(copy.deepcopy(fresh), x)
        assert len(got) == len(want)
        assert all(map(torch.equal, got, want))
    assert len(got) != len(plain) or not all(map(torch.equal, got, plain))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_a_batch_without_samples_after_calls_that_were_prepared(training):
    net, x = pair().train(training), sequence()
    for _ in range(3):
        everything(net, x)
    functional.reset_net(net)
    apart = nn.Sequential(*copy.deepcopy(net))
    apart[0].with_neuron = False
    assert torch.equal(net(x[:, :0]), apart(x[:, :0]))
    for a, b in zip(net.buffers(), apart.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_statistics_that_are_shared_from_now_on(monkeypatch):
    """A network that other processes join after its run was prepared alone asks them at every call."""

    class Others:
        asked = 0

        def __init__(self, group):
            assert group == "all"

        def moments(self, mean, variance, count):
            Others.asked += 1
            return mean + 1, variance * 2, 2.0 * count

    net, x = pair(), sequence()
    assert [call(net, x)[0] for _ in range(3)][-1]
    monkeypatch.setattr("spikescope.layer.norm_handover.together", lambda group: "all")
    monkeypatch.setattr("spikescope.layer.norm_handover.Shared", Others)
    functional.convert_sync_batchnorm(net)
    for calls in (1, 2):
        assert not call(net, x)[0]
        assert Others.asked == calls
    mean = x.mean((0, 1, 3, 4)) + 1
    torch.testing.assert_close(net[0].running_mean, net[0].momentum * mean)
    monkeypatch.setattr("spikescope.layer.norm_handover.together", lambda group: None)
    assert call(net, x)[0]


class Halved(torch.Tensor):
    """A tensor whose values are half of what lies in memory."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def plain(held):
            return held.as_subclass(torch.Tensor) / 2 if isinstance(held, cls) else held

        with torch._C.DisableTorchFunctionSubclass():
            return function(*map(plain, args), **{name: plain(held) for name, held in (kwargs or {}).items()})


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("calls", [0, 3], ids=["first", "after a run was prepared"])
def test_what_is_no_plain_tensor_is_normalised_by_pytorch(name, calls):
    net, plain, x = pair().eval(), pair().eval(), sequence()
    values = torch.linspace(1, 3, C)
    with torch.no_grad():
        for each in (net, plain):
            getattr(each[0], name).copy_(values)
    for _ in range(calls):
        functional.reset_net(net), net(x)
    delattr(net[0], name)
    setattr(net[0], name, (2 * values).as_subclass(Halved))
    functional.reset_net(net)
    assert torch.equal(net(x), plain(x))


@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
def test_under_autocast(last):
    """Weights in float32, what goes on in bfloat16: the convolution gives it, and the neuron gives it on."""
    net = nn.Sequential(layer.Conv2d(3, C, 3, padding=1), *pair())
    functional.set_step_mode(net, "m")
    x = inputs(4, 2, 3, 4, 4)
    if last:
        x, net = (
            x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2)),
            net.to(memory_format=torch.channels_last),
        )
    seen = []
    for _ in range(3):
        net[1].reset_running_stats()
        functional.reset_net(net)
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = net(x)
        y.float().mean().backward()
        assert y.dtype is torch.bfloat16
        assert type(y.grad_fn).__name__ == "_NormedBackward"
        seen.append([y, *(held.grad.clone() for held in net.parameters())])
    assert y.grad_fn.fixed.ready is not None
    assert all(map(torch.equal, seen[0], seen[2]))


def test_a_normalisation_waits_for_the_call_of_its_own_thread(monkeypatch):
    given, met = [], []
    monkeypatch.setattr(norm_handover, "give", lambda *waits: given.append(waits) or after_norm.give(*waits))
    net, x = pair(), sequence()
    net(x)
    ((node, norm, _),) = given
    functional.reset_net(net)
    after_norm.give(node, norm, x)

    def meanwhile():
        other = x.clone()
        after_norm.give(node, norm, other)
        met.append(after_norm.taken(node, other))

    thread = threading.Thread(target=meanwhile)
    thread.start()
    thread.join()
    assert met == [norm]
    assert after_norm.taken(node, x) is norm
    assert after_norm.taken(node, x) is None
