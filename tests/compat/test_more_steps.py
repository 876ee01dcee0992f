"""Steps and slopes that SpikingJelly has as functions: a run of them is a run of the neuron, and autograd agrees."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("aliases")

STEPS = 5


def drive():
    return (3 * torch.rand(STEPS, 2, 4, generator=torch.Generator().manual_seed(3)) - 0.5).requires_grad_()


def scattered(node):
    """A neuron whose Parameters are not where they begin."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for held in node.parameters():
            held.add_(0.5 * torch.randn(held.shape, generator=generator))
    return node


def same(y, wanted, x_seq, node):
    assert 0 < wanted.mean() < 1
    assert torch.equal(y, wanted)
    inputs = [x_seq, *node.parameters()]
    for mine, ours in zip(*(torch.autograd.grad(held.square().sum(), inputs) for held in (y, wanted)), strict=True):
        torch.testing.assert_close(mine, ours)


def test_gated_steps_are_those_of_the_neuron():
    from spikingjelly.activation_based import functional, neuron

    node, x_seq = scattered(neuron.GatedLIFNode(STEPS, inplane=(4,))), drive()
    names = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
    given = {name: torch.sigmoid(getattr(node, name)) for name in names}
    v = spike = torch.zeros(2, 4)
    spikes = []
    for t, x in enumerate(x_seq):
        conduct = torch.sigmoid(node.conduct[t])
        spike, v = functional.gated_lif_step(
            x, v, spike, **given, conduct=conduct, surrogate_function=node.surrogate_function
        )
        spikes.append(spike)
    same(torch.stack(spikes), node(x_seq), x_seq, node)
    torch.testing.assert_close(v, node.v)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_steps_with_weights_over_time_are_those_of_the_neuron(k):
    from spikingjelly.activation_based import functional, neuron

    x_seq = drive()
    sliding = scattered(neuron.SlidingPSN(k, step_mode="m"))
    masked = scattered(neuron.MaskedPSN(k, STEPS, lambda_init=1.0, step_mode="m"))
    spikes, queue = [], ()
    for x in x_seq:
        spike, queue = functional.sliding_psn_step(x, queue, sliding.weight, sliding.bias, sliding.surrogate_function)
        spikes.append(spike)
    assert len(queue) == k
    same(torch.stack(spikes), sliding(x_seq), x_seq, sliding)
    spikes, queue, t = [], (), 0
    for x in x_seq:
        spike, t, queue = functional.masked_psn_step(
            x, t, queue, masked.masked_weight(), masked.bias, k, masked.surrogate_function
        )
        spikes.append(spike)
    assert t == STEPS
    same(torch.stack(spikes), masked(x_seq), x_seq, masked)
    with pytest.raises(ValueError, match="masked_psn_step has weights for 5 steps, but got time_step=5"):
        functional.masked_psn_step(x_seq[0], t, queue, masked.masked_weight(), masked.bias, k, torch.sign)


@pytest.mark.parametrize("v_reset", [0.25, None])
@pytest.mark.parametrize("name", ["IFNode", "LIFNode"])
def test_a_neuron_and_the_linear_layer_behind_it(name, v_reset):
    from spikingjelly.activation_based import functional, neuron

    given = {"v_threshold": 0.75, "v_reset": v_reset, "detach_reset": True}
    given |= {"tau": 1.5, "decay_input": False} if name == "LIFNode" else {}
    run = getattr(functional, f"{name[:-4].lower()}_linear")
    x_seq, linear, v = drive(), nn.Linear(4, 3), torch.full((2, 4), 0.5)
    node = getattr(neuron, name)(**given, step_mode="m", surrogate_function=neuron.surrogate.ATan())
    node.v = v
    wanted = linear(node(x_seq))
    weight, options = linear.weight.T, {**given, "surrogate_function": node.surrogate_function, "threads": 128}
    y, last = run(x_seq, v, weight, linear.bias, **options)
    torch.testing.assert_close((y, last), (wanted, node.v))
    grads = [torch.autograd.grad(held.square().sum(), [x_seq, linear.weight]) for held in (y, wanted)]
    torch.testing.assert_close(*grads)
    y, last = run(x_seq[0], v, weight, **options)
    torch.testing.assert_close(y + linear.bias, wanted[0])
    with pytest.raises(ValueError, match=rf"{name[:-4].lower()}_linear takes \[N, K\] or \[T, N, K\]"):
        run(x_seq, v, linear.weight)


def test_a_threshold_that_is_met_with_an_offset():
    from spikingjelly.activation_based import functional, surrogate

    x, v, offset = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.0]), torch.tensor([0.25, 0.25])
    spike, v = functional.activation_aware_if_step(x, v, torch.tensor([1.0, 1.0]), offset, None, surrogate.Sigmoid())
    assert (spike.tolist(), v.tolist()) == ([1.0, 0.0], [-0.25, 0.5])
    weight = torch.rand(3, 2)
    assert torch.equal(functional.sparse_linear(spike, weight, strategy="sparse"), F.linear(spike, weight))


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_thresholds_by_channel_over_a_sequence(v_reset):
    from spikingjelly.activation_based import functional, neuron

    x_seq, thresholds = torch.rand(6, 2, 3, 2, 2), torch.tensor([0.75, 1.0, 1.5])
    node = neuron.IFNode(thresholds.view(3, 1, 1), v_reset, step_mode="m", store_v_seq=True)
    wanted = node(x_seq)
    v = torch.zeros(2, 3, 2, 2)
    spikes, last, course = functional.activation_aware_if_multi_step(
        x_seq, v, thresholds, torch.zeros(1), 3, 4, v_reset, store_v_seq=True
    )
    assert 0 < wanted.mean() < 1
    assert torch.equal(spikes, wanted)
    torch.testing.assert_close((last, course), (node.v, node.v_seq))
    offset = torch.tensor([0.25, 0.0, -0.25])
    early, _, course = functional.activation_aware_if_multi_step(x_seq, v, thresholds, offset, 3, 4, v_reset)
    assert course is None
    assert torch.equal(early[0], (x_seq[0] >= (thresholds - offset).view(3, 1, 1)).float())
    with pytest.raises(ValueError, match="v_offset must have one value or 3, one a channel"):
        functional.activation_aware_if_multi_step(x_seq, v, thresholds, torch.zeros(2), 3, 4)
    with pytest.raises(ValueError, match="5 channels of 4 values that fill a step"):
        functional.activation_aware_if_multi_step(x_seq, v, thresholds, offset, 5, 4)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 8), (0, 3)])
def test_spikes_as_bits(shape):
    from spikingjelly.activation_based import functional

    spikes = torch.randint(2, shape, generator=torch.Generator().manual_seed(1)).float()
    bits = functional.bit_spike_compress(spikes)
    assert (bits.dtype, bits.shape) == (torch.uint8, (-(-spikes.numel() // 8),))
    assert torch.equal(functional.bit_spike_decompress(bits, shape, torch.float32), spikes)
    assert functional.bit_spike_decompress(bits, shape).dtype is torch.uint8
    if spikes.ndim == 2:
        rows, weight, bias = functional.bit_pack_spike_dense(spikes), torch.rand(5, shape[1]), torch.rand(5)
        assert rows.shape == (shape[0], 1)
        assert torch.equal(functional.packed_spike_linear(rows, weight, bias), F.linear(spikes, weight, bias))
        with pytest.raises(ValueError, match=r"rows of ceil\(K / 8\) bytes"):
            functional.packed_spike_linear(rows, torch.rand(5, 9))
    with pytest.raises(ValueError, match="has 99 spikes, which take 13 bytes"):
        functional.bit_spike_decompress(bits, (99,))
    with pytest.raises(ValueError, match="each size in shape must be a whole number of at least 0, but got -2"):
        functional.bit_spike_decompress(bits, (-2,))
    with pytest.raises(TypeError, match=r"bit_pack_spike_dense: the spikes must be a torch\.Tensor"):
        functional.bit_pack_spike_dense(None)


NUMBERS = {"piecewise_leaky_relu": (2.0, 0.25), "leaky_k_relu": (0.25, 2.0), "fake_numerical_gradient": (0.5,)}


def test_slopes_are_the_gradients_of_the_spikes():
    from spikingjelly.activation_based import surrogate

    names = [name.removesuffix("_backward") for name in dir(surrogate) if name.endswith("_backward")]
    assert len(names) == 13
    for name in names:
        numbers, grad = NUMBERS.get(name, (1.5,)), torch.rand(9)
        x = torch.linspace(-2, 2, 9).add(0.1).requires_grad_()
        wanted = torch.autograd.grad(getattr(surrogate, name).apply(x, *numbers), x, grad)[0]
        got, *others = getattr(surrogate, f"{name}_backward")(grad, x.detach(), *numbers)
        torch.testing.assert_close(got, wanted, msg=name)
        assert others == [None] * len(numbers)
    x = torch.tensor([0.25])
    assert surrogate.atan_backward(grad_output=1, x=x, alpha=3.0) == surrogate.atan_backward(1, x, 3.0)
    assert torch.equal(surrogate.ATan.backward(2 * torch.ones(1), x, alpha=3.0), surrogate.atan_backward(2, x, 3.0)[0])


@pytest.mark.parametrize("training", [True, False])
def test_the_normalisation_of_one_step_whatever_the_mode(training):
    from spikingjelly.activation_based import layer

    x, plain = torch.rand(3, 2, 4, 4), nn.BatchNorm2d(2).train(training)
    norm = layer.BatchNorm2d(2, step_mode="m").train(training)
    torch.testing.assert_close(norm.super_forward(x), plain(x))
    torch.testing.assert_close(norm.running_mean, plain.running_mean)


def test_normalisations_go_into_the_layers_before_them():
    from spikingjelly.activation_based import functional, layer

    net, x = nn.Sequential(layer.Conv2d(1, 2, 3), layer.BatchNorm2d(2)), torch.rand(4, 1, 5, 5)
    net(x)
    fused = functional.fuse_conv_bn_eval_modules(net.eval())
    assert sorted(fused.state_dict()) == ["0.bias", "0.weight"]
    torch.testing.assert_close(fused(x), net(x))


def test_responses_of_a_population():
    from spikingjelly.activation_based.encoding import PopEncoder, PopSpikeEncoderDeterministic

    given = (2, 3, 4, (-1.0, 1.0), 0.5)
    encoder, obs = PopEncoder(*given), torch.rand(5, 2)
    y = encoder(obs)
    assert y.shape == (4, 5, 6)
    assert torch.equal(y, PopSpikeEncoderDeterministic(*given).activity(obs).expand(4, 5, 6))
    assert y.requires_grad


@pytest.mark.usefixtures("aliases")
def test_a_queue_of_another_batch_is_refused():
    from spikingjelly.activation_based import functional, surrogate

    numbers = torch.rand(2), torch.zeros(1), surrogate.ATan()
    with pytest.raises(ValueError, match=r"vectors of 3 values, as the step gives them, but has \[7\]"):
        functional.sliding_psn_step(torch.rand(3), (torch.rand(7),), *numbers)
    with pytest.raises(ValueError, match=r"masked_psn_step: the queue .* has \[2, 2\]"):
        functional.masked_psn_step(
            torch.rand(2, 2), 1, (torch.rand(2, 2),), torch.rand(2, 2), torch.zeros(2, 1), 2, surrogate.ATan()
        )
