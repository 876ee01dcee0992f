"""Encoders: hand-worked codes, and laws that lead back to the value."""

import copy
import math

import pytest
import torch

from spikescope import encoding, functional
from spikescope.errors import ShapeError, StateError


@pytest.mark.parametrize(
    "encoder",
    [
        encoding.LatencyEncoder(5),
        encoding.LatencyEncoder(5, "log"),
        encoding.WeightedPhaseEncoder(5),
        encoding.PeriodicEncoder((torch.rand(5, 3, 2) > 0.5).float()),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_both_step_modes_give_one_code_which_repeats(encoder):
    x = 0.9 * torch.rand(2, 3).T
    encoder.step_mode = "s"
    steps = torch.stack([encoder(x) if t < 3 else encoder() for t in range(10)])
    assert torch.equal(steps[:5], steps[5:])
    assert torch.equal(encoder.spike, steps[:5])
    encoder.step_mode = "m"
    functional.reset_net(encoder)
    assert torch.equal(encoder(x), steps[:5])
    assert encoder(x).shape == (5, 3, 2)


def test_a_new_input_needs_a_reset():
    encoder = encoding.LatencyEncoder(3)
    with pytest.raises(StateError, match="nothing to encode yet"):
        encoder()
    encoder(torch.tensor([0.5]))
    encoder(torch.tensor([0.5]))
    with pytest.raises(StateError, match=r"Call reset\(\) before a new input"):
        encoder(torch.tensor([0.25]))
    encoder.reset()
    assert encoder.t == 0
    encoder(torch.tensor([0.25]))


def test_poisson_rate_ends_and_seed():
    p = torch.tensor([0.0, 0.3, 1.0])
    encoder = encoding.PoissonEncoder("m", torch.Generator().manual_seed(3))
    spikes = encoder(p.expand(4000, 3))
    rate = spikes.mean(0)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert (rate[0], rate[2]) == (0.0, 1.0)
    assert rate[1].item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 4000))
    again = encoding.PoissonEncoder("m", torch.Generator().manual_seed(3))
    assert torch.equal(again(p.expand(4000, 3)), spikes)
    assert not torch.equal(again(p.expand(4000, 3)), spikes)


def test_poisson_in_half_precision_keeps_small_rates():
    spikes = encoding.PoissonEncoder(generator=torch.Generator().manual_seed(0))(
        torch.full((40000,), 2**-10, dtype=torch.bfloat16)
    )
    assert spikes.dtype is torch.bfloat16
    assert spikes.float().mean().item() == pytest.approx(2**-10, abs=5 * math.sqrt(2**-10 / 40000))


def test_latency_by_hand():
    x = torch.tensor([1.0, 0.75, 0.5, 0.26, 0.0])
    assert encoding.LatencyEncoder(5, step_mode="m")(x).argmax(0).tolist() == [0, 1, 2, 3, 4]
    # log, T = 5: alpha = e^4 - 1 = 53.6; ln(53.6 * 0.1 + 1) = 1.85: 4 - 1.85 = 2.15
    log = encoding.LatencyEncoder(5, "log", step_mode="m")(torch.tensor([0.0, 0.1, 0.5, 1.0]))
    assert log.argmax(0).tolist() == [4, 2, 1, 0]
    assert log.sum(0).tolist() == [1.0] * 4
    assert encoding.LatencyEncoder(1, step_mode="m")(x).tolist() == [[1.0] * 5]


def test_phases_are_the_binary_digits():
    x = torch.arange(256) / 256
    spikes = encoding.WeightedPhaseEncoder(8, step_mode="m")(x)
    weights = 0.5 ** torch.arange(1, 9).unsqueeze(1)
    assert torch.equal((weights * spikes).sum(0), x)
    assert encoding.WeightedPhaseEncoder(3, step_mode="m")(torch.tensor([0.8])).flatten().tolist() == [1.0, 1.0, 0.0]


def test_delta_follows_the_signal_within_its_threshold():
    torch.manual_seed(0)
    signal = (0.4 * (torch.rand(60, 3) - 0.5)).cumsum(0)
    encoder = encoding.DeltaEncoder(0.25, step_mode="m")
    spikes = encoder(signal)
    assert {-1.0, 0.0, 1.0} == set(spikes.unique().tolist())
    assert (signal[0] + 0.25 * spikes.cumsum(0) - signal).abs().max() <= 0.25
    encoder.reset()
    encoder.step_mode = "s"
    assert torch.equal(torch.stack([encoder(x) for x in signal]), spikes)
    assert torch.equal(encoding.DeltaEncoder(0.25, off_spike=False, step_mode="m")(signal), spikes.clamp(min=0))
    with pytest.raises(ShapeError, match=r"Call reset\(\) before each batch of other samples"):
        encoder(torch.zeros(4))


def test_population_by_hand():
    encoder = encoding.PopSpikeEncoderDeterministic(2, 2, 3, (0.0, 1.0), 1.0)
    half = math.exp(-0.5)  # 0.607: two steps pass the threshold, then 1.213 - 0.999 + 0.607 = 0.821 does not
    torch.testing.assert_close(encoder.activity(torch.tensor([[0.0, 1.0]])), torch.tensor([[1.0, half, half, 1.0]]))
    spikes = encoder(torch.tensor([[0.0, 1.0]]))
    assert spikes.squeeze(1).tolist() == [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]]
    spikes.sum().backward()  # straight through: 3 steps of da/dmean = a (x - mean) / std^2
    torch.testing.assert_close(encoder.mean.grad, 3 * torch.tensor([[[0.0, -half], [half, 0.0]]]))


def test_random_population_has_the_rates_of_its_responses():
    encoder = encoding.PopSpikeEncoderRandom(1, 3, 4000, (-1.0, 1.0), 1.0, torch.Generator().manual_seed(0))
    obs = torch.tensor([[0.5]])
    rates = encoder(obs).mean(0)
    torch.testing.assert_close(rates, encoder.activity(obs), atol=0.04, rtol=0)
    assert rates.requires_grad


def test_encoders_can_be_copied():
    encoder = encoding.LatencyEncoder(3)
    encoder(torch.tensor([0.0]))
    assert copy.deepcopy(encoder)().item() == encoder().item()


def test_empty_batches_and_compiled_code():
    assert encoding.LatencyEncoder(4, step_mode="m")(torch.zeros(0, 3)).shape == (4, 0, 3)
    encoder = encoding.WeightedPhaseEncoder(4, step_mode="m")
    x = torch.tensor([0.3, 0.7])
    assert torch.equal(torch.compile(encoder, backend="eager", fullgraph=True)(x), encoder(x))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: encoding.PoissonEncoder()(torch.tensor([1.5])), ValueError, "must be from 0 to 1"),
        (lambda: encoding.PoissonEncoder()(torch.tensor([1])), TypeError, "dtype torch.int64"),
        (lambda: encoding.LatencyEncoder(3)(torch.tensor([-0.5])), ValueError, "from 0 to 1, but got values from -0.5"),
        (lambda: encoding.WeightedPhaseEncoder(3)(torch.tensor([0.9])), ValueError, "from 0 to 0.875"),
        (lambda: encoding.LatencyEncoder(0), ValueError, "T must be a whole number of at least 1, but got 0"),
        (lambda: encoding.LatencyEncoder(3, "cubic"), ValueError, "'linear', 'log', but got 'cubic'"),
        (lambda: encoding.LatencyEncoder(701, "log"), ValueError, "at most 700"),
        (lambda: encoding.WeightedPhaseEncoder(53), ValueError, "at most 52"),
        (lambda: encoding.PeriodicEncoder(torch.tensor(1.0)), ShapeError, "a single number"),
        (lambda: encoding.DeltaEncoder(0.0), ValueError, "threshold must be above 0"),
        (lambda: encoding.DeltaEncoder("low"), ValueError, "threshold must be above 0, but got 'low'"),
        (lambda: encoding.DeltaEncoder(0.1)(torch.tensor([0.5, float("nan")])), ValueError, "which must be finite"),
        (lambda: encoding.DeltaEncoder(0.1, step_mode="m")(torch.zeros(0, 2)), ShapeError, "at least one step"),
        (lambda: encoding.DeltaEncoder(0.1, step_mode="m")([[0.5]]), TypeError, "must be a torch.Tensor, but got list"),
        (lambda: encoding.BiPoissonEncoder()(torch.tensor([True])), TypeError, "dtype torch.bool"),
        (lambda: encoding.BiPoissonEncoder()(None), TypeError, "must be a torch.Tensor, but got NoneType"),
        (lambda: encoding.PoissonEncoder(generator=3), TypeError, "torch.Generator or None, but got int"),
        (lambda: encoding.WeightedPhaseEncoder(30)(torch.tensor([1.0])), ValueError, "values from 0 to 1, but got"),
        (lambda: encoding.WeightedPhaseEncoder(12)(torch.ones(1).half()), ValueError, "from 0 to 0.999756"),
        (lambda: encoding.PopSpikeEncoderRandom(1, 2, 3, 1.0, 1.0), ValueError, r"mean_range must be \(low, high\)"),
        (lambda: encoding.PopSpikeEncoderRandom(1, 2, 3, (0.0, float("inf")), 1.0), ValueError, "its high end"),
        (lambda: encoding.PopSpikeEncoderRandom(1, 2, 3, (1.0, 0.0), 1.0), ValueError, "low < high"),
        (lambda: encoding.PopSpikeEncoderRandom(1, 2, 3, (0.0, 1.0), 0.0), ValueError, "std must be above 0"),
        (
            lambda: encoding.PopSpikeEncoderRandom(2, 2, 3, (0.0, 1.0), 1.0)(torch.zeros(1, 3)),
            ShapeError,
            r"observations \[N, 2\], but got \[1, 3\]",
        ),
    ],
)
def test_refusals_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", ["PoissonEncoder", "LatencyEncoder", "WeightedPhaseEncoder", "DeltaEncoder"])
def test_what_has_a_shape_alone_gives_one(name):
    arguments = {"PoissonEncoder": (), "DeltaEncoder": (0.1,)}.get(name, (4,))
    x = torch.zeros(2, 3, device="meta")
    assert getattr(encoding, name)(*arguments)(x).shape == (2, 3)


@pytest.mark.parametrize("cls", [encoding.PopSpikeEncoderDeterministic, encoding.PopSpikeEncoderRandom])
def test_a_population_gives_spikes_or_refuses(cls):
    encoder = cls(2, 3, 4, (-1.0, 1.0), 0.5)
    for x in (0.3, -1e30, math.inf):
        assert set(encoder(torch.tensor([[x, 0.0]])).unique().tolist()) <= {0.0, 1.0}
    with pytest.raises(ValueError, match="a response is NaN"):
        encoder(torch.tensor([[math.nan, 0.0]]))
