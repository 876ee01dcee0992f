"""A switch is True or False: what stands in its place for another argument is refused, for it would count as True."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import analysis, ann2snn, encoding, functional, layer, learning, monitor, neuron, rnn
from spikescope.compat import op_counter, recipes
from spikescope.compat.ages import slots
from spikescope.layer.stateless import Stateless
from spikescope.neuron import mixing

ROOMS = analysis, ann2snn, encoding, functional, layer, learning, monitor, neuron, rnn
OF_OTHER_AGES = mixing, op_counter, recipes, slots
SPIKES = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 1.0]]])  # [T=3, N=1, 2]


def fired():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    watch = monitor.Monitor(net)
    watch.enable()
    net(SPIKES)
    return watch


def learned(learner, *reward):
    return lambda **given: learner("s", synapse=nn.Linear(2, 2), sn=neuron.IFNode(), tau_pre=2.0, tau_post=2.0).step(
        *reward, **given
    )


def rewarded(**given):
    held = learning.MSTDPETLearner("s", nn.Linear(2, 2), neuron.IFNode(), 2.0, 2.0, 2.0)
    return held.step(0.5, **given)


def trained(**given):
    net = layer.OTTTSequential(nn.Linear(2, 2), neuron.LIFNode())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    return functional.ottt_online_training(net, optimizer, SPIKES, SPIKES, nn.functional.mse_loss, **given)


def fitted(**given):
    net = nn.Sequential(layer.Linear(2, 2, step_mode="m"), neuron.IFNode(step_mode="m"))
    return functional.fit_memory(net, SPIKES, "1 GB", **({"show": False} | given))


def converted(**given):
    linear = nn.Linear(2, 2)
    nn.init.ones_(linear.weight)
    return ann2snn.Converter(torch.ones(4, 2), **given)(nn.Sequential(linear, nn.ReLU()))


def of(function, *args):
    return lambda **given: function(*args, **given)


IF = nn.Sequential(neuron.IFNode(step_mode="m"))
CALLS = {
    "DeltaEncoder": of(encoding.DeltaEncoder, 0.5),
    "SynapseFilter": of(layer.SynapseFilter, 2.0),
    "LinearRecurrentContainer": of(layer.LinearRecurrentContainer, nn.Identity(), 2, 2),
    "StepModeContainer": layer.StepModeContainer,
    "DropConnectLinear": of(layer.DropConnectLinear, 2, 2),
    "NeuNorm": of(layer.NeuNorm, 2, 3, 3),
    "MultiDimensionalAttention": of(layer.MultiDimensionalAttention, 4, 4, 2, 2),
    "Converter": converted,
    "STDPLearner.step": learned(learning.STDPLearner),
    "MSTDPLearner.step": learned(
        lambda *args, **given: learning.MSTDPLearner(*args, batch_size=1, **given), torch.ones(1)
    ),
    "MSTDPETLearner.step": rewarded,
    "covariance": of(analysis.covariance, SPIKES),
    "correlation_coefficient": of(analysis.correlation_coefficient, SPIKES),
    "correlogram": of(analysis.correlogram, SPIKES, 1),
    "cross_correlation_histogram": of(analysis.cross_correlation_histogram, SPIKES, SPIKES),
    "time_histogram": of(analysis.time_histogram, SPIKES),
    "mutual_information": of(analysis.mutual_information, SPIKES, ["a"]),
    "fit_memory": fitted,
    "lean": of(functional.lean, IF),
    "fuse_bn_neurons": of(functional.fuse_bn_neurons, nn.Sequential(layer.BatchNorm2d(2), neuron.IFNode()).eval()),
    "ottt_online_training": trained,
    "synops_regularization": of(functional.synops_regularization, SPIKES, 2.0, 3.0),
    "SpikeCounter": of(monitor.SpikeCounter, IF),
    "AttributeMonitor": lambda **given: monitor.AttributeMonitor("v", net=IF, instance=neuron.IFNode, **given),
    "Monitor.get_avg_firing_rate": lambda **given: fired().get_avg_firing_rate(**{"module_name": "0"} | given),
    "Monitor.get_nonfire_ratio": lambda **given: fired().get_nonfire_ratio(**{"module_name": "0"} | given),
    "GPUMonitor": monitor.GPUMonitor,
    "flight_recorder": of(monitor.flight_recorder, IF),
    "adopt": of(monitor.adopt, type("Foreign", (nn.Module,), {})),
    **{cls.__name__: of(cls, 2) for cls in (mixing.NoisyCUBALIFNode, mixing.NoisyNonSpikingIFNode)},
    **{cls.__name__: cls for cls in (mixing.DSRIFNode, mixing.DSRLIFNode)},
    **{cls.__name__: of(cls, 2) for cls in (slots.SpikeCountToBinary, slots.TemporalBinSum)},
    **{cls.__name__: of(cls, []) for cls in (op_counter.DispatchCounterMode, op_counter.FunctionCounterMode)},
    **{cls.__name__: cls for cls in (op_counter.LemaireEnergyConfig, op_counter.SimpleEnergyConfig)},
    **{cls.__name__: of(cls, [SPIKES]) for cls in (recipes.LocalThresholdBalancingRecipe, recipes.RateCodingRecipe)},
    "ModuleCounterMode": lambda **given: op_counter.ModuleCounterMode([], model=IF, **given),
    "NoisyILCCUBALIFNode": of(mixing.NoisyILCCUBALIFNode, 2, 2),
    "MPBNLIFNode": lambda **given: mixing.MPBNLIFNode(out_features=2, **given),
    "STBIFNode": of(mixing.STBIFNode, 0.5, 4),
    **{cls.__name__: of(cls, 2, 3) for cls in (rnn.SpikingLSTMCell, rnn.SpikingGRUCell, rnn.SpikingVanillaRNNCell)},
    **{cls.__name__: of(cls, 2, 3, 2) for cls in (rnn.SpikingLSTM, rnn.SpikingGRU, rnn.SpikingVanillaRNN)},
}
"""What is called with switches, by its name; the law asks that nothing is left out. Fields have one of their own."""

LIKE_PYTORCH = Stateless, nn.modules.batchnorm._NormBase, layer.BatchNormThroughTime  # PyTorch's, as it takes them
MADE_HERE = {  # by the library alone, or bases
    *("FlightRecorder", "Health", "Probe", "Recording", "Results", "SpilledRecords", "SpikingRNNBase"),
    *("SpikingRNNCellBase", "check_state", "stateless"),
    *("MPBNBaseNode", "NoisyBaseNode", "NoisyILCBaseNode", "NoisyNonSpikingBaseNode"),
}


def switches():
    """The public callables with switches, methods of classes among them, and the names of these."""
    for room in (*ROOMS, *OF_OTHER_AGES):
        home = room.__name__ if room in OF_OTHER_AGES else "spikescope"
        for name, held in vars(room).items():
            ours = callable(held) and getattr(held, "__module__", "").startswith(home)
            if not ours or name.startswith("_") or name in MADE_HERE:
                continue
            found = {name: held}
            if inspect.isclass(held):
                if issubclass(held, (*LIKE_PYTORCH, Exception)):
                    continue
                own = {key: value for key, value in vars(held).items() if key != "register_buffer"}  # PyTorch's
                public = {key: value for key, value in own.items() if not key.startswith("_")}
                found |= {f"{name}.{key}": value for key, value in public.items() if inspect.isfunction(value)}
            for of_name, function in found.items():
                for parameter in inspect.signature(function).parameters.values():
                    if parameter.annotation == "bool":
                        yield of_name, parameter.name


FOUND = sorted(set(switches()))


def test_every_switch_is_under_the_law():
    assert {name for name, _ in FOUND} == set(CALLS)


@pytest.mark.parametrize(("name", "switch"), FOUND, ids=map(".".join, FOUND))
def test_what_is_neither_true_nor_false_is_refused_in_words(name, switch):
    for given in ("m", 0.5, math.nan, None, 2, torch.ones(2)):
        with pytest.raises(TypeError, match=rf"^{name.partition('.')[0]}: {switch}.* must be True or False, but got"):
            CALLS[name](**{switch: given})


@pytest.mark.parametrize("cls", [layer.WSConv2d, layer.WSLinear])
def test_a_switch_that_pytorch_has_not_is_refused_as_ours_are(cls):
    with pytest.raises(TypeError, match=r"^WS.*: gain must be True or False, but got 'm'"):
        cls(*cls.example[:1], 3, *([3] if cls is layer.WSConv2d else []), gain="m")


TAKEN = [held for held in FOUND if held[0] != "StepModeContainer"]  # which knows another first argument by its kind


@pytest.mark.parametrize(("name", "switch"), TAKEN, ids=map(".".join, TAKEN))
def test_the_truth_values_of_numpy_and_of_c_are_taken(name, switch):
    for given in (np.bool_(False), 0, False):
        CALLS[name](**{switch: given})


def test_a_layer_that_is_asked_for_beside_all_is_passed_over_with_a_warning():
    with pytest.warns(RuntimeWarning, match="with all=True module_name='0' says nothing"):
        fired().get_avg_firing_rate(module_name="0")
