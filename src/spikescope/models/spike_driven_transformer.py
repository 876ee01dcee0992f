"""Spike-driven Transformer, version 1: shortcuts of potentials, and attention by masks and additions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .. import layer
from ..errors import check_whole
from ..layer import SpikeDrivenSelfAttention
from .blocks import MembraneMLP, NeuronMaker, SequenceModel, hidden_of, make_neuron, named

__all__ = [
    "SpikeDrivenTransformer",
    "sdt_2_256_dvs",
    "sdt_2_512_cifar",
    "sdt_6_512",
    "sdt_8_384",
    "sdt_8_512",
    "sdt_8_768",
    "sdt_10_512",
]  # fmt: skip


_MLP = MembraneMLP
"""Its name in networks that were saved whole."""


class _PatchEmbed(nn.Module):
    """An image to a map of tokens, by four convolutions, of which `pooling_stat` says which have a pool behind them."""

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        pooling_stat: str,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        widths = [in_channels, embed_dims // 8, embed_dims // 4, embed_dims // 2]
        self.stages = nn.ModuleList()
        for inputs, outputs, pool in zip(widths[:-1], widths[1:], pooling_stat[:3], strict=True):
            stage = nn.Sequential(layer.Conv2d(inputs, outputs, 3, padding=1), layer.BatchNorm2d(outputs))
            stage.append(make_neuron(spiking_neuron, options))
            if pool == "1":
                stage.append(layer.MaxPool2d(3, 2, 1))
            self.stages.append(stage)
        conv = layer.Conv2d(widths[-1], embed_dims, 3, padding=1)
        self.final_stage = nn.Sequential(conv, layer.BatchNorm2d(embed_dims))
        if pooling_stat[3] == "1":
            self.final_stage.append(layer.MaxPool2d(3, 2, 1))
        self.final_lif = make_neuron(spiking_neuron, options)
        self.rpe_conv = layer.Conv2d(embed_dims, embed_dims, 3, padding=1, bias=False)
        self.rpe_bn = layer.BatchNorm2d(embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]` to potentials `[*, embed_dims, H', W']`."""
        for stage in self.stages:
            x = stage(x)
        x = self.final_stage(x)
        return self.rpe_bn(self.rpe_conv(self.final_lif(x))) + x


class _PooledAttention(SpikeDrivenSelfAttention):
    """The attention for event frames, whose spikes are few: each one spreads over its neighbours.

    Keys and values spread over the map; the products of both, and what comes out, over the tokens of each head.
    """

    def _over_tokens(self, x: Tensor) -> Tensor:
        heads = x.flatten(-2).unflatten(-2, (self.num_heads, -1)).mT  # [*, heads, tokens, channels of a head]
        return _spread(heads).mT.flatten(-3, -2).view_as(x)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        products = self._over_tokens(_spread(k) * _spread(v))
        return self._over_tokens(q * self.attn_lif(products.sum((-2, -1), keepdim=True)))


def _spread(x: Tensor) -> Tensor:
    """The largest of the 3x3 neighbours in the last two axes."""
    return nn.functional.max_pool2d(x.flatten(0, -4), 3, 1, 1).view_as(x)


class _Block(nn.Module):
    """Attention and MLP, each of which has its shortcut inside."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        dvs_mode: bool,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        attention = _PooledAttention if dvs_mode else SpikeDrivenSelfAttention
        self.attn = attention(dim, num_heads, spiking_neuron, **options)
        self.mlp = MembraneMLP(dim, int(dim * mlp_ratio), spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        return self.mlp(self.attn(x))


class SpikeDrivenTransformer(SequenceModel):
    """A transformer in which spikes meet weights or other spikes alone, and shortcuts carry potentials.

    - `T`: for how many steps images are seen. `embed_dims`: channels of a token. `depths`: the number of blocks, whose
      MLP has `mlp_ratio` times as many channels. `num_heads`: without influence on the result, see
      `layer.SpikeDrivenSelfAttention`, except with `dvs_mode`.
    - `pooling_stat`: for each of the four convolutions of the stem a `'1'` if a pool halves the size behind it.
    - `dvs_mode`: whether spikes in the attention spread over their neighbours, by max pools of 3x3, as the paper's code
      has it for CIFAR10-DVS.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes `LIFNode()`, in the
      attention with `detach_reset=True`.

    Images or a sequence to scores `[N, num_classes]`: the mean over the steps. For step modes see `SequenceModel`.

    Yao et al., *Spike-driven Transformer* (NeurIPS 2023).

    >>> net = SpikeDrivenTransformer(T=2, num_classes=10, embed_dims=32, depths=1, pooling_stat="0011")
    >>> net(torch.rand(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        T: int = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dims: int = 384,
        num_heads: int = 8,
        depths: int = 8,
        mlp_ratio: float = 4.0,
        pooling_stat: str = "1111",
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        dvs_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        super().__init__(T, in_channels=in_channels, num_classes=num_classes, num_heads=num_heads)
        check_whole(owner, "embed_dims", embed_dims, least=8)  # of which the stem begins with an eighth
        check_whole(owner, "depths", depths, least=0)
        hidden_of(owner, embed_dims, mlp_ratio)
        if not isinstance(pooling_stat, str) or len(pooling_stat) != 4 or set(pooling_stat) - set("01"):
            raise ValueError(
                f"SpikeDrivenTransformer: pooling_stat must be four of '0' and '1', but got {pooling_stat!r}."
            )
        self.patch_embed = _PatchEmbed(in_channels, embed_dims, pooling_stat, spiking_neuron, kwargs)
        blocks = (_Block(embed_dims, num_heads, mlp_ratio, dvs_mode, spiking_neuron, kwargs) for _ in range(depths))
        self.blocks = nn.ModuleList(blocks)
        self.head_lif = make_neuron(spiking_neuron, kwargs)
        self.head = nn.Linear(embed_dims, num_classes)
        self.finish(step_mode)

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        x = self.patch_embed(self.frames(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.over_steps(self.head_lif(x.flatten(-2).mean(-1))))


def sdt_8_384(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> SpikeDrivenTransformer:
    """`SpikeDrivenTransformer` of 8 blocks of 384 channels.

    >>> sdt_8_384(T=1, num_classes=10, depths=1)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    sizes = {"embed_dims": 384, "num_heads": 8, "depths": 8}
    return SpikeDrivenTransformer(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **sizes | kwargs)


def _variant(depths: int, embed_dims: int, name: str = "", num_classes: int = 1000, **sizes: Any) -> Any:
    def build(
        T: int = 4,
        in_channels: int = sizes.pop("in_channels", 3),
        num_classes: int = num_classes,
        spiking_neuron: NeuronMaker | None = None,
        **kwargs: Any,
    ) -> SpikeDrivenTransformer:
        own = {"embed_dims": embed_dims, "depths": depths, **sizes, **kwargs}
        return sdt_8_384(T, in_channels, num_classes, spiking_neuron, **own)

    doc = f"`SpikeDrivenTransformer` of {depths} blocks of {embed_dims} channels."
    return named(build, f"sdt_{depths}_{embed_dims}{name}", __name__, doc)


sdt_6_512 = _variant(6, 512)
sdt_8_512 = _variant(8, 512)
sdt_10_512 = _variant(10, 512)
sdt_8_768 = _variant(8, 768)
sdt_2_512_cifar = _variant(2, 512, "_cifar", num_classes=10, pooling_stat="0011")
sdt_2_256_dvs = _variant(2, 256, "_dvs", num_classes=10, in_channels=2, pooling_stat="0011", dvs_mode=True)
