"""What a lean network does in its backward pass in place of PyTorch: less memory, and not a bit is another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.dynamics.norm import batch
from spikescope.dynamics.norm.cpu import norm_backward
from spikescope.functional.memory import norm_node, saved_tensors, slices, stand_ins
from spikescope.functional.memory.peak import most_allocated
from spikescope.layer.stateless import stateless

X = torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch):
    monkeypatch.setattr(stand_ins, "LEAST", 1)
    monkeypatch.setattr(slices, "LEAST_SLICED", 1)


@pytest.fixture(autouse=True)
def tried_anew():
    forget = norm_node._gives_the_same.cache_clear
    forget()
    yield
    forget()


def conv_net(**norm):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 16, 3, padding=1),
        layer.BatchNorm2d(16, **norm),
        neuron.LIFNode(),
        layer.Conv2d(16, 8, 3, padding=1, bias=False),
        layer.BatchNorm2d(8, **norm),
        neuron.ParametricLIFNode(),
    )
    functional.set_step_mode(net, "m")
    return net


def step(net, x=X, times=1):
    functional.reset_net(net)
    x = x.clone().requires_grad_()
    y = net(x)
    loss = (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    for left in reversed(range(times)):
        loss.backward(retain_graph=bool(left))
    held = [loss.detach(), x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
    net.zero_grad()
    return held


def alike(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("shape", [(32, 8, 16, 16), (3, 5, 7, 7), (2, 6, 3), (4, 3, 8), (5, 4, 4, 4), (7, 2, 33)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_kernel_computes_what_pytorch_computes(shape, affine):
    """Up to rounding everywhere; whether to the bit is asked of every PyTorch and processor before it is used."""
    own = torch.Generator().manual_seed(0)
    x, gy = torch.randn(shape, generator=own), torch.randn(shape, generator=own)
    mean, inverse, gain = (torch.rand(shape[1], generator=own) + 0.5 for _ in range(3))
    weight = gain if affine else None
    found = norm_backward(gy, x, weight, mean, inverse)
    expected = norm_node._by_pytorch(gy, x, weight, mean, inverse, 1e-5, (True, affine, affine))
    for a, b in zip(expected, found, strict=True):
        assert b is None or torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="PyTorch 2.11 sums what is left of a vector in another order: no kernel there"
)
@pytest.mark.parametrize("size", [2, 7, 8, 9, 15, 16, 33, 125])
def test_the_kernel_takes_sums_in_the_order_of_pytorch_for_every_size(size):
    """Where it does for whole vectors, it does for fewer values than a vector has, and for a rest of them."""
    whole = norm_node._gives_the_same((6, 3, 1, 64), torch.float32, ())
    assert norm_node._gives_the_same((6, 3, 1, size), torch.float32, ()) is whole


@pytest.mark.parametrize("norm", [{}, {"affine": False}, {"track_running_stats": False}], ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_a_step_has_the_same_bits(norm, times):
    plain, lean = conv_net(**norm), functional.lean(conv_net(**norm))
    for _ in range(2):
        assert alike(step(plain, times=times), step(lean, times=times))


def test_a_normalisation_runs_by_the_kernel_of_plain_training(monkeypatch):
    used = []
    forward = batch.norm_forward
    monkeypatch.setattr(batch, "SMALL", 1)
    monkeypatch.setattr(batch, "norm_forward", lambda *args: used.append(1) or forward(*args))
    plain = step(conv_net())
    by_plain = len(used)
    assert alike(plain, step(functional.lean(conv_net())))
    assert len(used) == 2 * by_plain
    y = functional.lean(conv_net()[:2])(X)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        functional.lean(conv_net())(X)
    assert len(used) == 2 * by_plain + bool(by_plain)  # hooks of others are to see what PyTorch keeps
    assert y.requires_grad


def test_the_kernel_is_used_where_it_gives_the_same_bits(monkeypatch):
    used = []
    monkeypatch.setattr("spikescope.layer.norm.normalized", lambda *args: None)  # what is left to PyTorch
    monkeypatch.setattr(norm_node, "norm_backward", lambda *args: used.append(1) or norm_backward(*args))
    for same in (True, False):
        monkeypatch.setattr(norm_node, "_gives_the_same", lambda *args, same=same: same)
        step(functional.lean(conv_net()))
        assert len(used) == 2  # normalisations, once


@pytest.mark.parametrize(
    "laid", [lambda w: w[:1, :1].expand(w.shape), lambda w: w.mT.contiguous().mT], ids=["one", "turned"]
)
def test_a_gradient_in_another_layout_is_summed_as_pytorch_does(laid):
    """It has other code for these, with other rounding."""
    found = []
    for net in (conv_net()[:2], functional.lean(conv_net()[:2])):
        x, w = X.clone().requires_grad_(), torch.linspace(-1, 1, 4 * 3 * 16 * 256).view(4, 3, 16, 16, 16)
        net(x).backward(laid(w))
        found.append([x.grad, *(p.grad for p in net.parameters())])
    assert alike(*found)


@pytest.mark.parametrize("turned", ["x", "gy"])
def test_one_channel_may_lie_in_two_layouts(turned):
    """Of one channel both strides are contiguous; PyTorch sums by the layout that it guesses from them."""
    found = []
    for lean in (False, True):
        net = nn.Sequential(nn.Identity(), layer.BatchNorm2d(1))
        held = dict(
            zip(("x", "gy"), torch.rand(2, 6, 1, 9, 9, generator=torch.Generator().manual_seed(2)), strict=True)
        )
        held[turned] = held[turned].as_strided((6, 1, 9, 9), (81, 1, 9, 1))
        x, gy = held["x"].requires_grad_(), held["gy"]
        y = (functional.lean(net) if lean else net)(x * 1)
        y.backward(gy)
        found.append([x.grad, *(p.grad for p in net.parameters())])
    assert alike(*found)


def test_a_hook_on_the_way_to_the_result_is_not_passed_by():
    found = []
    for net in (conv_net(), functional.lean(conv_net())):
        norm, written = net[4], net[4].normalize

        def normalize(x, written=written):
            y = written(x)
            y.register_hook(lambda gradient: 2 * gradient)
            return y

        norm.normalize = normalize
        found.append(step(net))
    assert alike(*found)


def test_where_the_kernel_gives_other_bits_it_is_left(monkeypatch):
    def other(*args):
        gx, *learned = norm_backward(*args)
        return gx * (1 + 1e-6), *learned

    monkeypatch.setattr(norm_node, "norm_backward", other)
    assert alike(step(conv_net()), step(functional.lean(conv_net())))


def test_frozen_parameters():
    found = []
    for net in (conv_net(), functional.lean(conv_net())):
        net[1].weight.requires_grad_(False)
        net[4].requires_grad_(False)
        found.append(step(net))
    assert alike(*found)


class Twice(nn.Module):
    """A normalisation whose result goes two ways."""

    def __init__(self, other):
        super().__init__()
        self.inner, self.other = conv_net(), other

    def forward(self, x):
        y = self.inner[:2](x)
        return self.inner[2](y) + self.other(y)


@pytest.mark.parametrize(
    "other",
    [nn.Identity, lambda: neuron.IFNode(step_mode="m"), lambda: nn.Conv3d(3, 3, 1)],
    ids=["skip", "neuron", "conv"],
)
def test_a_result_that_goes_two_ways(other):
    nets = []
    for _ in range(2):
        torch.manual_seed(1)
        nets.append(Twice(other()))
    assert alike(step(nets[0]), step(functional.lean(nets[1])))


def test_a_monitor_sees_the_same_gradients():
    found = []
    for net in (conv_net(), functional.lean(conv_net())):
        with monitor.record(net, "gradient norm", signal="grad_output", where=(nn.Conv2d, nn.BatchNorm2d)) as seen:
            step(net)
        found.append(str(seen.table()))
    assert found[0] == found[1]
    assert "nan" not in found[0]


def test_gradients_of_gradients():
    found = []
    for net in (conv_net(), functional.lean(conv_net())):
        x = X.clone().requires_grad_()
        (gx,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        gx.square().sum().backward()
        found.append([gx.detach(), x.grad, *(p.grad for p in net.parameters())])
    assert alike(*found)


def test_a_gain_that_was_changed_is_told():
    net = functional.lean(nn.Sequential(*conv_net()[:2], nn.Sigmoid()))
    y = net(X.clone().requires_grad_()).sum()
    with torch.no_grad():
        net[1].weight += 1
    with pytest.raises(RuntimeError, match="BatchNorm needs its input, its weight"):
        y.backward()


@pytest.mark.parametrize("second", [False, True], ids=["neuron", "norm and neuron"])
def test_a_cheap_convolution_is_computed_again(second):
    def made():
        net = conv_net()
        return net if second else nn.Sequential(net[0], *net[2:])

    net, given = made(), []
    net[0].register_forward_hook(
        lambda module, args, y: given.append(saved_tensors.StorageWeakRef(y.untyped_storage()))
    )
    functional.lean(net)
    net[0]._forward_hooks.popitem(last=False)  # a hook of the user would have it kept
    expected = step(made())
    assert alike(expected, step(net))
    assert alike(step(made(), times=3), step(net, times=3))


def _recognised(net, monkeypatch):
    found, keep = [], saved_tensors.Ledger._keep

    def noted(ledger, x):
        held = keep(ledger, x)
        found.append(type(held.what).__name__)
        return held

    monkeypatch.setattr(saved_tensors.Ledger, "_keep", noted)
    net(X)
    return found.count("Convolved")


class Scaled(layer.Conv2d):
    scale = 1.0

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x * self.scale, weight, bias)


class _Gained(nn.Conv2d):
    gain = 1.0

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.gain, self.bias)


Gained = stateless(_Gained, "N C H W", module=__name__)


@pytest.mark.parametrize(
    ("conv", "taken"),
    [
        (lambda: layer.Conv2d(2, 16, 3, padding=1), True),
        (lambda: layer.Conv2d(2, 64, 3, stride=2, padding="valid", bias=False), True),
        (lambda: layer.Conv2d(2, 16, 7, padding=3), True),
        (lambda: layer.Conv2d(2, 16, 9, padding=4), False),  # takes longer
        (lambda: layer.Conv2d(2, 4, 3, padding=1), False),  # little larger than its input
        (lambda: layer.Conv2d(2, 16, 3, padding=1, padding_mode="circular"), False),
        (lambda: layer.WSConv2d(2, 16, 3, padding=1), False),
        (lambda: Scaled(2, 16, 3, padding=1), False),
        (lambda: Gained(2, 16, 3, padding=1), False),
    ],
    ids=["plain", "stride", "stem", "large", "small", "circular", "standardized", "subclass", "other weight"],
)
def test_which_convolutions_are_cheap(conv, taken, monkeypatch):
    net = nn.Sequential(conv(), layer.BatchNorm2d(conv().out_channels), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    assert bool(_recognised(functional.lean(net), monkeypatch)) is taken


@pytest.mark.parametrize(("size", "taken"), [(1, True), (3, False)])
def test_of_more_channels_than_images_have_fewer_multiplications_are_cheap(size, taken, monkeypatch):
    net = nn.Sequential(layer.Conv2d(2, 4, 1), layer.Conv2d(4, 32, size), layer.BatchNorm2d(32), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    assert bool(_recognised(functional.lean(net), monkeypatch)) is taken


def test_a_black_border_proves_nothing_of_how_other_images_are_padded():
    def made():
        net = conv_net()
        net[0] = layer.Conv2d(2, 16, 3, padding=1, padding_mode="circular", step_mode="m")
        net[0].load_state_dict(conv_net()[0].state_dict())
        return net

    black = X.clone()
    black[..., 0] = black[..., -1] = black[..., 0, :] = black[..., -1, :] = 0
    plain, lean = made(), functional.lean(made())
    for x in (black, X):
        assert alike(step(plain, x), step(lean, x))


@pytest.mark.parametrize("what", ["weight", "bias", "input"])
def test_what_a_cheap_convolution_comes_from_is_not_changed_unnoticed(what):
    net, x = functional.lean(conv_net()), X.clone()
    loss = net(x).sum()
    with torch.no_grad():
        (x if what == "input" else getattr(net[0], what)).add_(1)
    with pytest.raises(RuntimeError, match="Step the optimizer after the backward pass"):
        loss.backward()


def test_mixed_precision():
    found = []
    for net in (conv_net(), functional.lean(conv_net())):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(step(net))
    assert alike(*found)


def test_the_peak_is_half_of_that_of_a_plain_step():
    """Of five blocks, as `bench --rows lean` has them, on smaller images."""

    def made():
        torch.manual_seed(0)
        parts = []
        for block in range(5):
            parts += [layer.Conv2d(32 if block else 3, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32)]
            parts += [neuron.LIFNode()]
        net = nn.Sequential(*parts)
        functional.set_step_mode(net, "m")
        return net

    x, found = torch.rand(8, 2, 3, 16, 16), []
    for net in (made(), functional.lean(made())):
        step(net, x)
        functional.reset_net(net)
        found.append(most_allocated(lambda net=net: step(net, x), torch.device("cpu")))
    assert found[1] <= 0.5 * found[0]
