"""How the code of papers names the layers of the networks that this room has, a row a layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from ..ms_resnet import MSResNet
from ..parametric_lif_net import CIFAR10DVSNet, CIFAR10Net, DVSGestureNet, MNISTNet, NMNISTNet
from ..qkformer import QKFormer
from ..sew_resnet import SEWResNet
from ..spike_driven_transformer import SpikeDrivenTransformer
from ..spikformer import Spikformer
from ..spiking_resnet import SpikingResNet

__all__ = ["LAYOUTS", "Layout"]

Rules = tuple[tuple[str, str], ...]


class Layout(NamedTuple):
    r"""The names in the files of one repository, and what there is to know besides.

    - `code`: the repository, and the part of it. `network`: the class here.
    - `mark`: a pattern of a module that files of this layout alone have.
    - `rules`: patterns of modules, each with the module here: `\1` is a part of the pattern, `{1+8}` that part as a
      number plus 8, and `'#1/3'` behind it makes it the second of three parts of a weight.
    - `unused`: a pattern of what the code keeps and never computes with.
    - `arrange`: sets what no weight says, and tells in words what it set.
    - `hint`: what may be the matter with a file that does not fit. `note`: what stays different.
    """

    code: str
    network: type[nn.Module]
    mark: str
    rules: Rules
    unused: str = "$^"
    arrange: Callable[[Any], list[str]] | None = None
    hint: str = ""
    note: str = ""


def _pools_behind(net: Any) -> list[str]:
    net.patch_embed.pool_behind()
    return ["the pools of the stem stand behind its neurons"]


def _pools_behind_and_scale(net: Any) -> list[str]:
    for block in net.blocks:
        block.attn.scale = 0.25
    return [*_pools_behind(net), "the attention is scaled by 0.25"]


def _attention(theirs: str, ours: str, kinds: str) -> Rules:
    """The rules of an attention whose projections are one convolution here."""
    parts = (("(?:conv|linear)", 0), ("bn", 1))
    rules = [
        (rf"{theirs}\.{kind}_{part}", f"{ours}.{kinds}_conv_bn.{at}#{place}/{len(kinds)}")
        for place, kind in enumerate(kinds)
        for part, at in parts
    ]
    return (*rules, *((rf"{theirs}\.proj_{part}", f"{ours}.proj_conv_bn.{at}") for part, at in parts))


_SPIKFORMER: Rules = (
    (r"patch_embed\.proj_conv", "patch_embed.stages.0.conv_bn.block.0"),
    (r"patch_embed\.proj_bn", "patch_embed.stages.0.conv_bn.block.1"),
    (r"patch_embed\.proj_conv(\d)", r"patch_embed.stages.\1.conv_bn.block.0"),
    (r"patch_embed\.proj_bn(\d)", r"patch_embed.stages.\1.conv_bn.block.1"),
    (r"patch_embed\.rpe_conv", "patch_embed.positional_encoding.conv_bn.block.0"),
    (r"patch_embed\.rpe_bn", "patch_embed.positional_encoding.conv_bn.block.1"),
    *_attention(r"block\.(\d+)\.attn", r"blocks.\1.attn", "qkv"),
    (r"block\.(\d+)\.mlp\.fc(\d)_(?:conv|linear)", r"blocks.\1.mlp.fc\2.0"),
    (r"block\.(\d+)\.mlp\.fc(\d)_bn", r"blocks.\1.mlp.fc\2.1"),
    ("head", "head"),
)
_UNUSED_NORMS = r"(?:block\.\d+\.)?norm\d?|pos_embed"
_PATCHES = "the number of classes, embed_dims or depths, which the function that made the network takes"

_QKFORMER: Rules = (
    *_attention(r"(stage\d\.\d+)\.tssa", r"\1.attn", "qk"),
    *_attention(r"(stage\d\.\d+)\.(?:ssa|attn)", r"\1.attn", "qkv"),
    (r"(stage\d\.\d+)\.mlp\.(?:fc|mlp)(\d)_conv", r"\1.mlp.fc\2"),
    (r"(stage\d\.\d+)\.mlp\.(?:fc|mlp)(\d)_bn", r"\1.mlp.bn\2"),
    (r"(patch_embed\d)\.proj_res_conv", r"\1.shortcut.0"),
    (r"(patch_embed\d)\.proj_res_bn", r"\1.shortcut.1"),
    (r"(patch_embed\d)\.proj_(conv|bn)", r"\1.\g<2>1"),
    (r"patch_embed1\.proj(\d)_(conv|bn)", r"patch_embed1.\2{1+1}"),
    (r"(patch_embed[23])\.proj3_(conv|bn)", r"\1.\g<2>1"),
    (r"(patch_embed[23])\.proj4_(conv|bn)", r"\1.\g<2>2"),
    ("head", "head"),
)

_SPIKE_DRIVEN: Rules = (
    (r"patch_embed\.proj_conv", "patch_embed.stages.0.0"),
    (r"patch_embed\.proj_bn", "patch_embed.stages.0.1"),
    (r"patch_embed\.proj_conv([12])", r"patch_embed.stages.\1.0"),
    (r"patch_embed\.proj_bn([12])", r"patch_embed.stages.\1.1"),
    (r"patch_embed\.proj_conv3", "patch_embed.final_stage.0"),
    (r"patch_embed\.proj_bn3", "patch_embed.final_stage.1"),
    (r"patch_embed\.(rpe_conv|rpe_bn)", r"patch_embed.\1"),
    (r"block\.(\d+)\.attn\.((?:q|k|v|proj)_(?:conv|bn))", r"blocks.\1.attn.\2"),
    (r"block\.(\d+)\.mlp\.fc(\d)_conv", r"blocks.\1.mlp.fc\2"),
    (r"block\.(\d+)\.mlp\.fc(\d)_bn", r"blocks.\1.mlp.bn\2"),
    ("head", "head"),
)

_RESNET: Rules = (
    ("(conv1|bn1|fc)", r"\1"),
    (r"(layer\d\.\d+)\.conv(\d)\.0", r"\1.conv\2"),
    (r"(layer\d\.\d+)\.conv(\d)\.1", r"\1.bn\2"),
    (r"(layer\d\.\d+\.downsample)(?:\.0)?\.([01])", r"\1.\2"),
)

_MS_RESNET: Rules = (
    (r"conv1\.(\d)(?:\.bn)?", r"stem.\1"),
    *(
        (rf"conv{stage + 1}_x\.(\d+)\.residual_function\.{at}", rf"layer{stage}.\1.{part}")
        for stage in (1, 2, 3, 4)
        for at, part in (("1", "conv1"), (r"2\.bn", "bn1"), ("4", "conv2"), (r"5\.bn", "bn2"))
    ),
    *((rf"conv{k + 1}_x\.(\d+)\.shortcut\.(\d)(?:\.bn)?", rf"layer{k}.\1.downsample.\2") for k in (1, 2, 3, 4)),
    ("fc", "head"),
)

_LEARNED = "spiking_neuron=neuron.ParametricLIFNode, whose time constants were learned, channels, hidden and the data"


def _frames(pools: int) -> Rules:
    """The rules of a PLIF net for event frames with so many pools, which computes everything at every step."""
    return ((r"conv\.(\d+)", r"conv_fc.\1"), (r"fc\.(\d+)", rf"conv_fc.{{1+{4 * pools}}}"))


_STATIC: Rules = ((r"static_conv\.(\d+)", r"conv_fc.\1"), (r"conv\.(\d+)", "conv_fc.{1+2}"))
_PLIF = "fangwei123456/Parametric-Leaky-Integrate-and-Fire-Spiking-Neuron, codes/models.py"

LAYOUTS: dict[str, Layout] = {
    "Spikformer, CIFAR": Layout(
        "ZK-Zhou/spikformer, cifar10/model.py", Spikformer, r"block\.0\.attn\.q_linear",
        _SPIKFORMER, _UNUSED_NORMS, _pools_behind, _PATCHES,
    ),
    "Spikformer, CIFAR10-DVS": Layout(
        "ZK-Zhou/spikformer, cifar10dvs/model.py", Spikformer, "pos_embed",
        _SPIKFORMER, _UNUSED_NORMS, _pools_behind_and_scale, _PATCHES,
    ),
    "Spikformer, ImageNet": Layout(
        "ZK-Zhou/spikformer, imagenet/model.py", Spikformer, r"block\.0\.attn\.q_conv",
        _SPIKFORMER, _UNUSED_NORMS, _pools_behind, _PATCHES,
    ),
    "QKFormer": Layout(
        "zhouchenlin2096/QKFormer, model.py and qkformer.py of its folders", QKFormer, r"stage1\.0\.tssa\.q_conv",
        _QKFORMER, hint=f"patch_size, {_PATCHES}",
        note="that code computes the last neuron of an attention over all samples of a batch one after another, so "
        "its scores equal these for batches of one image",
    ),
    "Spike-driven Transformer": Layout(
        "BICLab/Spike-Driven-Transformer, model/spikeformer.py", SpikeDrivenTransformer,
        r"block\.0\.attn\.talking_heads", _SPIKE_DRIVEN, r"block\.\d+\.attn\.talking_heads", hint=_PATCHES,
        note="no weight says which convolutions of the stem have a pool (pooling_stat), nor dvs_mode",
    ),
    "SEW-ResNet": Layout(
        "fangwei123456/Spike-Element-Wise-ResNet, imagenet/sew_resnet.py", SEWResNet, r"layer1\.0\.conv1\.0",
        _RESNET, hint="the number of layers or of classes", note="no weight says how spikes join: cnf",
    ),
    "Spiking ResNet": Layout(
        "fangwei123456/Spike-Element-Wise-ResNet, imagenet/spiking_resnet.py", SpikingResNet, r"layer1\.0\.conv1\.0",
        _RESNET, hint="the number of layers or of classes",
    ),
    "MS-ResNet": Layout(
        "Ariande1/MS-ResNet, models/MS_ResNet.py", MSResNet, r"conv2_x\.0\.residual_function\.1", _MS_RESNET,
        hint="the number of layers or of classes; its network of 104 layers is ms_resnet104(deep=True)",
        note="neurons of that code spike above the threshold alone, not at it; in training of 104 layers it drops 20 % "
        "before the last one",
    ),
    "PLIF net, N-MNIST": Layout(_PLIF, NMNISTNet, r"fc\.5", _frames(2), hint=_LEARNED),
    "PLIF net, MNIST": Layout(
        _PLIF, MNISTNet, r"static_conv\.0", (*_STATIC, (r"fc\.(\d+)", "conv_fc.{1+8}")), hint=_LEARNED
    ),
    "PLIF net, CIFAR-10": Layout(
        _PLIF, CIFAR10Net, r"static_conv\.0",
        (*_STATIC, (r"fc\.([0-3])", "conv_fc.{1+20}"), (r"fc\.([45])", "conv_fc.{1+21}")), hint=_LEARNED,
        note="that code has no dropout before the last layer in training",
    ),
    "PLIF net, CIFAR10-DVS": Layout(
        _PLIF, CIFAR10DVSNet, r"fc\.5", _frames(4), hint=f"{_LEARNED}; that code has hidden=2048"
    ),
    "PLIF net, DVS128 Gesture": Layout(_PLIF, DVSGestureNet, r"fc\.5", _frames(5), hint=_LEARNED),
}  # fmt: skip
"""To each layout, by the name that messages use, what is known of it."""
