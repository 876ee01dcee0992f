"""MS-ResNet: residual networks of potentials, with the neuron before each convolution; and the one with max pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import layer, surrogate
from .blocks import NeuronMaker, SequenceModel, check_several, conv1x1, conv3x3, make_neuron

__all__ = ["MSResNet", "MaxResNet", "max_resnet18", "ms_resnet18", "ms_resnet34", "ms_resnet104"]


def _norm(channels: int, weight: float) -> nn.Module:
    norm = layer.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, weight)
    return norm


class MSBlock(nn.Module):
    r"""Two convolutions, each behind a neuron: $y = x + \text{BN}(W_2 \text{SN}(\text{BN}(W_1 \text{SN}(x))))$."""

    norm_weight: ClassVar[float] = 0.5
    last_norm_weight: ClassVar[float] = 0.0
    pools: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        downsample: nn.Module | None,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.spike1 = make_neuron(spiking_neuron, options, self.neuron_defaults())
        self.conv1 = conv3x3(in_channels, out_channels, 1 if self.pools else stride)
        self.bn1 = _norm(out_channels, self.norm_weight)
        self.spike2 = make_neuron(spiking_neuron, options, self.neuron_defaults())
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = _norm(out_channels, self.last_norm_weight)
        self.downsample = downsample
        if self.pools:
            self.max_pool = layer.MaxPool2d(3, stride, 1)

    @classmethod
    def neuron_defaults(cls) -> dict[str, Any]:
        """The arguments of the neurons where no other neuron is given."""
        return {
            "tau": 4 / 3,
            "v_threshold": 0.5,
            "detach_reset": True,
            "decay_input": False,
            "surrogate_function": surrogate.Rect(alpha=2.0),
        }

    def forward(self, x: Tensor) -> Tensor:
        """One step or one sequence."""
        identity = x if self.downsample is None else self.downsample(x)
        return self.residual(x) + identity

    def residual(self, x: Tensor) -> Tensor:
        """What is added to the shortcut."""
        inner = self.bn1(self.conv1(self.spike1(x)))
        if self.pools:
            inner = self.max_pool(inner)
        return self.bn2(self.conv2(self.spike2(inner)))


_MSBlock = MSBlock
"""Its name in networks that were saved whole."""


class _MaxBlock(MSBlock):
    """The block of `MaxResNet`, whose norms begin at 1 and whose neurons are leaky with tau = 2."""

    norm_weight = last_norm_weight = 1.0

    @classmethod
    def neuron_defaults(cls) -> dict[str, Any]:
        return {"tau": 2.0, "detach_reset": True}


class _MaxTransition(_MaxBlock):
    """The block that halves the size: by a max pool between its convolutions, not by a stride."""

    pools = True


class MSResNet(SequenceModel):
    """A residual network whose shortcuts carry potentials, so that a path of identities goes through the whole of it.

    - `T`: for how many steps images are seen. `layers`: how many blocks each of the three or four stages has.
    - `base_channels`: of the stem, a convolution of `stem_kernel_size` and `stem_stride`, with `stem_pool` a max pool
      behind it. `stage_channels`: of each stage; None doubles them from stage to stage.
    - `deep`: whether the stem has three convolutions of 3x3 with biases in the place of one, and shortcuts halve the
      size by mean pools, as in the paper's code for 104 layers.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes a LIF neuron with tau =
      4/3, threshold 0.5 and a rectangular surrogate.

    Images or a sequence to scores `[N, num_classes]`: the mean over the steps. For step modes see `SequenceModel`.

    Hu et al., *Advancing spiking neural networks toward deep residual learning* (TNNLS 2024).

    >>> MSResNet(T=2, num_classes=10, layers=(1, 1, 1), base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    _block: ClassVar[type[MSBlock]] = MSBlock
    _transition: ClassVar[type[MSBlock]] = MSBlock
    _first_stride: ClassVar[int] = 2
    _pooled_shortcuts: ClassVar[bool] = False  # as with `deep`

    def __init__(
        self,
        T: int = 6,
        in_channels: int = 3,
        num_classes: int = 1000,
        layers: Sequence[int] = (2, 2, 2, 2),
        base_channels: int = 64,
        stem_kernel_size: int = 7,
        stem_stride: int = 2,
        stem_pool: bool = False,
        stage_channels: Sequence[int] | None = None,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        deep: bool = False,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        stem_sizes = {"stem_kernel_size": stem_kernel_size, "stem_stride": stem_stride}
        super().__init__(T, in_channels=in_channels, num_classes=num_classes, base_channels=base_channels, **stem_sizes)
        layers = check_several(owner, "layers", layers)
        if stage_channels is not None:
            stage_channels = check_several(owner, "stage_channels", stage_channels)
        widths = [base_channels << stage for stage in range(len(layers))] if stage_channels is None else stage_channels
        if len(layers) not in (3, 4) or len(widths) != len(layers):
            raise ValueError(
                f"{owner}: layers must be three or four numbers of blocks, and stage_channels None or as "
                f"many numbers of channels, but got {layers!r} and {stage_channels!r}."
            )
        shape = {"stride": stem_stride, "padding": stem_kernel_size // 2, "bias": False}
        stem = [layer.Conv2d(in_channels, base_channels, stem_kernel_size, **shape)]
        if deep:
            inner = (layer.Conv2d(base_channels, base_channels, 3, padding=1) for _ in range(2))
            stem = [layer.Conv2d(in_channels, base_channels, 3, stem_stride, 1), *inner]
        self.stem = nn.Sequential(*stem, _norm(base_channels, self._block.norm_weight))
        if stem_pool:
            self.stem.append(layer.MaxPool2d(3, 2, 1))
        self.stages = len(layers)
        inputs = base_channels
        for stage, (outputs, blocks) in enumerate(zip(widths, layers, strict=True)):
            stride = self._first_stride if stage == 0 else 2
            made = self._stage(inputs, outputs, blocks, stride, deep, spiking_neuron, kwargs)
            self.add_module(f"layer{stage + 1}", made)
            inputs = outputs
        self.head_lif = make_neuron(spiking_neuron, kwargs, self._block.neuron_defaults())
        self.avgpool = layer.AdaptiveAvgPool2d((1, 1))
        self.head = layer.Linear(inputs, num_classes)
        self.finish(step_mode)

    def _stage(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        stride: int,
        deep: bool,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> nn.Sequential:
        downsample = None
        if stride != 1 or inputs != outputs:
            downsample = self._shortcut(inputs, outputs, stride, deep or self._pooled_shortcuts)
        first = self._block if stride == 1 else self._transition
        made = [self._made(first, inputs, outputs, stride, downsample, spiking_neuron, options)]
        later = (self._block, outputs, outputs, 1, None, spiking_neuron, options)
        made += [self._made(*later) for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def _shortcut(self, inputs: int, outputs: int, stride: int, pooled: bool) -> nn.Sequential:
        """A convolution of one point that divides the size by `stride`, or a mean pool before it that does."""
        norm = _norm(outputs, self._block.norm_weight)
        if not pooled or stride == 1:
            return nn.Sequential(conv1x1(inputs, outputs, stride), norm)
        # of an odd size what is left over is pooled as well, as the convolutions of the block keep it
        return nn.Sequential(layer.AvgPool2d(stride, ceil_mode=True), conv1x1(inputs, outputs), norm)

    def _made(
        self,
        kind: type[MSBlock],
        inputs: int,
        outputs: int,
        stride: int,
        downsample: nn.Module | None,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> MSBlock:
        """A block."""
        return kind(inputs, outputs, stride, downsample, spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        return self.over_steps(self.head(self.features(x)))

    def features(self, x: Tensor) -> Tensor:
        """The rates of the last neurons, `[*, C]`, whose mean over the map is what the scores are made from."""
        x = self.stem(self.frames(x))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.avgpool(self.head_lif(x)).flatten(-3)


class MaxResNet(MSResNet):
    """`MSResNet` that halves the size by max pools inside its blocks, and keeps it in the first stage.

    Fang et al., *Spiking transformers need high-frequency information* (NeurIPS 2025).

    >>> MaxResNet(T=2, num_classes=10, layers=(1, 1, 1), base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    _block, _transition = _MaxBlock, _MaxTransition
    _first_stride = 1


def ms_resnet18(
    T: int = 6, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MSResNet:
    """`MSResNet` of 18 layers with weights.

    >>> ms_resnet18(T=1, num_classes=10, base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return MSResNet(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **kwargs)


def ms_resnet34(
    T: int = 6, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MSResNet:
    """`MSResNet` of 34 layers with weights.

    >>> ms_resnet34(T=1, num_classes=10, base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return MSResNet(T, in_channels, num_classes, (3, 4, 6, 3), spiking_neuron=spiking_neuron, **kwargs)


def ms_resnet104(
    T: int = 5, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MSResNet:
    """`MSResNet` of 104 layers with weights, the deepest one of the paper on ImageNet.

    >>> with torch.device("meta"):
    ...     len(ms_resnet104().layer3)
    32
    """
    return MSResNet(T, in_channels, num_classes, (3, 8, 32, 8), spiking_neuron=spiking_neuron, **kwargs)


def max_resnet18(
    T: int = 4, in_channels: int = 3, num_classes: int = 10, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> MaxResNet:
    """`MaxResNet` of 18 layers with weights for images of 32x32.

    >>> max_resnet18(T=1, stage_channels=(8, 16, 32), base_channels=8)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    sizes: dict[str, Any] = {
        "layers": (3, 3, 2),
        "stage_channels": (128, 256, 512),
        "stem_kernel_size": 3,
        "stem_stride": 1,
    }
    return MaxResNet(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **sizes | kwargs)
