"""Names of SpikingJelly 2.0 and small helpers, under the aliases."""

import inspect

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("aliases")


def test_time_may_be_the_last_axis():
    from spikingjelly.activation_based import functional, layer, neuron

    x_seq = torch.rand(2, 3, 5)
    linear = nn.Linear(3, 4)
    wanted = torch.stack([linear(x) for x in x_seq.unbind(-1)], -1)
    torch.testing.assert_close(layer.TLastSeqToANNContainer(linear)(x_seq), wanted)
    assert torch.equal(functional.t_last_multi_step_forward(x_seq, linear), wanted)
    node = neuron.SimpleLIFNode(tau=1.5)
    spikes = layer.TLastMultiStepContainer(linear, node)(3 * x_seq)
    node.reset()
    assert torch.equal(spikes, torch.stack([node(linear(3 * x)) for x in x_seq.unbind(-1)], -1))


def test_modules_with_a_state_are_collected_and_reset():
    from spikingjelly.activation_based import functional, neuron

    net = nn.Sequential(nn.Linear(2, 2), neuron.IFNode(), nn.Sequential(neuron.LIFNode()))
    net(torch.rand(1, 2))
    held = functional.collect_reset_modules(net)
    assert held == (net[1], net[2][0])
    functional.reset_collected_modules(held)
    functional.invalidate_reset_cache(net)
    assert (net[1].v, net[2][0].v) == (0.0, 0.0)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_networks_go_to_nir_and_back_by_these_names(mode, tmp_path):
    pytest.importorskip("nir")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir, import_from_nir

    net = nn.Sequential(layer.Linear(3, 4), neuron.LIFNode(decay_input=False))
    functional.set_step_mode(net, mode)
    x = 4 * torch.rand(5, 2, 3) if mode == "m" else 4 * torch.rand(2, 3)
    graph = export_to_nir(net, x, tmp_path / "net.nir")
    functional.reset_net(net)
    wanted = net(x)
    for given in (graph, tmp_path / "net.nir"):
        assert torch.equal(import_from_nir(given, step_mode=mode)(x), wanted)


ROUNDED = {
    **dict.fromkeys(("round", "ceil", "floor"), ()),
    "clamp": (0.1, 0.5),
    "step_quantize": (0.25,),
    "k_bit_quantize": (2,),
}


@pytest.mark.parametrize(("name", "args"), ROUNDED.items())
def test_rounding_has_its_gradient_as_a_class_too(name, args):
    from spikingjelly.activation_based import quantize

    results = []
    later = f"{name.title().replace('_', '')}ATGF"
    for function in (getattr(quantize, name), *(getattr(quantize, n).apply for n in (f"{name}_atgf", later))):
        x = torch.tensor([0.3, 0.7, -0.2], requires_grad=True)
        y = function(x, *args)
        y.sum().backward()
        results.append((y.tolist(), x.grad.tolist()))
    assert results[0] == results[1] == results[2]


def test_parts_of_roundings_and_spikes_that_pass_their_gradient_on():
    from spikingjelly.activation_based import quantize, surrogate

    x = torch.tensor([-0.5, 0.1, 0.6], requires_grad=True)
    for of, args in ((quantize.clamp, (0.1, 0.5)), (quantize.clamp, (-1.0, 1.0))):
        (wanted,) = torch.autograd.grad(of(x, *args), x, torch.full((3,), 2.0))
        assert torch.equal(quantize.clamp_backward(torch.full((3,), 2.0), x.detach(), *args), wanted)
    assert torch.equal(quantize.k_bit_quantize_forward(x, 2), quantize.k_bit_quantize(x, 2))
    assert torch.equal(quantize.step_quantize_forward(x, 0.25), quantize.step_quantize(x, 0.25))
    told = quantize.MultiLevelSpikeCountATGF.apply(4 * x, 2, 0.0, 1.0)
    assert told.tolist() == [0.0, 0.0, 2.0]
    assert torch.autograd.grad(told.sum(), x)[0].tolist() == [0.0, 4.0, 0.0]
    for name, chances in (("deterministic_pass", [-0.5, 0.0, 0.5]), ("poisson_pass", [0.0, 1.0, 1.0])):
        x = torch.tensor(chances, requires_grad=True)
        y = getattr(surrogate, name).apply(x)
        assert y.tolist() == [0.0, 1.0, 1.0]
        assert torch.autograd.grad(y, x, torch.full((3,), 3.0))[0].tolist() == [3.0] * 3


def test_a_signed_rate_code():
    from spikingjelly.activation_based.encoding import BiPoissonEncoder

    torch.manual_seed(0)
    spikes = BiPoissonEncoder("m")(torch.tensor([-0.5, 0.0, 0.25]).expand(4000, 3))
    assert spikes.unique().tolist() == [-1.0, 0.0, 1.0]
    torch.testing.assert_close(spikes.mean(0), torch.tensor([-0.5, 0.0, 0.25]), rtol=0, atol=0.03)
    with pytest.raises(ValueError, match="BiPoissonEncoder"):
        BiPoissonEncoder()(torch.tensor([-1.5]))


@pytest.mark.parametrize("name", ["if", "lif", "ilif", "qif", "eif"])
def test_runs_as_functions_are_the_runs_of_the_neurons(name):
    from spikingjelly.activation_based import functional, neuron

    run = getattr(functional, f"{name}_multi_step")
    given = {key: held.default for key, held in inspect.signature(run).parameters.items()}
    shown = ("tau", "decay_input", "v_reset", "v_rest", "v_c", "a0", "theta_rh", "delta_t")
    fields = {key.replace("delta_t", "delta_T"): given[key] for key in shown if key in given}
    node = getattr(neuron, f"{name.upper()}Node")(step_mode="m", store_v_seq=True, v_threshold=0.75, **fields)
    x_seq, v = 2 * torch.rand(5, 3, 4), torch.rand(3, 4, requires_grad=True)
    node.v = v
    wanted = node(x_seq)
    spikes, last, v_seq = run(x_seq, v, v_threshold=0.75, store_v_seq=True)
    assert torch.equal(spikes, wanted)
    assert torch.equal(last, node.v)
    assert torch.equal(v_seq, node.v_seq)
    assert run(x_seq, v, v_threshold=0.75)[2] is None
    assert torch.equal(torch.autograd.grad(spikes.sum(), v)[0], torch.autograd.grad(wanted.sum(), v)[0])


@pytest.mark.parametrize("name", ["NonSpikingIFNode", "NonSpikingLIFNode"])
def test_a_read_out_begins_at_rest_and_gives_all_potentials_without_a_decoder(name):
    from spikingjelly.activation_based import functional, neuron

    import spikescope

    x_seq, ours = torch.randn(5, 2, 3), getattr(spikescope.neuron, name)
    cls = getattr(neuron, name)
    net = nn.Sequential(cls())
    functional.set_step_mode(net, "m")
    wanted = ours(step_mode="m", store_v_seq=True)
    wanted(x_seq)
    for _ in range(2):  # without a reset between
        potentials = net(x_seq)
        assert isinstance(potentials, list)
        assert torch.equal(torch.stack(potentials), wanted.v_seq)
        assert torch.equal(cls(decode="last_mem")(x_seq), wanted.v)
    for decode in ("max-mem", "max-abs-mem", "mean-mem"):
        node = cls(decode=decode)
        read = [node(x_seq) for _ in range(2)]
        assert torch.equal(read[0], ours(decode=decode, step_mode="m")(x_seq))
        assert torch.equal(read[1], read[0])
    assert spikescope.neuron.registry[name] is ours
    assert isinstance(net[0], ours)
    if name == "NonSpikingLIFNode":
        assert cls(3.0, "max-mem").tau == 3.0


def test_parameters_of_attention_are_in_the_order_in_which_optimizers_have_numbered_them():
    from spikingjelly.activation_based import layer

    names = [name for name, _ in layer.SpikeDrivenSelfAttention(8, 2).named_parameters()]
    wanted = [f"{c}_{part}" for c in "qkv" for part in ("conv.weight", "bn.weight", "bn.bias")]
    assert names == [*wanted, "proj_conv.weight", "proj_conv.bias", "proj_bn.weight", "proj_bn.bias"]


@pytest.mark.parametrize("v_reset", [0.25, None])
@pytest.mark.parametrize("name", ["plif", "izhikevich"])
def test_runs_of_neurons_with_more_than_a_potential(name, v_reset):
    from spikingjelly.activation_based import functional, neuron

    x_seq, v = 3 * torch.rand(5, 3, 4), torch.rand(3, 4, requires_grad=True)
    if name == "plif":
        node = neuron.ParametricLIFNode(1.5, step_mode="m", store_v_seq=True, v_reset=v_reset)
        learned = node.w
        spikes, last, v_seq = functional.plif_multi_step(x_seq, v, node.w, v_reset=v_reset, store_v_seq=True)
        assert functional.plif_multi_step(x_seq, v, node.w)[2] is None
    else:
        node = neuron.IzhikevichNode(step_mode="m", store_v_seq=True, v_reset=v_reset)
        learned = node.w = torch.rand(3, 4, requires_grad=True)
        run = functional.izhikevich_multi_step(
            x_seq, v, node.w, node.tau, node.v_threshold, v_reset, node.v_rest, node.a, node.b, node.tau_w, node.v_c,
            node.a0, store_state_seq=True,
        )  # fmt: skip
        spikes, last, w, v_seq, w_seq = run
        assert functional.izhikevich_multi_step(x_seq, v, learned)[3:] == (None, None)
        assert torch.equal(w_seq[-1], w)
    node.v = v
    wanted = node(x_seq)
    assert torch.equal(spikes, wanted)
    assert spikes.unique().tolist() == [0.0, 1.0]
    torch.testing.assert_close(last, node.v)
    torch.testing.assert_close(v_seq, node.v_seq)
    for leaf in (v, learned):
        got, grad = (torch.autograd.grad(out.sum(), leaf, retain_graph=True)[0] for out in (spikes, wanted))
        torch.testing.assert_close(got, grad)
    with pytest.raises(ValueError, match=f"{name}_multi_step: there is no step"):
        getattr(functional, f"{name}_multi_step")(x_seq[:0], v, learned)


@pytest.mark.parametrize("v_reset", [0.25, None])
def test_parts_of_a_step(v_reset):
    from spikingjelly.activation_based import functional, neuron, surrogate

    x, v = 3 * torch.rand(3, 4), torch.rand(3, 4)
    for decays in (True, False):
        node = neuron.LIFNode(1.75, decays, v_reset=v_reset)
        node.v = v
        wanted = node(x)
        h = functional.lif_charge(x, v, 1.75, decays, v_reset)
        assert torch.equal((h >= 1).float(), wanted)
        assert torch.equal(functional.voltage_reset(h, wanted, 1.0, v_reset, False), node.v)
    liaf, ilif = neuron.LIAFNode(torch.tanh, True, 1.75, v_reset=v_reset), neuron.ILIFNode(1.75)
    liaf.v = ilif.v = v
    fire = (1.0, v_reset, torch.tanh, True, surrogate.Sigmoid())
    for got, node in (
        (functional.liaf_step(x, v, 1.75, True, *fire), liaf),
        (functional.ilif_step(x, v, 1.75, 1.0, surrogate.MultiLevelSpikeCount(4)), ilif),
    ):
        assert torch.equal(got[0], node(x))
        assert torch.equal(got[1], node.v)
    spike = torch.ones(2, requires_grad=True)
    detached, through = (functional.voltage_reset(torch.ones(2), spike, 0.5, None, held) for held in (True, False))
    assert not detached.requires_grad
    assert through.requires_grad


def test_steps_of_layers():
    from spikingjelly.activation_based import functional, layer

    x_seq = (torch.rand(5, 2, 3, 4, 4) > 0.5).float()
    node = layer.SynapseFilter(tau=4.0)
    norm = layer.NeuNorm(3, 4, 4)
    delay = layer.Delay(2)
    current, state, queue = torch.zeros_like(x_seq[0]), torch.zeros(2, 1, 4, 4), ()
    for x in x_seq:
        current = functional.synapse_filter_step(x, current, 0.25)
        torch.testing.assert_close(current, node(x))
        y, state = functional.neunorm_step(x, state, norm.w, norm.k, (1 - norm.k) / norm.in_channels**2)
        torch.testing.assert_close(y, norm(x))
        y, queue = functional.delay_step(x, queue, 2)
        assert torch.equal(y, delay(x))
        assert len(queue) <= 2
    with pytest.raises(ValueError, match="delay_steps"):
        functional.delay_step(x, (), -1)


def test_a_network_trained_on_counts_runs_on_single_spikes():
    from spikingjelly.activation_based import layer

    counts = torch.randint(0, 5, (3, 2, 4)).float().requires_grad_()
    to_spikes, to_counts = layer.SpikeCountToBinary(4), layer.TemporalBinSum(4)
    assert to_spikes(counts) is counts
    assert to_counts(counts) is counts
    spikes = to_spikes.eval()(counts)
    assert spikes.shape == (12, 2, 4)
    wanted = [float(slot < n) for n in counts[:, 0, 0].tolist() for slot in range(4)]
    assert spikes[:, 0, 0].tolist() == wanted
    assert torch.equal(to_counts.eval()(spikes), counts)
    grad = torch.rand(12, 2, 4)
    spikes.backward(grad)
    torch.testing.assert_close(counts.grad, grad.view(3, 4, 2, 4).mean(1))
    linear = nn.Linear(4, 5, bias=False)
    torch.testing.assert_close(to_counts(linear(spikes)), linear(counts))  # as the layer between sees sums
    assert torch.equal(to_counts(torch.ones(6, 1)), torch.tensor([[4.0], [2.0]]))
    always = layer.SpikeCountToBinary(2, always_convert=True)
    assert always(torch.ones(3, 1)).flatten().tolist() == [1, 0, 1, 0, 1, 0]
    for module in (layer.SpikeCountToBinary, layer.TemporalBinSum):
        with pytest.raises(ValueError, match="num_slots"):
            module(0)
        with pytest.raises(ValueError, match=r"takes a sequence \[T, N, \*\]"):
            module(2).eval()(torch.ones(3))


@pytest.mark.parametrize("name", ["if_multi_step", "lif_multi_step", "plif_multi_step"])
def test_states_are_float32_whatever_precision_is_asked_for_by_name(name):
    from spikingjelly.activation_based import functional

    run = getattr(functional, name)
    x_seq, given = 2 * torch.rand(3, 2), [torch.zeros(2)] + [torch.zeros(())] * (name == "plif_multi_step")
    wanted = run(x_seq, *given)[0]
    for asked in ({"neuron_storage": "fp32"}, {"neuron_storage": torch.float32, "neuron_bwd": "fp32"}):
        assert torch.equal(run(x_seq, *given, **asked)[0], wanted)
    assert torch.equal(run(x_seq, *given, neuron_fwd="fp16")[0], wanted)  # nothing is stored in another precision
    with pytest.raises(
        ValueError, match=rf"{name}: neuron_storage must be one of 'fp32', torch.float32, but got 'fp16'"
    ):
        run(x_seq, *given, neuron_storage="fp16")
    with pytest.raises(ValueError, match=rf"{name}: neuron_bwd must be one of"):
        run(x_seq, *given, neuron_storage="fp32", neuron_bwd="bf16")


def test_arguments_that_no_release_does_anything_with():
    from spikingjelly.activation_based import ann2snn, functional, layer

    x_seq = torch.rand(3, 2, 4)
    scaler = ann2snn.VoltageScaler(2.0, step_mode="m")
    assert torch.equal(scaler(x_seq), 2 * x_seq)
    functional.set_step_mode(nn.Sequential(scaler), "s")
    assert scaler.step_mode == "s"
    dropped = layer.DropConnectLinear(4, 2, False, 0.0, 8, True, None, state_mode="m")
    torch.testing.assert_close(dropped(x_seq[0]), x_seq[0] @ dropped.weight.T)
    assert layer.DropConnectLinear(4, 2, step_mode="m")(x_seq).shape == (3, 2, 2)


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "QIFNode", "IzhikevichNode"])
def test_store_v_seq_may_come_where_older_releases_have_a_backend(name):
    from spikingjelly.activation_based import neuron

    cls = getattr(neuron, name)
    given = [held.default for held in cls.arguments.parameters.values()]
    place = list(cls.arguments.parameters).index("backend")
    later = cls(*given[: place - 1], "m", True)
    assert (later.step_mode, later.backend, later.store_v_seq) == ("m", "auto", True)
    older = cls(*given[: place - 1], "m", "torch", True)
    assert (older.step_mode, older.backend, older.store_v_seq) == ("m", "torch", True)

    class Own(neuron.BaseNode):
        def __init__(self):
            super().__init__(0.5, None, neuron.surrogate.ATan(), False, "m", True)

        def neuronal_charge(self, x):
            self.v = self.v + x

    assert (Own().v_threshold, Own().store_v_seq) == (0.5, True)


def test_the_trace_of_neunorm_has_its_two_factors_and_a_delay_its_queue():
    from spikingjelly.activation_based import functional, layer

    norm, spikes = layer.NeuNorm(3, 2, 2, k=0.75), torch.randint(2, (4, 2, 3, 2, 2)).float()
    assert (norm.k0, norm.k1) == (0.75, 0.25 / 9)
    assert sorted(norm.state_dict()) == ["w"]
    state = torch.zeros(2, 1, 2, 2)
    for x in spikes:
        y, state = functional.neunorm_step(x, state, norm.w, norm.k0, norm.k1)
        assert torch.equal(norm(x), y)
        assert torch.equal(norm.x, state)
    delay, queue = layer.Delay(2), ()
    for x in spikes:
        y, queue = functional.delay_step(x, queue, delay.delay_steps)
        assert torch.equal(delay(x), y)
        assert isinstance(delay.queue, list)
        assert [held.sum().item() for held in delay.queue] == [held.sum().item() for held in queue]
    assert not delay.state_dict()


def test_tables_of_models_are_those_by_which_published_code_builds_and_loads():
    from spikingjelly.activation_based.model import sew_resnet, spiking_resnet, spiking_vgg, spiking_vggws_ottt

    convolutions = {"A": 8, "B": 10, "D": 13, "E": 16}  # of VGG-11 to VGG-19, which have three linear layers besides
    for cfgs in (spiking_vgg.cfgs, spiking_vggws_ottt.cfgs):
        assert {key: sum(type(held) is int for held in cfgs[key]) for key in convolutions} == convolutions
    net = spiking_vgg.SpikingVGG(spiking_vgg.cfgs["A"][:3], num_classes=2)
    assert [held.out_channels for held in net.features if isinstance(held, nn.Conv2d)] == [64, 128]
    assert spiking_vggws_ottt.cfgs["S"][:3] == [64, 128, "A"]
    assert sew_resnet.model_urls == spiking_resnet.model_urls
    for urls, count in ((sew_resnet.model_urls, 9), (spiking_vgg.model_urls, 8)):
        assert len(urls) == count
        for arch, url in urls.items():
            assert url.startswith(f"https://download.pytorch.org/models/{arch}-")
            assert url.endswith(".pth")


def test_a_cell_goes_by_its_published_name():
    from types import SimpleNamespace

    from spikingjelly.activation_based.model.snas_net import Neuronal_Cell, Neuronal_Cell_backward

    args, matrix = SimpleNamespace(threshold=1.0, tau=2.0), torch.ones(4, 4)
    for kind in (Neuronal_Cell, Neuronal_Cell_backward):
        assert kind(args, 1, 1, matrix)(torch.ones(1, 1, 1, 1)).item() == 4.0
