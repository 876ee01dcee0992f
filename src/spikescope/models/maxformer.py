"""Max-Former: a transformer of three stages whose max pools and depth-wise convolutions keep the high frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import layer
from ..errors import check_whole
from ..layer import SpikingSelfAttention
from ..layer.self_attention import SelfAttention
from .blocks import MembraneMLP, NeuronMaker, SequenceModel, check_several, hidden_of, make_neuron

__all__ = ["MaxFormer", "maxformer_10_384", "maxformer_10_512", "maxformer_10_768", "maxformer_cifar"]


class _Stem(nn.Module):
    """An image to a map of potentials a quarter as wide: three convolutions, and a shortcut around the later two."""

    def __init__(
        self, inputs: int, outputs: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        inner = outputs // 2
        self.conv1, self.bn1 = layer.Conv2d(inputs, inner, 3, 2, 1), layer.BatchNorm2d(inner)
        self.lif1 = make_neuron(spiking_neuron, options)
        self.conv2, self.bn2 = layer.Conv2d(inner, outputs, 3, 2, 1), layer.BatchNorm2d(outputs)
        self.lif2 = make_neuron(spiking_neuron, options)
        self.conv3, self.bn3 = layer.Conv2d(outputs, outputs, 3, padding=1), layer.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(layer.Conv2d(inner, outputs, 1, 2), layer.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        spikes = self.lif1(self.bn1(self.conv1(x)))
        inner = self.lif2(self.bn2(self.conv2(spikes)))
        return self.bn3(self.conv3(inner)) + self.shortcut(spikes)


class _StemOfSmall(nn.Module):
    """An image to a map of potentials of the same size: a convolution, then two branches, each behind a neuron."""

    def __init__(
        self, inputs: int, outputs: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        inner = outputs // 2
        self.conv = layer.Conv2d(inputs, inner, 3, padding=1, bias=False)
        self.bn = layer.BatchNorm2d(inner)

        def branch(kernel_size: int) -> nn.Sequential:
            conv = layer.Conv2d(inner, outputs, kernel_size, padding=kernel_size // 2, bias=False)
            return nn.Sequential(make_neuron(spiking_neuron, options), conv, layer.BatchNorm2d(outputs))

        self.branch, self.shortcut = branch(3), branch(1)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        x = self.bn(self.conv(x))
        return self.branch(x) + self.shortcut(x)


class _Embed(nn.Module):
    """A map of potentials to one of half the size: two convolutions and a shortcut, and a max pool in each path."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        self.bn1 = layer.BatchNorm2d(outputs)
        self.lif1 = make_neuron(spiking_neuron, options)
        self.pool = layer.MaxPool2d(3, 2, 1)
        self.conv2 = layer.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.bn2 = layer.BatchNorm2d(outputs)
        self.lif2 = make_neuron(spiking_neuron, options)
        conv = layer.Conv2d(inputs, outputs, 1, bias=bias)
        self.shortcut = nn.Sequential(conv, layer.BatchNorm2d(outputs), layer.MaxPool2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        spikes = self.lif1(x)
        inner = self.lif2(self.pool(self.bn1(self.conv1(spikes))))
        return self.bn2(self.conv2(inner)) + self.shortcut(spikes)


class _Convolved(nn.Module):
    """A depth-wise convolution behind a neuron, and an MLP, each with a shortcut of potentials."""

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        hidden_dim: int,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.lif = make_neuron(spiking_neuron, options)
        self.dwconv = layer.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.bn = layer.BatchNorm2d(dim)
        self.mlp = MembraneMLP(dim, hidden_dim, spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        return self.mlp(x + self.bn(self.dwconv(self.lif(x))))


class _MembraneAttention(SelfAttention):
    r"""`SpikingSelfAttention` from potentials to potentials: $y = \text{BN}(W_p\, \text{SN}(s\, Q K^T V))$.

    Its queries, keys and values are convolved from spikes, $\text{SN}(x)$, and none of its neurons stands behind it.
    """

    def __init__(
        self, dim: int, num_heads: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(dim, num_heads, "m")
        self.scale = 0.125
        self.input_lif = make_neuron(spiking_neuron, options)
        self.qkv = nn.Sequential(layer.Conv1d(dim, 3 * dim, 1, bias=False), layer.BatchNorm1d(3 * dim))
        self.qkv_lif = make_neuron(spiking_neuron, options)
        defaults = {"tau": 2.0, "detach_reset": True, "v_threshold": 0.5}
        self.attn_lif = make_neuron(spiking_neuron, options, defaults)
        self.proj = nn.Sequential(layer.Conv1d(dim, dim, 1), layer.BatchNorm1d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[T, N, C, L]`, or in steps `[N, C, L]`."""
        self._check(x)
        spikes = self.qkv_lif(self.qkv(self.input_lif(x)))
        return self.proj(self.attn_lif(self._attended(spikes, self.scale)))


class _Attended(nn.Module):
    """Self-attention with a shortcut, and an MLP."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn, self.mlp = attention, mlp

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        tokens = x.flatten(-2)
        return self.mlp((tokens + self.attn(tokens)).unflatten(-1, x.shape[-2:]))


class MaxFormer(SequenceModel):
    """A transformer of three stages of potentials: depth-wise convolutions in two, spiking self-attention in the last.

    - `T`: for how many steps images are seen. `embed_dims`: channels of the last stage, of which the stages before it
      have a quarter and a half. `depths`: blocks of each stage. `mlp_ratio`: how many times wider an MLP is.
    - `cifar`: the network for images of 32x32: its stem keeps the size, its first stage has MLPs alone, the kernels of
      the second are 3 wide instead of 5, the last has eight heads of an attention from potentials to potentials. It is
      made for `depths=(1, 1, 2)`.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes `LIFNode()`, with
      `detach_reset=True` where `cifar` or in the attention, and the threshold 0.5 behind its products.

    Images or a sequence to scores `[N, num_classes]`: those of the mean of the last spikes over the steps. For step
    modes see `SequenceModel`.

    Fang et al., *Spiking neural networks need high-frequency information* (NeurIPS 2025).

    >>> net = MaxFormer(T=2, num_classes=10, embed_dims=64, depths=(1, 1, 1))
    >>> net(torch.rand(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        T: int = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dims: int = 384,
        depths: Sequence[int] = (1, 2, 7),
        mlp_ratio: float = 4.0,
        spiking_neuron: NeuronMaker | None = None,
        cifar: bool = False,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(T, in_channels=in_channels, num_classes=num_classes)
        check_whole("MaxFormer", "embed_dims", embed_dims, least=8)  # of which the stem has an eighth
        depths = check_several("MaxFormer", "depths", depths, least=0)
        parts = 8 if cifar else 4
        if len(depths) != 3 or embed_dims % parts:
            raise ValueError(
                f"MaxFormer has three stages: depths must be three numbers, and embed_dims a multiple of {parts}"
                f"{' where cifar=True' if cifar else ''}, but got {depths!r} and {embed_dims!r}."
            )
        if cifar and spiking_neuron is None:
            kwargs = {"tau": 2.0, "detach_reset": True, **kwargs}
        make = (spiking_neuron, kwargs)
        widths = (embed_dims // 4, embed_dims // 2, embed_dims)
        hidden = [hidden_of("MaxFormer", width, mlp_ratio) for width in widths]
        self.patch_embed1 = (_StemOfSmall if cifar else _Stem)(in_channels, widths[0], *make)
        self.patch_embed2 = _Embed(widths[0], widths[1], not cifar, *make)
        self.patch_embed3 = _Embed(widths[1], widths[2], not cifar, *make)

        def mixed(stage: int) -> nn.Module:
            width = widths[stage]
            if stage == 2 and cifar:
                attention: nn.Module = _MembraneAttention(width, 8, *make)
                return _Attended(attention, MembraneMLP(width, hidden[stage], *make))
            if stage == 2:
                attention = SpikingSelfAttention(width, max(1, width // 64), spiking_neuron, **kwargs)
                return _Attended(attention, MembraneMLP(width, hidden[stage], *make))
            if stage == 0 and cifar:
                return MembraneMLP(width, hidden[stage], *make)
            return _Convolved(width, (3 if cifar else 5) if stage else 7, hidden[stage], *make)

        for stage, blocks in enumerate(depths):
            self.add_module(f"stage{stage + 1}", nn.ModuleList(mixed(stage) for _ in range(blocks)))
        self.head_lif = make_neuron(*make)
        self.head = nn.Linear(embed_dims, num_classes)
        if cifar:
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        self.finish(step_mode)

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        x = self.frames(x)
        for stage in (1, 2, 3):
            x = self.get_submodule(f"patch_embed{stage}")(x)
            blocks: Any = self.get_submodule(f"stage{stage}")
            for block in blocks:
                x = block(x)
        return self.head(self.over_steps(self.head_lif(x.flatten(-2).mean(-1))))


def maxformer_10_384(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MaxFormer:
    """`MaxFormer` of 10 blocks, 384 channels in the last stage.

    >>> maxformer_10_384(T=1, num_classes=10, depths=(1, 1, 1))(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    sizes: dict[str, Any] = {"embed_dims": 384, "depths": (1, 2, 7)}
    return MaxFormer(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **sizes | kwargs)


def maxformer_10_512(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MaxFormer:
    """`MaxFormer` of 10 blocks, 512 channels in the last stage.

    >>> with torch.device("meta"):
    ...     len(maxformer_10_512().stage3)
    7
    """
    return maxformer_10_384(T, in_channels, num_classes, spiking_neuron, **{"embed_dims": 512} | kwargs)


def maxformer_10_768(
    T: int = 4, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MaxFormer:
    """`MaxFormer` of 10 blocks, 768 channels in the last stage.

    >>> with torch.device("meta"):
    ...     len(maxformer_10_768().stage3)
    7
    """
    return maxformer_10_384(T, in_channels, num_classes, spiking_neuron, **{"embed_dims": 768} | kwargs)


def maxformer_cifar(
    T: int = 4, in_channels: int = 3, num_classes: int = 100, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MaxFormer:
    """`MaxFormer` of 4 blocks, 384 channels in the last stage, for the images of 32x32 of CIFAR-100.

    >>> maxformer_cifar(T=1, embed_dims=64, depths=(1, 1, 1))(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 100])
    """
    sizes: dict[str, Any] = {"embed_dims": 384, "depths": (1, 1, 2), "cifar": True}
    return MaxFormer(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **sizes | kwargs)
