"""What the package shows: its rooms, and the names in each, all of them real and documented."""

import importlib
import inspect
import pickle
import re
import subprocess
import sys

import pytest

import spikescope

ROOMS = spikescope.__all__


def shown(room):
    """The public names of a room, with what they are."""
    module = getattr(spikescope, room)
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}


def test_the_front_door_lists_its_rooms_and_refuses_others_in_words():
    assert set(ROOMS) <= set(dir(spikescope))
    with pytest.raises(AttributeError, match="has no attribute 'neurons'; its rooms are analysis"):
        spikescope.neurons  # noqa: B018  # the access is what is tested


@pytest.mark.parametrize(
    ("room", "name", "text"),
    [
        ("neuron", "LIFNod", "has no attribute 'LIFNod'. Did you mean LIFNode or "),
        ("surrogate", "atn", "has no attribute 'atn'. Did you mean "),
        ("functional", "reset_nets", "Did you mean reset_net"),
        ("layer", "Zzzz", "has no attribute 'Zzzz'. See dir(spikescope.layer)"),
    ],
)
def test_a_name_that_a_room_has_not_is_refused_in_words(room, name, text):
    module = getattr(spikescope, room)
    with pytest.raises(AttributeError, match=re.escape(f"module 'spikescope.{room}' ")) as refused:
        getattr(module, name)
    assert text in str(refused.value)
    assert "_explain" not in str(refused.value)
    assert not hasattr(module, name)
    assert not hasattr(module, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from spikescope.{room} import {name}", {})


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_comes_near_to_a_name(room):
    module = getattr(spikescope, room)
    name = next(name for name in dir(module) if name[:1].isalpha() and len(name) > 3)
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}e'. Did you mean .*{name}"):
        getattr(module, f"{name}e")


def test_the_front_door_knows_in_which_room_a_name_is():
    with pytest.raises(AttributeError, match=r"no attribute 'LIFNode'; it is spikescope.neuron.LIFNode; its rooms"):
        spikescope.LIFNode  # noqa: B018  # the access is what is tested
    assert spikescope.train.Trainer.__module__ == "spikescope.train.trainer"


def test_the_base_of_neurons_has_its_old_name_too():
    base = spikescope.neuron.BaseNode
    assert base is spikescope.neuron.IntegrateAndFire
    assert isinstance(spikescope.neuron.LIFNode(), base)
    assert "BaseNode" not in spikescope.neuron.registry
    assert pickle.loads(pickle.dumps(base)) is base


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_class_and_function_of_ours_has_a_docstring(room):
    for name, held in shown(room).items():
        if (inspect.isclass(held) or inspect.isfunction(held)) and held.__module__.startswith("spikescope"):
            assert inspect.getdoc(held), f"spikescope.{room}.{name} has no docstring"


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_in_all_exists(room):
    module = importlib.import_module(f"spikescope.{room}")
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"spikescope.{room}.{name}"


def test_the_neurons_layers_and_functions_that_users_of_the_reference_know_are_here():
    known = {
        "neuron": "IFNode LIFNode ParametricLIFNode QIFNode EIFNode IzhikevichNode KLIFNode CUBALIFNode LIAFNode "
        "GatedLIFNode PSN MaskedPSN SlidingPSN NonSpikingIFNode NonSpikingLIFNode",
        "surrogate": "Sigmoid ATan PiecewiseQuadratic PiecewiseExp SoftSign SuperSpike Erf NonzeroSignLogAbs "
        "PiecewiseLeakyReLU SquarewaveFourierSeries S2NN QPseudoSpike LeakyKReLU FakeNumericalGradient LogTailedReLU "
        "Rect DeterministicPass PoissonPass MultiLevelSpikeCount",
        "layer": "Linear Conv1d Conv2d Conv3d ConvTranspose2d BatchNorm1d BatchNorm2d BatchNorm3d MaxPool2d AvgPool2d "
        "AdaptiveAvgPool2d Upsample Flatten GroupNorm WSConv2d WSLinear NeuNorm Dropout Dropout2d SeqToANNContainer "
        "MultiStepContainer StepModeContainer ElementWiseRecurrentContainer LinearRecurrentContainer SynapseFilter "
        "Delay VotingLayer",
        "functional": "reset_net set_step_mode set_backend detach_net multi_step_forward chunk_multi_step_forward "
        "seq_to_ann_forward kaiming_normal_conv_linear_weight delay first_spike_index redundant_one_hot "
        "spike_similar_loss kernel_dot_product set_threshold_margin fuse_convbn2d fused_conv2d_weight_of_convbn2d "
        "fused_conv2d_bias_of_convbn2d scale_fused_conv2d_weight_of_convbn2d scale_fused_conv2d_bias_of_convbn2d "
        "temporal_efficient_training_cross_entropy",
        "monitor": "OutputMonitor InputMonitor AttributeMonitor GradInputMonitor GradOutputMonitor Monitor GPUMonitor",
    }
    for room, names in known.items():
        missing = [name for name in names.split() if not hasattr(getattr(spikescope, room), name)]
        assert not missing, f"spikescope.{room} lacks {missing}"


def test_the_front_door_alone_does_not_load_torch():
    command = "import sys, spikescope; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("room", ROOMS)
def test_a_repr_has_no_quotes(room):
    for name, held in shown(room).items():
        own = vars(held).get("extra_repr") if inspect.isclass(held) else None
        assert own is None or "!r" not in inspect.getsource(own), f"spikescope.{room}.{name}"
