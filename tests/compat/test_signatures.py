"""Every documented call of four releases is one of ours, by place, by name and in its defaults, or is named here."""

import importlib
from fnmatch import fnmatchcase

import pytest
import torch
from signature_law import SIGNATURES, differences, documented, kept_by_name, of_module, parameters_of
from torch import nn

pytestmark = pytest.mark.usefixtures("aliases")

OTHERWISE = {
    # told apart by their types
    "*:* [[]2] store_v_seq at the place of backend": "a truth value there is `store_v_seq`",
    "activation_based.surrogate:LeakyKReLU [[]2] *": "a truth value is `spiking`, at either place",
    "cext.neuron:*LIFNode [[]12] *": "a truth value behind `tau` is `detach_input`",
    "clock_driven.neuron:LIFNode [[]4] *": "a truth value behind `tau` is `decay_input`; defaults of 0.0.0.0.12",
    "activation_based.learning.plasticity:MSTDPLearner [[]2] *": "a layer behind `step_mode` is the synapse",
    "visualizing:plot_* [[]4 12] dpi at the place of figsize": "a number there is `dpi`",
    "*:SurrogateFunctionBase [[]* alpha at the place of spiking": "a number is `alpha`, a truth value `spiking`",
    "*:SurrogateFunctionBase [[]* no *": "a subclass has the numbers that it gives to the constructor",
    "*:*SurrogateFunctionBase [[]* does not hand on kwargs": "what is not known is refused",
    "clock_driven.encoding:*Encoder [[]4] *": "the names of 0.0.0.0.4 are taken, and a device",
    "clock_driven.rnn:SpikingGRUCell.forward [[]4] *": "`hc` is taken by a call",
    # taken by place and by name, as a test of their kind shows
    "*.forward [[]* is told by no signature": "every module takes its input by each of its names",
    "*:MemoryModule.single_step_forward [[]* is told by no signature": "a subclass has its own",
    "*:StepModeContainer [[]2] step_mode is told by no signature": "a text is the step mode, at either place",
    "*:*.jit_eval_* is told by no signature": "those of the charge",
    "*.surrogate:*_backward [[]* is told by no signature": "the numbers of the surrogate",
    "*.surrogate:*.*_function [[]* is told by no signature": "the numbers of the surrogate",
    "*.surrogate:*.backward [[]* is told by no signature": "the numbers of the surrogate",
    "*.surrogate:*.cuda_code* is told by no signature": "refused in words",
    # where theirs has to be given, ours has a default
    "*:* cnf=None": "a join has to be given there",
    "*:* *neuron=None": "a neuron has to be given there",
    # an older age under the path of a later one
    "clock_driven.surrogate:Sigmoid [[]4] alpha=1.0": "the default of 0.0.0.0.12",
    "clock_driven.layer:MultiStepDropout2d [[]4] p=0.2": "the default of 0.0.0.0.12",
    "clock_driven.neuron:*Node [[]4] monitor_state at the place of cupy_fp32_inference": "the argument of 0.0.0.0.12",
    "clock_driven.neuron:BaseNode.neuronal_reset [[]4] asks for spike": "the hook of 0.0.0.0.12",
    "visualizing:plot_* [[]4 12] *title=*": "the title of the last release",
    "datasets.*:* [[]4] *": "the data sets of the last release",
    "activation_based.layer:DropConnectLinear [[]14] state_mode at the place of step_mode": "the argument of 2.0.0",
    "datasets*:* [[]2] train=True": "a data set that is divided asks for its part, as up to 0.0.0.0.14",
    # what has another meaning here, or none
    "datasets:integrate_events_segment_to_frame [[]12 14] j_r=-1": "all events; there the last one is left out",
    "*:LemaireEnergyCostConfig [[]2] memory_breakpoints=*": "the same numbers, by a name that is not public",
    "*:stdp*_step [[]2] f_p*=_identity": "the same function, by a name that is not public",
    "*:mstdp*_step [[]2] f_p*=_identity": "the same function, by a name that is not public",
    "activation_based.neuron.*:*BaseNode [[]2] surrogate_function=surrogate.Rect()": "a base alone makes no instance",
    "cext.neuron:BaseNode [[]4 12] *": "the base to ask for by isinstance; derive from clock_driven.neuron.BaseNode",
    "clock_driven.neuron:AdaptiveBaseNode.neuronal_adaptation [[]12 14] *": "adapts before it fires, as later",
    # inside of a class
    "*:*SpikingVGG.make_layers [[]* *": "how the network is put together",
    "*:Converter.* is not there": "the stages of a conversion are in `ann2snn.recipes`",
    "*:Drop*.create_mask [[]* is not there": "a mask is a memory, `mask`",
    "*:DropConnectLinear.drop [[]* is not there": "the weights of a mask are memories",
    "*:SynapseFilter.js_* is not there": "`functional.synapse_filter_step` is the step",
    "*:VotingLayer.single_step_forward [[]* is not there": "it is its own forward",
    "*Monitor.create_hook [[]* is not there": "a monitor of one's own derives from `BaseMonitor`",
    "*:DSRLIFNode.weight_rate_spikes [[]2] is not there": "a part of its forward",
    "*:NonSpiking*Node.neuronal_charge [[]2] is not there": "it has a step, not hooks",
    "*:OTTTLIFNode.track_trace [[]2] is not there": "the trace is a part of its step",
    "*:MaskedPSN.gen_masked_weight [[]2] is not there": "`masked_weight()` gives it",
    "*:SpikingRNNBase.create_cells [[]* is not there": "the constructor makes them",
    "*:BaseEncoder.* [[]4] is not there": "an encoder without a state",
    "*:MultiStepContainer.reset [[]4] is not there": "`functional.reset_net` reaches what is inside",
    "*:Monitor.forward_hook [[]* is not there": "the hook of one module",
    "*:MultiStep*Node.to_lava [[]* is not there": "there is no exchange with Lava",
    "*.surrogate:* is not there": "`apply(x, ...)` is the function, `..._backward` its slope, and kernels are derived",
    "*.quantize:*_atgf.* is not there": "`apply(x, ...)` is the function",
    "*.quantize:*ATGF.* is not there": "`apply(x, ...)` is the function",
    "datasets.*:*.* is not there": "how files are read is in `spikescope.datasets.formats`",
}
"""Differences, as `module:name [ages] what`, and why they are."""

TANH = nn.Tanh()


@pytest.mark.parametrize("module", sorted(SIGNATURES))
def test_the_arguments_of_a_module_are_those_of_its_releases(module):
    for told in (f"{module}:{each}" for each in of_module(module)):
        assert any(fnmatchcase(told, pattern) for pattern in OTHERWISE), told


def test_every_difference_that_is_named_is_there():
    told = [f"{module}:{each}" for module in SIGNATURES for each in of_module(module)]
    assert [pattern for pattern in OTHERWISE if not any(fnmatchcase(each, pattern) for each in told)] == []


def test_what_is_made_by_place_has_what_its_arguments_say():
    made = [(f"{module}:{each}", same) for module in SIGNATURES for each, same in kept_by_name(module)]
    assert len(made) > 550
    assert [each for each, same in made if not same] == []


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ("a, b=1", lambda a, b=1: 0, []),
        ("a, b=1", lambda b, a=1: 0, ["a at the place of b", "b at the place of a", "b has no default"]),
        ("a, b=1", lambda a, b=2: 0, ["b=1"]),
        ("a, b=1", lambda a, b=True: 0, ["b=1"]),
        ("a", lambda a, b: 0, ["asks for b"]),
        ("a, *, b", lambda a: 0, ["no argument b"]),
        ("a, b", lambda a: 0, ["no place for b", "no argument b"]),
        ("a, b", lambda a, *rest, **named: 0, ["b is told by no signature"]),
        ("x, **kwargs", lambda x_seq: 0, ["does not hand on kwargs"]),
        ("a=nn.ReLU()", lambda a=TANH: 0, ["a=nn.ReLU()"]),
    ],
)
def test_a_difference_is_seen(theirs, ours, told):
    assert list(differences(ours, documented(theirs), parameters_of(ours), {"nn": nn})) == told


def test_numbers_of_a_surrogate_are_the_same_by_place_and_by_name():
    surrogate, count = importlib.import_module("spikingjelly.activation_based.surrogate"), 0
    x = torch.linspace(-2, 2, 9)
    for key, texts in SIGNATURES["activation_based.surrogate"].items():
        name, _, member = key.partition(".")
        if member != "primitive_function" or name.endswith("Base") or name == "SuperSpike":  # which has none
            continue
        for text in texts:
            names = [held.name for held in documented(text)][1:]
            values, of = (2, 1, 4)[: len(names)], getattr(surrogate, name).primitive_function
            by_name = dict(zip(names, values, strict=True))
            torch.testing.assert_close(of(x, *values), of(x, **by_name), msg=name)
            torch.testing.assert_close(of(x, **dict(reversed(by_name.items()))), of(x, **by_name), msg=name)
            count += 1
    assert count > 12
