"""The networks of the paper on neurons with learnable time constants, a class a data set."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .. import layer
from ..neuron import IFNode
from .blocks import NeuronMaker, check_sizes, make_neuron

__all__ = ["CIFAR10DVSNet", "CIFAR10Net", "DVSGestureNet", "FashionMNISTNet", "MNISTNet", "NMNISTNet"]


class _PLIFNet(nn.Module):
    """Convolutions with norms and pools, two linear layers with dropout, and votes of ten neurons a class.

    - `channels`: of every convolution. `hidden`: neurons between the two linear layers.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments; the paper takes
      `neuron.ParametricLIFNode` with `init_tau=2.0`, `detach_reset=True` and `surrogate.ATan()`.

    Fang et al., *Incorporating learnable membrane time constant to enhance learning of spiking neural networks*
    (ICCV 2021).
    """

    conv_bias: ClassVar[bool] = False

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        check_sizes(type(self).__name__, channels=channels, hidden=hidden)

    def _build(
        self,
        convolutions: list[tuple[int, int]],
        linear: list[tuple[int, int]],
        spiking_neuron: NeuronMaker | None,
        options: dict[str, Any],
        pool_every: int = 1,
    ) -> None:
        def spikes() -> nn.Module:
            return make_neuron(spiking_neuron or IFNode, options)

        parts: list[nn.Module] = []
        for at, (inputs, outputs) in enumerate(convolutions, 1):
            conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=self.conv_bias)
            parts += [conv, layer.BatchNorm2d(outputs), spikes()]
            if at % pool_every == 0:
                parts.append(layer.MaxPool2d(2, 2))
        parts.append(layer.Flatten())
        for inputs, outputs in linear:
            parts += [layer.Dropout(0.5), layer.Linear(inputs, outputs), spikes()]
        self.conv_fc = nn.Sequential(*parts, layer.VotingLayer(10))

    def forward(self, x: Tensor) -> Tensor:
        """The firing rate of each class in one step `[N, C, H, W]`, or in each step of a sequence."""
        return self.conv_fc(x)


class MNISTNet(_PLIFNet):
    """For MNIST and Fashion-MNIST, `[N, 1, 28, 28]`: two convolutions.

    >>> net = MNISTNet(channels=8, spiking_neuron=spikescope.neuron.ParametricLIFNode, init_tau=2.0)
    >>> net(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, channels: int = 128, spiking_neuron: NeuronMaker | None = IFNode, hidden: int = 2048, **kwargs: Any
    ) -> None:
        super().__init__(channels, hidden)
        linear = [(channels * 7 * 7, hidden), (hidden, 100)]
        self._build([(1, channels), (channels, channels)], linear, spiking_neuron, kwargs)


class FashionMNISTNet(MNISTNet):
    """For Fashion-MNIST, `[N, 1, 28, 28]`: `MNISTNet`.

    >>> FashionMNISTNet(channels=8)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """


class NMNISTNet(MNISTNet):
    """For N-MNIST, `[N, 2, 34, 34]`: two convolutions.

    >>> NMNISTNet(channels=8)(torch.rand(2, 2, 34, 34)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, channels: int = 128, spiking_neuron: NeuronMaker | None = IFNode, hidden: int = 2048, **kwargs: Any
    ) -> None:
        super().__init__(channels, spiking_neuron, hidden, **kwargs)
        self.conv_fc[0] = layer.Conv2d(2, channels, 3, padding=1, bias=False)
        self.conv_fc[10] = layer.Linear(channels * 8 * 8, hidden)


class CIFAR10Net(_PLIFNet):
    """For CIFAR-10, `[N, 3, 32, 32]`: six convolutions, a pool after every third.

    >>> CIFAR10Net(channels=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, channels: int = 256, spiking_neuron: NeuronMaker | None = IFNode, hidden: int = 2048, **kwargs: Any
    ) -> None:
        super().__init__(channels, hidden)
        convolutions = [(3, channels), *[(channels, channels)] * 5]
        linear = [(channels * 8 * 8, hidden), (hidden, 100)]
        self._build(convolutions, linear, spiking_neuron, kwargs, pool_every=3)


class CIFAR10DVSNet(_PLIFNet):
    """For CIFAR10-DVS, `[N, 2, 128, 128]`: four convolutions.

    The paper's code has `hidden=2048`.

    >>> CIFAR10DVSNet(channels=8)(torch.rand(2, 2, 128, 128)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, channels: int = 128, spiking_neuron: NeuronMaker | None = IFNode, hidden: int = 512, **kwargs: Any
    ) -> None:
        super().__init__(channels, hidden)
        convolutions = [(2, channels), *[(channels, channels)] * 3]
        self._build(convolutions, [(channels * 8 * 8, hidden), (hidden, 100)], spiking_neuron, kwargs)


class DVSGestureNet(_PLIFNet):
    """For DVS128 Gesture, `[N, 2, 128, 128]`: five convolutions, eleven classes.

    >>> DVSGestureNet(channels=8)(torch.rand(2, 2, 128, 128)).shape
    torch.Size([2, 11])
    """

    def __init__(
        self, channels: int = 128, spiking_neuron: NeuronMaker | None = IFNode, hidden: int = 512, **kwargs: Any
    ) -> None:
        super().__init__(channels, hidden)
        convolutions = [(2, channels), *[(channels, channels)] * 4]
        self._build(convolutions, [(channels * 4 * 4, hidden), (hidden, 110)], spiking_neuron, kwargs)
