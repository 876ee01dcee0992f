"""Situations in which monitors lie or leak elsewhere; those of a single hook are in test_socket."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from monitor_cases import sequence, spiking_net
from sample import sample
from spikescope import functional, layer, monitor, neuron
from spikescope.monitor import GradOutputMonitor, InputMonitor, OutputMonitor, record

pytestmark = [  # of PyTorch's own imports, and of its look at the output of a compiled network
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_what_a_compiled_graph_recomputes_for_a_checkpoint_is_recorded_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = layer.Linear(5, 5), nn.ReLU()

        def forward(self, x):
            return checkpoint(lambda y: self.second(self.first(y)), x, use_reentrant=False)

    net = Net()
    run = torch.compile(net, backend="aot_eager", fullgraph=True)
    with (
        OutputMonitor(net, nn.Linear) as values,
        GradOutputMonitor(net, nn.Linear) as gradients,
        record(net, "norm", nn.Linear, "output") as norms,
    ):
        run(sequence().requires_grad_()).pow(2).sum().backward()
    assert (len(values.records), len(gradients.records), norms.cost().calls) == (1, 1, 1)


@pytest.mark.parametrize(
    "backend", sample(["aot_eager", "inductor"], "inductor")
)  # which gives its memory to later values
def test_records_of_a_compiled_graph_stay_what_they_were(backend):
    net = nn.Sequential(layer.Linear(5, 9), nn.ReLU(inplace=True), layer.Linear(9, 5), nn.Sigmoid())
    monitor.instrument(net)
    run = torch.compile(net, backend=backend, fullgraph=True)
    inputs = [sequence() * factor for factor in (1.0, -2.0, 3.0)]
    with OutputMonitor(net, nn.Linear) as found, InputMonitor(net, nn.Sigmoid) as given:
        for x in inputs:
            run(x).sum().backward()
    with OutputMonitor(net, nn.Linear) as wanted, InputMonitor(net, nn.Sigmoid) as wanted_inputs:
        for x in inputs:
            net(x)
    for ours, theirs in ((found, wanted), (given, wanted_inputs)):
        for held, expected in zip(ours.records, theirs.records, strict=True):
            torch.testing.assert_close(held, expected)
    assert min(held.min() for held in found["0"]) < 0, "before the ReLU that works in place"


def test_amp_in_compiled_code_has_the_same_rates():
    net = spiking_net()
    run = torch.compile(net, backend="aot_eager", fullgraph=True)
    rates = []
    for call in (net, run):
        with record(net, ["rate", "packed"]) as recording, torch.autocast("cpu", torch.bfloat16):
            call(sequence())
        functional.reset_net(net)
        rates.append(recording.to_dict())
        assert {row["packed"].dtype for row in recording.rows().values()} == {torch.bfloat16}
    assert rates[0] == rates[1]


def test_gradients_under_a_grad_scaler_that_changes_its_scale():
    torch.manual_seed(0)
    net, x = nn.Linear(3, 2), torch.rand(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    with (
        GradOutputMonitor(net, scaler=scaler) as gradients,
        record(net, "norm", nn.Linear, "grad_output", scaler=scaler) as norms,
    ):
        for _ in range(3):
            scaler.scale(net(x).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert [moment.scale for moment in gradients.moments] == [1024.0, 2048.0, 4096.0]
    assert all(torch.equal(held, torch.ones(4, 2)) for held in gradients.records)
    assert norms[""] == pytest.approx((3 * 8) ** 0.5)


def test_summaries_skip_what_torch_func_hides_and_tell_so():
    net = nn.Linear(5, 2)
    with record(net, "norm", nn.Linear, "output") as recording:
        torch.func.vmap(net)(sequence())
        torch.func.grad(lambda w: torch.func.functional_call(net, {"weight": w}, sequence()).sum())(net.weight)
        assert recording.never_fired == ("",)
        assert (recording.cost().calls, recording.cost().transforms) == (0, 2)
        with pytest.raises(KeyError, match=r"inside vmap or grad of torch\.func, which hide its values"):
            recording[""]
        y = net(sequence())
    assert recording[""] == pytest.approx(y.norm().item())


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copied_network_feeds_no_summary_of_the_original(twin):
    net, x = spiking_net(), sequence()
    with record(net, "count") as recording:
        net(x)
        before = recording.to_dict()
        twin(net)(x)
        assert recording.to_dict() == before


def test_summaries_of_a_neuron_that_is_used_twice_hold_both_calls():
    node = neuron.IFNode(step_mode="m")
    net = nn.Sequential(node, layer.Linear(3, 3, step_mode="m"), node)
    x = torch.full((4, 1, 3), 0.5)
    with record(net, "count", neuron.IFNode) as recording, OutputMonitor(net, neuron.IFNode) as outputs:
        net(x)
    assert len(outputs["0"]) == 2
    assert recording["0"].tolist() == sum(held.sum((0, 1)) for held in outputs["0"]).tolist()


def test_an_error_in_the_block_closes_the_monitors_and_comes_out():
    net = spiking_net()
    recording, outputs = record(net), OutputMonitor(net, neuron.Neuron)

    def run():
        with recording, outputs:
            net(sequence())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run()
    before = recording.to_dict()
    functional.reset_net(net)
    net(sequence() * 2)
    assert recording.to_dict() == before
    assert len(outputs.records) == 2


def test_counters_take_the_spikes_of_a_neuron_for_online_training():
    net = layer.OTTTSequential(nn.Linear(5, 4), neuron.OTTTLIFNode(), nn.Linear(4, 3), neuron.LIFNode()).train()
    clock = monitor.Monitor(net, backend="torch")
    clock.enable()
    with monitor.SpikeCounter(net) as counter, OutputMonitor(net, neuron.OTTTLIFNode) as outputs:
        for x in sequence() * 2:
            net(x)
    spikes = torch.stack([spike for spike, _ in outputs.records])
    assert counter["1"] == (spikes.sum().item(), spikes.numel())
    assert torch.equal(torch.stack(clock.s["1"]), spikes)
    assert 0 < clock.get_avg_firing_rate(False, "1") == pytest.approx(spikes.mean().item())


def test_a_gradient_that_does_not_come_is_no_record():
    """Without a reset the second backward pass comes by the output of the first call, on which nothing depends."""
    net, x = spiking_net(), sequence()
    with GradOutputMonitor(net, neuron.LIFNode) as gradients:
        net(x).sum().backward(retain_graph=True)
        net(x).sum().backward()
        assert len(gradients.records) == 2
        assert all(isinstance(held, torch.Tensor) for held in gradients.records)


class Held:
    """Lives as long as the graph that it is put into."""


class Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, held):
        ctx.held = held
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def test_a_monitor_keeps_neither_the_network_nor_its_graph():
    net = spiking_net()
    monitors = [
        OutputMonitor(net, neuron.Neuron),
        InputMonitor(net, neuron.Neuron),
        GradOutputMonitor(net, neuron.Neuron),
        record(net, ["rate", "raw"]),
        record(net, "gradient norm", signal="grad_output"),
    ]
    held = Held()
    graph = weakref.ref(held)
    loss = net(Pass.apply(sequence().requires_grad_(), held)).sum()
    loss.backward()
    del loss, held
    functional.reset_net(net)
    gc.collect()
    assert graph() is None
    assert len(monitors[0].records) == 2
    gone = weakref.ref(net)
    del net, monitors
    gc.collect()
    assert gone() is None


def test_a_run_on_tensors_without_values_is_an_error_in_words_and_not_one_of_the_network():
    net = nn.Sequential(neuron.LIFNode(step_mode="m"))
    with record(net, ["rate", "silent share"]) as recording:
        with pytest.warns(RuntimeWarning, match="A value without numbers came"):
            net(torch.rand(8, 2, 4, device="meta"))
        functional.reset_net(net)
        assert net(torch.rand(8, 2, 4)).shape == (8, 2, 4)
        with pytest.raises(ValueError, match="A value without numbers came"):
            recording.rows()
