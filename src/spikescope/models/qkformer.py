"""QKFormer: a transformer of three stages, whose tokens become fewer and wider, with attention in linear time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import layer
from ..layer import QKAttention, SpikingSelfAttention
from .blocks import NeuronMaker, SequenceModel, make_neuron

__all__ = ["QKFormer", "qkformer_10_384", "qkformer_10_512", "qkformer_10_768"]


def _shortcut(inputs: int, outputs: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]) -> nn.Module:
    """A convolution that halves the size, with norm and neuron."""
    conv = layer.Conv2d(inputs, outputs, 1, stride=2)
    return nn.Sequential(conv, layer.BatchNorm2d(outputs), make_neuron(spiking_neuron, options))


class _PatchEmbedInit(nn.Module):
    """An image to tokens of 4x4 pixels: a convolution, and the two of a patch embedding."""

    def __init__(
        self, in_channels: int, out_channels: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1, self.bn1 = layer.Conv2d(in_channels, hidden, 3, padding=1), layer.BatchNorm2d(hidden)
        self.pool1, self.lif1 = layer.MaxPool2d(3, 2, 1), make_neuron(spiking_neuron, options)
        self.conv2, self.bn2 = layer.Conv2d(hidden, out_channels, 3, padding=1), layer.BatchNorm2d(out_channels)
        self.pool2, self.lif2 = layer.MaxPool2d(3, 2, 1), make_neuron(spiking_neuron, options)
        self.conv3, self.bn3 = layer.Conv2d(out_channels, out_channels, 3, padding=1), layer.BatchNorm2d(out_channels)
        self.lif3 = make_neuron(spiking_neuron, options)
        self.shortcut = _shortcut(hidden, out_channels, spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]` to a quarter of the size."""
        x = self.lif1(self.pool1(self.bn1(self.conv1(x))))
        path = self.lif2(self.pool2(self.bn2(self.conv2(x))))
        return self.lif3(self.bn3(self.conv3(path))) + self.shortcut(x)


class _PatchEmbedStage(nn.Module):
    """Tokens to a quarter as many: two convolutions, and a shortcut that spikes."""

    def __init__(
        self, in_channels: int, out_channels: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = layer.Conv2d(in_channels, out_channels, 3, padding=1), layer.BatchNorm2d(out_channels)
        self.pool, self.lif1 = layer.MaxPool2d(3, 2, 1), make_neuron(spiking_neuron, options)
        self.conv2, self.bn2 = layer.Conv2d(out_channels, out_channels, 3, padding=1), layer.BatchNorm2d(out_channels)
        self.lif2 = make_neuron(spiking_neuron, options)
        self.shortcut = _shortcut(in_channels, out_channels, spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]` to half of the size."""
        path = self.lif1(self.pool(self.bn1(self.conv1(x))))
        return self.lif2(self.bn2(self.conv2(path))) + self.shortcut(x)


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
    """A transformer of three stages: Q-K attention in the first two, spiking self-attention in the last.

    - `T`: for how many steps images are seen. `embed_dims`: channels of a token in the last stage, of which the stages
      before it have a half and a quarter. `depths`, `num_heads`: blocks and heads of each stage.
    - `mlp_ratio`: how many times wider an MLP is. `qka_type`: `'token'` or `'channel'`, see `layer.QKAttention`.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(T)
        if len(num_heads) != 3 or len(depths) != 3 or embed_dims % 4:
            raise ValueError(
                "QKFormer has three stages: num_heads and depths must be three numbers each, and embed_dims a multiple "
                f"of 4, but got {num_heads!r}, {depths!r} and {embed_dims!r}."
            )
        inputs = in_channels
        for stage in (1, 2, 3):
            width = embed_dims >> (3 - stage)
            embed = _PatchEmbedInit if stage == 1 else _PatchEmbedStage
            self.add_module(f"patch_embed{stage}", embed(inputs, width, spiking_neuron, kwargs))
            inputs = width

        def block(width: int, heads: int, last: bool) -> nn.Module:
            if last:
                attention: nn.Module = SpikingSelfAttention(width, heads, spiking_neuron, **kwargs)
            else:
                attention = QKAttention(width, heads, qka_type, spiking_neuron, **kwargs)
            return _Block(attention, _MLP(width, int(width * mlp_ratio), spiking_neuron, kwargs))

        for stage, (blocks, heads) in enumerate(zip(depths, num_heads, strict=True), 1):
            made = (block(embed_dims >> (3 - stage), heads, stage == 3) for _ in range(blocks))
            self.add_module(f"stage{stage}", nn.ModuleList(made))
        self.head = nn.Linear(embed_dims, num_classes)
        self.finish(step_mode)

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        x = self.frames(x)
        for stage in (1, 2, 3):
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
