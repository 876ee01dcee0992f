"""Weights under the names of the papers' code give the outputs of that code; `published_code.py` stored them."""

import json
import re
from pathlib import Path

import pytest
import torch
from model_cases import frames
from published_cases import CASES, PLIF, exact_weights

from spikescope import functional, models, neuron
from spikescope.models import LAYOUTS, load_published

STORED = json.loads(Path(__file__).with_name("published.json").read_text())
BY_HAND = {"PLIF net, MNIST", "PLIF net, CIFAR-10"}  # the code has them in one size, which is large


def written(folder, state, **others):
    path = folder / "file.pth"
    torch.save({"model": state, "epoch": 3, **others}, path)
    return path


def outputs(net, x):
    """The scores as the published code gives them, from an input as it takes them."""
    steps = x.transpose(0, 1) if x.ndim == 5 else x.expand(getattr(net, "T", 4), *x.shape)
    functional.set_step_mode(net.eval(), "m")
    functional.set_backend(net, "torch")
    with torch.no_grad():
        y = net(steps)
    return y.sum(0) if isinstance(net, models.MNISTNet.__base__) else y.mean(0) if y.ndim == 3 else y


@pytest.mark.parametrize("case", CASES)
def test_the_outputs_are_those_of_the_published_code(case, tmp_path):
    build, shape = CASES[case]
    net = build()
    told = load_published(net, written(tmp_path, exact_weights(STORED[case]["shapes"])))
    theirs = torch.tensor(STORED[case]["outputs"])
    assert theirs.unique().numel() > 2
    assert torch.allclose(outputs(net, 2 * frames(shape)), theirs, rtol=0, atol=1e-6)
    assert case.startswith(told.layout)
    assert {*told.names, *told.unused} <= set(STORED[case]["shapes"])


def test_every_layout_has_a_case():
    assert {label for label in LAYOUTS if any(case.startswith(label) for case in CASES)} | BY_HAND == set(LAYOUTS)


@pytest.mark.parametrize("kind", [models.MNISTNet, models.CIFAR10Net])
def test_nets_for_images_of_the_plif_paper(kind, tmp_path):
    net = kind(**PLIF, hidden=32)
    first = {models.MNISTNet: 8, models.CIFAR10Net: 20}[kind]  # where the paper's linear part begins
    dropped = kind is models.CIFAR10Net  # it has one dropout less
    state = {}
    for name, held in net.state_dict().items():
        place, leaf = re.fullmatch(r"conv_fc\.(\d+)\.(\w+)", name).groups()
        at = int(place)
        if at < 2:
            theirs = f"static_conv.{at}.{leaf}"
        elif at < first:
            theirs = f"conv.{at - 2}.{leaf}"
        else:
            theirs = f"fc.{at - first - (dropped and at - first > 3)}.{leaf}"
        if leaf != "bias" or at < first:  # its linear layers have no biases
            state[theirs] = held + 1
    told = load_published(net, written(tmp_path, state))
    assert len(told.zeros) == 2
    loaded = net.state_dict()
    assert all(torch.equal(state[theirs], loaded[ours]) for theirs, ours in told.names.items())
    assert all(not loaded[name].any() for name in told.zeros)


def test_prefixes_of_wrappers_are_left_out_and_the_report_names_what_changed(tmp_path):
    state = exact_weights(STORED["Spikformer, CIFAR"]["shapes"])
    net = CASES["Spikformer, CIFAR"][0]()
    told = load_published(net, written(tmp_path, {f"module.{name}": held for name, held in state.items()}))
    text = str(told)
    assert "entry 'model': Spikformer, CIFAR (ZK-Zhou/spikformer" in text
    assert "renamed module.block.0.attn.k_linear.weight to blocks.0.attn.qkv_conv_bn.0.weight" in text
    assert "moved blocks.0.mlp.fc1.0.bias into the running mean of the norm behind it" in text
    assert "left out module.block.0.norm1.weight, with which the code never computes" in text
    assert "arranged: the pools of the stem stand behind its neurons" in text
    containers = {re.sub(r"(layer\d\.\d\.conv\d)", r"\1.module", name) for name in STORED["SEW-ResNet"]["shapes"]}
    assert "layer1.0.conv1.module.0.weight" in containers
    state = exact_weights(STORED["SEW-ResNet"]["shapes"])
    old = {re.sub(r"(layer\d\.\d\.conv\d)", r"\1.module", name): held for name, held in state.items()}
    net = CASES["SEW-ResNet"][0]()
    load_published(net, written(tmp_path, old))
    assert torch.equal(net.layer1[0].conv1.weight, state["layer1.0.conv1.0.weight"])


def without(name):
    return lambda state: {key: held for key, held in state.items() if key != name}


@pytest.mark.parametrize(
    ("case", "build", "change", "words"),
    [
        (
            "SEW-ResNet",
            lambda: models.sew_resnet18(num_classes=5),
            None,
            r"shapes: fc.weight, \[4, 512\] in the file and \[5, 512\] here.*Nothing.*by fangwei.*number of layers",
        ),
        ("SEW-ResNet", lambda: models.sew_resnet34(num_classes=4), None, r"it lacks layer1\.2\.conv1.*and \d+ more"),
        ("SEW-ResNet", lambda: models.qkformer_4_384(embed_dims=32), None, "SEWResNet or SpikingResNet, not a QK"),
        ("SEW-ResNet", lambda: models.spiking_vgg11, None, "takes an nn.Module"),
        ("SEW-ResNet", lambda: torch.nn.Linear(2, 2), None, "not a Linear"),
        ("MS-ResNet, deep", lambda: models.MSResNet(layers=(1, 1, 1, 1), num_classes=4), None, r"104\(deep=True"),
        (
            "QKFormer, ImageNet",
            None,
            without("stage3.0.attn.k_conv.weight"),
            "2 of the 3 parts of stage3.0.attn.qkv_conv_bn.0.weight",
        ),
        ("QKFormer, ImageNet", None, lambda s: {**s, "extra.weight": torch.zeros(1)}, "not: extra.weight"),
        ("QKFormer, ImageNet", None, without("head.weight"), "it lacks head.weight. Nothing"),
        ("MS-ResNet", None, lambda s: {**s, "module.fc.bias": s["fc.bias"]}, "two tensors for head.bias"),
        ("MS-ResNet", None, lambda s: {"a.weight": s["fc.bias"]}, "no layout has. The layouts known for a MSResNet"),
        ("PLIF net, N-MNIST", lambda: models.NMNISTNet(channels=8), None, "ParametricLIFNode"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_words_and_changes_nothing(case, build, change, words, tmp_path):
    net = (build or CASES[case][0])()
    state = exact_weights(STORED[case]["shapes"])
    path = written(tmp_path, change(state) if change else state)
    if not isinstance(net, torch.nn.Module):
        with pytest.raises(TypeError, match=words):
            load_published(net, path)
        return
    before = {name: held.clone() for name, held in net.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        load_published(net, path)
    assert all(torch.equal(held, before[name]) for name, held in net.state_dict().items())


def test_of_several_entries_one_is_asked_for(tmp_path):
    state = exact_weights(STORED["MS-ResNet"]["shapes"])
    path = written(tmp_path, state, ema=state)
    net = CASES["MS-ResNet"][0]()
    with pytest.raises(ValueError, match=r"several that may be the network: model, ema. Say which by key="):
        load_published(net, path)
    assert load_published(net, path, key="ema").key == "ema"


def test_pools_and_scale_are_those_of_the_code(tmp_path):
    net = CASES["Spikformer, CIFAR10-DVS"][0]()
    load_published(net, written(tmp_path, exact_weights(STORED["Spikformer, CIFAR10-DVS"]["shapes"])))
    assert net.blocks[0].attn.scale == 0.25
    assert all(stage.pool is not None for stage in net.patch_embed.stages)
    same = models.Spikformer(in_channels=2, embed_dims=32, num_heads=4, depths=1, num_classes=4, pools="behind")
    same.load_state_dict(net.state_dict())
    same.blocks[0].attn.scale = 0.25
    x = frames((2, 4, 2, 128, 128))
    assert torch.equal(outputs(same, x), outputs(net, x))
    with pytest.raises(ValueError, match="pools must be one of 'before', 'behind'"):
        models.Spikformer(pools="none")


def test_neurons_of_another_kind_keep_what_they_were_made_with(tmp_path):
    net = models.Spikformer(
        patch_size=4, embed_dims=32, num_heads=4, depths=1, num_classes=4, spiking_neuron=neuron.LIFNode, tau=3.0
    )
    load_published(net, written(tmp_path, exact_weights(STORED["Spikformer, CIFAR"]["shapes"])))
    assert net.blocks[0].attn.attn_lif.tau == 3.0
