"""Lean training: less is kept, and not a bit of the result is another."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from lean_cases import X, conv_net, saved, small_tensors_too, step
from torch import nn

from sample import sample
from spikescope import functional, layer, models, monitor, neuron
from spikescope.functional.memory import saved_tensors, stand_ins
from spikescope.neuron.readout import ReadOut

__all__ = ["saved", "small_tensors_too"]

NEURONS = [
    name
    for name, cls in neuron.registry.items()
    if issubclass(cls, neuron.PointwiseNeuron)
    and not issubclass(cls, ReadOut)
    and {"s", "m"} <= set(cls.supported_step_modes)
]


@pytest.mark.slow(keep=8)
@pytest.mark.parametrize("node", NEURONS)
@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_every_neuron_trains_alike(node, step_mode):
    single = step_mode == "s"
    expected = step(conv_net(node, step_mode), single=single)
    found = step(functional.lean(conv_net(node, step_mode)), single=single)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_spikes_pools_and_norms_are_recognised(saved):
    step(functional.lean(conv_net()))
    assert saved.count("Normed") == 2  # before each neuron
    assert saved.count("Spikes") == 2  # before the second convolution and the linear layer: the pool keeps places


@pytest.mark.parametrize("node", ["LIAFNode", "ILIFNode"])
def test_what_is_no_spike_is_kept_as_it_is(node, saved):
    step(functional.lean(conv_net(node)))
    assert "Spikes" not in saved


def test_switched_off_it_is_the_network_of_before(saved):
    net = functional.lean(functional.lean(conv_net()), on=False)
    step(net)
    assert not saved
    assert not any(key for module in net.modules() for key in module._forward_hooks if "lean" in str(key))


def test_bits_take_the_place_of_floats_in_memory(monkeypatch):
    given = []
    note = saved_tensors._note

    def noted(module, args, kwargs, output):
        given.append((type(module).__name__, saved_tensors.StorageWeakRef(output.untyped_storage())))
        return note(module, args, kwargs, output)

    monkeypatch.setattr(saved_tensors, "_note", noted)
    y = functional.lean(conv_net())(X)
    assert [name for name, held in given if held.expired()] == [
        "Conv2d",  # of two channels, which is computed again
        "BatchNorm2d",
        "LIFNode",
        "MaxPool2d",
        "BatchNorm2d",
        "LIFNode",
    ]
    y.sum().backward()


def test_what_a_hook_of_the_user_has_seen_is_kept(saved):
    net = conv_net()
    net[1].register_forward_hook(lambda module, args, y: y * 2)
    expected = step(net)
    found = step(functional.lean(net))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert saved.count("Normed") == 1


class _Weighed(layer.BatchNorm2d):
    """A normalisation that does more, once `scale` is another than at the start."""

    scale = 1.0

    def forward(self, input):
        return super().forward(input) * self.scale


class _WeighedInside(layer.BatchNorm2d):
    scale = 1.0

    def normalize(self, x):
        return super().normalize(x) * self.scale


def _weigh_by_method(net):
    for norm in (net[1], net[5]):
        norm.forward = lambda x, inner=norm.forward: inner(x) * 0.5


def _weigh(net):
    for norm in (net[1], net[5]):
        if isinstance(norm, layer.TemporalEffectiveBatchNorm2d):
            norm.scale.data.copy_(torch.linspace(0.25, 2, len(X)))
        else:
            norm.scale = 0.5


@pytest.mark.parametrize(
    ("norm", "change"),
    [
        (lambda: layer.TemporalEffectiveBatchNorm2d(len(X), 16), _weigh),
        (lambda: _Weighed(16, step_mode="m"), _weigh),
        (lambda: _WeighedInside(16, step_mode="m"), _weigh),
        (lambda: layer.BatchNorm2d(16, step_mode="m"), _weigh_by_method),
    ],
    ids=["temporal effective", "forward", "normalize", "forward of the instance"],
)
def test_a_norm_that_begins_plain_and_does_more_later_trains_alike(norm, change):
    results = []
    for lean in (False, True):
        net = conv_net()
        net[1], net[5] = norm(), norm()
        functional.lean(net, lean)
        first = step(net)
        change(net)
        results.append([*first, *step(net)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_pool_whose_output_somebody_changes_gives_no_spikes_any_more(monkeypatch):
    """The values are looked at on a CPU alone, so that it must not be taken for spikes in the first place."""
    noted = []
    monkeypatch.setattr(saved_tensors.Ledger, "note", lambda ledger, y, what: noted.append(y.shape))
    monkeypatch.setattr(saved_tensors.Ledger, "known", lambda ledger, x: stand_ins.Spikes(x.dtype))
    net = functional.lean(conv_net())
    step(net)
    pooled = (4, 3, 16, 8, 8)
    assert noted.count(pooled) == 3  # pool, norm and neuron
    noted.clear()
    net[3].register_forward_hook(lambda module, args, y: y * 0.5)
    functional.reset_net(net)
    step(net)
    assert noted.count(pooled) == 2


@pytest.mark.parametrize("last", [2, 3], ids=["norm", "spikes"])
def test_a_view_that_negates_what_is_kept_is_kept_as_it_is(last):
    class Negated(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = conv_net()[:last]
            self.weight = nn.Parameter(torch.rand(8))

        def forward(self, x):
            y = torch.view_as_complex(self.inner(x).unflatten(-1, (8, 2)))
            return self.weight * y.conj().imag  # a view of the same memory with the sign of a bit

    torch.manual_seed(0)
    net = Negated()
    expected, found = step(net), step(functional.lean(net))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_hooks_on_saved_tensors_that_are_in_force_are_left_in_force(saved):
    """Only the innermost of such hooks are asked: those of lean would undo a checkpoint around the network."""

    def kept(net):
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append(x.shape) or x, lambda x: x):
            net(X)
        functional.reset_net(net)
        return seen

    net = conv_net()
    expected = kept(net)
    assert expected
    assert kept(functional.lean(net)) == expected

    x = X.clone().requires_grad_()
    functional.checkpoint(net, x).sum().backward()
    assert not saved
    step(nn.Sequential(functional.lean(nn.Sequential(net))))  # lean in lean
    assert "Spikes" in saved


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype, saved):
    def run(net):
        with torch.autocast("cpu", dtype):
            return step(net)

    expected, found = run(conv_net()), run(functional.lean(conv_net()))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert {"Normed", "Spikes"} <= set(saved)


def test_channels_last_and_running_statistics():
    plain, lean = conv_net(), functional.lean(conv_net())
    x = X.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, X.shape[:2])
    for net in (plain, lean):
        net.to(memory_format=torch.channels_last)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(step(plain, x), step(lean, x), strict=True))
    for net in (plain, lean):
        net.eval()
    assert all(torch.equal(a, b) for a, b in zip(step(plain, x), step(lean, x), strict=True))
    assert all(torch.equal(a, lean.state_dict()[name]) for name, a in plain.state_dict().items())


def test_double_backward():
    def run(net):
        functional.reset_net(net)
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
        return [x.grad, *(p.grad for p in net.parameters() if p.grad is not None)]

    assert all(torch.equal(a, b) for a, b in zip(run(conv_net()), run(functional.lean(conv_net())), strict=True))


def test_monitors_see_the_same():
    expected, found = [], []
    for net, rows in ((conv_net(), expected), (functional.lean(conv_net()), found)):
        with (
            monitor.record(net, ("rate", "silent share")) as seen,
            monitor.record(net, "gradient norm", signal="grad_output") as norms,
        ):
            step(net)
        rows += [str(seen.table()), str(norms.table())]
    assert expected == found


def test_an_in_place_change_of_what_is_kept_is_told():
    """PyTorch does not look where there are hooks on saved tensors."""

    class Spoiled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            y = self.inner(x).sigmoid()
            z = y * y
            y += 1
            return z

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        functional.lean(Spoiled())(torch.rand(3, 2)).sum().backward()


def test_spikes_that_somebody_changes_in_place_are_not_taken_for_spikes(saved):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.node, self.linear = neuron.LIFNode(step_mode="m"), nn.Linear(8, 4)

        def forward(self, x):
            y = self.node(x)
            y *= 0.5
            return self.linear(y)

    torch.manual_seed(0)
    net = Scaled()
    x = 3 * torch.rand(4, 2, 8)
    expected = step(net, x)
    found = step(functional.lean(net), x)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert "Spikes" not in saved


def test_a_norm_whose_parameters_change_before_the_backward_pass_is_told():
    net = functional.lean(conv_net())
    functional.reset_net(net)
    loss = net(X).sum()
    with torch.no_grad():
        net[1].bias += 1  # PyTorch's own normalisation does not need it any more
    with pytest.raises(RuntimeError, match="Step the optimizer after the backward pass"):
        loss.backward()


def test_an_error_in_the_middle_leaves_nothing_behind(saved):
    net = functional.lean(conv_net())
    with pytest.raises(ValueError, match="BatchNorm2d"):
        net[1](torch.rand(3))
    with pytest.raises(RuntimeError):
        net(torch.rand(4, 3, 5, 16, 16))
    assert saved_tensors._here.ledgers == []
    nn.Linear(2, 2)(torch.rand(1, 2, requires_grad=True)).sum()
    assert not [name for name in saved if name != "NoneType"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_is_lean_too_and_can_be_switched_off(copied, saved):
    net = copied(functional.lean(conv_net()))
    step(net)
    assert "Spikes" in saved
    saved.clear()
    step(functional.lean(net, on=False))
    assert not saved


def test_without_gradients_and_in_transforms_it_does_nothing(saved):
    net = functional.lean(conv_net())
    with torch.no_grad():
        net(X)
    functional.reset_net(net)
    torch.func.vjp(net.eval(), X)
    assert not saved


def test_checkpointed_segments_inside_a_lean_network():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            net = conv_net()
            self.first, self.second = net[:4], net[4:]

        def forward(self, x):
            return self.second(functional.checkpoint(self.first, x))

    expected = step(conv_net())
    found = step(functional.lean(Halves()))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_compiled_it_is_left_alone():
    net = functional.lean(conv_net())
    expected = step(conv_net())
    found = step(torch.compile(net, backend="aot_eager", fullgraph=True))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "name", sample(["sew_resnet18", "spiking_vgg11_bn", "spikformer_cifar10"], "spikformer_cifar10")
)
def test_published_networks_train_alike(name, saved):
    options = {"num_classes": 4, **({"T": 2, "depths": 1} if "spikformer" in name else {})}

    def made():
        torch.manual_seed(0)
        return models.create(name, neuron=None if "spikformer" in name else neuron.LIFNode, step_mode="m", **options)

    x = torch.rand(2, 2, 3, 32, 32)
    expected, found = step(made(), x), step(functional.lean(made()), x)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert saved.count("Normed") > 3


def _alive_in_backward(net, net_of_segments):
    """For each convolution, whether its output is still held when the backward pass has come to its input."""
    given, alive = {}, {}

    def noted(module, args, y):
        given[module] = saved_tensors.StorageWeakRef(y.untyped_storage())

    convolutions = [module for module in net.modules() if isinstance(module, layer.Conv2d)]
    for module in convolutions:
        module.register_forward_hook(noted)
    x = X.clone().requires_grad_()
    loss = net_of_segments(x).sum()
    before = {module: not held.expired() for module, held in given.items()}
    for module in convolutions:
        module.weight.register_hook(lambda g, module=module: alive.update({module: not given[module].expired()}))
    loss.backward()
    return [before[module] for module in convolutions], [alive[module] for module in convolutions]


def test_what_a_norm_was_given_goes_as_the_backward_pass_goes():
    net = functional.lean(conv_net())
    assert _alive_in_backward(net, net) == ([True, True], [False, False])


def test_in_a_checkpoint_inside_nothing_is_kept_for_a_norm():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net()

        def forward(self, x):
            return self.net[4:](functional.checkpoint(self.net[:4], x))

    net = functional.lean(Halves())
    before, _ = _alive_in_backward(net.net, net)
    assert before == [False, True]
