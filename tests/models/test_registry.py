"""Laws over all models: forward, backward, both step modes, a state that comes back, compiled code, half precision.

The largest are built with `SPIKESCOPE_TEST_ALL=1`, which is what `make models` does.
"""

import inspect
import pickle
from collections import Counter

import pytest
import torch
from model_cases import LARGE, SMALL, exact, frames, size_of, without_large_layers
from torch import nn

from sample import WHOLE
from spikescope import functional, models, neuron, surrogate
from spikescope.models.table import VARIANTS

NARROWED = ("spiking_vgg", "spiking_vggws_ottt")
CLASSES = 10
NARROW = {name: {"embed_dims": 48, "depths": 1} for name in ("spikformer_cifar10", "sdt_2_512_cifar")}
"""As the usual run makes them in half precision, for which most processors have no instructions."""
SAMPLE = ("sew_resnet18", "max_resnet18", "MNISTNet", "spikformer_cifar10", "qkformer_10_384", "sdt_2_512_cifar")


def quick(name):
    if name.startswith("ottt_spiking_vgg1") and "11" not in name:
        return WHOLE
    return WHOLE or name in SMALL or VARIANTS[name].family in NARROWED or VARIANTS[name].parameters < LARGE


BUILT = [name for name in VARIANTS if quick(name)]
ONLINE = [name for name in BUILT if VARIANTS[name].family == "spiking_vggws_ottt"]
SEQUENCES = [name for name in BUILT if name not in ONLINE]
AT_ONCE = [name for name in SEQUENCES if VARIANTS[name].family == "masnn"]  # attention sees all steps


def smallest(names):
    """Of each family the network of the fewest weights, and all that are unlike the others of theirs."""
    met, kept = Counter(), []
    for name in sorted(names, key=lambda name: VARIANTS[name].parameters):
        met[VARIANTS[name].family] += 1
        kept += [name] if VARIANTS[name].family == "parametric_lif_net" or met[VARIANTS[name].family] == 1 else []
    return kept


def built(name, step_mode="m", **options):
    """A network for ten classes, or as many as it has."""
    options |= SMALL.get(name, {})
    if VARIANTS[name].family != "parametric_lif_net":
        options["num_classes"] = CLASSES
    if VARIANTS[name].family in NARROWED and not WHOLE:
        with torch.device("meta"):
            net = models.create(name, **options)
        net = without_large_layers(net)
        if VARIANTS[name].family == "spiking_vgg":
            functional.set_step_mode(net, step_mode)
        return net
    return models.create(name, **options, step_mode=None if name in ONLINE else step_mode)


def example(name):
    return frames((2, 2, VARIANTS[name].image[0], *size_of(VARIANTS[name])))


def over_time(y, name):
    """The outputs of single steps as the network gives them for a sequence."""
    averaged = VARIANTS[name].family in ("ms_resnet", "maxformer", "qkformer", "spike_driven_transformer")
    return torch.stack(y).mean(0) if averaged else torch.stack(y)


@pytest.mark.parametrize("name", SEQUENCES if WHOLE else smallest(SEQUENCES))
def test_a_sequence_is_its_steps_its_state_comes_back_and_every_weight_learns(name):
    net = exact(built(name))
    x = example(name)
    with torch.no_grad():
        y = net(x)
        functional.reset_net(net)
        if name in AT_ONCE:
            with pytest.raises(ValueError, match="step_mode='s' is not supported by the network itself"):
                functional.set_step_mode(net, "s")
        else:
            functional.set_step_mode(net, "s")
            assert torch.equal(y, over_time([net(step) for step in x], name))
    assert y.shape[-2] == x.shape[1]

    with torch.device("meta"):
        other = built(name)
    other.load_state_dict(net.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), y)

    functional.reset_net(net)
    functional.set_step_mode(net, "m")
    net.train()(x).square().mean().backward()
    for key, held in net.named_parameters():
        assert held.grad is not None, key
        assert held.grad.isfinite().all(), key


@pytest.mark.parametrize("name", SEQUENCES if WHOLE else SAMPLE)
def test_autocast_gives_finite_scores_and_gradients(name):
    torch.manual_seed(0)
    net = built(name, **({} if WHOLE else NARROW.get(name, {})))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(example(name))
        loss = y.float().square().mean()
    loss.backward()
    assert y.isfinite().all()
    assert all(held.grad.isfinite().all() for held in net.parameters())


@pytest.mark.parametrize("name", ONLINE)
def test_online_networks_take_single_steps_and_learn(name):
    net = built(name).train()
    for step in example(name):
        net(step).square().mean().backward()
    assert all(held.grad is not None and held.grad.isfinite().all() for held in net.parameters())
    with pytest.raises(ValueError, match="step_mode"):
        functional.set_step_mode(net, "m")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_function_goes_by_its_name(name):
    build = VARIANTS[name].function(name)
    assert pickle.loads(pickle.dumps(build)) is build
    assert build.__name__ == name
    assert build.__doc__


COMPILED = {
    "sew": lambda: models.SEWResNet(models.sew_resnet.BasicBlock, (1, 1, 1, 1), num_classes=CLASSES),
    "plif": lambda: models.CIFAR10Net(channels=8),
    "spikformer": lambda: models.Spikformer(patch_size=4, embed_dims=32, depths=1, num_classes=CLASSES),
}
OTHERS_COMPILED = {
    "bottlenecks": lambda: models.SpikingResNet(models.spiking_resnet.Bottleneck, (1, 1, 1, 1), num_classes=CLASSES),
    "ms": lambda: models.MSResNet(layers=(1, 1, 1), base_channels=8, num_classes=CLASSES),
    "qkformer": lambda: models.QKFormer(embed_dims=48, depths=(1, 1, 1), num_classes=CLASSES),
    "attention": lambda: models.AttMSResNet(layers=(1, 1, 1), base_channels=8, num_classes=CLASSES),
    "maxformer": lambda: models.MaxFormer(embed_dims=64, depths=(1, 1, 1), num_classes=CLASSES),
    "maxformer, small": lambda: models.MaxFormer(embed_dims=64, depths=(1, 1, 1), num_classes=CLASSES, cifar=True),
    "sdt": lambda: models.SpikeDrivenTransformer(embed_dims=32, depths=1, num_classes=CLASSES),
}
if WHOLE:
    COMPILED |= OTHERS_COMPILED


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("build", COMPILED.values(), ids=COMPILED)
def test_compiled_code_gives_the_same(build):
    net = exact(build())
    functional.set_step_mode(net, "m")
    x = example("sew_resnet18")
    with torch.no_grad():
        want = net(x)
        functional.reset_net(net)
        assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(x), want)


def test_there_is_a_function_for_every_name_in_the_table_and_a_row_for_every_function():
    homes = {row.family for row in VARIANTS.values()}
    for name in VARIANTS:
        assert getattr(models, name) is VARIANTS[name].function(name)
    for home in homes:
        module = __import__(f"spikescope.models.{home}", fromlist=["__all__"])
        made = {name for name in module.__all__ if name in VARIANTS or name[0].islower()}
        assert made == {name for name, row in VARIANTS.items() if row.family == home}


def test_each_neuron_has_arguments_of_its_own():
    shared = surrogate.ATan()
    net = models.create("sew_resnet18", surrogate_function=shared, num_classes=2)
    parts = [held for held in net.modules() if isinstance(held, surrogate.ATan)]
    assert len({id(held) for held in parts}) == 20
    assert all(held is not shared for held in parts)


def test_norms_and_neurons_may_be_chosen():
    net = models.create("sew_resnet18", norm=lambda channels: nn.GroupNorm(8, channels), num_classes=2)
    assert not any(isinstance(held, nn.BatchNorm2d) for held in net.modules())
    with pytest.raises(TypeError, match="no choice of norms"):
        models.create("qkformer_10_384", norm=nn.BatchNorm2d)
    with pytest.raises(TypeError, match=r"sew_resnet18: norm must be a function of the number of channels .*'tdbn'"):
        models.create("sew_resnet18", norm="tdbn")
    with pytest.raises(TypeError, match="class of neurons"):
        models.create("sew_resnet18", neuron=3.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_number_of_steps_is_refused_where_nothing_takes_it(name):
    if "T" in inspect.signature(VARIANTS[name].function(name)).parameters:
        return
    for chosen in ({}, {"neuron": neuron.LIFNode}):
        with pytest.raises(TypeError, match=f"{name} has no T: it runs for as many steps as its input has"):
            models.create(name, T=3, **chosen)


def test_a_number_of_steps_goes_to_the_neurons_that_take_it():
    net = models.create("sew_resnet18", neuron=neuron.PSN, T=3, num_classes=2, step_mode="m")
    assert {held.T for held in net.modules() if isinstance(held, neuron.PSN)} == {3}


def test_an_image_is_seen_for_T_steps():
    net = exact(models.create("ms_resnet18", T=3, base_channels=8, num_classes=4))
    image = example("ms_resnet18")[0]
    with torch.no_grad():
        want = net(image.repeat(3, 1, 1, 1, 1))
        functional.reset_net(net)
        assert torch.equal(net(image), want)


@pytest.mark.parametrize(("shape", "mode"), [((3, 32, 32), "m"), ((1, 2, 3, 32, 32), "s"), ((2, 3), "s")])
def test_another_number_of_axes_is_refused_in_words(shape, mode):
    net = models.create("ms_resnet18", base_channels=8, step_mode=mode)
    with pytest.raises(ValueError, match=r"MSResNet in step_mode='.' takes"):
        net(torch.rand(shape))


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_wide_resnet50_2", "spiking_vgg11_bn"])
def test_pretrained_says_where_the_weights_are_and_downloads_nothing(name):
    with pytest.raises(NotImplementedError, match=r"get_model_weights.*load_state_dict"):
        VARIANTS[name].function(name)(pretrained=True)
    with pytest.raises(NotImplementedError, match="no weights"):
        models.create("spikformer_ti", pretrained=True)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: models.create("sew_resnet18", cnf="XOR"), "cnf must be one of 'ADD', 'AND', 'IAND'"),
        (lambda: models.create("resnet18"), "no model 'resnet18'"),
        (lambda: models.create("sew_resnet18", groups=2), "groups=1"),
        (lambda: models.create("sew_resnet50", replace_stride_with_dilation=(True,)), "four stages"),
        (lambda: models.create("spikformer_ti", patch_size=8), "patch_size must be 4 or 16"),
        (lambda: models.create("qkformer_10_384", depths=(1, 2)), "three stages"),
        (lambda: models.create("sdt_8_384", pooling_stat="012"), "four of '0' and '1'"),
        (lambda: models.create("maxformer_10_384", depths=(1, 2)), "three stages"),
        (lambda: models.create("maxformer_cifar", embed_dims=36), "multiple of 8 where cifar=True"),
        (lambda: models.create("masnn_dvs128_gesture", pools=(1, 2)), "as many numbers each"),
        (lambda: models.create("masnn_dvs128_gesture", input_size=(32, 6)), r"2 of \(1, 2, 2\) comes to \[16, 3\]"),
        (lambda: models.MASNN(step_mode="s"), "step_mode must be one of 'm', but got 's'"),
        (lambda: models.create("masnn_dvs128_gesture")(torch.rand(4, 1, 2, 32, 32)), "Make it with T=4"),
        (lambda: models.create("ms_resnet18", T=0), "T must be a whole number of at least 1"),
        (lambda: models.create("ms_resnet18", layers=(1, 1)), "three or four"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(build, words):
    with pytest.raises(ValueError, match=words), torch.device("meta"):
        build()


def test_the_spikes_of_path_and_shortcut_join_as_the_paper_says():
    identity, path = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    join = models.sew_resnet.sew_function
    assert join(identity, path, "ADD").tolist() == [0, 1, 1, 2]
    assert join(identity, path, "AND").tolist() == [0, 0, 0, 1]
    assert join(identity, path, "IAND").tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("home", [models.sew_resnet, models.spiking_resnet])
@pytest.mark.parametrize(
    "options", [{}, {"groups": 2, "width_per_group": 8}, {"replace_stride_with_dilation": [1, 1, 1]}]
)
def test_a_network_of_bottlenecks_learns_in_both_step_modes(home, options):
    kind = home.SEWResNet if home is models.sew_resnet else home.SpikingResNet
    net = exact(kind(home.Bottleneck, (1, 1, 1, 1), num_classes=4, **options))
    x = example("sew_resnet50")
    steps = torch.stack([net(step) for step in x])
    functional.reset_net(net)
    functional.set_step_mode(net, "m")
    assert torch.equal(net(x), steps)
    functional.reset_net(net)
    net.train()(x).square().mean().backward()
    assert all(held.grad is not None and held.grad.isfinite().all() for held in net.parameters())


@pytest.mark.parametrize("name", ["sew_resnet18", "sew_resnet50"])
def test_blocks_begin_as_identities_when_their_last_norm_gives_zeros(name):
    net = models.create(name, zero_init_residual=True, cnf="IAND", num_classes=2).eval()
    block = net.layer2[1]
    x = (
        torch.rand(1, net.layer2[0](torch.zeros(1, net.layer2[0].conv1.in_channels, 4, 4)).shape[1], 2, 2) < 0.5
    ).float()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.MSResNet(T=1, layers=(1, 1, 1), base_channels=8, deep=True),
        lambda: models.AttMSResNet(layers=(1, 1, 1), base_channels=8),
        lambda: models.MaxResNet(T=1, layers=(1, 1, 1), base_channels=8, stage_channels=(16, 16, 16), deep=True),
    ],
    ids=["deep", "attention", "wider at once"],
)
def test_a_shortcut_that_pools_goes_with_its_block_at_every_size(build):
    net = build().eval()
    for size in ((45, 37), (32, 32), (1, 5)):
        with torch.no_grad():
            assert net(torch.rand(2, 3, *size)).shape == (2, 1000)
        functional.reset_net(net)


def test_an_attention_of_channels_and_places_sees_sequences_of_any_length():
    net = models.create("att_ms_resnet18", T=3, base_channels=8, num_classes=4)
    for steps in (1, 3, 5):
        assert net(torch.rand(steps, 2, 3, 32, 32)).shape == (2, 4)
        functional.reset_net(net)
