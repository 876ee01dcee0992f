"""The backward pass of a convolution of spikes by slices: less memory, and not a bit of a gradient is another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.functional.memory import slices, stand_ins
from spikescope.functional.memory.peak import most_allocated
from spikescope.layer.stateless import stateless

X = torch.rand(3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch):
    monkeypatch.setattr(stand_ins, "LEAST", 1)
    monkeypatch.setattr(slices, "LEAST_SLICED", 1)


@pytest.fixture(autouse=True)
def no_room(monkeypatch):
    monkeypatch.setattr(slices.Room, "left", lambda *_: 0)


@pytest.fixture(autouse=True)
def tried_anew():
    forget = slices._same_bits.cache_clear
    forget()
    yield
    forget()


@pytest.fixture
def counted(monkeypatch):
    """The slices of each backward pass that took some, the trial apart."""
    found, inside = [], []
    by_slices, tried = slices.Form.by_slices, slices._same_bits

    def counting(*args):
        if not inside:
            found.append(args[-1])
        return by_slices(*args)

    def trying(*args):
        inside.append(1)
        try:
            return tried(*args)
        finally:
            inside.pop()

    monkeypatch.setattr(slices.Form, "by_slices", counting)
    monkeypatch.setattr(slices, "_same_bits", trying)
    return found


def net_with(conv=None, step_mode="m"):
    """Spikes into `conv`; the same weights for every call."""
    torch.manual_seed(0)
    first, node = layer.Conv2d(3, 16, 3, padding=1), neuron.LIFNode()
    middle = layer.Conv2d(16, 8, 3, padding=1) if conv is None else conv()
    net = nn.Sequential(first, layer.BatchNorm2d(16), node, middle, layer.BatchNorm2d(8), neuron.LIFNode())
    functional.set_step_mode(net, step_mode)
    return net


def step(net, x=X, amp=False, single=False, copies=True):
    functional.reset_net(net)
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, amp, cache_enabled=copies):
        y = torch.stack([net(x_t) for x_t in x]) if single else net(x)
        loss = (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    loss.backward()
    held = [loss.detach(), x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
    net.zero_grad()
    return held


def alike(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


FORMS = {
    "plain": lambda: layer.Conv2d(16, 8, 3, padding=1),
    "no bias": lambda: layer.Conv2d(16, 8, 3, bias=False),
    "stride": lambda: layer.Conv2d(16, 8, 3, stride=2, padding=1),
    "dilation": lambda: layer.Conv2d(16, 8, 3, dilation=2, padding="same"),
    "one by one": lambda: layer.Conv2d(16, 8, 1),
}


@pytest.mark.parametrize("conv", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("amp", [False, True], ids=["float32", "amp"])
def test_the_gradients_have_the_same_bits(conv, amp, counted):
    plain, lean = net_with(conv), functional.lean(net_with(conv))
    for _ in range(2):
        assert alike(step(plain, amp=amp), step(lean, amp=amp))


def test_slices_are_taken(counted):
    step(functional.lean(net_with()))
    assert counted == [(4, 4)]


@pytest.mark.parametrize("exact", [(1, 2), (1, 1), None])
def test_the_first_slices_that_give_the_same_bits_are_taken(exact, counted, monkeypatch):
    by_slices = slices.Form.by_slices

    def other(*args):
        gx, gweight, gbias = by_slices(*args)
        return gx, gweight if args[-1] == exact else gweight * (1 + 1e-6), gbias

    monkeypatch.setattr(slices.Form, "by_slices", other)
    plain, lean = net_with(), functional.lean(net_with())
    for _ in range(2):
        assert alike(step(plain), step(lean))
    assert counted == ([] if exact is None else [exact] * 2)


class Summed(nn.Module):
    """What is no spike goes into the convolution: the sum of two neurons, as in SEW-ResNets."""

    def __init__(self):
        super().__init__()
        self.inner, self.other = net_with(), neuron.LIFNode(tau=4.0, step_mode="m")

    def forward(self, x):
        x = self.inner[:2](x)
        return self.inner[3:](self.inner[2](x) + self.other(x))


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "amp"])
def test_a_convolution_of_other_numbers_is_sliced_as_well(amp, counted):
    plain, lean = Summed(), functional.lean(Summed())
    for _ in range(2):
        assert alike(step(plain, amp=amp), step(lean, amp=amp))
    assert len(counted) == 2


@pytest.mark.parametrize("kind", [net_with, Summed], ids=["spikes", "numbers"])
def test_for_the_gradient_of_a_large_weight_channels_alone_are_sliced(kind, counted, monkeypatch):
    monkeypatch.setattr(slices, "LEAST_SLICED", 1 << 40)
    step(functional.lean(kind()))
    assert counted == []
    monkeypatch.setattr(slices, "LEAST_WEIGHT", 16 * 8 * 9)
    assert alike(step(kind()), step(functional.lean(kind())))
    assert counted == [(16, 1)]


def test_single_steps_are_sliced_as_well(counted):
    assert alike(
        step(net_with(step_mode="s"), single=True), step(functional.lean(net_with(step_mode="s")), single=True)
    )
    assert len(counted) == len(X)


@pytest.mark.parametrize("conv", ["plain", "no bias"])
def test_gradients_of_steps_add_up_in_the_precision_of_autocast(conv, counted):
    """All uses of a weight or a bias within autocast share one copy, in whose dtype their gradients are summed."""
    plain, lean = (net_with(FORMS[conv], step_mode="s") for _ in range(2))
    functional.lean(lean)
    assert alike(step(plain, amp=True, single=True), step(lean, amp=True, single=True))
    assert len(counted) == len(X)


def test_a_bias_of_which_autocast_keeps_no_copy_is_left_to_pytorch(counted):
    """Each use has a copy of its own then, which nobody can ask for."""
    plain, lean = (net_with(step_mode="s") for _ in range(2))
    functional.lean(lean)
    assert alike(*(step(net, amp=True, single=True, copies=False) for net in (plain, lean)))
    assert not counted


def test_a_bias_that_two_convolutions_share_is_sliced_in_both(counted):
    found = []
    for leanly in (False, True):
        torch.manual_seed(0)
        convs = [layer.Conv2d(16, 16, 3, padding=1) for _ in range(2)]
        convs[1].bias = convs[0].bias
        first = layer.Conv2d(3, 16, 3, padding=1)
        net = nn.Sequential(first, neuron.LIFNode(), convs[0], neuron.LIFNode(), convs[1])
        functional.set_step_mode(net, "m")
        found.append(step(functional.lean(net, leanly), amp=True))
    assert alike(*found)
    assert len(counted) == 2


@pytest.mark.parametrize(("conv", "pool", "size"), [("Conv1d", "1d", (32,)), ("Conv3d", "3d", (4, 4, 4))])
def test_one_and_three_axes(conv, pool, size, counted):
    def made():
        torch.manual_seed(0)
        cls, norm = getattr(layer, conv), getattr(layer, f"BatchNorm{pool}")
        net = nn.Sequential(cls(2, 16, 3), norm(16), neuron.LIFNode(), cls(16, 4, 1))
        functional.set_step_mode(net, "m")
        return net

    size = tuple(held + 2 for held in size)
    x = torch.rand(2, 2, 2, *size)
    assert alike(step(made(), x), step(functional.lean(made()), x))
    assert len(counted) == 1


def watched():
    conv = layer.Conv2d(16, 8, 3, padding=1)
    conv.register_forward_hook(lambda module, args, y: None)
    return conv


def frozen():
    conv = layer.Conv2d(16, 8, 3, padding=1)
    conv.weight.requires_grad_(False)
    return conv


class Doubled(layer.Conv2d):
    def forward(self, x):
        return super().forward(2 * x)


def twice_the_gradient(y):
    if y.requires_grad:
        y.register_hook(lambda gradient: 2 * gradient)
    return y


class OnTheWay(layer.Conv2d):
    """What somebody does with a result is on the tensor before time is unfolded, which the module does not give."""

    def _conv_forward(self, x, weight, bias):
        return twice_the_gradient(super()._conv_forward(x, weight, bias))


class _Within(nn.Conv2d):
    def forward(self, x):
        return twice_the_gradient(super().forward(x))


Within = stateless(_Within, "N C H W", module=__name__)


def patched():
    conv = layer.Conv2d(16, 8, 3, padding=1)
    written = conv._conv_forward
    conv._conv_forward = lambda *args: twice_the_gradient(written(*args))
    return conv


LEFT = {
    "groups": lambda: layer.Conv2d(16, 8, 3, padding=1, groups=2),
    "circular": lambda: layer.Conv2d(16, 8, 3, padding=1, padding_mode="circular"),
    "reflected": lambda: layer.Conv2d(16, 8, 3, padding=1, padding_mode="reflect"),
    "hook": watched,
    "frozen": frozen,
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(layer.Conv2d(16, 8, 3, padding=1)),
    "subclass": lambda: Doubled(16, 8, 3, padding=1),
    "hook on the way": lambda: OnTheWay(16, 8, 3, padding=1),
    "hook within": lambda: Within(16, 8, 3, padding=1),
    "patched": patched,
    "channels last": lambda: layer.Conv2d(16, 8, 3, padding=1).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("conv", LEFT.values(), ids=LEFT)
def test_other_convolutions_are_left_to_pytorch(conv, counted):
    assert alike(step(net_with(conv)), step(functional.lean(net_with(conv))))
    assert not counted


def test_a_gradient_in_another_layout_is_left_to_pytorch(counted):
    """The trial is on numbers that lie in order."""
    found = []
    for net in (net_with()[:4], functional.lean(net_with()[:4])):
        y = net(X)
        y.backward(torch.linspace(-1, 1, y.numel()).view(y.mT.shape).mT)
        found.append([p.grad for p in net.parameters()])
    assert alike(*found)
    assert not counted


def test_a_silent_layer_proves_nothing(monkeypatch):
    """Its gradients are zeros by slices and as a whole; the trial is on other numbers."""
    by_slices = slices.Form.by_slices

    def other(*args):
        gx, gweight, gbias = by_slices(*args)
        return gx * (1 + 1e-6), gweight, gbias

    monkeypatch.setattr(slices.Form, "by_slices", other)
    plain, lean = net_with(), functional.lean(net_with())
    for factor in (0.0, 1.0):
        found = []
        for net in (plain, lean):
            functional.reset_net(net)
            x = X.clone().requires_grad_()
            (net(x).square().sum() * factor).backward()
            found.append(x.grad)
        assert torch.equal(*found)


def test_gradients_of_gradients(counted):
    """A backward pass that is asked for the gradient of the input alone passes through no node beside the way to it."""
    found = []
    for net in (net_with(), functional.lean(net_with())):
        x = X.clone().requires_grad_()
        (gx,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        gx.square().sum().backward()
        found.append([gx.detach(), x.grad, *(p.grad for p in net.parameters())])
    assert alike(*found)
    assert found[0][1].any()
    assert counted == [(4, 4)]  # the second backward pass also goes back through the first


def test_a_weight_that_was_changed_is_told():
    net = functional.lean(net_with())
    y = net(X).sum()
    with torch.no_grad():
        net[3].weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_second_backward_pass_through_a_freed_graph_is_told():
    net = functional.lean(nn.Sequential(*net_with()[:4]))
    y = net(X).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_it_takes_less_at_a_time(monkeypatch):
    def peak():
        torch.manual_seed(0)
        x = torch.rand(2, 4, 3, 16, 16)
        parts = [layer.Conv2d(3, 32, 3, padding=1), neuron.LIFNode(), layer.Conv2d(32, 32, 3, padding=1)]
        net = functional.lean(nn.Sequential(*parts))
        functional.set_step_mode(net, "m")
        step(net, x)
        return most_allocated(lambda: step(net, x), torch.device("cpu")) / (2 * 4 * 32 * 16 * 16 * 4)

    less = peak()
    monkeypatch.setattr(slices, "LEAST_SLICED", 1 << 40)
    assert peak() - less > 1
