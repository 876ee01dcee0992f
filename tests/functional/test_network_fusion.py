"""A whole network: what is folded gives the same, what cannot be folded safely stays, and the words say why."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.functional import find_convbn, fuse_bn_neurons, fuse_network

CLOSE = {"rtol": 1e-9, "atol": 1e-9}  # float64; sums of at most a hundred terms of size one in another order


def filled(net):
    torch.manual_seed(0)
    with torch.no_grad():
        for name, held in net.named_buffers():
            if name.endswith("running_var"):
                held.uniform_(0.3, 2.0)
            elif held.is_floating_point():
                held.normal_()
        for name, held in net.named_parameters():
            if "bn" in name or held.ndim == 1:
                held.normal_()
    return net.double().eval()


def conv_bn(inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options), nn.BatchNorm2d(outputs)


def spiking(*wrap):
    return nn.Sequential(
        layer.Conv2d(2, 4, 3, bias=False), layer.BatchNorm2d(4), neuron.LIFNode(),
        nn.Sequential(layer.ConvTranspose2d(4, 3, 2, stride=2), layer.BatchNorm2d(3), neuron.IFNode()),
        layer.Flatten(), layer.Linear(3 * 8 * 8, 5), layer.BatchNorm1d(5), neuron.NonSpikingLIFNode(),
    )  # fmt: skip


def reports(net):
    return {found.bn: found.obstacle for found in find_convbn(net)}


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_network_of_our_layers(step_mode):
    net = filled(spiking())
    functional.set_step_mode(net, step_mode)
    x_seq = torch.randn(4, 2, 2, 6, 6, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())
    fused = fuse_network(net)
    assert [found.obstacle for found in find_convbn(net)] == [""] * 3
    assert find_convbn(fused) == []
    results = []
    for each in (net, fused):
        functional.reset_net(each)
        results.append(each(x_seq) if step_mode == "m" else torch.stack([each(x) for x in x_seq]))
    torch.testing.assert_close(*results, **CLOSE)
    assert results[0].abs().max() > 0.1
    assert [type(module) for module in fused[:3]] == [layer.Conv2d, nn.Identity, neuron.LIFNode]
    assert fused[0].step_mode == step_mode
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)
    assert isinstance(net[1], layer.BatchNorm2d)


@pytest.mark.parametrize(
    "container",
    [
        layer.SeqToANNContainer,
        layer.MultiStepContainer,
        lambda *modules: other_mode(layer.StepModeContainer(False, *modules)),
    ],
)
def test_inside_the_containers(container):
    net = filled(nn.Sequential(container(*conv_bn()), neuron.IFNode(step_mode="m")))
    x_seq = torch.randn(4, 2, 3, 5, 5, dtype=torch.float64)
    fused = fuse_network(net)
    assert isinstance(fused[0][1], nn.Identity)
    torch.testing.assert_close(fused[0](x_seq), net[0](x_seq), **CLOSE)


def other_mode(module):
    module.step_mode = "m"
    return module


class Residual(nn.Module):
    """Modules called out of the order of their names."""

    def __init__(self):
        super().__init__()
        self.bn2, self.bn1 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.conv1, self.conv2 = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

    def forward(self, x, scale=None):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + x
        return y if scale is None else y * scale


class Steps(nn.Module):
    """A loop over time in single steps: the same pair at every step."""

    def __init__(self):
        super().__init__()
        self.block, self.node = nn.Sequential(*conv_bn()), neuron.IFNode()
        self.conv, self.bn = conv_bn()

    def forward(self, x):
        out = 0.0
        for _ in range(4):
            out = out + self.bn(self.conv(self.node(self.block(x))))
        return out


@pytest.mark.parametrize("made", [Residual, Steps])
def test_forwards_of_the_users_own_are_followed(made):
    net = filled(made())
    fused = fuse_network(net)
    assert sum(isinstance(module, nn.Identity) for module in fused.modules()) == 2
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    want = net(x)
    functional.reset_net(fused)
    torch.testing.assert_close(fused(x), want, **CLOSE)


class Twice(nn.Module):
    """The output of the convolution goes to two places."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv_bn()

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class TwoNorms(Twice):
    def __init__(self):
        super().__init__()
        self.other = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x)) + self.other(self.conv(x))


class TwoConvolutions(Twice):
    def __init__(self):
        super().__init__()
        self.other = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.bn(self.conv(x)) + self.bn(self.other(x))


class ReadsWeight(Twice):
    def forward(self, x):
        return self.bn(self.conv(x)) + self.conv.weight.sum()


class ReadsGain(Twice):
    def __init__(self):
        super().__init__()
        self.bn = layer.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x)) * self.bn.weight.sum()


class ReadsStatistics(Twice):
    def forward(self, x):
        return self.bn(self.conv(x)) - self.bn.running_mean.sum()


class Reaches(nn.Module):
    """Takes a part out of a sequential, besides calling it."""

    def __init__(self):
        super().__init__()
        self.row = nn.Sequential(*conv_bn())

    def forward(self, x):
        return self.row(x) + self.row[0](x)


class Untraceable(Twice):
    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else x


ELSEWHERE = "the output or the weight of the layer before it is used elsewhere too"
shared = nn.Conv2d(3, 3, 1)
STAYS = [
    (Twice(), ELSEWHERE),
    (TwoNorms(), ELSEWHERE),
    (TwoConvolutions(), "it follows different modules at different places"),
    (ReadsWeight(), ELSEWHERE),
    (ReadsGain(), "it follows different modules at different places, or its numbers are read"),
    (ReadsStatistics(), "or its numbers are read"),
    (Reaches(), ELSEWHERE),
    (Untraceable(), "no forward that could be followed calls it"),
    (nn.Sequential(shared, nn.BatchNorm2d(3), shared), ELSEWHERE),
    (
        nn.Sequential(shared, nn.ReLU(), nn.BatchNorm2d(3)),
        r"it follows 1 \(ReLU\), which is not a linear layer or conv",
    ),
    (nn.Sequential(nn.BatchNorm2d(3), shared), "its input is not the output of a module of the same forward"),
    (nn.BatchNorm2d(3), "no forward that could be followed calls it"),
    (nn.Sequential(layer.WSConv2d(3, 3, 1), nn.BatchNorm2d(3)), "WSConv2d computes it anew"),
    (
        nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
        "ParametrizedConv2d computes it anew",
    ),
    (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), "running statistics"),
]


@pytest.mark.parametrize(("net", "text"), STAYS, ids=lambda v: type(v).__name__)
def test_what_is_not_safe_stays_and_the_words_say_why(net, text, caplog):
    net = filled(copy.deepcopy(net))
    names = set(net.state_dict())
    with caplog.at_level(logging.INFO, "spikescope"):
        fused = fuse_network(net)
    assert any("as it is: " in record.message for record in caplog.records)
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(next(found.obstacle for found in find_convbn(net) if found.obstacle))
    assert set(fused.state_dict()) == names
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(fused(x), net(x))


def test_hooks_and_training_mode_stay():
    net = nn.Sequential(*conv_bn(), *conv_bn(), *conv_bn()).eval()
    net[0].register_forward_hook(lambda *_: None)
    net[3].train()
    found = find_convbn(net)
    assert "Conv2d has hooks" in found[0].obstacle
    assert found[1] == ("3", "2", "it is in training mode. Call eval() first.")
    assert found[2] == ("5", "4", "")
    assert isinstance(fuse_network(net)[5], nn.Identity)
    with pytest.raises(ValueError, match=r"takes a network in eval mode, .* Call net.eval\(\)"):
        fuse_network(net.train())
    with pytest.raises(TypeError, match=r"an nn\.Module, but got list"):
        fuse_network([nn.ReLU()])
    with pytest.raises(TypeError, match=r"an nn\.Module, but got list"):
        find_convbn([nn.ReLU()])


def test_a_pair_under_two_names_is_replaced_under_both():
    net = filled(nn.ModuleDict({"a": nn.Sequential(*conv_bn())}))
    net["b"] = net["a"]
    fused = fuse_network(net)
    assert fused["a"] is fused["b"]
    pair = conv_bn()
    net = filled(nn.Sequential(nn.Sequential(*pair), nn.Sequential(*pair)))
    fused = fuse_network(net)
    assert fused[0][0] is fused[1][0]
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fused(x), net(x), **CLOSE)


def test_fusing_twice_changes_nothing_more(caplog):
    net = filled(spiking())
    once = fuse_network(net)
    with caplog.at_level(logging.INFO, "spikescope"):
        twice = fuse_network(once)
    assert not caplog.records
    assert twice is not once
    assert all(torch.equal(held, twice.state_dict()[name]) for name, held in once.state_dict().items())


def test_it_composes_with_the_fusion_into_the_neuron():
    net = filled(
        nn.Sequential(
            layer.Conv2d(2, 4, 3), layer.BatchNorm2d(4), layer.AvgPool2d(2), layer.BatchNorm2d(4), neuron.LIFNode()
        )
    )
    functional.set_step_mode(net, "m")
    x_seq = 3 * torch.randn(5, 2, 2, 8, 8, dtype=torch.float64)
    fused = fuse_bn_neurons(fuse_network(net))
    assert [type(module).__name__ for module in fused] == ["Conv2d", "Identity", "AvgPool2d", "Identity", "LIFNode"]
    want = net(x_seq)
    assert 0 < want.mean() < 1
    assert torch.equal(fused(x_seq), want)


def test_monitors_plug_into_the_copy_and_the_original_keeps_its_own():
    net = filled(spiking())
    functional.set_step_mode(net, "m")
    x_seq = torch.randn(4, 2, 2, 6, 6, dtype=torch.float64)
    with monitor.record(net, "rate") as of_net:
        fused = fuse_network(net)
        with monitor.record(fused, "rate") as of_fused:
            fused(x_seq)
        assert of_net.never_fired
        net(x_seq)
    assert of_fused.table() == of_net.table()


class Counting(Residual):
    """Its forward leaves traces."""

    calls = 0

    def forward(self, x, scale=None):
        self.calls += 1
        self.last = x
        return super().forward(x)


def test_looking_leaves_no_trace():
    net = Counting().eval()
    assert list(reports(net).values()) == ["", ""]
    assert net.calls == 0
    assert not hasattr(net, "last")
    assert net.state_dict().keys() == Counting().state_dict().keys()
