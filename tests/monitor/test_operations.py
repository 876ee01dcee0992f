"""Operations by layer against counts by hand, and the energy that follows from them."""

import math

import pytest
import torch
from torch import nn

import spikescope
from spikescope import analysis, functional, layer, monitor, neuron
from spikescope.monitor.reduce import fan_out

STEPS, SAMPLES = 3, 2


def spikes(*shape, rate=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def counted(net, x, **options):
    return {row.name: row for row in monitor.operations(net, x, **options)}


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_additions_are_the_spikes_times_the_synapses_that_they_reach(step_mode):
    torch.manual_seed(0)
    convolution = layer.Conv2d(2, 4, 3, padding=1, stride=2, groups=2)
    net = nn.Sequential(convolution, neuron.IFNode(v_threshold=0.1), layer.Flatten(), layer.Linear(4 * 16, 5))
    functional.set_step_mode(net, step_mode)
    x = spikes(STEPS, SAMPLES, 2, 8, 8)
    rows = counted(net, x if step_mode == "m" else x[0])
    seen = x if step_mode == "m" else x[:1]
    reach = fan_out(nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2), (2, 8, 8))
    assert rows["0"].acs == pytest.approx((seen.double() * reach).sum().item() / SAMPLES, rel=1e-12)
    assert rows["0"].dense == reach.sum().item()
    assert (rows["0"].macs, rows["0"].events) == (0, seen.sum().item() / SAMPLES)
    functional.reset_net(net)
    with torch.no_grad():
        fired = net[1](net[0](seen if step_mode == "m" else seen[0]))
    assert rows["3"].acs == 5 * fired.sum().item() / SAMPLES
    assert (rows["3"].dense, rows["3"].outputs) == (5 * 64, 5)
    assert (rows["1"].neurons, rows["1"].updates) == (64, 64 * len(seen))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d])
def test_of_other_convolutions(kind):
    shape = {nn.Conv1d: (3, 9), nn.Conv3d: (3, 4, 5, 4), nn.ConvTranspose2d: (3, 5, 6)}[kind]
    made = kind(3, 4, 3, stride=2, padding=1)
    x = spikes(SAMPLES, *shape)
    (row,) = monitor.operations(made, x)
    reach = fan_out(made, shape)
    assert (row.dense, row.acs) == (reach.sum().item(), (x.double() * reach).sum().item() / SAMPLES)


def test_a_first_layer_of_images_stays_what_it_was_and_a_repeated_frame_is_computed_once():
    net = nn.Sequential(layer.Conv2d(1, 2, 3, bias=False), layer.BatchNorm2d(2), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    image = torch.rand(SAMPLES, 1, 6, 6)
    each = counted(net, image.repeat(STEPS, 1, 1, 1, 1))
    once = counted(net, image.expand(STEPS, *image.shape))
    dense = 2 * 9 * 16
    assert (each["0"].macs, each["0"].dense, each["0"].acs) == (STEPS * dense, dense, 0)
    assert (once["0"].macs, once["0"].dense, once["0"].outputs) == (dense, dense, 2 * 16)
    assert "1" not in each  # folded


def test_a_loop_over_time_outside_or_in_the_network_counts_alike():
    class Looping(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return sum(self.net(x) for _ in range(STEPS))

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), neuron.IFNode(v_threshold=0.2), nn.Linear(8, 3))
    rows = counted(Looping(net), torch.rand(SAMPLES, 6))
    assert (rows["net.0"].macs, rows["net.0"].dense) == (STEPS * 48, 48)
    assert rows["net.2"].dense == 24
    assert (rows["net.1"].updates, rows["net.1"].neurons) == (STEPS * 8, 8)


@pytest.mark.parametrize("kind", [cls for cls in neuron.registry.values() if "m" in cls.supported_step_modes])
def test_every_neuron_is_updated_at_each_step_of_each_sample_and_the_twin_runs_once(kind):
    """Also a read-out, whose output has no time."""
    steps, samples = 4, 6  # of a read-out more samples than steps, and other ones
    made = kind(step_mode="m", **kind.example)
    net = nn.Sequential(layer.Linear(5, 4, step_mode="m"), made)
    rows = counted(net, torch.rand(steps, samples, 5))
    assert (rows["1"].neurons, rows["1"].updates) == (4, 4 * steps)
    assert (rows["0"].dense, rows["0"].macs) == (20, 20 * steps)


def test_attention_is_additions_where_either_side_is_spikes():
    class Products(nn.Module):
        def forward(self, x):
            q, k, v = x
            return (q @ k.transpose(-1, -2)) @ v

    q, k, v = spikes(3, 4, 5, 6, rate=0.9)
    (row,) = monitor.operations(Products(), torch.stack((q, k, v)), samples=4)
    coincidences = (q.unsqueeze(2) * k.unsqueeze(1)).sum().item()
    assert row.acs == (coincidences + v.sum().item() * 5) / 4  # each spike of v adds a number of each row
    assert (row.dense, row.macs) == (2 * 5 * 5 * 6, 0)
    real = torch.rand(3, 4, 5, 6)
    (row,) = monitor.operations(Products(), real, samples=4)
    assert (row.acs, row.macs) == (0, 2 * 5 * 5 * 6)


def test_several_spikes_to_the_step_are_so_many_additions_and_an_image_is_none():
    made = nn.Linear(2, 3)
    assert counted(made, torch.tensor([[2.0, -1.0]]))[""].acs == 9
    assert counted(made, torch.tensor([[200.0, 3.0]]))[""].macs == 6


def test_the_update_of_a_neuron_is_what_its_step_computes():
    x = torch.rand(SAMPLES, 7)
    of = {kind: counted(kind(), x)[""] for kind in (neuron.IFNode, neuron.LIFNode, neuron.IzhikevichNode)}
    assert of[neuron.IFNode].multiplications < of[neuron.LIFNode].multiplications
    assert of[neuron.LIFNode].multiplications < of[neuron.IzhikevichNode].multiplications
    assert (of[neuron.LIFNode].state, of[neuron.IzhikevichNode].state) == (1, 2)
    assert of[neuron.IFNode].additions >= 2  # the input, and the threshold


def test_it_leaves_the_network_its_state_and_the_generators_as_they_are():
    torch.manual_seed(3)
    net = nn.Sequential(layer.Linear(4, 4), layer.BatchNorm1d(4), layer.Dropout(0.5), neuron.LIFNode())
    net(torch.rand(5, 4))
    before = {name: held.clone() for name, held in net.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net]
    state, random = net[3].v.clone(), torch.get_rng_state()
    monitor.operations(net, torch.rand(2, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(net[3].v, state)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(torch.equal(net.state_dict()[name], held) for name, held in before.items())
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net] == hooks


def test_an_input_without_samples_is_refused_in_words():
    with pytest.raises(ValueError, match="no sample"):
        monitor.operations(nn.Linear(2, 2), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="no sample"):
        monitor.operations(neuron.IFNode(step_mode="m"), torch.zeros(0, 1, 2))
    with pytest.raises(TypeError, match="x"):
        monitor.operations(nn.Linear(2, 2), [1.0])
    for odd in (0, -1, 2.5, "all"):
        with pytest.raises(ValueError, match="samples must be a whole number of at least 1"):
            monitor.operations(nn.Linear(2, 2), torch.zeros(1, 2), samples=odd)


class First(nn.Module):
    """What a recurrent layer gives, without its state."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers_are_the_products_that_they_are_made_of(kind, gates):
    before = torch.backends.mkldnn.enabled
    (row,) = monitor.operations(First(kind(5, 4)), torch.rand(3, 2, 5), samples=2)
    assert row.name == "inner"
    assert row.dense * 2 == gates * 4 * (5 + 4) * 3 * 2
    assert torch.backends.mkldnn.enabled == before


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("by", ["layer", "same"])
def test_a_padding_that_is_an_operation_of_its_own_is_no_product(by):
    same = layer.Conv2d(2, 3, (5, 4), padding="same", bias=False)
    net = same if by == "same" else nn.Sequential(nn.ZeroPad2d((1, 2, 2, 2)), layer.Conv2d(2, 3, (5, 4), bias=False))
    work = monitor.operations(net, torch.rand(1, 2, 6, 6))[-1]
    assert work.dense == work.macs == fan_out(same, (2, 6, 6)).sum()


def test_the_energy_is_the_sum_of_its_formulas():
    net = nn.Sequential(layer.Linear(4, 8), neuron.LIFNode(v_threshold=0.2), layer.Linear(8, 3))
    held = monitor.energy(net, torch.rand(2, 4), memory=7.0)
    first, lif, last = held.layers
    assert first.operations == pytest.approx(4.6 * 32)
    assert first.accesses == pytest.approx(7 * 2 * 32)
    assert last.operations == pytest.approx(0.9 * last.work.acs)
    assert last.accesses == pytest.approx(7 * (3 * last.work.acs + last.work.events))
    work = lif.work
    assert lif.updates == pytest.approx(8 * (3.7 * work.multiplications + 0.9 * work.additions))
    assert lif.accesses == pytest.approx(7 * (2 + 1 / 32) * 8)
    assert held.twin == pytest.approx(4.6 * 56 + 7 * (2 * 56 + 8 + 3))
    assert held.total == pytest.approx(sum(layer.total for layer in held.layers))
    assert held.usual == pytest.approx(4.6 * 56 / (first.operations + last.operations))
    assert held.honest == pytest.approx(held.twin / held.total)
    assert analysis.energy([row.work for row in held.layers], memory=7.0) == held


def test_the_table_shows_every_formula_constant_and_source():
    held = monitor.energy(nn.Linear(3, 2), torch.rand(1, 3))
    for words in ("0.9 pJ x additions", "4.6 pJ x MACs", "Horowitz", "2014", "twin / network", "3.7 pJ", "in all"):
        assert words in str(held)
    assert held.rows()[0]["dense"] == 6


def test_the_memory_that_fits_is_the_smallest_that_holds_parameters_and_state():
    def cost(parameters, model="45nm float32"):
        return analysis.energy([analysis.Work("a", "Linear", parameters=parameters)], model).layers[0].memory

    assert [cost(n) for n in (2_000, 8_000, 250_000, 250_001)] == [5.0, 10.0, 50.0, 650.0]
    assert cost(8_000, "45nm int8") == 1.25


def test_where_a_model_has_no_price_the_energy_is_not_a_number():
    work = [analysis.Work("a", "Linear", dense=10, acs=4)]
    held = analysis.energy(work, "loihi")
    assert held.total == pytest.approx(4 * 23.6)
    assert math.isnan(held.twin)
    assert math.isnan(analysis.energy([analysis.Work("a", "Conv2d", macs=1)], "loihi").total)
    updates = analysis.energy([analysis.Work("n", "LIFNode", updates=10, multiplications=2)], "loihi")
    assert updates.total == 810
    assert "updates x 81 pJ" in str(updates)


def test_wrong_words_are_refused_in_words():
    with pytest.raises(ValueError, match="no model '45 nm'"):
        analysis.energy([], "45 nm")
    with pytest.raises(ValueError, match="'fit' or a number"):
        analysis.energy([], memory="big")
    with pytest.raises(ValueError, match="nan"):
        analysis.energy([], memory=math.nan)
    with pytest.raises(TypeError, match=r"model is a name in analysis\.costs, .* but got None"):
        analysis.energy([], None)


def test_a_recording_is_priced_as_the_run_that_it_is_of(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 3, 3, stride=2, padding=1),
        neuron.LIFNode(v_threshold=0.1),
        layer.Flatten(),
        layer.Linear(48, 5),
    )
    functional.set_step_mode(net, "m")
    x = torch.rand(STEPS, SAMPLES, 1, 8, 8)
    wanted = monitor.energy(net, x)
    signals = {"input": monitor.by_type(nn.Linear, nn.Conv2d), "spike": None}
    with monitor.record(net, signals, to=tmp_path / "run.spk"), torch.no_grad():
        net(x)
    held = monitor.energy(net, spikescope.open_recording(tmp_path / "run.spk"))
    assert [row["name"] for row in held.rows()] == ["0", "1", "3"]
    for a, b in zip(held.rows(), wanted.rows(), strict=True):
        assert a == pytest.approx(b)


def test_a_recording_without_what_is_needed_is_refused_in_words():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no input of a layer with weights"):
        monitor.energy(net, spikescope.recording.in_memory({"0": {"output": [torch.zeros(1, 1, 2)]}}))
    with pytest.raises(ValueError, match="no module 'conv'"):
        monitor.energy(net, spikescope.recording.in_memory({"conv": {"input": [torch.zeros(1, 1, 2)]}}))


@pytest.mark.parametrize(("subset", "part"), [({"time": slice(1)}, "steps"), ({"neurons": [0]}, "neurons")])
def test_a_recording_of_a_part_is_no_whole_sample(tmp_path, subset, part):
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    with monitor.record(net, to=tmp_path / "run.spk", subset=monitor.Subset(**subset)):
        net(torch.ones(4, 2, 3))
    with pytest.raises(ValueError, match=f"holds only a part of the {part}"):
        monitor.energy(net, spikescope.open_recording(tmp_path / "run.spk"))


@pytest.mark.parametrize(
    "given", [nn.Linear(3, 2), torch.ones(3, 2), [3], 3, "net"], ids=["net", "x", "list", "3", "text"]
)
def test_energy_of_what_is_no_work_of_layers_is_refused_in_words(given):
    with pytest.raises(TypeError, match=r"energy takes the Work of each layer, but got .*monitor\.energy\(net, x\)"):
        analysis.energy(given)
