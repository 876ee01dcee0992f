"""MA-SNN: networks whose potentials are weighed by attention over time, channels and space before neurons see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import layer, surrogate
from ..errors import ShapeError, check_number, check_whole, dims
from ..layer import MultiDimensionalAttention, TemporalWiseAttention
from .blocks import NeuronMaker, SequenceModel, check_several, make_neuron
from .ms_resnet import MSBlock, MSResNet

__all__ = ["MASNN", "AttMSResNet", "att_ms_resnet18", "att_ms_resnet34", "att_ms_resnet104", "masnn_dvs128_gesture"]


def _cell(spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]) -> nn.Module:
    defaults = {
        "tau": 10 / 7,
        "v_threshold": 0.3,
        "detach_reset": True,
        "decay_input": False,
        "surrogate_function": surrogate.Rect(alpha=2.0),
    }
    return make_neuron(spiking_neuron, options, defaults)


class _Convolved(nn.Module):
    """A convolution with norm and mean pool, attention over all three, and neurons."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        pool: int,
        gates: tuple[int, int, int],
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.conv = layer.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = layer.BatchNorm2d(outputs)
        self.pool = layer.AvgPool2d(pool) if pool > 1 else nn.Identity()
        T, reduction_t, reduction_c = gates
        self.attn = MultiDimensionalAttention(T, outputs, reduction_t, reduction_c)
        self.cell = _cell(spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, N, C, H, W]`."""
        return self.cell(self.attn(self.pool(self.bn(self.conv(x)))))


class _Connected(nn.Module):
    """A linear layer with norm, attention over time, and neurons that see what is above 0."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        T: int,
        reduction: int,
        spiking_neuron: NeuronMaker | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.linear = layer.Linear(inputs, outputs)
        self.bn = layer.BatchNorm1d(outputs)
        self.attn = TemporalWiseAttention(T, reduction, dimension=2)
        self.relu = nn.ReLU()
        self.cell = _cell(spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, N, L]`."""
        return self.cell(self.relu(self.attn(self.bn(self.linear(x)))))


class MASNN(SequenceModel):
    """The convolutional network of the attention paper for event frames: each layer weighs its sequence as a whole.

    - `T`: how many steps a sequence has, neither more nor less, since a gate of its own belongs to each.
    - `input_size`: height and width of the frames. `channels`: of each convolution, behind which a mean pool divides
      the size by the number in `pools`, 1 for none. `fc_hidden`: width of the first of two linear layers.
    - `reduction_t`, `reduction_c`: by how much the gates over time and channels narrow inside, see
      `layer.MultiDimensionalAttention`.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes a LIF neuron with tau =
      10/7, threshold 0.3 and a rectangular surrogate.

    A sequence, or images that are repeated, to scores `[N, num_classes]`: the rates of the last neurons. It looks at
    all steps at once, so there is no `step_mode='s'`.

    Yao et al., *Attention spiking neural networks* (TPAMI 2023, arXiv 2209.13929).

    >>> net = MASNN(T=4, num_classes=10, input_size=(8, 8), channels=(8, 16), pools=(1, 2), reduction_t=2)
    >>> net(torch.rand(4, 3, 2, 8, 8)).shape
    torch.Size([3, 10])
    """

    supported_step_modes = ("m",)

    def __init__(
        self,
        T: int = 60,
        in_channels: int = 2,
        num_classes: int = 11,
        input_size: Sequence[int] = (32, 32),
        channels: Sequence[int] = (64, 128, 128),
        pools: Sequence[int] = (1, 2, 2),
        fc_hidden: int = 256,
        reduction_t: int = 5,
        reduction_c: int = 8,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        gates = {"reduction_t": reduction_t, "reduction_c": reduction_c}
        super().__init__(T, in_channels=in_channels, num_classes=num_classes, fc_hidden=fc_hidden, **gates)
        channels, pools = (
            check_several("MASNN", name, given) for name, given in (("channels", channels), ("pools", pools))
        )
        if len(channels) != len(pools):
            raise ValueError(
                "MASNN: channels and pools must be as many numbers each, one for each convolution, but got "
                f"{channels!r} and {pools!r}."
            )
        self.input_size = check_several("MASNN", "input_size", input_size)
        if len(self.input_size) != 2:
            raise ValueError(f"MASNN: input_size must be a height and a width, but got {input_size!r}.")
        height, width = self.input_size
        for pool in pools:
            if height % pool or width % pool:
                raise ValueError(
                    f"MASNN: each of the pools must divide the size that is left of input_size={self.input_size!r}, "
                    f"but {pool} of {pools} comes to [{height}, {width}]."
                )
            height, width = height // pool, width // pool
        make = (spiking_neuron, kwargs)
        narrowed = (self.T, reduction_t, reduction_c)
        before = [in_channels, *channels[:-1]]
        self.conv_blocks = nn.Sequential(
            *(_Convolved(*sizes, narrowed, *make) for sizes in zip(before, channels, pools, strict=True))
        )
        self.fc_blocks = nn.Sequential(
            _Connected(channels[-1] * height * width, fc_hidden, self.T, reduction_t, *make),
            _Connected(fc_hidden, num_classes, self.T, reduction_t, *make),
        )
        self.finish(step_mode)

    def frames(self, x: Tensor) -> Tensor:
        """The input as a sequence of `T` steps."""
        x = super().frames(x)
        if tuple(x.shape[-2:]) != self.input_size:
            raise ShapeError(
                f"MASNN was made for input_size={self.input_size}, but got {dims(x.shape, 'TNCHW')}. Make it with "
                f"input_size={tuple(x.shape[-2:])}, or resize the frames."
            )
        if x.shape[0] != self.T:
            raise ShapeError(
                f"MASNN has gates for T={self.T} steps, but got {dims(x.shape, 'TNCHW')}. Make it with T={x.shape[0]}."
            )
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        return self.over_steps(self.fc_blocks(self.conv_blocks(self.frames(x)).flatten(-3)))


def masnn_dvs128_gesture(
    T: int = 60,
    in_channels: int = 2,
    num_classes: int = 11,
    input_size: Sequence[int] = (32, 32),
    spiking_neuron: NeuronMaker | None = None,
    **kwargs: Any,
) -> MASNN:
    """`MASNN` of three convolutions for DVS128 Gesture, whose frames are pooled to 32x32.

    >>> masnn_dvs128_gesture(T=4, reduction_t=2, channels=(8, 8, 8))(torch.rand(4, 1, 2, 32, 32)).shape
    torch.Size([1, 11])
    """
    return MASNN(T, in_channels, num_classes, input_size, spiking_neuron=spiking_neuron, **kwargs)


class _AttendedBlock(MSBlock):
    """The block of `MSResNet` with attention over channels and space before the shortcut is added."""

    last_norm_weight = 0.1

    def __init__(self, attention: nn.Module, *given: Any) -> None:
        super().__init__(*given)
        self.attention = attention

    @classmethod
    def neuron_defaults(cls) -> dict[str, Any]:
        return super().neuron_defaults() | {"surrogate_function": surrogate.Rect(alpha=1.0)}

    def residual(self, x: Tensor) -> Tensor:
        return self.attention(super().residual(x))


class AttMSResNet(MSResNet):
    """`MSResNet` whose blocks weigh channels and places of what they add, from the whole sequence.

    - `reduction_c`: by how much the gates over channels narrow inside. `dropout`: the share of the mean rates that is
      left out before the last layer in training.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; None takes a LIF neuron with tau =
      4/3, threshold 0.5 and a rectangular surrogate.

    For the other arguments see `MSResNet`. Shortcuts that halve the size do so by mean pools. Images or a sequence to
    scores `[N, num_classes]` of the mean over the steps. It looks at all steps at once, so there is no
    `step_mode='s'`.

    Yao et al., *Attention spiking neural networks* (TPAMI 2023, arXiv 2209.13929).

    >>> AttMSResNet(T=2, num_classes=10, layers=(1, 1, 1), base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    supported_step_modes = ("m",)
    _block: ClassVar[type[MSBlock]] = _AttendedBlock
    _transition: ClassVar[type[MSBlock]] = _AttendedBlock
    _pooled_shortcuts = True

    def __init__(
        self,
        T: int = 1,
        in_channels: int = 3,
        num_classes: int = 1000,
        layers: Sequence[int] = (2, 2, 2, 2),
        base_channels: int = 64,
        stem_kernel_size: int = 7,
        stem_stride: int = 2,
        stem_pool: bool = False,
        stage_channels: Sequence[int] | None = None,
        reduction_c: int = 8,
        dropout: float = 0.2,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        check_number(owner, "dropout", dropout, least=0.0, most=1.0)
        self.reduction_c = check_whole(owner, "reduction_c", reduction_c)  # which the blocks need
        sizes = (layers, base_channels, stem_kernel_size, stem_stride, stem_pool, stage_channels)
        super().__init__(T, in_channels, num_classes, *sizes, spiking_neuron, step_mode, **kwargs)
        self.head = nn.Linear(self.head.in_features, num_classes)  # drawn anew, as there, so that seeds give the same
        self.dropout = nn.Dropout(dropout)

    def _made(self, kind: Any, inputs: int, outputs: int, *given: Any) -> MSBlock:
        attention = MultiDimensionalAttention(self.T, outputs, reduction_c=self.reduction_c, use_temporal=False)
        made: MSBlock = kind(attention, inputs, outputs, *given)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, num_classes]`."""
        return self.head(self.dropout(self.over_steps(self.features(x))))


def att_ms_resnet18(
    T: int = 1, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> AttMSResNet:
    """`AttMSResNet` of 18 layers with weights.

    >>> att_ms_resnet18(num_classes=10, base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return AttMSResNet(T, in_channels, num_classes, spiking_neuron=spiking_neuron, **kwargs)


def att_ms_resnet34(
    T: int = 1, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> AttMSResNet:
    """`AttMSResNet` of 34 layers with weights.

    >>> att_ms_resnet34(num_classes=10, base_channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return AttMSResNet(T, in_channels, num_classes, (3, 4, 6, 3), spiking_neuron=spiking_neuron, **kwargs)


def att_ms_resnet104(
    T: int = 1, in_channels: int = 3, num_classes: int = 1000, spiking_neuron: NeuronMaker | None = None, **kwargs: Any
) -> AttMSResNet:
    """`AttMSResNet` of 104 layers with weights, the deepest one of the paper on ImageNet.

    >>> with torch.device("meta"):
    ...     len(att_ms_resnet104().layer3)
    32
    """
    return AttMSResNet(T, in_channels, num_classes, (3, 8, 32, 8), spiking_neuron=spiking_neuron, **kwargs)
