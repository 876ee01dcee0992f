"""Where what a kernel tells would be no longer true, or an error of a monitor would reach the network."""

import weakref
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from monitor_cases import sequence, spiking_net
from spikescope import functional, layer, monitor, neuron, surrogate
from spikescope.dynamics import Step
from spikescope.errors import ShapeError
from spikescope.monitor import reduce


class Twice(neuron.IFNode):
    """Runs twice in a call."""

    def forward(self, x):
        return super().forward(x) + super().forward(x)


class Doubling(neuron.IFNode):
    """Gives two spikes at a time."""

    @classmethod
    def step(cls, p, s, x):
        out = super().step(p, s, x)
        return out._replace(output=2 * out.output)


class Level(NamedTuple):
    v: float = 0.0


class Reticent(neuron.PointwiseNeuron):
    """Does not tell its potential before the reset."""

    State = Level

    @classmethod
    def step(cls, p, s, x):
        v = s.v + x
        return Step((v > 1).to(v.dtype), Level(v), None)


@pytest.mark.parametrize("cls", [Twice, Doubling])
def test_a_neuron_that_makes_something_else_of_its_spikes_is_measured_by_its_output(cls):
    node = cls(step_mode="m")
    with monitor.record(node, "count") as recording:
        y = node(torch.full((4, 2, 3), 0.75))
    assert y.sum() > 0
    assert recording[""].tolist() == y.sum((0, 1)).tolist()


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("late", [False, True])
def test_the_primitive_of_a_surrogate_is_no_spike(backend, late):
    node = neuron.IFNode(step_mode="m", backend=backend)
    if not late:
        node.surrogate_function.set_spiking_mode(False)
    with monitor.record(node, "rate") as recording:
        node.surrogate_function.set_spiking_mode(False)
        node(sequence())
    with pytest.raises(ValueError, match="whole numbers"):
        recording[""]


@pytest.mark.filterwarnings("ignore:The probe of:RuntimeWarning")
def test_an_error_of_one_recording_takes_no_tap_from_another():
    def levels(beside):
        net = spiking_net()
        with beside(net), monitor.record(net, "min max", signal="h") as recording:
            net(sequence())
        return recording.to_dict()

    full = []

    def failing(net):
        full.append(monitor.record(net, "packed", budget=1))
        return full[0]

    assert levels(failing) == levels(lambda net: monitor.record(net, "packed"))
    with pytest.raises(monitor.BudgetError):
        full[0].rows()


@pytest.mark.filterwarnings("ignore:The probe of:RuntimeWarning")
@pytest.mark.parametrize("reducer", ["min max", "norm"])  # from the kernel and from the values
@pytest.mark.parametrize("backend", ["torch", "cpp", "triton"])
def test_a_potential_that_is_not_told_is_an_error_of_the_recording(reducer, backend):
    node = Reticent(step_mode="m", backend=backend)
    with monitor.record(node, reducer, signal="h") as recording:
        y = node(torch.ones(3, 2))
        assert y.sum() == 4  # the network runs on
        held = weakref.ref(y)
        del y
        assert held() is None, "the recording holds the output"
    for read in (recording.rows, recording.to_dict, recording.table, lambda: len(recording), lambda: recording[""]):
        with pytest.raises(ValueError, match="Reticent did not tell"):
            read()


@pytest.mark.filterwarnings("ignore:The probe of:RuntimeWarning")
def test_an_error_holds_no_value_of_the_forward_pass_and_tells_where_it_came_up():
    def broken(value):
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ArithmeticError("outer") from error

    net, x = spiking_net(), sequence().requires_grad_()
    with monitor.OutputMonitor(net, neuron.IFNode, broken) as recorder:
        y = net(x)
    held = weakref.ref(y), weakref.ref(x)
    del x, y
    functional.reset_net(net)
    assert [found() for found in held] == [None, None]
    with pytest.raises(ArithmeticError, match="outer") as caught:
        recorder.records  # noqa: B018
    assert "in broken" in caught.value.__notes__[0]


@pytest.mark.filterwarnings("ignore:The probe of:RuntimeWarning")
def test_a_sequence_without_samples_is_refused_on_reading():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, ["count", "packed"]) as recording:
        node(torch.ones(5))
    with pytest.raises(ShapeError):
        recording.rows()


def test_summaries_made_in_inference_mode_are_ordinary_tensors():
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, ["count", "packed", "silent share"]) as recording, torch.inference_mode():
        node(torch.ones(3, 2, 5))
    held = [recording[""]["count"], recording[""]["packed"].bits]
    (track,) = recording._tracks.values()
    held += [part for total in track.totals.values() for part in total.open or () if torch.is_tensor(part)]
    held += [track.tally._spikes, track.totals["packed"].open.pieces[0]]
    assert not any(part.is_inference() for part in held)


@pytest.mark.parametrize("reducer", ["packed", "raw", "count", "rate over time", "first spike latency"])
def test_who_changes_a_result_changes_no_later_one(reducer):
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, reducer) as recording:
        node(torch.full((4, 2, 3), 0.75))
    before = recording.to_dict()
    tensors = recording[""].bits if reducer == "packed" else recording[""]
    for held in [tensors] if torch.is_tensor(tensors) else [t for t in tensors if torch.is_tensor(t)]:
        held.fill_(1 - held.flatten()[0].item())
    assert recording.to_dict() == before


@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_input_after_a_reset_belongs_to_the_new_run(compiled):
    torch.compiler.reset()
    node = neuron.IFNode(step_mode="m")
    run = torch.compile(node, backend="eager") if compiled else node
    with monitor.InputMonitor(node) as inputs, monitor.record(node, "raw", signal="current", every=2) as recording:
        for start in (0.0, 10.0, 20.0):
            functional.reset_net(node)
            run(torch.tensor([[[start]], [[start + 1]]])), run(torch.tensor([[[start + 2]]]))
    assert [(moment.run, moment.start) for moment in inputs.moments] == [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2)]
    assert recording[""][:, :, 0].tolist() == [[0.0, 20.0], [1.0, 21.0], [2.0, 22.0]]


class Unused(nn.Module):
    """Has a neuron that never runs, before the others."""

    def __init__(self):
        super().__init__()
        self.dead, self.node = neuron.IFNode(step_mode="m"), neuron.IFNode(step_mode="m")
        self.weights = layer.Linear(5, 5, step_mode="m")

    def forward(self, x):
        return self.node(self.weights(x))


@pytest.mark.parametrize(
    "net",
    [Unused(), nn.Sequential(neuron.PSN(T=2), layer.Linear(5, 5, step_mode="m"), neuron.IFNode(step_mode="m"))],
    ids=["a neuron that does not run", "a neuron without a state"],
)
def test_a_run_goes_on_while_any_neuron_has_a_state(net):
    with monitor.InputMonitor(net, nn.Linear) as inputs:
        for x in (sequence(2), sequence(2), None, sequence(2)):
            functional.reset_net(net) if x is None else net(x)
    assert [(moment.run, moment.start) for moment in inputs.moments] == [(0, 0), (0, 2), (1, 0)]


@pytest.mark.parametrize("neurons", [8, 3])  # a step of whole bytes, and one that is not
def test_packed_runs_are_the_samples_of_one_batch(neurons):
    packed, runs = reduce.Packed(), [(torch.rand(5, samples, neurons) > 0.5).float() for samples in (2, 1, 3)]
    summaries = [packed.measure(run) for run in runs]
    both = packed.merge(packed.merge(summaries[0], summaries[1], "batch"), summaries[2], "batch")
    assert torch.equal(packed.result(both).dense(), torch.cat(runs, 1))


def test_packed_spikes_are_copied_from_what_the_kernel_gave():
    bits, x = torch.tensor([[5], [2]], dtype=torch.uint8), torch.zeros(2, 1, 3)
    summary = reduce.Packed().measure_taps({"packed": bits}, x)
    bits.fill_(0)  # compiled code writes something else there later
    assert reduce.Packed().result(summary).bits.tolist() == [[5], [2]]


def test_packed_runs_of_other_lengths_are_refused_in_words():
    packed = reduce.Packed()
    with pytest.raises(ValueError, match="same steps"):
        packed.merge(packed.measure(torch.ones(3, 1, 2)), packed.measure(torch.ones(4, 1, 2)), "batch")


def test_a_threshold_of_one_batch_is_not_judged_in_the_next():
    net = nn.Sequential(layer.Linear(5, 3, step_mode="m"), neuron.LIFNode(step_mode="m"))
    functional.set_threshold_margin(net[1], one_hot(torch.tensor([0, 1, 2, 0]), 3))
    with monitor.health(net) as watch:
        for labels in ([1, 1, 0, 2], [2, 1]):  # the last batch is smaller
            functional.reset_net(net)
            functional.set_threshold_margin(net[1], one_hot(torch.tensor(labels), 3))
            net(torch.zeros(4, len(labels), 5)).sum().backward()
    assert watch.findings is not None


def test_the_surrogate_of_a_threshold_per_channel_is_judged_where_it_is_learned():
    net = nn.Sequential(neuron.IFNode(step_mode="m", surrogate_function=surrogate.PiecewiseQuadratic()))
    net[0].v_threshold = nn.Parameter(torch.tensor([100.0, 100.0]))
    with monitor.health(net) as watch:
        net(torch.ones(2, 1, 2))
    assert "outside the surrogate" in [finding.kind for finding in watch.everything]
