"""Training forward in time, against the formulas of the papers written as plain loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.errors import ShapeError


class TwoNumbers(nn.Module):
    """y = a x + b v with the input before as v, so that there is a state."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.75, -0.25]))
        self.b = nn.Parameter(torch.tensor(0.5))
        self.unused = nn.Parameter(torch.tensor(3.0))
        self.frozen = nn.Parameter(torch.tensor(4.0), requires_grad=False)
        self.past = layer.Delay(1)

    def forward(self, x):
        return self.a * x + self.b * self.past(x)


def by_hand(x_seq, target_seq, alpha, lr):
    """Kag and Saligrama (2021) on `TwoNumbers` with a squared error; its gradients are worked out, not derived."""
    a, b = torch.tensor([0.75, -0.25]), torch.tensor(0.5)
    a_bar, b_bar, ga, gb = a, b, torch.zeros(2), torch.tensor(0.0)
    past = torch.zeros_like(x_seq[0])
    for t, (x, target) in enumerate(zip(x_seq, target_seq, strict=True)):
        error = 2 * (a * x + b * past - target)
        pull_a = alpha * (a - a_bar - ga / (2 * alpha)) / 2  # the mean over the two elements of a
        pull_b = alpha * (b - b_bar - gb / (2 * alpha))
        a, b = a - lr * ((error * x).sum(0) + pull_a), b - lr * ((error * past).sum() + pull_b)
        past = x
        if t < len(x_seq) - 1:
            error = 2 * (a * x + b * past - target)  # again, from the state after the step
            ga, gb = (error * x).sum(0), (error * past).sum()
            a_bar, b_bar = (a_bar + a) / 2 - ga / (2 * alpha), (b_bar + b) / 2 - gb / (2 * alpha)
    return a, b, a_bar, b_bar


def squared(y, target):
    return ((y - target) ** 2).sum()


def test_fptt_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    x_seq, target_seq = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    model = TwoNumbers()
    optimizer = torch.optim.SGD([{"params": [model.frozen, model.a]}, {"params": [model.unused, model.b]}], lr=0.01)
    w_ra = functional.fptt_online_training_init_w_ra(optimizer)
    functional.fptt_online_training(model, optimizer, x_seq, target_seq, squared, 0.5, w_ra)
    a, b, a_bar, b_bar = by_hand(x_seq, target_seq, 0.5, 0.01)
    for got, want in ((model.a, a), (model.b, b), (w_ra[1], a_bar), (w_ra[3], b_bar)):
        torch.testing.assert_close(got.detach(), want)
    assert (model.unused.item(), model.frozen.item(), w_ra[0].item(), w_ra[2].item()) == (3.0, 4.0, 4.0, 3.0)
    assert model.unused.grad is None
    assert model.frozen.grad is None


def test_running_averages_are_copies():
    w = nn.Parameter(torch.ones(2))
    (average,) = functional.fptt_online_training_init_w_ra(torch.optim.SGD([w], lr=1.0))
    w.data.zero_()
    assert average.tolist() == [1.0, 1.0]
    assert not average.requires_grad


def test_fptt_leaves_the_state_of_one_pass():
    net = nn.Sequential(nn.Linear(2, 3), neuron.LIFNode())
    twin = nn.Sequential(nn.Linear(2, 3), neuron.LIFNode())
    twin.load_state_dict(net.state_dict())
    x_seq = torch.rand(4, 2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    w_ra = functional.fptt_online_training_init_w_ra(optimizer)
    functional.fptt_online_training(net, optimizer, x_seq, torch.rand(4, 2, 3), F.mse_loss, 1.0, w_ra)
    for x in x_seq:
        twin(x)
    assert torch.equal(net[1].v, twin[1].v)
    assert net[1].v.grad_fn is None


def two_layers(**last):
    torch.manual_seed(3)
    return layer.OTTTSequential(
        nn.Linear(3, 4), neuron.OTTTLIFNode(tau=2.0), nn.Linear(4, 2), neuron.LIFNode(v_reset=None, **last)
    ).double()


def ottt_by_hand(net, x_seq, target_seq):
    """Equations 5 to 7 of Xiao et al. (2022): instantaneous errors times traces; `net` gives weights alone."""
    (w1, b1), (w2, b2) = ((net[i].weight.detach(), net[i].bias.detach()) for i in (0, 2))
    slope = lambda u: 4 * torch.sigmoid(4 * u) * (1 - torch.sigmoid(4 * u))  # noqa: E731
    v1 = v2 = trace = torch.zeros((), dtype=torch.float64)
    gradients = [torch.zeros_like(w) for w in (w1, b1, w2, b2)]
    for x, target in zip(x_seq.unbind(1), target_seq.unbind(1), strict=True):
        h1 = v1 / 2 + x @ w1.T + b1
        s1 = (h1 >= 1).double()
        v1, trace = h1 - s1, trace / 2 + s1
        h2 = v2 + (s1 @ w2.T + b2 - v2) / 2
        s2 = (h2 >= 1).double()
        v2 = h2 - s2
        delta2 = 2 * (s2 - target) * slope(h2 - 1) / 2  # the last 1/2 is the decay of the input
        delta1 = delta2 @ w2 * slope(h1 - 1)
        for held, new in zip(gradients, (delta1.T @ x, delta1.sum(0), delta2.T @ trace, delta2.sum(0)), strict=True):
            held.add_(new)
    return gradients


def test_ottt_is_the_gradient_of_the_paper():
    torch.manual_seed(1)
    net = two_layers()
    x_seq, target_seq = 3 * torch.rand(5, 6, 3).double(), torch.rand(5, 6, 2).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    functional.ottt_online_training(net, optimizer, x_seq, target_seq, squared, online=False)
    want = ottt_by_hand(net, x_seq, target_seq)
    assert all(w.abs().sum() > 0 for w in want)
    for got, gradient in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(got.grad, gradient)


def test_online_steps_at_every_step_and_offline_once():
    for online, updates in ((True, 4), (False, 1)):
        net = two_layers()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        count = []
        optimizer.register_step_post_hook(lambda *_, count=count: count.append(1))
        x_seq = torch.rand(2, 4, 3).double()
        loss, y_seq = functional.ottt_online_training(net, optimizer, x_seq, x_seq[..., :2], squared, online)
        assert len(count) == updates
        assert y_seq.shape == (2, 4, 2)
        assert not loss.requires_grad
        assert loss.item() == pytest.approx(((y_seq - x_seq[..., :2]) ** 2).sum().item())


def test_of_a_last_layer_that_gives_out_a_pair_the_spikes_count():
    torch.manual_seed(0)
    net = layer.OTTTSequential(nn.Linear(3, 2), neuron.OTTTLIFNode())
    nn.init.uniform_(net[0].weight, 0.1, 0.5)
    x_seq = torch.rand(5, 4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    target_seq = torch.zeros(5, 4, 2)
    loss, y_seq = functional.ottt_online_training(net, optimizer, x_seq, target_seq, squared, online=True)
    functional.reset_net(net.eval())
    want = torch.stack([net(x) for x in x_seq.unbind(1)], 1)
    assert torch.equal(y_seq, want.detach())
    assert loss == want.sum()
    assert 0 < want.mean() < 1


def test_no_step_leaves_a_graph():
    net = two_layers()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    seen = []

    def loss(y, target):
        seen.extend(held.grad_fn for held in (net[1].v, net[1].trace))
        return squared(y, target)

    x_seq = torch.rand(2, 5, 3).double()
    functional.ottt_online_training(net, optimizer, x_seq, x_seq[..., :2], loss, online=True)
    assert seen == [None] * 10
    assert all(held.grad_fn is None for memories in functional.get_state(net).values() for held in memories.values())


class Kept:
    """A tensor that a graph keeps; the class knows how many there are, and the most there were."""

    now = most = 0

    def __init__(self, tensor):
        self.tensor = tensor
        Kept.now += 1
        Kept.most = max(Kept.most, Kept.now)

    def __del__(self):
        Kept.now -= 1


@pytest.mark.parametrize("rule", ["ottt", "sltt", "fptt"])
def test_a_graph_keeps_no_more_for_more_steps(rule):
    kind = neuron.OTTTLIFNode if rule == "ottt" else neuron.SLTTLIFNode

    def most_kept(T):
        net = layer.OTTTSequential(nn.Linear(3, 4), kind(), nn.Linear(4, 2), neuron.LIFNode())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        x_seq, target_seq = torch.rand(T, T, 3), torch.rand(T, T, 2)  # the batch and the steps may change places
        Kept.most = 0
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            if rule == "fptt":
                w_ra = functional.fptt_online_training_init_w_ra(optimizer)
                functional.fptt_online_training(net, optimizer, x_seq, target_seq, F.mse_loss, 0.5, w_ra)
            else:
                functional.ottt_online_training(net, optimizer, x_seq, target_seq, F.mse_loss, online=False)
        return Kept.most

    assert 0 < most_kept(3) == most_kept(13)


def test_a_small_network_learns_online():
    torch.manual_seed(0)
    net = layer.OTTTSequential(nn.Linear(4, 16), neuron.OTTTLIFNode(), nn.Linear(16, 2), neuron.SLTTLIFNode())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    x = torch.rand(32, 4)
    labels = (x[:, 0] > x[:, 1]).long()
    x_seq, target_seq = x.unsqueeze(1).expand(32, 4, 4), F.one_hot(labels, 2).float().unsqueeze(1).expand(32, 4, 2)
    for _ in range(60):
        _, y_seq = functional.ottt_online_training(net, optimizer, x_seq, target_seq, F.mse_loss, online=True)
        functional.reset_net(net)
    assert (y_seq.mean(1).argmax(1) == labels).float().mean() > 0.9


def test_refusals_in_words():
    net = two_layers().float()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.zeros(3, 4, 3), torch.zeros(3, 5, 2)
    with pytest.raises(ShapeError, match=r"\[N, T, \*\] of the same T"):
        functional.ottt_online_training(net, optimizer, x, y, squared, True)
    with pytest.raises(ShapeError, match="at least one step"):
        functional.ottt_online_training(net, optimizer, x[:, :0], y[:, :0], squared, True)
    with pytest.raises(ShapeError, match=r"\[T, N, \*\] of the same T"):
        functional.fptt_online_training(net, optimizer, x, y[:2], squared, 1.0, [])
    with pytest.raises(ValueError, match="alpha must be above 0"):
        functional.fptt_online_training(net, optimizer, x, y, squared, 0.0, [])
    with pytest.raises(ShapeError, match="do not match the 4"):
        functional.fptt_online_training(net, optimizer, x, y, squared, 1.0, [])
