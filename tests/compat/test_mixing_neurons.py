"""Neurons that SpikingJelly 2.0 has under the aliases alone: against loops written from the papers' formulas."""

import copy
import math

import pytest
import torch
from torch import nn

import spikescope
from spikescope.errors import ShapeError, StateError

pytestmark = pytest.mark.usefixtures("aliases")


def dsr_loop(x_seq, threshold, alpha, keep=1.0, gain=1.0, unit=1.0):
    """Spikes of one neuron, number by number."""
    v, given = 0.0, []
    for x in x_seq:
        v = keep * v + gain * x
        spike = threshold if v >= alpha * threshold else 0.0
        v -= spike
        given.append(spike / unit)
    return given


@pytest.mark.parametrize("name", ["DSRIFNode", "DSRLIFNode"])
def test_a_spike_has_the_size_of_the_threshold(name):
    from spikingjelly.activation_based import neuron

    x_seq = 4 * torch.rand(8, 5) - 1
    if name == "DSRIFNode":
        node, more = neuron.DSRIFNode(8, v_threshold=1.5, alpha=0.5), (0.5,)
    else:
        node, keep = neuron.DSRLIFNode(8, v_threshold=0.75, tau=1.5, delta_t=0.5, alpha=0.25), math.exp(-0.5 / 1.5)
        more = (0.25, keep, 1 - keep, 0.5)
    wanted = [dsr_loop(x.tolist(), node.v_threshold.item(), *more) for x in x_seq.T]
    got = node(x_seq)
    torch.testing.assert_close(got.T, torch.tensor(wanted), rtol=1e-5, atol=1e-6)
    assert len(got.unique()) == 2
    assert torch.equal(node(x_seq), got)  # each call begins at rest


def test_the_gradient_of_dsr_is_that_of_the_clamped_mean():
    from spikingjelly.activation_based import neuron

    x_seq = torch.tensor([-1.0, 0.5, 4.0]).expand(6, 3).clone().requires_grad_()  # below, inside and above
    grad = torch.rand(6, 3)
    node = neuron.DSRIFNode(6, v_threshold=2.0, v_threshold_grad_scaling=0.25)
    node(x_seq).backward(grad)
    torch.testing.assert_close(
        x_seq.grad, torch.stack([0 * grad[:, 0], grad[:, 1], 0 * grad[:, 2]], 1).mean(0).expand(6, 3)
    )
    torch.testing.assert_close(node.v_threshold.grad, 0.25 * grad[:, 2].sum())


def test_the_gradient_of_the_leaky_dsr_weighs_late_steps_more():
    from spikingjelly.activation_based import neuron

    tau, step = 1.5, 0.5
    x_seq = torch.tensor([-1.0, 0.5, 9.0]).expand(4, 3).clone().requires_grad_()
    grad = torch.rand(4, 3)
    node = neuron.DSRLIFNode(4, v_threshold=0.75, tau=tau, delta_t=step)
    node(x_seq).backward(grad)
    weights = torch.tensor([math.exp(t * step / tau) for t in range(4)])
    mean = (weights / weights.sum()) @ grad
    torch.testing.assert_close(x_seq.grad, torch.tensor([0.0, mean[1] / tau, 0.0]).expand(4, 3))
    torch.testing.assert_close(node.v_threshold.grad, 4 * mean[2] * step)


def test_the_threshold_of_dsr_has_a_lower_bound_and_moves_with_the_module():
    from spikingjelly.activation_based import neuron

    node = neuron.DSRIFNode(4, v_threshold=1.0, v_threshold_lower_bound=0.5)
    with torch.no_grad():
        node.v_threshold.fill_(-3.0)
    assert node(torch.ones(4, 1)).unique().tolist() == [0.5]
    assert neuron.DSRIFNode(v_threshold_training=False).double().v_threshold.dtype == torch.float64
    with pytest.raises(ValueError, match="v_threshold must be at least v_threshold_lower_bound"):
        neuron.DSRIFNode(v_threshold=0.001)
    with pytest.raises(ValueError, match="alpha must be above 0"):
        neuron.DSRLIFNode(alpha=0.0)
    with pytest.raises(ValueError, match="step_mode"):
        neuron.DSRIFNode(step_mode="s")


def few_spikes(x, rows):
    given = []
    for theta, h, d in rows:
        fired = x >= theta
        given.append(d if fired else 0.0)
        x -= h if fired else 0.0
    return given


USUAL = [(2.0, 2.0, 2.0), (1.0, 1.0, 1.125), (0.5, 0.5, 0.375)]
OUTLIER = [(4.0, 3.0, 4.0), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0)]


def tables():
    from spikingjelly.activation_based.neuron import FewSpikeTable

    return [FewSpikeTable(*zip(*rows, strict=True)) for rows in (USUAL, OUTLIER)]


@pytest.mark.parametrize("kind", ["plain", "outliers", "regions"])
def test_few_spikes_code_a_value(kind):
    from spikingjelly.activation_based import neuron

    usual, outlier = tables()
    x = torch.cat((10 * torch.rand(40) - 4, torch.tensor([1.5, -1.5, 0.75])))
    if kind == "plain":
        node = neuron.FewSpikeNode(usual)
        wanted = [few_spikes(v, USUAL) for v in x.tolist()]
    elif kind == "outliers":
        node = neuron.OutlierAwareThresholdNode(usual, outlier, 1.5, 3.0)
        sizes = [(min(abs(v), 3.0), math.copysign(1, v)) for v in x.tolist()]
        wanted = [[sign * d for d in few_spikes(v, USUAL if v <= 1.5 else OUTLIER)] for v, sign in sizes]
    else:
        node = neuron.HGNode([outlier, usual], [0.75])
        wanted = [few_spikes(v, OUTLIER if v <= 0.75 else USUAL) for v in x.tolist()]
    wanted = torch.tensor(wanted)
    torch.testing.assert_close(node(x), wanted.sum(1))
    node.step_mode = "m"
    parts = torch.stack([0.25 * x, 0.5 * x, 0.25 * x])
    torch.testing.assert_close(node(parts), wanted.T)
    assert len(wanted.unique()) > 3
    assert isinstance(node, neuron.FewSpikeNode)
    assert torch.equal(node.single_step_forward(x), node.multi_step_forward(parts).sum(0))
    leaf = parts.clone().requires_grad_()
    node(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0
    with pytest.raises(ShapeError, match="codes by K=3 steps"):
        node(parts[:2])


def test_tables_are_checked():
    from spikingjelly.activation_based.neuron import FewSpikeNode, FewSpikeTable, HGNode, OutlierAwareThresholdNode

    usual, outlier = tables()
    for bad, words in (
        (lambda: FewSpikeTable([], [], []), "a row of finite numbers"),
        (lambda: FewSpikeTable([1.0], [1.0, 2.0], [1.0]), "equally long"),
        (lambda: FewSpikeTable([math.inf], [1.0], [1.0]), "a row of finite numbers"),
        (lambda: OutlierAwareThresholdNode(usual, outlier, -1.0), "split_threshold"),
        (lambda: OutlierAwareThresholdNode(usual, outlier, 2.0, 1.0), "clamp_value"),
        (lambda: OutlierAwareThresholdNode(usual, FewSpikeTable([1.0], [1.0], [1.0]), 1.0), "all tables must have 3"),
        (lambda: HGNode([], []), "there is no table"),
        (lambda: HGNode([usual, outlier], [1.0, 2.0]), "1 growing finite numbers"),
        (lambda: HGNode([usual, outlier, usual], [2.0, 1.0]), "2 growing finite numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            bad()
    with pytest.raises(TypeError, match="must be a FewSpikeTable"):
        FewSpikeNode([1.0])
    with pytest.raises(TypeError, match="must be real numbers"):
        FewSpikeTable([1j], [1.0], [1.0])


@pytest.mark.parametrize(("sym", "bounds"), [(False, (0, 7)), (True, (-4, 3))])
def test_a_bipolar_neuron_releases_its_input_within_bounds(sym, bounds):
    from spikingjelly.activation_based import functional, neuron

    node, scale = neuron.STBIFNode(0.25, 8, sym, step_mode="m"), 0.25
    x_seq = torch.cat((4 * torch.rand(12, 30) - 2, torch.zeros(20, 30)))
    q, released, outputs = [0.5] * 30, [0] * 30, []
    for x in x_seq.tolist():
        row = []
        for i, value in enumerate(x):
            q[i] += value / scale
            spike = 1 if q[i] >= 1 and released[i] < bounds[1] else -1 if q[i] < 0 and released[i] > bounds[0] else 0
            q[i] -= spike
            released[i] += spike
            row.append(spike * scale)
        outputs.append(row)
    got = node(x_seq)
    assert torch.equal(got, torch.tensor(outputs))
    assert got.unique().tolist() == [-0.25, 0.0, 0.25]
    assert torch.equal(node.accumulated, scale * torch.tensor(released))
    settled = (x_seq.sum(0) / scale + 0.5).floor().clamp(*bounds)  # what a quantiser of the sum gives
    near = (x_seq.sum(0) / scale).abs() < 16  # the rest needs more steps
    assert torch.equal((node.acc_q)[near], settled[near])
    node.reset()
    node.step_mode = "s"
    assert torch.equal(torch.stack([node(x) for x in x_seq]), got)
    half, zero = torch.full((30,), 0.5), torch.zeros(30)
    fields = node.q_threshold, node.pos_max, node.neg_min
    run = functional.stbif_multi_step(x_seq, half, zero, *fields)
    assert torch.equal(run[0], got)
    assert torch.equal(run[1], node.q)
    assert torch.equal(functional.stbif_step(x_seq[0], half, zero, *fields)[0], got[0])
    full = torch.full((30,), bounds[1] - 1e-3)  # a rounding below the bound
    assert not functional.stbif_step(torch.ones(30), half, full, *fields)[0].any()


def test_a_bipolar_neuron_is_for_inference():
    from spikingjelly.activation_based.neuron import STBIFNode

    with pytest.raises(RuntimeError, match="no gradient goes through it"):
        STBIFNode(1.0, 4)(torch.rand(3, requires_grad=True))
    with pytest.raises(ValueError, match="level must be"):
        STBIFNode(1.0, 1)
    with pytest.raises(ValueError, match=r"level must be a whole number of at least 2, but got 4\.7"):
        STBIFNode(1.0, 4.7)
    with pytest.raises(RuntimeError, match="nothing was released"):
        _ = STBIFNode(1.0, 4).accumulated
    quantizer = nn.Module()
    quantizer.s, quantizer.sym, quantizer.pos_max, quantizer.neg_min = torch.tensor(0.5), True, 3, -4
    node = STBIFNode.from_quantizer(quantizer)
    assert (node.level, node.q_threshold.item(), node.pos_max.item(), node.neg_min.item()) == (8, 0.5, 3.0, -4.0)


def population_loop(node, x_seq, charge, threshold, noises=None):
    """Spikes of a population `[T, N, groups * size]`, by explicit products with the weights of the groups."""
    size, groups = node.dec_pop_dim, node.act_dim
    weight, bias = node.conn.weight.detach().squeeze(1), node.conn.bias.detach()
    v = c = torch.zeros_like(x_seq[0])
    given = []
    for t, x in enumerate(x_seq):
        if given:
            last = given[-1].view(-1, groups, size)
            fed = torch.stack([last[:, g] @ weight[g * size + i] for g in range(groups) for i in range(size)], 1)
            fed = x + fed + bias
        else:
            fed = x
        v, c = charge(v, c, fed if noises is None else fed + noises[0][t])
        spike = (v >= threshold).float()
        v = v * (1 - spike)
        given.append(spike if noises is None else spike + noises[1][t])
    return torch.stack(given)


CHARGES = {
    "ILCIFNode": (lambda v, c, x: (v + x, c), 1.0),
    "ILCLIFNode": (lambda v, c, x: (0.75 * v + x, c), 1.0),
    "ILCCUBALIFNode": (lambda v, c, x: (0.75 * v + 0.5 * c + x, 0.5 * c + x), 0.5),
}


@pytest.mark.parametrize("name", CHARGES)
def test_spikes_of_a_population_come_back_through_its_weights(name):
    from spikingjelly.activation_based import neuron

    node = getattr(neuron, name)(3, 4)
    nn.init.uniform_(node.conn.weight, -0.6, 0.9)
    x_seq = 1.5 * torch.rand(6, 2, 12) - 0.25
    given = x_seq.clone()
    got = node(x_seq)
    assert torch.equal(got, population_loop(node, x_seq, *CHARGES[name]))
    assert torch.equal(x_seq, given)  # left as it is
    assert torch.equal(node(x_seq), got)
    assert sorted(node.state_dict()) == ["conn.bias", "conn.weight"]
    got.sum().backward()
    assert node.conn.weight.grad.abs().sum() > 0
    with pytest.raises(ShapeError, match=r"takes \[T, N, 12\] for 3 groups of 4 neurons"):
        node(x_seq[..., :6])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_power_of_noise_falls_with_the_frequency(exponent):
    from spikingjelly.activation_based.neuron import powerlaw_psd_gaussian

    drawn = powerlaw_psd_gaussian(exponent, (4000, 64), random_state=1)
    assert (drawn - drawn.mean(-1, keepdims=True)).std() == pytest.approx(1, abs=0.02)
    power = (torch.fft.rfft(torch.from_numpy(drawn)).abs() ** 2).mean(0)[1:-1]
    frequency = torch.fft.rfftfreq(64)[1:-1]
    last = (torch.fft.rfft(torch.from_numpy(drawn))[:, -1].abs() ** 2).mean() / power[-1]
    assert last.item() == pytest.approx((31 / 32) ** exponent, rel=0.1)
    slope = torch.linalg.lstsq(torch.stack((frequency.log(), torch.ones(31)), 1).double(), power.log()[:, None])[0][0]
    assert slope.item() == pytest.approx(-exponent, abs=0.05)
    flat = powerlaw_psd_gaussian(2.0, (4000, 65), fmin=0.5, random_state=1)  # no frequency is above
    assert abs((flat[:, 1:] * flat[:, :-1]).mean()) < 0.02
    assert (
        powerlaw_psd_gaussian(exponent, 16, random_state=2) == powerlaw_psd_gaussian(exponent, (16,), random_state=2)
    ).all()
    with pytest.raises(ValueError, match=r"fmin must be from 0 to 0\.5"):
        powerlaw_psd_gaussian(1.0, 8, fmin=0.6)
    for samples in (0, 1):
        with pytest.raises(ValueError, match=f"at least 2 samples along the last axis, but got {samples}"):
            powerlaw_psd_gaussian(1.0, (3, samples))


@pytest.mark.parametrize("name", ["NoisyCUBALIFNode", "NoisyILCCUBALIFNode"])
def test_noise_comes_in_and_goes_out(name):
    from spikingjelly.activation_based import neuron

    torch.manual_seed(3)
    connected = name == "NoisyILCCUBALIFNode"
    node = neuron.NoisyILCCUBALIFNode(3, 4, T=5) if connected else neuron.NoisyCUBALIFNode(12, T=5)
    x_seq = 1.5 * torch.rand(5, 2, 12) - 0.25
    with pytest.raises(StateError, match="Call reset_noise"):
        node(x_seq)
    node.reset_noise(2)
    first, noise = node(x_seq), node.get_colored_noise()
    assert noise.shape == (5, 24)
    noises = [held.unsqueeze(1) * 0.5 / 12**0.5 for held in noise.split(12, 1)]
    charge = CHARGES["ILCCUBALIFNode"][0]
    if connected:
        wanted = population_loop(node, x_seq, charge, 1.0, noises)
    else:
        v = c = torch.zeros(2, 12)
        wanted = []
        for t, x in enumerate(x_seq):
            v, c = charge(v, c, x + noises[0][t])
            spike = (v >= 0.5).float()
            v = v * (1 - spike)
            wanted.append(spike + noises[1][t])
        wanted = torch.stack(wanted)
    torch.testing.assert_close(first, wanted)
    assert not torch.equal(node(x_seq), first)
    with pytest.raises(StateError, match="no noise for this decision"):
        node(x_seq)
    node.load_colored_noise(torch.stack([noise, noise]))  # of two samples, as a replay gives it
    torch.testing.assert_close(node(x_seq), first)
    node.cancel_load()
    node.is_training = False
    assert node(x_seq).unique().tolist() == [0.0, 1.0]
    assert isinstance(node, neuron.NoisyBaseNode)
    assert isinstance(node, neuron.NoisyILCBaseNode) == connected
    with pytest.raises(ShapeError, match=r"takes 5 steps of 12 neurons"):
        node(x_seq[:4])
    with pytest.raises(TypeError, match="base of a family"):
        neuron.NoisyBaseNode(12)


@pytest.mark.parametrize("decode", [None, "max-mem", "max-abs-mem", "mean-mem", "last-mem"])
def test_a_noisy_read_out_learns_the_size_of_its_noise(decode):
    from spikingjelly.activation_based.neuron import NoisyNonSpikingIFNode

    with pytest.raises(ValueError, match="decode must be one of 'max-mem'"):
        NoisyNonSpikingIFNode(4, decode="mean")
    node = NoisyNonSpikingIFNode(4, T=3, decode=decode)
    node.reset_noise(1)
    x_seq = torch.randn(3, 2, 4)
    read = node(x_seq)
    v = (x_seq + node.sigma.detach() * node.get_colored_noise().unsqueeze(1)).cumsum(0)
    if decode is None:
        torch.testing.assert_close(torch.stack(read), v)
        return
    wanted = {"max-mem": v.max(0).values, "mean-mem": v.mean(0), "last-mem": v[-1]}
    wanted["max-abs-mem"] = v.gather(0, v.abs().argmax(0, keepdim=True))[0]
    torch.testing.assert_close(read.detach(), wanted[decode])
    read.sum().backward()
    assert node.sigma.grad.abs().sum() > 0
    assert node.sigma.tolist() == [0.25] * 4  # 0.5 by the root of four


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 4)])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_a_potential_is_normalised_before_it_fires(shape, v_reset):
    from spikingjelly.activation_based.neuron import MPBNLIFNode

    features = {"out_features": 5} if len(shape) == 2 else {"out_channels": 3}
    node = MPBNLIFNode(tau=1.5, v_reset=v_reset, v_threshold=0.5, step_mode="m", **features)
    nn.init.uniform_(node.vbn.weight, 0.5, 1.5)
    nn.init.uniform_(node.vbn.bias)
    norm = copy.deepcopy(node.vbn)
    x_seq = 3 * torch.rand(4, *shape) - 1
    for mode in (True, False):
        node.train(mode).reset()
        norm.train(mode)
        v, wanted = torch.zeros(shape), []
        for x in x_seq:
            h = norm(v - v / 1.5 + x)
            spike = (h >= 0.5).float()
            v = h - 0.5 * spike if v_reset is None else h * (1 - spike)
            wanted.append(spike)
        got = node(x_seq)
        assert torch.equal(got, torch.stack(wanted))
        torch.testing.assert_close(node.v, v)
        assert 0 < got.mean() < 1
    torch.testing.assert_close(node.vbn.running_mean, norm.running_mean)


def test_a_folded_normalisation_fires_alike():
    from spikingjelly.activation_based.neuron import MPBNLIFNode

    node = MPBNLIFNode(out_channels=3, v_threshold=0.5)
    nn.init.uniform_(node.vbn.weight, 0.5, 1.5)
    nn.init.uniform_(node.vbn.bias)
    x = 3 * torch.rand(6, 3, 4, 4) - 1
    node(x)
    node.reset()
    node.eval()
    wanted = node(x)
    normalised = node.v
    node.reset()
    node.re_parameterize_v_threshold(normalize_residual=True)
    assert isinstance(node.vbn, nn.Identity)
    assert torch.equal(node(x), wanted)
    torch.testing.assert_close(node.v * (1 - wanted), normalised * (1 - wanted))
    node.train().reset()
    node(x)
    torch.testing.assert_close(node.mu, x.mean((0, 2, 3)))  # the batch's, in training
    torch.testing.assert_close(node.sigma2, x.var((0, 2, 3)))
    folded = MPBNLIFNode(out_features=4, learnable_vth=True)
    with torch.no_grad():
        folded.a.fill_(math.log(2.0))
    assert folded.eval()(torch.tensor([[1.9, 2.1, 0.0, 4.0]])).tolist() == [[0.0, 1.0, 0.0, 1.0]]
    folded.reset()
    folded.re_parameterize_v_threshold(running_stats=True)
    assert torch.allclose(folded.v_threshold, torch.tensor(2.0))
    folded.train()(torch.full((3, 4), 5.0))
    torch.testing.assert_close(folded.mu, torch.full((4,), 0.5))  # a tenth of the way to the batch's
    assert folded.bn_momentum == pytest.approx(0.094)


def test_a_normalised_neuron_says_what_it_needs():
    from spikingjelly.activation_based.neuron import MPBNLIFNode

    with pytest.raises(ValueError, match="give out_features for a potential"):
        MPBNLIFNode()
    with pytest.raises(ValueError, match="tau must be above 1"):
        MPBNLIFNode(1.0, out_features=2)
    assert "MPBNLIFNode" not in spikescope.neuron.registry
    assert "eager" in MPBNLIFNode(out_features=2).implementation(torch.rand(3, 2)).reason
