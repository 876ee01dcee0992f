"""A normalisation fused into the neuron after it: the pair and the one neuron give the same."""

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron


def normalisation(cls, channels=5, **kwargs):
    torch.manual_seed(3)
    bn = cls(channels, **kwargs).eval()
    with torch.no_grad():
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.5, 2.0)
        if bn.weight is not None:
            bn.weight.normal_()
            bn.bias.normal_()
    return bn


CASES = [
    (layer.BatchNorm1d, None, (7, 3, 5), 0),
    (layer.BatchNorm1d, None, (7, 3, 5, 11), 1),
    (layer.BatchNorm2d, None, (7, 3, 5, 4, 3), None),
    (layer.BatchNorm3d, None, (7, 3, 5, 2, 3, 2), None),
    (nn.BatchNorm2d, {"affine": False}, (7, 3, 5, 4, 3), None),
]


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize(("cls", "kwargs", "shape", "axes"), CASES)
def test_the_fused_neuron_equals_the_pair(cls, kwargs, shape, axes, backend):
    bn = normalisation(cls, **(kwargs or {}))
    node = neuron.LIFNode(v_reset=None, step_mode="m", backend=backend, store_v_seq=True)
    x_seq = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2
    with torch.no_grad():
        normed = torch.stack([getattr(bn, "norm", bn)(x) for x in x_seq])
        want = node(normed)
        fused = functional.fuse_bn_neuron(bn, neuron.LIFNode(v_reset=None, step_mode="m", backend=backend), axes)
        fused.store_v_seq = True
        got = fused(x_seq)
    close = (node.v_seq - 1.0).abs().flatten(1).amin() > 1e-4  # no potential so near the threshold that it may flip
    assert close
    assert torch.equal(got, want)
    torch.testing.assert_close(fused.v_seq, node.v_seq, rtol=1e-5, atol=1e-5)


def test_every_backend_gives_the_same_spikes():
    bn, x_seq = normalisation(layer.BatchNorm2d), torch.randn(4, 2, 5, 6, 7)
    made = [functional.fuse_bn_neuron(bn, neuron.IFNode(step_mode="m", backend=b)) for b in ("torch", "cpp")]
    assert torch.equal(made[0](x_seq), made[1](x_seq))


def test_a_whole_network_is_fused_and_the_original_is_left_alone():
    net = nn.Sequential(
        layer.Conv2d(1, 5, 3), normalisation(layer.BatchNorm2d), neuron.IFNode(),
        layer.Flatten(), layer.Linear(5, 5), normalisation(layer.BatchNorm1d), neuron.IFNode(),
    ).eval()  # fmt: skip
    functional.set_step_mode(net, "m")
    x_seq = torch.randn(6, 2, 1, 3, 3)
    with torch.no_grad():
        want = net(x_seq)
        functional.reset_net(net)
        fused = functional.fuse_bn_neurons(net)
        assert torch.equal(fused(x_seq), want)
    assert [type(m).__name__ for m in fused].count("Identity") == 2
    assert isinstance(net[1], layer.BatchNorm2d)
    assert net[2].x_scale is None


def test_what_cannot_be_fused_is_refused_in_words():
    node = neuron.IFNode()
    with pytest.raises(
        TypeError, match="takes a batch normalisation and the pointwise neuron after it, but got Linear"
    ):
        functional.fuse_bn_neuron(nn.Linear(1, 1), node)
    with pytest.raises(ValueError, match="track_running_stats=False"):
        functional.fuse_bn_neuron(nn.BatchNorm2d(3, track_running_stats=False), node)
    with pytest.raises(ValueError, match=r"axes=0 for \[N, C\]"):
        functional.fuse_bn_neuron(nn.BatchNorm1d(3), node)
    with pytest.raises(ValueError, match="TemporalEffectiveBatchNorm2d does more than that"):
        functional.fuse_bn_neuron(layer.TemporalEffectiveBatchNorm2d(4, 3), node, axes=2)
    once = functional.fuse_bn_neuron(nn.BatchNorm2d(3), node)
    with pytest.raises(ValueError, match="fused into it already"):
        functional.fuse_bn_neuron(nn.BatchNorm2d(3), once)
    with pytest.raises(ValueError, match="found no batch normalisation"):
        functional.fuse_bn_neurons(nn.Sequential(nn.Linear(1, 1), node))


def test_a_normalisation_with_hooks_or_in_training_is_refused():
    def zero(module, args, out):
        return out * 0

    for bn in (normalisation(nn.BatchNorm2d), normalisation(layer.BatchNorm2d)):
        getattr(bn, "norm", bn).register_forward_hook(zero)
        with pytest.raises(ValueError, match=f"this {type(bn).__name__} has hooks, which nothing would call after"):
            functional.fuse_bn_neuron(bn, neuron.IFNode())
    with pytest.raises(ValueError, match=r"takes a network in eval mode.*Call net\.eval"):
        functional.fuse_bn_neurons(nn.Sequential(nn.BatchNorm2d(5), neuron.IFNode()))


def test_a_sequential_with_a_forward_of_its_own_is_left():
    class Backwards(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    other = nn.Sequential(normalisation(nn.BatchNorm2d), neuron.IFNode()).eval()
    net = nn.Sequential(Backwards(normalisation(nn.BatchNorm2d), neuron.IFNode()), other).eval()
    fused = functional.fuse_bn_neurons(net)
    assert [type(module).__name__ for module in (*fused[0], *fused[1])] == [
        *("BatchNorm2d", "IFNode"),
        *("Identity", "IFNode"),
    ]
    x = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(fused(x), net(x))


def test_the_fused_neuron_shows_and_copies_what_it_holds():
    import copy
    import pickle

    fused = functional.fuse_bn_neuron(normalisation(layer.BatchNorm2d), neuron.IFNode())
    assert "x_scale=<tensor 5x1x1>" in repr(fused)
    assert "x_scale" not in repr(neuron.IFNode())
    x = torch.randn(2, 5, 3, 3)
    want = fused(x)
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        other.reset()
        assert torch.equal(other(x), want)
