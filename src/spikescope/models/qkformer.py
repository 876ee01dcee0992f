"""QKFormer: a transformer of three stages, whose tokens become fewer and wider, with attention in linear time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .. import layer
from ..errors import check_choice, check_whole
from ..layer import QKAttention, SpikingSelfAttention
from .blocks import NeuronMaker, SequenceModel, check_several, hidden_of, make_neuron

__all__ = [
    "QKFormer",
    "qkformer_2_256_dvs",
    "qkformer_4_384",
    "qkformer_10_384",
    "qkformer_10_512",
    "qkformer_10_768",
]


class _Patches(nn.Module):
    """Convolutions of 3x3, each with norm and neuron, and a shortcut with weights around the later ones.

    - `widths`: channels before and behind each convolution. `pools`: for each a `'1'` if a pool halves the size between
      norm and neuron. `first`: how many convolutions stand before the shortcut begins.
    """

    def __init__(
        self,
        widths: Sequence[int],
        pools: str,
        first: int,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.first, self.count = first, len(pools)
        for at, (inputs, outputs, pool) in enumerate(zip(widths[:-1], widths[1:], pools, strict=True), 1):
            self.add_module(f"conv{at}", layer.Conv2d(inputs, outputs, 3, padding=1))
            self.add_module(f"bn{at}", layer.BatchNorm2d(outputs))
            self.add_module(f"pool{at}", layer.MaxPool2d(3, 2, 1) if pool == "1" else nn.Identity())
            self.add_module(f"lif{at}", make_neuron(spiking_neuron, options))
        conv = layer.Conv2d(widths[first], widths[-1], 1, stride=2 ** pools[first:].count("1"))
        self.shortcut = nn.Sequential(conv, layer.BatchNorm2d(widths[-1]), make_neuron(spiking_neuron, options))

    def _through(self, x: Tensor, begin: int, end: int) -> Tensor:
        for at in range(begin + 1, end + 1):
            for part in ("conv", "bn", "pool", "lif"):
                x = self.get_submodule(f"{part}{at}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]` to tokens of more channels and, with pools, a smaller size."""
        x = self._through(x, 0, self.first)
        return self._through(x, self.first, self.count) + self.shortcut(x)


class _Stem(NamedTuple):
    """How an image becomes the tokens of the first stage: their channels are divided by `divisors` on the way there.

    `later`: the pools of the embeddings between the stages, which have two convolutions.
    """

    divisors: tuple[int, ...]
    pools: str
    first: int
    later: str


_STEMS = {4: _Stem((2, 1, 1), "110", 1, "10"), 1: _Stem((2, 1), "00", 1, "01"), 8: _Stem((8, 4, 2, 1), "0111", 2, "01")}
"""To each size of a patch the stem that makes it: for ImageNet, for images of 32x32, for event frames of 128x128."""


class _MLP(nn.Module):
    """Two linear layers over the channels of each token, each with norm and neuron."""

    def __init__(
        self, dim: int, hidden_dim: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.fc1, self.bn1 = layer.Conv1d(dim, hidden_dim, 1), layer.BatchNorm1d(hidden_dim)
        self.lif1 = make_neuron(spiking_neuron, options)
        self.fc2, self.bn2 = layer.Conv1d(hidden_dim, dim, 1), layer.BatchNorm1d(dim)
        self.lif2 = make_neuron(spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, L]` of L tokens."""
        return self.lif2(self.bn2(self.fc2(self.lif1(self.bn1(self.fc1(x))))))


class _Block(nn.Module):
    """Attention and MLP, each with a shortcut."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn, self.mlp = attention, mlp

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        tokens = x.flatten(-2)
        tokens = tokens + self.attn(tokens)
        return (tokens + self.mlp(tokens)).unflatten(-1, x.shape[-2:])


class QKFormer(SequenceModel):
    """A transformer of two or three stages: spiking self-attention in the last, Q-K attention before it.

    - `T`: for how many steps images are seen. `embed_dims`: channels of a token in the last stage, of which the stages
      before it have a half and a quarter. `depths`, `num_heads`: blocks and heads of each stage.
    - `mlp_ratio`: how many times wider an MLP is. `qka_type`: `'token'` or `'channel'`, see `layer.QKAttention`.
    - `patch_size`: how many pixels wide a token of the first stage is: 4, or 1 for small images, or 8 for event frames.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes `LIFNode()`, in the
      attention with `detach_reset=True`.

    Images or a sequence to scores `[N, num_classes]`: the mean over the steps. For step modes see `SequenceModel`.

    Zhou et al., *QKFormer: hierarchical spiking transformer using Q-K attention* (NeurIPS 2024).

    >>> net = QKFormer(T=2, num_classes=10, embed_dims=48, depths=(1, 1, 1))
    >>> net(torch.rand(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        T: int = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dims: int = 384,
        num_heads: Sequence[int] = (3, 6, 6),
        depths: Sequence[int] = (1, 2, 7),
        mlp_ratio: float = 4.0,
        qka_type: str = "token",
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        patch_size: int = 4,
        **kwargs: Any,
    ) -> None:
        given = {"embed_dims": embed_dims, "patch_size": patch_size}
        super().__init__(T, in_channels=in_channels, num_classes=num_classes, **given)
        depths = check_several("QKFormer", "depths", depths, least=0)
        num_heads = check_several("QKFormer", "num_heads", num_heads)
        if len(depths) not in (2, 3) or len(num_heads) != len(depths) or embed_dims % 4:
            raise ValueError(
                "QKFormer has two or three stages: num_heads and depths must be as many numbers each, and embed_dims a "
                f"multiple of 4, but got {num_heads!r}, {depths!r} and {embed_dims!r}."
            )
        check_choice("QKFormer", "patch_size", patch_size, _STEMS)
        stem, last = _STEMS[patch_size], len(depths)
        self.stages = last
        check_whole("QKFormer", "embed_dims", embed_dims, least=max(stem.divisors) << (last - 1))
        sizes = [embed_dims >> (last - stage) for stage in range(1, last + 1)]
        hidden = {width: hidden_of("QKFormer", width, mlp_ratio) for width in sizes}
        for stage, width in enumerate(sizes, 1):
            if stage == 1:
                widths, pools, first = [in_channels, *(width // of for of in stem.divisors)], stem.pools, stem.first
            else:
                widths, pools, first = [sizes[stage - 2], width, width], stem.later, 0
            self.add_module(f"patch_embed{stage}", _Patches(widths, pools, first, spiking_neuron, kwargs))

        def block(width: int, heads: int, is_last: bool) -> nn.Module:
            if is_last:
                attention: nn.Module = SpikingSelfAttention(width, heads, spiking_neuron, **kwargs)
            else:
                attention = QKAttention(width, heads, qka_type, spiking_neuron, **kwargs)
            return _Block(attention, _MLP(width, hidden[width], spiking_neuron, kwargs))

        for stage, (blocks, heads) in enumerate(zip(depths, num_heads, strict=True), 1):
            made = (block(sizes[stage - 1], heads, stage == last) for _ in range(blocks))
            self.add_module(f"stage{stage}", nn.ModuleList(made))
        self.head = nn.Linear(embed_dims, num_classes)
        self.finish(step_mode)

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        x = self.frames(x)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"patch_embed{stage}")(x)
            blocks: Any = self.get_submodule(f"stage{stage}")
            for block in blocks:
                x = block(x)
        return self.head(self.over_steps(x.flatten(-2).mean(-1)))


def qkformer_10_384(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> QKFormer:
    """`QKFormer` of 10 blocks, 384 channels in the last stage.

    >>> qkformer_10_384(T=1, num_classes=10, depths=(1, 1, 1))(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    sizes: dict[str, Any] = {"embed_dims": 384, "num_heads": (6, 6, 6), "depths": (1, 2, 7)}
    return QKFormer(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **sizes | kwargs)


def qkformer_10_512(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> QKFormer:
    """`QKFormer` of 10 blocks, 512 channels in the last stage.

    >>> with torch.device("meta"):
    ...     len(qkformer_10_512().stage3)
    7
    """
    sizes = {"embed_dims": 512, "num_heads": (8, 8, 8)}
    return qkformer_10_384(T, in_channels, num_classes, spiking_neuron, **sizes | kwargs)


def qkformer_10_768(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> QKFormer:
    """`QKFormer` of 10 blocks, 768 channels in the last stage.

    >>> with torch.device("meta"):
    ...     len(qkformer_10_768().stage3)
    7
    """
    sizes = {"embed_dims": 768, "num_heads": (12, 12, 12)}
    return qkformer_10_384(T, in_channels, num_classes, spiking_neuron, **sizes | kwargs)


def qkformer_4_384(
    T: int = 4, in_channels: int = 3, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> QKFormer:
    """`QKFormer` of 4 blocks, 384 channels in the last stage, for the images of 32x32 of CIFAR.

    >>> qkformer_4_384(T=1, depths=(1, 1, 1))(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    sizes = {"num_heads": (8, 8, 8), "depths": (1, 1, 2), "patch_size": 1}
    return qkformer_10_384(T, in_channels, num_classes, spiking_neuron, **sizes | kwargs)


def qkformer_2_256_dvs(
    T: int = 16, in_channels: int = 2, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> QKFormer:
    """`QKFormer` of 2 blocks in two stages, 256 channels in the last one, for event frames of 128x128.

    >>> qkformer_2_256_dvs(num_classes=11)(torch.rand(2, 1, 2, 64, 64)).shape
    torch.Size([1, 11])
    """
    sizes = {"embed_dims": 256, "num_heads": (16, 16), "depths": (1, 1), "patch_size": 8}
    return qkformer_10_384(T, in_channels, num_classes, spiking_neuron, **sizes | kwargs)
