import numpy as np
import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, neuron
from spikescope.errors import ShapeError
from spikescope.monitor import BudgetError, Monitor, SpikeCounter


def run(net, x, step_mode):
    return net(x) if step_mode == "m" else torch.stack([net(step) for step in x])


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_one_tensor_a_step_in_both_step_modes(step_mode, backend):
    net = spiking_net(step_mode)
    monitor = Monitor(net, backend=backend)
    monitor.enable()
    y = run(net, sequence(), step_mode)
    assert list(monitor.s) == list(monitor.v) == ["1", "3"]
    assert len(monitor.s["3"]) == len(monitor.v["1"]) == 4
    assert isinstance(monitor.s["3"][0], np.ndarray if backend == "numpy" else torch.Tensor)
    assert torch.equal(torch.as_tensor(np.stack([np.asarray(s) for s in monitor.s["3"]])), y.detach())
    assert torch.equal(
        torch.as_tensor(np.asarray(monitor.v["3"][-1])), net[3].v.detach() if step_mode == "s" else net[3].v
    )


def test_potentials_are_those_after_each_reset():
    net = nn.Sequential(neuron.IFNode(v_reset=None, step_mode="m"))
    monitor = Monitor(net, "cpu", backend="torch")
    monitor.enable()
    net(torch.full((3, 1, 1), 0.75))
    assert [float(v) for v in monitor.v["0"]] == [0.75, 0.5, 0.25]


def test_it_starts_disabled_pauses_and_goes_on():
    net = spiking_net()
    monitor = Monitor(net)
    net(sequence())
    assert monitor.s["1"] == []
    assert not monitor.is_enable()
    for _ in range(2):
        monitor.enable()
        monitor.enable()
        net(sequence(3))
        monitor.disable()
        net(sequence(3))
    assert len(monitor.s["1"]) == 6
    monitor.reset()
    assert monitor.s["1"] == monitor.v["1"] == []


def test_rates_by_hand():
    """Layer 0: neurons fire 2, 0 of 4 in one sample; layer 1 has no input and one neuron."""
    net = nn.Sequential(
        neuron.IFNode(v_reset=None, step_mode="m"), nn.Linear(2, 1, bias=False), neuron.IFNode(step_mode="m")
    )
    net[1].weight.data.fill_(0.0)
    monitor = Monitor(net, backend="torch")
    monitor.enable()
    net(torch.tensor([0.5, 0.125]).expand(4, 1, 2))
    assert monitor.get_avg_firing_rate(all=False, module_name="0") == 0.25
    assert monitor.get_avg_firing_rate() == pytest.approx(0.25 * 2 / 3)
    assert monitor.get_nonfire_ratio(all=False, module_name="0") == 0.5
    assert monitor.get_nonfire_ratio() == pytest.approx(2 / 3)
    net(torch.tensor([0.0, 2.0]).expand(4, 1, 2))  # a query has not frozen the answer
    assert monitor.get_avg_firing_rate(False, "0") == (2 + 4) / 16
    assert monitor.get_nonfire_ratio(False, "0") == 0.0


def test_no_data_and_unknown_names_are_errors_in_words():
    monitor = Monitor(spiking_net())
    with pytest.raises(ValueError, match=r"no data yet: call enable\(\)"):
        monitor.get_avg_firing_rate()
    with pytest.raises(KeyError, match="no spiking layer '2'; there is '1', '3'"):
        monitor.get_nonfire_ratio(False, "2")
    with pytest.raises(LookupError, match="Monitor found no module with role 'neuron'"):
        Monitor(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="backend must be one of 'numpy', 'torch'"):
        Monitor(spiking_net(), backend="jax")


def test_readouts_have_a_potential_and_no_spikes():
    net = nn.Sequential(neuron.IFNode(step_mode="m"), neuron.NonSpikingIFNode(step_mode="m"))
    monitor = Monitor(net)
    monitor.enable()
    net(sequence())
    assert list(monitor.s) == ["0"]
    assert len(monitor.v["1"]) == 4
    monitor.close()
    net[0].reset()
    net[0](sequence())
    assert len(monitor.s["0"]) == 4


class ScaledDouble(nn.Module):
    """A neuron whose spikes have the height `scale`."""

    def __init__(self, scale, step_mode):
        super().__init__()
        self.scale = scale
        self.step_mode = step_mode
        self.neuron = neuron.IFNode(v_reset=None, step_mode=step_mode)

    def forward(self, x):
        return self.neuron(x / self.scale) * self.scale


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_counting_divides_by_the_scale(step_mode):
    net = nn.Sequential(ScaledDouble(3.7, step_mode), neuron.IFNode(step_mode=step_mode))
    with SpikeCounter(net, keep_train=True) as counter:
        y = run(net[0], x := sequence(6) * 2, step_mode)
        run(net[1], x, step_mode)
    assert list(counter.layers) == ["0", "1"]  # not the neuron inside
    assert counter["0"].spikes == pytest.approx((y != 0).sum().item())
    assert counter["0"].spikes > 0
    assert counter["0"].neuron_steps == 6 * 2 * 5
    assert counter.total.neuron_steps == 2 * 6 * 2 * 5
    assert counter.total.spikes == counter["0"].spikes + counter["1"].spikes
    assert torch.equal(counter.train("0"), y)
    counter.reset()
    assert counter.total == (0, 0)
    assert counter.total.rate == 0.0


def test_a_scale_per_channel_and_negative_spikes_are_counted():
    net = nn.Sequential(ScaledDouble(torch.tensor([0.5, -2.0]), "s"))
    counter = SpikeCounter(net)
    net(torch.tensor([[0.6, -9.0]]))
    assert counter["0"].spikes == pytest.approx(2.0)


def test_the_train_is_kept_in_linear_time_and_without_graph():
    node = neuron.IFNode()
    counter = SpikeCounter(node, keep_train=True)
    x = torch.rand(1, 2, requires_grad=True)
    for _ in range(600):
        node(x)
        node.detach()
    assert len(counter._train) == 600  # joined once, when it is asked for
    assert counter.train("").shape == (600, 1, 2)
    assert not counter.train("").requires_grad
    with pytest.raises(KeyError, match="'x' is not counted"):
        counter["x"]
    with pytest.raises(ValueError, match="keep_train=True"):
        SpikeCounter(node).train("")
    with pytest.raises(ValueError, match="no output of '' yet"):
        SpikeCounter(node, keep_train=True).train("")
    functional.reset_net(node)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_rates_of_many_neurons_are_exact_in_half_precision(backend, dtype):
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    monitor = Monitor(net, backend=backend)
    monitor.enable()
    x = torch.full((1, 2, 70001), 1.5, dtype=dtype)
    x[0, :, :13] = 0
    net(x)
    assert monitor.get_avg_firing_rate() == 69988 / 70001
    assert monitor.get_nonfire_ratio() == 13 / 70001


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [0.143, torch.tensor(0.143)], ids=["number", "tensor"])
def test_spikes_of_a_scale_that_the_dtype_rounds_are_counted_whole(scale, dtype):
    net = nn.Sequential(ScaledDouble(scale, "s"))
    counter = SpikeCounter(net)
    net(torch.full((2, 17), 0.2, dtype=dtype))
    assert counter["0"] == (34.0, 34)


def test_a_closed_monitor_is_not_enabled():
    with Monitor(spiking_net()) as monitor:
        monitor.enable()
        assert monitor.is_enable()
    assert not monitor.is_enable()
    monitor.enable()
    assert not monitor.is_enable()


def test_trains_of_batches_of_other_sizes_are_refused_in_words():
    node = neuron.IFNode(step_mode="m")
    counter = SpikeCounter(node, keep_train=True)
    for samples in (3, 2):
        node(torch.ones(4, samples, 5))
        node.reset()
    with pytest.raises(
        ShapeError, match=r"do not form one train: \[T=4, N=3, 5\] came, then \[T=4, N=2, 5\].*reset\(\)"
    ):
        counter.train("")
    assert counter[""].neuron_steps == 4 * 5 * 5
    counter.reset()
    node(torch.ones(1, 2, 5))
    assert counter.train("").shape == (1, 2, 5)


def test_a_reset_counts_again_what_an_error_had_ended():
    node = neuron.IFNode(step_mode="m")
    counter = SpikeCounter(node, keep_train=True, budget=100)
    with pytest.warns(RuntimeWarning, match="over the budget of 100"):
        node(torch.ones(6, 1, 5))
    with pytest.raises(BudgetError):
        counter[""]
    counter.reset()
    node(torch.ones(3, 1, 5))
    assert counter[""] == (15.0, 15)
    assert counter.train("").shape == (3, 1, 5)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(("backend", "kind"), [("torch", torch.Tensor), ("numpy", np.float64)])
def test_rates_are_numbers_of_the_backend(step_mode, backend, kind):
    net = nn.Sequential(neuron.IFNode(step_mode=step_mode))
    monitor = Monitor(net, device="cpu", backend=backend)
    monitor.enable()
    x = torch.tensor([[1.0, 0.0]])
    net(x if step_mode == "s" else x.unsqueeze(0))
    asked = (monitor.get_avg_firing_rate(), monitor.get_avg_firing_rate(False, "0"), monitor.get_nonfire_ratio())
    for rate in asked:
        assert type(rate) is kind
        assert rate == 0.5
        if backend == "torch":
            assert repr(rate) == "tensor(0.5000)"
