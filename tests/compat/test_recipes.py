"""Conversions by recipes, as SpikingJelly 2.0 has them: against loops, number by number, and the network itself."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("aliases")


def trained():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(3, 4) - 0.25)  # most activations are above 0
    return net


def with_pool():
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(36, 5), nn.ReLU())


def spikes_of(x, scale, start, steps):
    """The outputs of a neuron with soft reset, in thresholds of its own."""
    v, given = start, []
    for _ in range(steps):
        v += x / scale
        fired = v >= 1
        v -= fired
        given.append(scale * fired)
    return given


def converted(recipe, net, x, steps):
    """The outputs of `steps` steps, and the same as a sequence."""
    from spikingjelly.activation_based import ann2snn, functional

    snn = ann2snn.Converter(recipe).convert(net)
    with torch.no_grad():
        y = torch.stack([snn(x) for _ in range(steps)])
        functional.reset_net(snn)
        functional.set_step_mode(snn, "m")
        torch.testing.assert_close(snn(x.expand(steps, *x.shape)), y)
    return y


@pytest.mark.parametrize(
    ("given", "start", "share"),
    [
        ({}, 0.0, 1.0),
        ({"mode": 0.5}, 0.0, 0.5),
        ({"channel_wise": True}, 0.0, 1.0),
        ({"channel_wise": True, "half_threshold": True, "mode": 0.75}, 0.5, 0.75),
    ],
)
def test_a_relu_becomes_a_neuron_of_its_scale(given, start, share):
    from spikingjelly.activation_based.ann2snn import RateCodingRecipe

    net, measured, x = trained(), torch.rand(8, 4), torch.rand(8, 4)
    y = converted(RateCodingRecipe([(measured, torch.zeros(8))], **given), net, x, 6)
    before, largest = net[0](x), net(measured)
    assert y.bool().float().mean() > 0.2
    largest = largest.amax(0) if given.get("channel_wise") else largest.max().expand(3)
    for sample in range(8):
        for channel in range(3):
            wanted = spikes_of(before[sample, channel].item(), max(share * largest[channel].item(), 1e-6), start, 6)
            torch.testing.assert_close(y[:, sample, channel], torch.tensor(wanted))


def test_a_percentile_of_each_channel_runs_on_over_batches():
    from spikingjelly.activation_based.ann2snn.recipes.rate_coding import ChannelVoltageHook

    hook = ChannelVoltageHook("75%", momentum=0.25, channel_dim=-1)
    for values in ([[0.0, 4.0], [1.0, -3.0], [2.0, 0.0]], [[8.0, 1.0]]):
        x = torch.tensor(values)
        assert hook(x) is x
    torch.testing.assert_close(hook.compute_threshold(), torch.tensor([0.75 * 1.5 + 2, 0.75 * 2 + 0.25]))
    with pytest.raises(ValueError, match="ChannelVoltageHook has measured nothing yet"):
        ChannelVoltageHook().compute_threshold()


def test_thresholds_are_balanced_by_what_clipping_loses():
    from spikingjelly.activation_based.ann2snn.recipes.local_threshold_balancing import LocalThresholdBalancingHook

    hook = LocalThresholdBalancingHook(eps=0.125)
    first = hook(torch.tensor([[1.0, -2.0], [3.0, -1.0]]))  # means of what is above 0: 2 and 0
    assert hook.compute_threshold().tolist() == [4.0, 0.125]
    assert first.tolist() == [[1.0, 0.0], [3.0, 0.0]]
    assert hook(torch.tensor([[6.0, 0.0], [2.0, 0.25]])).tolist() == [[6.0, 0.0], [2.0, 0.25]]
    assert hook.threshold.tolist() == [6.0, 0.25]


@pytest.mark.parametrize("name", ["rates", "rates by channel", "balanced"])
def test_the_rates_of_a_network_with_pools_are_its_activations(name):
    from spikingjelly.activation_based import ann2snn

    net, x = with_pool(), torch.rand(6, 2, 8, 8)
    net(x)  # moves the statistics
    net.eval()
    before = copy.deepcopy(net.state_dict())
    by_channel = {"channel_wise": True, "half_threshold": True, "pre_spike_maxpool": True}
    recipe = {
        "rates": ann2snn.RateCodingRecipe([x]),
        "rates by channel": ann2snn.RateCodingRecipe([x], **by_channel),
        "balanced": ann2snn.LocalThresholdBalancingRecipe([x] * 60),
    }[name]
    y = converted(recipe, net.train(), x, 256)
    assert net.training
    assert all(torch.equal(held, before[key]) for key, held in net.state_dict().items())
    torch.testing.assert_close(y.mean(0), net.eval()(x), rtol=0.02, atol=0.01)
    kinds = [type(module).__name__ for module in ann2snn.Converter(recipe).convert(net).children()]
    assert kinds[:3] == (
        ["Conv2d", "Sequential", "SpikingMaxPool"] if name == "rates" else ["Conv2d", "MaxPool2d", "Sequential"]
    )


class Twice(nn.Module):
    """One ReLU that is called twice, in a module, and one outside of it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"fc": nn.Linear(4, 4), "act": nn.ReLU()})
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.inner["act"](self.inner["fc"](x))
        return self.act(self.inner["act"](self.inner["fc"](x)))


@pytest.mark.parametrize(
    ("name", "given", "called"),
    [
        ("RateCodingRecipe", {}, "spiking"),
        ("RateCodingRecipe", {"channel_wise": True}, "channel_spiking"),
        ("LocalThresholdBalancingRecipe", {}, "ltb_spiking"),
    ],
)
def test_the_modules_have_the_names_of_files_of_that_release(name, given, called):
    from spikingjelly.activation_based import ann2snn

    snn = ann2snn.Converter(getattr(ann2snn, name)([torch.rand(8, 4)], **given)).convert(Twice())
    places = [f"inner.{called}_0", f"inner.{called}_1", f"{called}_0"]
    scales = [f"{place}.{scaler}.scale" for place in places for scaler in ("scaler0", "scaler1")]
    assert sorted(snn.state_dict()) == sorted(["inner.fc.weight", "inner.fc.bias", *scales])


def by_pickle(net):
    return pickle.loads(pickle.dumps(net))


def by_save(net):
    held = io.BytesIO()
    torch.save(net, held)
    held.seek(0)
    return torch.load(held, weights_only=False)


@pytest.mark.parametrize("name", ["RateCodingRecipe", "LocalThresholdBalancingRecipe"])
def test_files_of_when_neurons_had_the_names_of_their_relus_load(name):
    from spikingjelly.activation_based import ann2snn

    def made(measured):
        torch.manual_seed(4)
        block = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
        net = nn.Sequential(block, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3), nn.ReLU())
        return ann2snn.Converter(getattr(ann2snn, name)([measured])).convert(net)

    source, other = made(torch.rand(4, 2, 8, 8)), made(2 + torch.rand(4, 2, 8, 8))
    state, former = source.state_dict(), {}
    first = {"RateCodingRecipe": "spiking_", "LocalThresholdBalancingRecipe": "ltb_spiking_"}[name]
    for key, held in state.items():
        places = {f"0.{first}0.": "0.1.", f"{first}0.": "1.", f"{first}1.": "4."}
        new = next((new for new in places if key.startswith(new)), "")
        former[places.get(new, "") + key.removeprefix(new)] = held
    assert len(set(former) - set(state)) >= 6
    assert not torch.equal(state[f"{first}1.scaler0.scale"], other.state_dict()[f"{first}1.scaler0.scale"])
    inside = nn.Sequential(copy.deepcopy(other))
    inside.load_state_dict({f"0.{key}": held for key, held in former.items()})
    x = torch.rand(4, 2, 8, 8)
    ways = [copy.deepcopy, by_pickle, by_save, lambda net: by_pickle(copy.deepcopy(by_pickle(net)))]
    copies = [(way(other), given) for way in ways for given in (former, state)]
    for net, given in (*copies, (inside[0], {})):
        if given:
            net.load_state_dict(given)
        assert all(torch.equal(held, state[key]) for key, held in net.state_dict().items())
        assert net.training == other.training
        assert torch.equal(net(x), copy.deepcopy(source)(x))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(state | {"2.scale": torch.ones(1)})


def test_a_neuron_of_ones_own_is_told_the_scale_and_asked_for_its_threshold():
    from spikingjelly.activation_based import ann2snn, neuron

    net, x, told = trained(), torch.rand(8, 4), []

    def factory(scale):
        told.append(scale)
        return neuron.IFNode(v_threshold=0.25, v_reset=None)

    y = converted(ann2snn.RateCodingRecipe([x], neuron_factory=factory), net, x, 5)
    torch.testing.assert_close(y, converted(ann2snn.RateCodingRecipe([x]), net, x, 5))
    assert told == [net(x).max().item()]


def test_the_stages_of_a_recipe_run_in_their_order():
    from spikingjelly.activation_based.ann2snn import Converter, FXConversionRecipe, FXConverter
    from spikingjelly.activation_based.ann2snn.recipes.base import ConversionRecipe, replace_submodule

    seen = []

    class Recipe(FXConversionRecipe):
        def validate(self, converter):
            seen.append(converter.device)

        def after_trace(self, converter, fx_model):
            seen.append(sorted(node.op for node in fx_model.graph.nodes))
            return fx_model

        def calibrate(self, converter, fx_model):
            seen.append("calibrate")
            return fx_model

        def replace(self, converter, fx_model):
            replace_submodule(fx_model, "1", nn.Identity())
            return fx_model

    net = trained()
    net.train()
    made = Converter(recipe=Recipe())
    assert isinstance(made, FXConverter)
    snn = made.convert(net)
    assert seen == [torch.device("cpu"), ["call_module", "call_module", "output", "placeholder"], "calibrate"]
    x = torch.rand(2, 4)
    assert torch.equal(snn(x), net[0](x))
    assert made.device is None
    assert ConversionRecipe is FXConversionRecipe


def test_modules_may_be_converted_without_a_graph():
    from spikingjelly.activation_based.ann2snn import ModuleConversionRecipe, ModuleConverter

    class Doubled(ModuleConversionRecipe):
        def convert_module(self, converter, ann):
            return nn.Sequential(ann.eval(), nn.Identity())

    net = trained()
    assert ModuleConverter(Doubled(), device="cpu").convert(net)[0] is net
    assert net.training


def test_what_cannot_be_followed_is_refused_in_words():
    from spikingjelly.activation_based import ann2snn

    x, net = torch.rand(2, 4), trained()
    with pytest.raises(ValueError, match=r"there is no recipe 'rate_coding' by name here\. Give the recipe itself"):
        ann2snn.Converter("rate_coding")
    with pytest.raises(TypeError, match="FXConverter takes a recipe of the kind FXConversionRecipe"):
        ann2snn.Converter(ann2snn.ModuleConversionRecipe())
    with pytest.raises(TypeError, match="ModuleConverter takes a recipe of the kind ModuleConversionRecipe"):
        ann2snn.ModuleConverter(ann2snn.RateCodingRecipe([x]))
    with pytest.raises(ValueError, match="leave neuron_factory out"):
        ann2snn.RateCodingRecipe([x], channel_wise=True, half_threshold=True, neuron_factory=nn.Identity)
    for recipe, words in (
        (ann2snn.RateCodingRecipe([]), "the dataloader is empty"),
        (ann2snn.LocalThresholdBalancingRecipe([]), "has measured nothing yet"),
        (ann2snn.RateCodingRecipe([x], mode="least"), "The mode must be 'Max'"),
        (ann2snn.RateCodingRecipe([x], momentum=2.0), "momentum must be"),
    ):
        with pytest.raises(ValueError, match=words):
            ann2snn.Converter(recipe).convert(net)
    with pytest.raises(ValueError, match="RateCodingRecipe found no ReLU in Linear"):
        ann2snn.Converter(ann2snn.RateCodingRecipe([x])).convert(net[0])
    with pytest.raises(ValueError, match="cannot be converted to spikes"):
        ann2snn.Converter(ann2snn.RateCodingRecipe([x])).convert(nn.Sequential(*net, nn.Sigmoid()))
    with pytest.raises(ValueError, match="ChannelVoltageScaler has 2 channels, but axis 1"):
        ann2snn.ChannelVoltageScaler(torch.ones(2))(torch.ones(1, 3))
