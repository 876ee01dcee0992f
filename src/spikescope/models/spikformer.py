"""Spikformer: a vision transformer whose queries, keys and values are spikes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import layer
from ..errors import check_choice, check_whole
from ..layer import SpikingSelfAttention
from .blocks import NeuronMaker, SequenceModel, hidden_of, make_neuron, named

__all__ = [
    "Spikformer",
    "spikformer_4_256",
    "spikformer_8_384",
    "spikformer_8_512",
    "spikformer_8_768",
    "spikformer_cifar10",
    "spikformer_cifar10dvs",
    "spikformer_s",
    "spikformer_ti",
]

NEURON = {"tau": 2.0, "detach_reset": True}


class SpikformerConv2dBN(nn.Module):
    """A convolution without bias and its norm, with `pool` a max pool that halves the size."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
        pool: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = layer.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.block = nn.Sequential(conv, layer.BatchNorm2d(out_channels))
        if pool:
            self.block.append(layer.MaxPool2d(3, 2, 1))

    def forward(self, x_seq: Tensor) -> Tensor:
        """One step or one sequence."""
        return self.block(x_seq)


class SpikformerConv2dBNLIF(nn.Module):
    """`SpikformerConv2dBN` and the neuron behind it."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
        pool: bool = False, spiking_neuron: NeuronMaker | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv_bn = SpikformerConv2dBN(in_channels, out_channels, kernel_size, stride, padding, pool)
        self.neuron = make_neuron(spiking_neuron, kwargs, NEURON)
        self.pool: nn.Module | None = None

    def pool_behind(self) -> None:
        """Put the pool behind the neuron, where it takes the largest of spikes, not of potentials."""
        if len(self.conv_bn.block) == 3:
            pool = self.conv_bn.block[2]
            del self.conv_bn.block[2]
            self.pool = pool

    def forward(self, x_seq: Tensor) -> Tensor:
        """One step or one sequence."""
        spikes = self.neuron(self.conv_bn(x_seq))
        return spikes if self.pool is None else self.pool(spikes)


class SpikformerPatchStem(nn.Module):
    """An image to a map of tokens, by four convolutions and one that tells their places.

    - `patch_size`: 16, with a pool behind each of the four convolutions, or 4, with one behind the last two.
    - `pools`: `'before'` the neurons, as SpikingJelly has them, or `'behind'` them, as the paper's code.
    """

    def __init__(
        self,
        img_size_h: int = 224,
        img_size_w: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dims: int = 256,
        spiking_neuron: NeuronMaker | None = None,
        pools: str = "before",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_choice(type(self).__name__, "pools", pools, ("before", "behind"))
        if patch_size not in (4, 16):
            raise ValueError(f"{type(self).__name__}: patch_size must be 4 or 16, but got {patch_size!r}.")
        self.image_size, self.patch_size, self.embed_dims = (img_size_h, img_size_w), patch_size, embed_dims
        self.grid_size = (img_size_h // patch_size, img_size_w // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        widths = [in_channels, embed_dims // 8, embed_dims // 4, embed_dims // 2, embed_dims]
        pooled = [patch_size == 16, patch_size == 16, True, True]

        def stage(inputs: int, outputs: int, pool: bool) -> nn.Module:
            return SpikformerConv2dBNLIF(inputs, outputs, 3, 1, 1, pool, spiking_neuron, **kwargs)

        self.stages = nn.Sequential(*map(stage, widths[:-1], widths[1:], pooled))
        self.positional_encoding = stage(embed_dims, embed_dims, False)
        if pools == "behind":
            self.pool_behind()

    def pool_behind(self) -> None:
        """Put the pools behind the neurons."""
        stages: Any = self.stages
        for stage in stages:
            stage.pool_behind()

    def forward(self, x_seq: Tensor) -> Tensor:
        """`[*, C, H, W]` to `[*, embed_dims, H / patch_size, W / patch_size]`."""
        tokens = self.stages(x_seq)
        return self.positional_encoding(tokens) + tokens


class SpikformerMLP(nn.Module):
    """Two linear layers over the channels of each token, each with norm and neuron."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        spiking_neuron: NeuronMaker | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        conv = layer.Conv1d(in_features, hidden_features, 1, bias=False)
        self.fc1 = nn.Sequential(conv, layer.BatchNorm1d(hidden_features))
        self.neuron1 = make_neuron(spiking_neuron, kwargs, NEURON)
        conv = layer.Conv1d(hidden_features, out_features, 1, bias=False)
        self.fc2 = nn.Sequential(conv, layer.BatchNorm1d(out_features))
        self.neuron2 = make_neuron(spiking_neuron, kwargs, NEURON)

    def forward(self, x_seq: Tensor) -> Tensor:
        """`[*, C, L]` of L tokens."""
        return self.neuron2(self.fc2(self.neuron1(self.fc1(x_seq))))


class SpikformerBlock(nn.Module):
    r"""Attention and MLP, each with a shortcut: $z = x + \text{SSA}(x)$, $y = z + \text{MLP}(z)$."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        spiking_neuron: NeuronMaker | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.attn = SpikingSelfAttention(dim, num_heads, spiking_neuron, **kwargs)
        self.mlp = SpikformerMLP(dim, hidden_of(type(self).__name__, dim, mlp_ratio), dim, spiking_neuron, **kwargs)

    def forward(self, x_seq: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        tokens = x_seq.flatten(-2)
        tokens = tokens + self.attn(tokens)
        return (tokens + self.mlp(tokens)).unflatten(-1, x_seq.shape[-2:])


class Spikformer(SequenceModel):
    """Images as a sequence of tokens that attend to one another by spikes.

    - `T`: for how many steps images are seen. `img_size_h`, `img_size_w`: for `patch_embed.grid_size` alone; images of
      other sizes pass too.
    - `patch_size`: 4 for small images, or 16. `embed_dims`: channels of a token. `depths`: the number of blocks, whose
      MLP has `mlp_ratio` times as many channels. `num_heads`: a divisor of `embed_dims`.
    - `pools`: where the max pools of the stem stand, see `SpikformerPatchStem`.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes a LIF neuron with tau = 2
      and `detach_reset=True`.

    Images or a sequence to the scores of each step, `[T, N, num_classes]`, in step mode `'s'` `[N, num_classes]`.

    Zhou et al., *Spikformer: when spiking neural network meets transformer* (ICLR 2023).

    >>> net = Spikformer(T=2, patch_size=4, num_classes=10, embed_dims=32, depths=1)
    >>> net(torch.rand(3, 3, 32, 32)).shape
    torch.Size([2, 3, 10])
    """

    def __init__(
        self,
        T: int = 4,
        in_channels: int = 3,
        img_size_h: int = 224,
        img_size_w: int = 224,
        patch_size: int = 16,
        num_classes: int = 1000,
        embed_dims: int = 256,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        depths: int = 4,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        pools: str = "before",
        **kwargs: Any,
    ) -> None:
        sizes = {"num_classes": num_classes, "num_heads": num_heads, "img_size_h": img_size_h, "img_size_w": img_size_w}
        super().__init__(T, in_channels=in_channels, **sizes)
        owner = type(self).__name__
        check_whole(owner, "embed_dims", embed_dims, least=8)  # of which the stem begins with an eighth
        check_whole(owner, "depths", depths, least=0)
        hidden_of(owner, embed_dims, mlp_ratio)
        self.num_classes, self.embed_dims, self.num_heads, self.depths = num_classes, embed_dims, num_heads, depths
        self.patch_embed = SpikformerPatchStem(
            img_size_h, img_size_w, patch_size, in_channels, embed_dims, spiking_neuron, pools, **kwargs
        )
        blocks = (SpikformerBlock(embed_dims, num_heads, mlp_ratio, spiking_neuron, **kwargs) for _ in range(depths))
        self.blocks = nn.ModuleList(blocks)
        self.head = layer.Linear(embed_dims, num_classes)
        self._initialise()
        self.finish(step_mode)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_features(self, x_seq: Tensor) -> Tensor:
        """The mean token of each step, `[*, embed_dims]`."""
        x_seq = self.patch_embed(x_seq)
        for block in self.blocks:
            x_seq = block(x_seq)
        return x_seq.flatten(-2).mean(-1)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of each step."""
        return self.head(self.forward_features(self.frames(x)))


def _spikformer(given: dict[str, Any], **fixed: Any) -> Spikformer:
    """A Spikformer of `fixed` sizes, unless other ones are given."""
    return Spikformer(**fixed | given)


def _variant(name: str, depths: int, embed_dims: int, num_heads: int) -> Any:
    def build(
        T: int = 4,
        in_channels: int = 3,
        img_size_h: int = 224,
        img_size_w: int = 224,
        num_classes: int = 1000,
        spiking_neuron: NeuronMaker | None = None,
        **kwargs: Any,
    ) -> Spikformer:
        return _spikformer(
            kwargs, T=T, in_channels=in_channels, img_size_h=img_size_h, img_size_w=img_size_w,
            num_classes=num_classes, embed_dims=embed_dims, num_heads=num_heads, depths=depths,
            spiking_neuron=spiking_neuron,
        )  # fmt: skip

    words = f"""A `Spikformer` of {depths} blocks of {embed_dims} channels for images like those of ImageNet.

    >>> {name}(T=1, num_classes=10, depths=1)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 1, 10])
    """
    return named(build, name, __name__, words)


spikformer_ti = _variant("spikformer_ti", 4, 256, 8)
spikformer_s = _variant("spikformer_s", 6, 384, 12)


def spikformer_cifar10(
    T: int = 4, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-4-384 of the paper, for images of 32x32.

    >>> spikformer_cifar10(T=1, depths=1)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 1, 10])
    """
    return _spikformer(
        kwargs, T=T, img_size_h=32, img_size_w=32, patch_size=4, num_classes=num_classes, embed_dims=384,
        num_heads=12, depths=4, spiking_neuron=spiking_neuron,
    )  # fmt: skip


def spikformer_4_256(
    T: int = 4, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-4-256 of the paper, for images of 32x32.

    >>> spikformer_4_256(T=1, depths=1)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 1, 10])
    """
    return spikformer_cifar10(T, num_classes, spiking_neuron, **{"embed_dims": 256, "num_heads": 8, **kwargs})


def spikformer_cifar10dvs(
    T: int = 16, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-2-256 of the paper, for event frames of 128x128 with two polarities.

    >>> spikformer_cifar10dvs()(torch.rand(2, 1, 2, 64, 64)).shape
    torch.Size([2, 1, 10])
    """
    return _spikformer(
        kwargs, T=T, in_channels=2, img_size_h=128, img_size_w=128, num_classes=num_classes, embed_dims=256,
        num_heads=16, depths=2, spiking_neuron=spiking_neuron,
    )  # fmt: skip


def spikformer_8_384(
    T: int = 4, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-8-384 of the paper, for ImageNet.

    >>> with torch.device("meta"):
    ...     len(spikformer_8_384().blocks)
    8
    """
    return _spikformer(
        kwargs, T=T, num_classes=num_classes, embed_dims=384, num_heads=12, depths=8, spiking_neuron=spiking_neuron
    )


def spikformer_8_512(
    T: int = 4, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-8-512 of the paper, for ImageNet.

    >>> with torch.device("meta"):
    ...     spikformer_8_512().embed_dims
    512
    """
    return spikformer_8_384(T, num_classes, spiking_neuron, **{"embed_dims": 512, "num_heads": 8, **kwargs})


def spikformer_8_768(
    T: int = 4, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> Spikformer:
    """Spikformer-8-768 of the paper, for ImageNet.

    >>> with torch.device("meta"):
    ...     spikformer_8_768().embed_dims
    768
    """
    return spikformer_8_384(T, num_classes, spiking_neuron, **{"embed_dims": 768, "num_heads": 12, **kwargs})
