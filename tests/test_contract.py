"""Every public name of the contract, with the arguments and defaults that it states."""

import ast
import inspect
import math
from importlib import import_module

import pytest
import torch
from torch import nn

import spikescope
from spikescope import layer, monitor, neuron, spikes, surrogate

SPIKING = (
    "v_threshold=1.0, v_reset=0.0, surrogate_function=_, detach_reset=False, step_mode='s', backend=_, "
    "store_v_seq=False"
)
NORM = "num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True"
CONV = "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True"
TRANSPOSED = "in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True"
MAX_POOL = "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False"
AVERAGE_POOL = "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"

# the arguments in their order; `_` is a default that the contract leaves open; further arguments may follow
CONTRACT = {
    "base": ["MemoryModule()", "StepModule()"],
    "neuron": [
        f"IFNode({SPIKING})",
        f"LIFNode(tau=2.0, decay_input=True, {SPIKING})",
        f"ParametricLIFNode(init_tau=2.0, decay_input=True, {SPIKING})",
        "QIFNode(tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.0, v_reset=-0.1)",
        "EIFNode(tau=2.0, delta_T=1.0, theta_rh=0.8, v_threshold=1.0, v_rest=0.0, v_reset=-0.1)",
        "IzhikevichNode(tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_reset=0.0, v_rest=-0.1, w_rest=0.0, tau_w=2.0)",
        "AdaptBaseNode(v_threshold=1.0, v_reset=0.0, v_rest=0.0, w_rest=0.0, tau_w=2.0, a=0.0, b=0.0)",
        f"KLIFNode(scale_reset=False, tau=2.0, decay_input=True, {SPIKING})",
        "CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=0.5, v_reset=0.0)",
        f"LIAFNode(act, threshold_related, tau=2.0, decay_input=True, {SPIKING})",
        "GatedLIFNode(T, inplane=None, init_linear_decay=None, init_v_subreset=None, init_tau=0.25, "
        "init_v_threshold=0.5, init_conduct=0.5)",
        "ComplementaryLIFNode(tau=2.0, v_threshold=1.0)",
        "ILIFNode()",
        "TernaryIFNode(v_threshold=1.0)",
        "TernaryLIFNode(tau=2.0, decay_input=True, v_threshold=1.0)",
        "HalfThresholdIFNode(v_threshold=1.0)",
        "NonSpikingIFNode()",
        "NonSpikingLIFNode(tau=2.0)",
        "ResonateAndFireNode()",
        "PSN(T, surrogate_function=_)",
        "MaskedPSN(k, T)",
        "SlidingPSN(k, exp_init=True)",
        "OTTTLIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=None, surrogate_function=_, "
        "detach_reset=True)",
        "SLTTLIFNode(tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0, surrogate_function=_, detach_reset=True)",
        "NoisyLIFNode()",
    ],
    "surrogate": [
        "Sigmoid(alpha=4.0, spiking=True)",
        "ATan(alpha=2.0, spiking=True)",
        "PiecewiseQuadratic(alpha=1.0, spiking=True)",
        "PiecewiseExp(alpha=1.0, spiking=True)",
        "SoftSign(alpha=2.0, spiking=True)",
        "SuperSpike(alpha=1.0, spiking=True)",
        "Erf(alpha=2.0, spiking=True)",
        "NonzeroSignLogAbs(alpha=1.0, spiking=True)",
        "PiecewiseLeakyReLU(w=1.0, c=0.01, spiking=True)",
        "SquarewaveFourierSeries(n=2, T_period=8.0, spiking=True)",
        "S2NN(alpha=4.0, beta=1.0, spiking=True)",
        "QPseudoSpike(alpha=2.0, spiking=True)",
        "LeakyKReLU(leak=0.0, k=1.0, spiking=True)",
        "FakeNumericalGradient(alpha=0.3, spiking=True)",
        "LogTailedReLU(alpha=0.0, spiking=True)",
        "Rect(alpha=1.0, spiking=True)",
        "DeterministicPass(spiking=True)",
        "PoissonPass(spiking=True)",
        "MultiLevelSpikeCount(max_spike_count)",
    ],
    "layer": [
        "Linear(in_features, out_features, bias=True)",
        *(f"Conv{axes}d({CONV})" for axes in (1, 2, 3)),
        *(f"ConvTranspose{axes}d({TRANSPOSED})" for axes in (1, 2, 3)),
        *(f"MaxPool{axes}d({MAX_POOL})" for axes in (1, 2, 3)),
        *(f"AvgPool{axes}d({AVERAGE_POOL})" for axes in (1, 2, 3)),
        *(f"AdaptiveAvgPool{axes}d(output_size)" for axes in (1, 2, 3)),
        *(f"AdaptiveMaxPool{axes}d(output_size, return_indices=False)" for axes in (1, 2, 3)),
        *(f"MaxUnpool{axes}d(kernel_size, stride=None, padding=0)" for axes in (1, 2, 3)),
        "Upsample(size=None, scale_factor=None, mode='nearest', align_corners=None)",
        "Flatten(start_dim=1, end_dim=-1)",
        "GroupNorm(num_groups, num_channels, eps=1e-5, affine=True)",
        "WSConv2d()",
        "WSLinear()",
        *(f"BatchNorm{axes}d({NORM})" for axes in (1, 2, 3)),
        "NeuNorm(in_channels, height, width)",
        *(f"ThresholdDependentBatchNorm{axes}d(alpha, v_th)" for axes in (1, 2, 3)),
        *(f"TemporalEffectiveBatchNorm{axes}d(T)" for axes in (1, 2, 3)),
        *(f"BatchNormThroughTime{axes}d(T, num_features)" for axes in (1, 2, 3)),
        "Dropout(p=0.5)",
        "Dropout2d(p=0.2)",
        "SeqToANNContainer()",
        "MultiStepContainer()",
        "StepModeContainer(stateful)",
        "ElementWiseRecurrentContainer(sub_module, element_wise_function)",
        "LinearRecurrentContainer(sub_module, in_features, out_features, bias=True)",
        "SynapseFilter(tau=100.0, learnable=False)",
        "Delay(delay_steps)",
        "VotingLayer(voting_size=10)",
        "OTTTSequential()",
    ],
    "functional": [
        "reset_net(net)",
        "set_step_mode(net, step_mode)",
        "set_backend(net, backend, instance=(nn.Module,))",
        "detach_net(net)",
        "spike_similar_loss(spikes, labels, kernel_type='linear', loss_type='mse')",
        "kernel_dot_product(x, y, kernel='linear')",
        "set_threshold_margin(output_layer, label_one_hot, eval_threshold=1.0, threshold0=0.9, threshold1=1.1)",
        "redundant_one_hot(labels, num_classes, n)",
        "first_spike_index(spikes)",
        "multi_step_forward(x_seq, single_step_module)",
        "chunk_multi_step_forward(split_size, x_seq, multi_step_module)",
        "seq_to_ann_forward(x_seq, stateless_module)",
        "fused_conv2d_weight_of_convbn2d(conv2d, bn2d)",
        "fused_conv2d_bias_of_convbn2d(conv2d, bn2d)",
        "scale_fused_conv2d_weight_of_convbn2d(conv2d, bn2d, k=None, b=None)",
        "scale_fused_conv2d_bias_of_convbn2d(conv2d, bn2d, k=None, b=None)",
        "fuse_convbn2d(conv2d, bn2d)",
        "temporal_efficient_training_cross_entropy(x_seq, target)",
        "kaiming_normal_conv_linear_weight(net)",
        "delay(x_seq, delay_steps)",
        "fptt_online_training_init_w_ra(optimizer)",
        "fptt_online_training(model, optimizer, x_seq, target_seq, f_loss_t, alpha, w_ra)",
        "ottt_online_training(model, optimizer, x_seq, target_seq, f_loss_t, online)",
    ],
    "spikes": [
        "float_spike_to_bool(spike)",
        "bool_spike_to_float(spike_b, s_dtype, s_shape, s_padding=0)",
        "PackedSpikes(bits, shape, dtype=_)",
    ],
    "monitor": [
        "OutputMonitor(net, instance=None, function_on_output=_)",
        "InputMonitor(net, instance=None, function_on_input=_)",
        "AttributeMonitor(attribute_name, pre_forward, net, instance=_, function_on_attribute=_)",
        "GradInputMonitor(net, instance=None, function_on_grad_input=_)",
        "GradOutputMonitor(net, instance=None, function_on_grad_output=_)",
        "GPUMonitor(log_dir=None, gpu_ids=(0,), interval=600.0, start_now=True)",
        "Monitor(net, device=None, backend='numpy')",
        "SpikeCounter(net)",
    ],
    "ann2snn": ["ScaledNeuron(scale=1.0)"],
    "compat": ["install(force=False)", "uninstall()"],
}
STATED = [(room, text) for room, texts in CONTRACT.items() for text in texts]

METHODS = {
    "base.MemoryModule": [
        "register_memory(name, value)",
        "reset()",
        "detach()",
        "memories()",
        "named_memories()",
        "step_mode",
    ],
    "neuron.LIFNode": ["reset()", "detach()", "v_seq", "supported_backends"],
    "spikes.PackedSpikes": ["dense()", "count()", "rate()", "nbytes"],
    "monitor.OutputMonitor": [
        "enable()",
        "disable()",
        "is_enable()",
        "clear_recorded_data()",
        "remove_hooks()",
        "close()",
        "__enter__()",
        "__getitem__()",
    ],
    "monitor.GPUMonitor": ["start()", "stop()"],
    "monitor.Monitor": [
        "enable()",
        "disable()",
        "reset()",
        "s",
        "v",
        "get_avg_firing_rate(all=True, module_name=None)",
        "get_nonfire_ratio(all=True, module_name=None)",
    ],
}


def check_arguments(held, text):
    call = ast.parse(text, mode="eval").body
    known = list(inspect.signature(held).parameters.values())
    known = known[1:] if known and known[0].name == "self" else known
    stated = [(name.id, None) for name in call.args] + [(word.arg, word.value) for word in call.keywords]
    assert [parameter.name for parameter in known][: len(stated)] == [name for name, _ in stated]
    for (name, default), parameter in zip(stated, known, strict=False):
        if default is None:
            assert parameter.default is inspect.Parameter.empty, f"{name} has a default"
        elif ast.unparse(default) != "_":
            assert parameter.default == eval(ast.unparse(default), {"nn": nn}), name


@pytest.mark.parametrize(("room", "text"), STATED, ids=[f"{room}.{text.split('(')[0]}" for room, text in STATED])
def test_the_name_and_its_arguments(room, text):
    check_arguments(getattr(import_module(f"spikescope.{room}"), text.split("(")[0]), text)


@pytest.mark.parametrize(("owner", "text"), [(owner, text) for owner, texts in METHODS.items() for text in texts])
def test_the_methods_and_properties(owner, text):
    room, name = owner.split(".")
    held = getattr(getattr(getattr(spikescope, room), name), text.split("(")[0])
    if "(" in text:
        check_arguments(held, text) if "()" not in text else held
        assert callable(held)


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.21])
@pytest.mark.parametrize("decay_input", [True, False])
def test_the_parametric_neuron_by_a_scalar_loop(decay_input, v_reset):
    given = (0.73, 1.91, -0.42, 2.37, 0.58)
    node = neuron.ParametricLIFNode(
        3.7, decay_input, v_threshold=0.57, v_reset=v_reset, step_mode="m", store_v_seq=True
    )
    node.w.data.add_(0.3)  # as if it had learned
    rate = 1 / (1 + math.exp(-(-math.log(2.7) + 0.3)))
    rest = v = 0.0 if v_reset is None else v_reset
    spikes, potentials = [], []
    for x in given:
        h = v + (x - (v - rest)) * rate if decay_input else v - (v - rest) * rate + x
        spikes.append(float(h >= 0.57))
        v = h - spikes[-1] * 0.57 if v_reset is None else (v_reset if spikes[-1] else h)
        potentials.append(v)
    assert 0 < sum(spikes) < len(given)
    assert node(torch.tensor(given).unsqueeze(1)).flatten().tolist() == spikes
    torch.testing.assert_close(node.v_seq.flatten(), torch.tensor(potentials))
    assert node.tau == pytest.approx(1 / rate)


class Single(nn.Module):
    def forward(self, x):
        return (2 * x,)


def test_a_tuple_of_one_is_unpacked_for_a_monitor():
    net = Single()
    with monitor.OutputMonitor(net, function_on_output=torch.sum) as watched:
        net(torch.ones(3))
    assert watched[0] == 6


def test_the_whole_course_of_the_potential_is_the_attribute_v_seq():
    node = neuron.IFNode(v_reset=None, step_mode="m", store_v_seq=True)
    with (
        monitor.AttributeMonitor("v_seq", False, node, neuron.IFNode) as course,
        monitor.AttributeMonitor("v", False, node, neuron.IFNode) as end,
    ):
        node(torch.full((3, 1), 0.75))
    assert course[0].flatten().tolist() == [0.75, 0.5, 0.25]
    assert end[0].tolist() == [0.25]


def test_the_names_that_are_there_without_a_call():
    node = neuron.LIFNode(store_v_seq=True, step_mode="m")
    watched = monitor.OutputMonitor(node)
    node(torch.zeros(2, 3))
    assert node.v.shape == (3,)
    assert node.v_seq.shape == (2, 3)
    assert len(watched.records) == 1
    assert watched.monitored_layers == [""]
    assert spikescope.ann2snn.ScaledNeuron(2.0).neuron.v_reset is None
    assert layer.Linear(2, 3).step_mode == "s"
    assert spikes.PackedSpikes.__eq__ is not object.__eq__


@pytest.mark.parametrize("registry", [neuron.registry, surrogate.registry, layer.registry])
def test_no_class_of_a_registry_is_hidden(registry):
    for name, cls in registry.items():
        if cls.__module__.startswith("spikescope."):
            assert getattr(import_module(".".join(cls.__module__.split(".")[:2])), name) is cls
