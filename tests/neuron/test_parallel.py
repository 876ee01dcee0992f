"""The parallel neurons: against a double loop over steps and inputs, and by hand."""

import copy

import numpy as np
import pytest
import torch
from neuron_cases import make
from torch import nn

from spikescope.errors import ShapeError, StateError
from spikescope.neuron import PSN, MaskedPSN, SlidingPSN


def by_hand(weight, bias, x_seq):
    """Spikes and potentials of a matrix of weights [T, T], written as two loops in double precision."""
    h = torch.zeros(x_seq.shape, dtype=torch.float64)
    for t in range(len(x_seq)):
        h[t] += bias[t].item()
        for j in range(len(x_seq)):
            h[t] += weight[t][j].item() * x_seq[j].double()
    return (h >= 0).float(), h


def toeplitz(weight, steps):
    """The matrix of a sliding window whose newest weight is the last."""
    k = len(weight)
    return [
        [weight[k - 1 - (t - j)] if 0 <= t - j < k else torch.tensor(0.0) for j in range(steps)] for t in range(steps)
    ]


def test_psn_is_a_product_over_time():
    node, x_seq = make(PSN, T=6), 2 * torch.rand(6, 3, 5) + 1
    spikes, h = by_hand(node.weight, node.bias, x_seq)
    out = node(x_seq)
    assert 0 < out.mean() < 1
    assert h.abs().min() > 1e-5  # so that no rounding decides
    assert torch.equal(out, spikes)
    assert node.bias.shape == (6, 1)
    assert node.bias.eq(-1).all()
    assert node.weight.abs().max() <= 1 / 6**0.5  # kaiming_uniform_(a=sqrt 5)


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_masked_psn_blends_the_window_with_all_inputs(lambda_):
    node = make(MaskedPSN, k=2, T=5, lambda_init=lambda_, step_mode="m")
    x_seq = 3 * torch.rand(5, 4) + 1
    blend = [[1.0 if t - 2 < j <= t else 1 - lambda_ for j in range(5)] for t in range(5)]
    spikes, _ = by_hand(node.weight.detach() * torch.tensor(blend), node.bias, x_seq)
    torch.testing.assert_close(node.masked_weight(), node.weight * torch.tensor(blend))
    assert torch.equal(node(x_seq), spikes)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_masked_psn_in_single_steps(k):
    whole, single = (make(MaskedPSN, k=k, T=4, lambda_init=1.0, step_mode=mode) for mode in "ms")
    x_seq = 16 * torch.rand(4, 3, 5) - 8
    out = torch.stack([single(x) for x in x_seq])
    assert torch.equal(out, whole(x_seq))
    assert out.any()
    with pytest.raises(ShapeError, match=r"MaskedPSN was made for T=4 steps, got step 5.*reset_net"):
        single(x_seq[0])
    single.step_mode = "m"
    with pytest.raises(StateError, match=r"MaskedPSN takes whole sequences.*4 single steps came before.*reset_net"):
        single(x_seq)
    single.reset()
    assert torch.equal(single(x_seq), out)


def test_masked_psn_keeps_no_more_inputs_than_it_needs():
    node = make(MaskedPSN, k=3, T=4, lambda_init=1.0)
    for t, x in enumerate(torch.rand(4, 2)):
        node(x)
        assert node.queue.shape == (min(t + 1, 2), 2)
        assert node.time_step == t + 1


def test_lambda_is_followed_checked_and_saved():
    node = make(MaskedPSN, k=2, T=4, lambda_init=0.0)
    with pytest.raises(StateError, match=r"while lambda_ is below 1 \(now 0\).*step_mode='m', or lambda_=1"):
        node(torch.rand(3))
    node.lambda_ = 1
    node(torch.rand(3))
    fresh = make(MaskedPSN, k=2, T=4)
    fresh.lambda_ = 0.25
    fresh.load_state_dict(node.state_dict())
    assert fresh.lambda_ == 1.0
    node.lambda_ = np.float32(0.5)
    assert type(node.lambda_) is float
    for wrong in (-0.1, 1.5, "1", True):
        with pytest.raises(ValueError, match=f"lambda_ must be at least 0 and at most 1, but got {wrong!r}"):
            node.lambda_ = wrong
    with pytest.raises(ValueError, match="lambda_ must be at least 0 and at most 1, but got nan"):
        MaskedPSN(2, 4, float("nan"))
    with pytest.raises(ValueError, match="k must be at most T, but got k=5 and T=4"):
        MaskedPSN(k=5, T=4)


def test_a_file_with_lambda_and_the_masks_as_buffers_loads():
    """As SpikingJelly writes it."""
    node = make(MaskedPSN, k=2, T=3, lambda_init=0.25, step_mode="m")
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    theirs = {"_lambda_": torch.tensor(0.25), "mask0": mask, "mask1": torch.ones(3, 3)}
    theirs |= {name: held.detach() for name, held in node.named_parameters()}
    fresh = torch.nn.Sequential(MaskedPSN(k=2, T=3, step_mode="m"))
    fresh.load_state_dict({f"0.{name}": held for name, held in theirs.items()})
    assert fresh[0].lambda_ == 0.25
    x = torch.randn(3, 5, 7)
    assert torch.equal(fresh(x), node(x))
    with pytest.warns(UserWarning, match="mask in the file is not that of k=1 and T=3"):
        MaskedPSN(k=1, T=3).load_state_dict(theirs)


@pytest.mark.parametrize("backend", ["gemm", "conv"])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_sliding_psn_is_a_window_over_the_inputs(k, backend):
    node = make(SlidingPSN, k=k, exp_init=False, backend=backend, step_mode="m")
    with torch.no_grad():
        node.bias.fill_(-0.25)
    x_seq = torch.randn(7, 3, 5)
    want, h = by_hand(toeplitz(node.weight.detach(), 7), node.bias.expand(7), x_seq)
    assert h.abs().min() > 1e-5
    assert torch.equal(node(x_seq), want)
    assert node.queue.shape == (k - 1, 3, 5)
    node.reset()
    node.surrogate_function.set_spiking_mode(False)
    smooth = torch.atan(torch.pi * h) / torch.pi + 0.5  # ATan(alpha=2)
    torch.testing.assert_close(node(x_seq).double(), smooth, rtol=1e-5, atol=1e-5)


def test_the_backends_have_the_same_gradients():
    grads = []
    for backend in ("gemm", "conv"):
        node, x_seq = make(SlidingPSN, k=3, backend=backend, step_mode="m"), torch.arange(24.0).reshape(6, 4).sin()
        x_seq.requires_grad_()
        (node(x_seq) * torch.arange(24.0).reshape(6, 4).cos()).sum().backward()
        grads.append([x_seq.grad, node.weight.grad, node.bias.grad])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("backend", ["gemm", "conv"])
def test_an_exponential_start_has_exact_sums(backend):
    node = make(SlidingPSN, k=4, backend=backend, step_mode="m")
    assert node.weight.tolist() == [0.125, 0.25, 0.5, 1.0]
    assert node.bias.item() == -1.0
    spikes = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0])  # H + 1 = 0, 1, .5, .25, 1.125, 1.5, .75
    assert node(spikes.unsqueeze(1)).flatten().tolist() == [0, 1, 0, 0, 1, 1, 0]


def test_the_queue_does_not_keep_the_sequence_alive():
    node = make(SlidingPSN, k=2, step_mode="m")
    node(torch.rand(50, 3))
    assert node.queue.untyped_storage().nbytes() == 1 * 3 * 4


def test_sequences_of_another_length_are_refused_in_words():
    for node in (make(PSN), make(MaskedPSN, step_mode="m")):
        with pytest.raises(ShapeError, match=r"PSN was made for T=4 steps, got 8.*\[T=8, N=2\].*T=8"):
            node(torch.rand(8, 2))
    make(SlidingPSN, step_mode="m")(torch.rand(8, 2))


def test_arguments():
    assert list(PSN.arguments.parameters)[:2] == ["T", "surrogate_function"]
    assert list(MaskedPSN.arguments.parameters) == ["k", "T", "lambda_init", "surrogate_function", "step_mode"]
    assert list(SlidingPSN.arguments.parameters) == ["k", "exp_init", "surrogate_function", "step_mode", "backend"]
    with pytest.raises(ValueError, match="SlidingPSN: k must be at least 1, but got 0"):
        SlidingPSN(k=0)
    with pytest.raises(TypeError, match=r"PSN: T must be int, but got 4\.5"):
        PSN(T=4.5)
    with pytest.raises(TypeError, match="missing a required argument: 'T'"):
        PSN()
    with pytest.raises(ValueError, match="backend must be one of 'gemm', 'conv', but got 'fft'"):
        SlidingPSN(k=2, backend="fft")


def test_a_network_of_psn_learns():
    torch.manual_seed(0)
    net, x_seq = nn.Sequential(PSN(T=4)), 2 * torch.rand(4, 16, 8)
    before = copy.deepcopy(net.state_dict())
    net(x_seq).mean().backward()
    torch.optim.SGD(net.parameters(), 0.5).step()
    after = net.state_dict()
    assert all(not torch.equal(after[name], held) for name, held in before.items())


@pytest.mark.parametrize("cls", [PSN, MaskedPSN, SlidingPSN])
def test_autocast_does_not_narrow_the_sum(cls):
    plain, cast = (make(cls, step_mode="m") for _ in range(2))
    for node in (plain, cast):
        node.surrogate_function.set_spiking_mode(False)  # spikes would hide the rounding
    x_seq = torch.rand(4, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = cast(x_seq)
    assert torch.equal(out, plain(x_seq))
