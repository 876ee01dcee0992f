"""The networks of the clock-driven interface: order of arguments, names of parameters, numbers of the new ones."""

import inspect
import pickle

import pytest
import torch
from torch import nn

from spikescope import functional, models, neuron
from spikescope.compat.ages import models as aged

SINGLE = [name for name in aged.__all__ if inspect.isfunction(getattr(aged, name)) and not name.startswith("multi_")]


def arguments(name):
    return [held for held in inspect.signature(getattr(aged, name)).parameters if held != "kwargs"]


def test_arguments_have_the_order_of_that_age():
    assert arguments("sew_resnet18") == ["pretrained", "progress", "cnf", "single_step_neuron"]
    assert arguments("multi_step_sew_resnet50") == ["pretrained", "progress", "T", "cnf", "multi_step_neuron"]
    assert arguments("multi_step_spiking_resnet18") == ["pretrained", "progress", "T", "multi_step_neuron"]
    assert arguments("spiking_vgg11_bn") == ["pretrained", "progress", "norm_layer", "single_step_neuron"]
    assert arguments("multi_step_spiking_vgg11_bn") == [
        "pretrained",
        "progress",
        "norm_layer",
        "T",
        "multi_step_neuron",
    ]


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize("name", SINGLE)
def test_both_forms_are_the_network_of_today(name):
    with torch.device("meta"):
        new = models.create(name)
        single = getattr(aged, name)(single_step_neuron=neuron.LIFNode, tau=3.0)
        multi = getattr(aged, f"multi_step_{name}")(T=2, multi_step_neuron=neuron.LIFNode, tau=3.0)
    assert list(single.state_dict()) == list(multi.state_dict()) == list(new.state_dict())
    nodes = [held for net in (single, multi) for held in net.modules() if isinstance(held, neuron.LIFNode)]
    assert nodes
    assert {held.tau for held in nodes} == {3.0}
    assert multi.T == 2


@pytest.mark.parametrize("kind", ["SEWResNet", "SpikingResNet"])
def test_classes_take_their_arguments_in_the_order_of_that_age(kind):
    block = getattr(models, {"SEWResNet": "sew_resnet", "SpikingResNet": "spiking_resnet"}[kind]).BasicBlock
    join = ("ADD",) if kind == "SEWResNet" else ()
    with torch.device("meta"):
        by_place = getattr(aged, kind)(block, [1, 1, 1, 1], 10, True, 1, 64, None, None, *join, neuron.LIFNode, tau=3.0)
        named = {"single_step_neuron": neuron.LIFNode, "tau": 3.0} | ({"cnf": "ADD"} if join else {})
        by_name = getattr(aged, kind)(block, layers=[1, 1, 1, 1], num_classes=10, zero_init_residual=True, **named)
        given = (block, [1, 1, 1, 1], 10, False, 1, 64, None, nn.BatchNorm2d, 4, *join, neuron.LIFNode)
        multi = getattr(aged, f"MultiStep{kind}")(*given, tau=3.0)
    nets = by_place, by_name, multi
    assert [{held.tau for held in net.modules() if isinstance(held, neuron.LIFNode)} for net in nets] == [{3.0}] * 3
    assert [{type(held) for held in net.modules() if isinstance(held, neuron.IFNode)} for net in nets] == [set()] * 3
    assert (multi.T, multi.bn1.step_mode) == (4, "m")
    assert isinstance(getattr(aged, kind.lower().replace("resnet", "_resnet18"))(), getattr(aged, kind))
    with pytest.raises(TypeError, match=rf"{kind}\(block, layers, num_classes=1000.*single_step_neuron"):
        getattr(aged, kind)(block)


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_resnet18"])
def test_images_are_seen_for_T_steps_and_sequences_as_they_are(name):
    torch.manual_seed(0)
    net = getattr(aged, f"multi_step_{name}")(False, True, 3, num_classes=10, norm_layer=nn.BatchNorm2d).eval()
    torch.manual_seed(0)
    new = models.create(name, num_classes=10, step_mode="m").eval()
    x = 3 * torch.rand(2, 3, 32, 32)
    want = new(x.expand(3, *x.shape))
    assert torch.equal(net(x), want)
    functional.reset_net(net)
    assert torch.equal(net(x.repeat(3, 1, 1, 1, 1)), want)
    net.T = None
    with pytest.raises(ValueError, match="needs T"):
        net(x)


@pytest.mark.parametrize("name", models.parametric_lif_net.__all__)
def test_the_small_nets_have_the_names_of_that_age_and_the_numbers_of_today(name):
    size = {"NMNISTNet": (2, 34), "CIFAR10Net": (3, 32), "CIFAR10DVSNet": (2, 128), "DVSGestureNet": (2, 128)}
    channels, side = size.get(name, (1, 28))
    x = 3 * torch.rand(2, 2, channels, side, side)
    torch.manual_seed(0)
    net = getattr(aged, f"MultiStep{name}")(8, neuron.IFNode, v_threshold=0.5).eval()
    assert {key.split(".")[0][:2] for key in net.state_dict()} == {"co", "bn", "fc"}
    assert ("conv1.bias" in net.state_dict()) == ("DVS" in name)
    new = models.create(name, channels=8, v_threshold=0.5, step_mode="m").eval()
    if "DVS" not in name:
        keys = list(new.state_dict())
        assert len(keys) == len(net.state_dict())
        new.load_state_dict(dict(zip(keys, net.state_dict().values(), strict=True)))
        assert torch.equal(net(x), new(x))
    single = getattr(aged, name)(8, single_step_neuron=neuron.IFNode, v_threshold=0.5).eval()
    single.load_state_dict(net.state_dict())
    functional.reset_net(net)
    assert torch.allclose(torch.stack([single(step) for step in x]), net(x), atol=0.1)
    assert pickle.loads(pickle.dumps(type(net))) is type(net)


def test_static_images_are_given_with_their_number_of_steps():
    net = aged.MultiStepMNISTNet(8).eval()
    assert net(torch.rand(2, 1, 28, 28), 3).shape == (3, 2, 10)
    with pytest.raises(ValueError, match="needs T"):
        net(torch.rand(2, 1, 28, 28))


def test_pretrained_is_refused_in_words():
    with pytest.raises(NotImplementedError, match="nothing is downloaded"):
        aged.multi_step_sew_resnet18(True)
    with pytest.raises(NotImplementedError, match="nothing is downloaded"):
        aged.spiking_vgg11(pretrained=True)


class OfOnesOwn(aged.MultiStepSEWResNet):
    pass


class Mixed:
    pass


class MixedIn(Mixed, aged.SpikingVGG):
    def __init__(self, width, **kwargs):
        super().__init__([width, "M"], num_classes=3, **kwargs)


def test_subclasses_take_what_their_base_takes():
    block = models.sew_resnet.BasicBlock
    with torch.device("meta"):
        net = OfOnesOwn(block, [1, 1, 1, 1], 10, cnf="ADD", T=2, multi_step_neuron=neuron.LIFNode)
        other = MixedIn(8, single_step_neuron=neuron.LIFNode)
    assert {type(held) for each in (net, other) for held in each.modules() if isinstance(held, neuron.BaseNode)} == {
        neuron.LIFNode
    }
    assert (net.T, net.bn1.step_mode) == (2, "m")
    assert inspect.signature(OfOnesOwn) == inspect.signature(aged.MultiStepSEWResNet)
    assert list(inspect.signature(MixedIn).parameters) == ["width", "kwargs"]


@pytest.mark.parametrize("make", [aged.sew_resnet18, aged.multi_step_spiking_resnet18, aged.CIFAR10Net])
def test_the_neuron_may_be_given_as_today_and_is_never_dropped(make):
    join = {"cnf": "ADD"} if "sew" in make.__name__ else {}
    with torch.device("meta"):
        net = make(spiking_neuron=neuron.LIFNode, **join)
        assert {type(held) for held in net.modules() if isinstance(held, neuron.BaseNode)} == {neuron.LIFNode}
        for name in ("single_step_neuron", "multi_step_neuron"):
            if name in inspect.signature(make).parameters:
                with pytest.raises(TypeError, match=f"both {name} and spiking_neuron"):
                    make(spiking_neuron=neuron.LIFNode, **{name: neuron.IFNode}, **join)
        with pytest.raises(TypeError, match="too many positional arguments"):
            make(*([False] * 9))
