"""The front of the monitors against the whole signal, worked out at once."""

import gc
import itertools
import sys
from re import sub

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from monitor_cases import Named, sequence, spiking_net
from sample import sample
from spikescope import functional, monitor, neuron
from spikescope.base import MemoryModule
from spikescope.monitor import BudgetError, Subset, every, reduce
from spikescope.monitor.record import reducers_of
from spikescope.sockets import place_sockets


def outputs(net, x):
    """The spikes of both neurons."""
    with monitor.OutputMonitor(net, neuron.Neuron) as held, torch.no_grad():
        functional.reset_net(net)
        net(x)
        functional.reset_net(net)
    return {name: held[name][0] for name in held.monitored_layers}


MANY = {"rate": "rate", "silent": reduce.SilentShare, "packed": reduce.Packed(), "isi": "inter_spike_interval"}


def steps_of(net, x):
    for step in x:
        net(step)


def test_the_results_are_those_of_the_whole_signal():
    net, x = spiking_net(), sequence(5, 3)
    with monitor.record(net) as recording:
        net(x)
    for name, spikes in outputs(net, x).items():
        assert torch.equal(recording[name]["rate"], spikes.double().mean((0, 1)))
        assert recording[name]["silent share"] == (spikes.sum((0, 1)) == 0).double().mean().item()
    assert list(recording) == ["1", "3"]
    assert recording.never_fired == ()


@pytest.mark.parametrize("mode", ["steps", "chunks", "compiled", "inference"])
def test_every_way_to_run_gives_the_same(mode):
    x = sequence(5, 3)
    net = spiking_net()
    with monitor.record(net, MANY) as wanted:
        for _ in range(2):
            net(x)
            functional.reset_net(net)
    other = spiking_net("s" if mode == "steps" else "m")
    with monitor.record(other, MANY) as found:
        run = torch.compile(other, backend="eager", fullgraph=True) if mode == "compiled" else other
        for _ in range(2):
            if mode == "steps":
                steps_of(other, x)
            elif mode == "chunks":
                run(x[:2]), run(x[2:])
            else:
                with torch.inference_mode(mode == "inference"):
                    run(x)
            functional.reset_net(other)
    assert found.to_dict() == wanted.to_dict()
    for name in wanted:
        assert found[name]["packed"] == wanted[name]["packed"]


def test_reading_at_any_time_changes_nothing():
    net, x = spiking_net("s"), sequence(4, 2)
    with monitor.record(net, MANY) as read, monitor.record(net, MANY) as left:
        for step in x:
            net(step)
            read.to_dict(), read.table(), len(read)
    assert read.to_dict() == left.to_dict()


def test_one_reducer_gives_its_value_several_a_dict():
    net = spiking_net()
    with monitor.record(net, "rate") as one, monitor.record(net, ["rate"]) as several:
        net(sequence())
    assert torch.equal(one["1"], several["1"]["rate"])
    assert one.rows()["1"].keys() == {"rate"}


@pytest.mark.parametrize("name", [key for key, cls in reduce.registry.items() if not cls.example])
def test_a_reducer_is_known_however_its_name_is_written(name):
    words = sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    for written in (name, words, words.title(), *(words.replace(" ", by) for by in ("", "_", "-"))):
        made = reducers_of(written, "", None)
        assert {label: type(held) for label, held in made.items()} == {words: reduce.registry[name]}


def test_one_run_in_every():
    net, x = spiking_net(), sequence(3, 2)
    with monitor.record(net, "count", every=2) as recording:
        for scale in (1, 100, 1):  # the second, in which all would fire, is left out
            net(x * scale)
            functional.reset_net(net)
    spikes = outputs(net, x)
    assert torch.equal(recording["1"], 2 * spikes["1"].sum((0, 1)).long())


def test_a_reset_ends_the_intervals_of_runs_of_any_length():
    """Spikes in the steps 0 and 2, then in 1 and 2: the intervals are 2 and 1, and none reaches over the reset."""
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with monitor.record(net, {"isi": "inter spike interval", "course": "rate over time"}) as recording:
        for fires in ([1.0, 0, 1, 0], [0.0, 1, 1]):
            net(torch.tensor(fires).view(-1, 1, 1))
            functional.reset_net(net)
    number, mean, cv = recording["0"]["isi"]
    assert (number.item(), mean.item(), cv.item()) == (2, 1.5, pytest.approx(1 / 3))
    assert recording["0"]["course"].tolist() == [0.5, 0.5, 1, 0]


def test_without_neurons_each_call_is_a_run():
    net = nn.Sequential(nn.Identity())
    with monitor.record(net, reduce.NonFinite, "0", "output") as recording:
        net(torch.zeros(1, 1)), net(torch.full((1, 1), torch.inf))
    assert recording["0"] == (True, 1, 0)


def test_a_function_of_the_module_makes_the_reducer():
    net = spiking_net()
    with monitor.record(net, lambda name, node: reduce.SupportShare.of(node.surrogate_function), signal="h") as found:
        net(sequence())
    assert 0 < found["1"] < 1


def test_a_subset_of_neurons():
    net, x = spiking_net(), sequence()
    with monitor.record(net, "count", subset=Subset(neurons=slice(1, 3))) as recording:
        net(x)
    assert torch.equal(recording["1"], outputs(net, x)["1"].sum((0, 1))[1:3].long())


@pytest.mark.parametrize("mode", ["s", "m"])
def test_gradients_come_in_the_order_of_time(mode):
    """The gradient of sum_t t^2 y_t at y_t is t^2; two chunks go back one by one, the second run is shorter."""
    node = neuron.IFNode(step_mode=mode)
    net = nn.Sequential(node)
    with monitor.record(net, reduce.GradientNorm, signal="grad_output") as recording:
        for chunks in ([(1, 2), (3,)], [(1, 2)]):
            for chunk in chunks:
                weights = torch.tensor(chunk, dtype=torch.float32).view(-1, 1, 1) ** 2
                x = torch.rand(len(chunk), 1, 1, requires_grad=True)
                y = net(x) if mode == "m" else torch.stack([net(step) for step in x])
                (y * weights).sum().backward()
                functional.detach_net(net)
            functional.reset_net(net)
    assert recording["0"].tolist() == pytest.approx([2**0.5, 4 * 2**0.5, 9])


def test_a_second_walk_of_the_same_graph_is_a_run_of_its_own():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with monitor.record(net, reduce.GradientNorm, signal="grad_output") as recording:
        y = net(torch.rand(2, 1, 1, requires_grad=True)).sum()
        y.backward(retain_graph=True)
        y.backward()
    assert recording["0"].tolist() == pytest.approx([2**0.5] * 2)


def test_what_a_checkpoint_computes_again_is_skipped_and_told():
    net, x = spiking_net("s"), sequence(1, 3)[0]
    body = nn.Sequential(net[0], nn.ReLU(), net[2])
    with monitor.record(body, "norm", nn.ReLU, "output") as recording:
        checkpoint(body, x.requires_grad_(), use_reentrant=False).sum().backward()
    cost = recording.cost()
    assert (cost.calls, cost.recomputes) == (1, 1)
    assert cost.bytes == 8, "one float64"
    assert cost.milliseconds > 0


def test_what_never_ran_is_told_and_not_in_the_mapping():
    net = spiking_net()
    with monitor.record(net) as recording:
        net[1](torch.rand(2, 1, 7))
    assert (list(recording), recording.never_fired) == (["1"], ("3",))
    with pytest.raises(KeyError, match="Nothing of '3'"):
        recording["3"]
    with pytest.raises(KeyError, match="'2' is not recorded"):
        recording["2"]


def test_an_error_of_a_reducer_is_raised_on_reading_and_leaves_the_network_alone():
    net = nn.Sequential(Named())
    with monitor.record(net, "norm", Named, "output") as recording:
        with pytest.warns(RuntimeWarning, match="is off"):
            assert net(torch.ones(1, 1))["y"].item() == 1
        with pytest.raises(TypeError, match="gives dict"):
            recording.table()


def test_the_budget_ends_the_recording():
    net = spiking_net()
    with monitor.record(net, "raw", budget=200) as recording:
        net(sequence(2, 2))  # 2 x 2 x 7 and 2 x 2 x 3 float32 values: 160 bytes
        assert recording.cost().bytes == 160
        with pytest.warns(RuntimeWarning, match="over the budget of 200"):
            net(sequence(2, 2))
        with pytest.raises(BudgetError):
            recording.to_dict()


def test_closed_or_dropped_it_leaves_the_network():
    net = spiking_net()
    with monitor.record(net) as recording:
        net(sequence())
    before = recording.to_dict()
    net(sequence())
    assert recording.to_dict() == before
    dropped = monitor.record(net)
    probe = dropped._probes[0]
    assert probe.point.subscribers
    del dropped
    gc.collect()
    assert not probe.point.subscribers


LEVELS = {
    "range": reduce.MinMax,
    "inside": lambda name, node: reduce.SupportShare.of(node.surrogate_function, node.v_threshold),
    "low": reduce.SupportShare(low=-0.75, high=-0.25),
}


ASKED = {
    "spikes": ("spike", {**MANY, "course": reduce.RateOverTime}, {"rate", "silent", "packed", "course"}),
    "levels": ("h", LEVELS, set(LEVELS)),
    "levels and more": ("h", {**LEVELS, "moments": reduce.Moments}, set(LEVELS)),
}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize(
    ("asked", "compiled", "backend"),
    sample(
        itertools.product(ASKED, (False, True), ("auto", "torch")),
        *((asked, False, backend) for asked in ASKED for backend in ("auto", "torch")),
        ("levels and more", True, "auto"),  # five seconds each
    ),
)
def test_what_the_kernel_tells_and_what_is_measured_agree(backend, compiled, asked, monkeypatch):
    signal, reducers, tapped = ASKED[asked]
    torch.compiler.reset()  # PyTorch counts how often it compiles the code of a class
    net, x = spiking_net(), sequence(4 if compiled else 5, 3)  # compiled, in two calls of the same graphs
    functional.set_backend(net, backend)
    found = []
    for taps in (True, False):
        if not taps:
            monkeypatch.setattr(sys.modules["spikescope.monitor.record"], "tapped", lambda *args: {})
        functional.reset_net(net)
        run = torch.compile(net, backend="eager", fullgraph=True) if compiled else net
        with monitor.record(net, reducers, signal=signal) as recording, torch.no_grad():
            run(x[:2]), run(x[2:])
        assert all(
            track.tapped | set(track.tallied) == (tapped if taps else set()) for track in recording._tracks.values()
        )
        found.append(recording.to_dict())
    assert found[0] == found[1]


def test_where_the_kernel_tells_all_that_is_wanted_the_potential_is_not_written():
    net = spiking_net()
    with monitor.record(net, LEVELS, signal="h"):
        net(sequence())
        assert "h" not in net[1].tapped
    with monitor.record(net, {**LEVELS, "moments": reduce.Moments}, signal="h"):
        net(sequence())
        assert "h" in net[1].tapped


def test_packed_spikes_of_a_channels_last_image():
    torch.manual_seed(5)
    images = torch.rand(2 * 3, 5, 4, 4).mul(3).to(memory_format=torch.channels_last).unflatten(0, (2, 3))
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, "packed") as recording:
        spikes = node(images)
    assert not spikes[0].is_contiguous()
    assert torch.equal(recording[""].dense(), spikes)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_a_kernel_is_asked_for_nothing_in_the_runs_between(mode):
    net, asked = spiking_net(mode), []
    with monitor.record(net, "raw", signal="v", every=3) as recording:
        for _ in range(7):
            steps_of(net, sequence()) if mode == "s" else net(sequence())
            asked.append(bool(net[1].tapped))
            functional.reset_net(net)
            net[1].tapped = {}
    assert asked == [True, False, False, True, False, False, True]
    assert recording["1"].shape == (4, 3 * 2, 7)  # the samples of three runs


def test_a_state_of_ones_own_has_runs_and_steps():
    """Two runs of three single steps: a reset closes each; that of a queue is a list, that of a sum a tensor."""

    class Queue(MemoryModule):
        def __init__(self):
            super().__init__()
            self.register_memory("queue", [])
            self.register_memory("total", torch.zeros(1))

        def single_step_forward(self, x):
            self.queue.append(x)
            self.total = self.total + x
            return x

    net, x = nn.Sequential(nn.Linear(4, 4), Queue()), sequence(6, 3)[..., :4]
    with monitor.record(net, ["raw"], Queue, signal="output") as recording, torch.no_grad():
        for steps in (x[:3], x[3:]):
            steps_of(net, steps)
            functional.reset_net(net)
    assert recording["1"]["raw"].shape == (3, 2 * 3, 4)
    torch.testing.assert_close(recording["1"]["raw"], torch.cat((net[0](x[:3]), net[0](x[3:])), 1).detach())


@pytest.mark.parametrize("compiled", [False, True])
def test_the_spikes_of_a_neuron_that_gives_its_trace_besides(compiled):
    torch.compiler.reset()
    node = neuron.OTTTLIFNode().train()
    net, x = nn.Sequential(nn.Identity(), node), sequence(4, 2) * 2
    run = torch.compile(net, backend="eager", fullgraph=True) if compiled else net
    with monitor.record(net, "raw") as spikes, monitor.OutputMonitor(net, neuron.Neuron) as whole, torch.no_grad():
        pairs = [run(step) for step in x]
    assert torch.equal(spikes["1"], torch.stack([spike for spike, _ in pairs]))
    assert all(
        torch.equal(a, b) for pair, held in zip(pairs, whole["1"], strict=True) for a, b in zip(pair, held, strict=True)
    )


@pytest.mark.parametrize(("step_mode", "T"), [("s", 1), ("m", 2)])
def test_a_call_without_a_gradient_takes_its_steps(step_mode, T):
    """Of five calls the loss sees the second and the fourth; the state goes on from each to the next."""
    node = neuron.IFNode(step_mode=step_mode)
    with monitor.record(node, "gradient norm", signal="grad_output") as recording:
        shape = (1, 1) if step_mode == "s" else (T, 1, 1)
        out = [node(torch.full(shape, 0.25, requires_grad=True)) for _ in range(5)]
        (2 * out[1] + 5 * out[3] + 0 * node.v).sum().backward()
        again = node(torch.full(shape, 0.25, requires_grad=True))
        (7 * again.sum()).backward(inputs=[again])
    nothing = [0.0] * T
    assert recording[""].tolist() == nothing + [2.0] * T + nothing + [5.0] * T + nothing + [7.0] * T
    assert recording.cost().calls == 3


def test_cost_counts_the_values_that_were_taken():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with (
        monitor.record(net, "norm", signal="grad_output", every=2) as gradients,
        monitor.record(net, "norm", every=2) as spikes,
    ):
        for _ in range(5):
            net(torch.rand(2, 1, 3, requires_grad=True)).sum().backward()
            functional.reset_net(net)
    assert gradients.cost().calls == spikes.cost().calls == 3


@pytest.mark.parametrize(("signal", "todo"), [("spike", "inside the block"), ("grad_output", "its backward pass")])
def test_a_table_of_nothing_says_what_to_do(signal, todo):
    with monitor.record(spiking_net(), signal=signal) as recording:
        pass
    assert recording.table().startswith("Nothing was seen: run the network")
    assert todo in recording.table()


def test_table_and_picture():
    net = spiking_net()
    with monitor.record(net) as recording:
        net(sequence())
    head, *lines = recording.table().splitlines()
    assert head.split() == ["layer", "rate", "silent", "share"]
    assert [line.split()[0] for line in lines] == ["1", "3"]
    assert float(lines[0].split()[1]) == pytest.approx(recording["1"]["rate"].mean().item(), rel=1e-3)
    figure = recording.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["rate", "silent share"]
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths == [recording[name]["silent share"] for name in recording]


def test_courses_and_histograms_are_drawn_as_lines():
    net = spiking_net()
    edges = tuple(torch.linspace(0, 1, 5).tolist())
    reducers = ["rate over time", "moments", reduce.Histogram(edges), reduce.LogHistogram()]
    with monitor.record(net, reducers) as recording:
        net(sequence())
    figure = recording.plot()
    names = ["mean", "var", "skew", "kurtosis"]
    titles = [*(f"moments.{name}" for name in names), "rate over time", "histogram", "log histogram"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    course, histogram = figure.axes[4], figure.axes[5]
    for line, name in zip(course.lines, recording, strict=True):
        assert line.get_ydata().tolist() == recording[name]["rate over time"].tolist()
    for patch, name in zip(histogram.patches, recording, strict=True):
        assert patch.get_data().values.tolist() == recording[name]["histogram"].counts.tolist()
        assert tuple(patch.get_data().edges) == edges


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reducers": "speed"}, ValueError, "no reducer 'speed'. There is 'count', 'rate'"),
        ({"reducers": []}, ValueError, "no reducers"),
        ({"reducers": [reduce.Rate, reduce.Rate("layer")]}, ValueError, "same name"),
        ({"reducers": reduce.SynOps}, TypeError, "needs the arguments fan_out"),
        ({"reducers": 3}, TypeError, "but got 3"),
        ({"every": 0}, ValueError, "at least 1, but got 0"),
        ({"subset": Subset(time=every(2))}, ValueError, "without gaps"),
        ({"budget": monitor.Budget("1 MB", "drop oldest")}, ValueError, "a summary is one whole.*PackedSpikes"),
        ({"where": nn.Conv2d}, LookupError, "record found no module"),
        ({"where": nn.Linear}, TypeError, "one of neurons"),
        ({"signal": "speed"}, ValueError, "signal must be one of"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options, error, text):
    with pytest.raises(error, match=text):
        monitor.record(spiking_net(), **options)


@pytest.mark.parametrize("signal", ["spike", "output", "input", "current", "h", "v"])
@pytest.mark.parametrize("given", ["gradient norm", reduce.GradientNorm, {"mine": reduce.GradientNorm()}])
def test_a_gradient_norm_is_one_of_gradients(signal, given):
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with pytest.raises(
        ValueError, match=rf"'gradient norm' says nothing of the signal '{signal}'; give .*'norm' tells"
    ):
        monitor.record(net, given, signal=signal)
    assert not place_sockets(net[0])[1].points


def test_the_support_of_a_surrogate_is_one_of_potentials():
    with pytest.raises(ValueError, match="'support share' says nothing of the signal 'spike'; give signal='h'"):
        monitor.record(neuron.IFNode(), reduce.SupportShare(-0.5, 0.5))


def test_a_gradient_among_several_inputs_is_reduced():
    net = nn.Bilinear(3, 3, 2)
    with monitor.record(net, "gradient norm", nn.Bilinear, "grad_input") as recording:
        net(torch.rand(2, 3, requires_grad=True), torch.rand(2, 3)).sum().backward()
    assert recording[""].shape == (1,)


def test_a_second_reducer_in_the_place_of_modules_is_told_where_it_goes():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with pytest.raises(LookupError, match=r"goes in a tuple with the first: record\(net, \(\.\.\., 'silent share'\)\)"):
        monitor.record(net, "rate", "silent share")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("spike", r"is a signal: record\(net, 'packed', signal='spike'\) .* record\(net, 'spike', to='run.spk'\)"),
        ("v", r"record\(net, 'raw', signal='v'\)"),
        ("rates", "Did you mean rate"),
    ],
)
def test_a_name_that_is_no_reducer_is_refused_with_what_to_write_instead(given, words):
    with pytest.raises(ValueError, match=words):
        monitor.record(spiking_net("m"), given)
