"""Encoders under the aliases: sequences in multi-step mode, and codes of one's own as published code writes them."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("aliases")


MADE = {
    "LatencyEncoder": lambda encoding, mode: encoding.LatencyEncoder(4, step_mode=mode),
    "WeightedPhaseEncoder": lambda encoding, mode: encoding.WeightedPhaseEncoder(4, step_mode=mode),
    "PeriodicEncoder": lambda encoding, mode: encoding.PeriodicEncoder(torch.eye(4)[:, :3], mode),
}


@pytest.mark.parametrize("name", MADE)
def test_a_sequence_gives_what_its_first_step_gives_in_single_steps(name):
    from spikingjelly.activation_based import encoding

    x_seq = torch.rand(6, 2, 3) * 0.9
    whole, steps = MADE[name](encoding, "m"), MADE[name](encoding, "s")
    wanted = torch.stack([steps(x_seq[0]) for _ in range(12)])
    assert torch.equal(whole(x_seq), wanted[:6])
    assert torch.equal(whole(x_seq), wanted[6:])  # goes on in its code until the reset
    whole.reset()
    assert torch.equal(whole(x_seq), wanted[:6])
    assert isinstance(whole, encoding.StatefulEncoder)
    assert isinstance(whole, encoding_of_ours(name))


def encoding_of_ours(name):
    from spikescope import encoding

    return getattr(encoding, name)


@pytest.mark.parametrize(
    ("path", "method"), [("activation_based", "single_step_encode"), ("clock_driven", "encode"), ("ours", "encode")]
)
def test_a_code_of_ones_own_may_be_put_into_the_state(path, method):
    if path == "activation_based":
        from spikingjelly.activation_based import encoding
    elif path == "clock_driven":
        from spikingjelly.clock_driven import encoding
    else:
        from spikescope import encoding

    def put(self, x):
        self.spike = torch.stack([x > t / self.T for t in range(self.T)]).float()

    encoder = type("Falling", (encoding.StatefulEncoder,), {method: put})(3)
    x = torch.tensor([0.1, 0.5, 0.9])
    assert [encoder(x).tolist() for _ in range(4)] == [[1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]]
    encoder.reset()
    assert encoder.spike is None


@pytest.mark.parametrize("path", ["activation_based", "clock_driven"])
@pytest.mark.parametrize("name", ["LatencyEncoder", "WeightedPhaseEncoder", "PeriodicEncoder"])
def test_what_was_encoded_beforehand_is_given_out_by_calls_without_an_input(path, name):
    """As `encoder.encode(x)`, then `encoder()` at each step: published code encodes a batch where it reads it."""
    if path == "clock_driven":
        from spikingjelly.clock_driven import encoding

        method = "encode"
    else:
        from spikingjelly.activation_based import encoding

        method = "single_step_encode"
    periodic = name == "PeriodicEncoder"
    encoder = getattr(encoding, name)(torch.eye(5) if periodic else 4)
    for drawn in (torch.rand(4, 3) * 0.9, torch.rand(4, 3) * 0.9):
        x = drawn.round() if periodic else drawn
        getattr(encoder, method)(x)
        wanted = x if periodic else encoding_of_ours(name)(4).encode(x)
        assert torch.equal(torch.stack([encoder() for _ in range(8)]), torch.cat([wanted, wanted]))
        assert torch.equal(encoder.spike, wanted)
        if not periodic:
            encoder.reset()


def test_a_code_that_is_none_is_refused_in_words():
    from spikescope import encoding
    from spikescope.errors import StateError

    class Nothing(encoding.StatefulEncoder):
        def encode(self, x):
            return None

    with pytest.raises(StateError, match=r"Nothing: encode\(x\) must give the spikes"):
        Nothing(3)(torch.rand(2))


def test_the_first_age_names_the_numbers_of_a_latency_code_otherwise():
    from spikingjelly.clock_driven import encoding

    x = torch.tensor([[0.0, 0.3, 1.0]])
    for older in (
        encoding.LatencyEncoder(max_spike_time=5, function_type="log", device="cpu"),
        encoding.LatencyEncoder(5, "log", torch.device("cpu")),
    ):
        later = encoding.LatencyEncoder(5, "log")
        later.encode(x)
        with pytest.raises(ValueError, match="has no out_spike before it has encoded something"):
            _ = older.out_spike
        first = older(x)
        steps = [first, *(older.step() for _ in range(4))]
        assert torch.equal(torch.stack(steps), later.spike)
        assert older.out_spike.dtype is torch.bool
        assert torch.equal(older.out_spike.float(), later.spike.movedim(0, -1))
        assert torch.equal(older.spike_time, later.spike.argmax(0))
    with pytest.raises(TypeError, match="LatencyEncoder: got T and max_spike_time, of which two are the same argument"):
        encoding.LatencyEncoder(T=3, max_spike_time=3)


def test_the_first_age_names_the_numbers_of_other_codes_otherwise():
    from spikingjelly.clock_driven import encoding

    for older in (
        encoding.WeightedPhaseEncoder(3, 10, "cpu"),
        encoding.WeightedPhaseEncoder(phase=3, period=10, device="cpu"),
    ):
        assert (older.K, older.step_mode) == (3, "s")
        assert older.encode(torch.tensor([0.625])).flatten().tolist() == [1, 0, 1]
    train = torch.tensor([[True], [False], [True]])
    periodic = encoding.PeriodicEncoder(out_spike=train)
    assert [periodic.step().item() for _ in range(4)] == [True, False, True, True]
    periodic.set_out_spike(~train[:2])
    assert [periodic.step().item() for _ in range(3)] == [False, True, False]
    assert torch.equal(periodic.out_spike, ~train[:2])


def test_the_first_gated_cell_takes_its_state_as_a_pair():
    from spikingjelly.clock_driven import rnn

    cell, x, h = rnn.SpikingGRUCell(3, 4), torch.rand(2, 3), torch.rand(2, 4)
    for y in (cell(x, (h, 0 * h)), cell(x, hc=(h, 0 * h)), cell(x, h=h)):
        assert torch.equal(y, cell(x, h))
    assert torch.equal(cell(x, hc=None), cell(x))
    assert not torch.equal(cell(x, h), cell(x))
