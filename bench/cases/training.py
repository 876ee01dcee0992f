"""A whole training step of a convolutional network for 28 x 28 images, T = 4, batch 32, with the same weights in all.

Two blocks of Conv2d-BatchNorm2d-LIF-MaxPool2d and a Linear layer, whose output is averaged over time; Adam. Every
library gets the image shown T times, in the way its users show it. snnTorch has no layers for sequences: its network
folds time into the batch itself, which is faster than its usual loop and has the same batch statistics as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from spikescope import functional, layer, neuron

from ..harness import Agreement, Options, Row, measure
from ..rivals import lif

__all__ = ["rows"]

T, BATCH, CLASSES = 4, 32, 10
LOSS = 1e-5  # relative difference of the first losses: sums in another order, and a spike or none
LATER = 5e-3  # of the losses after five steps of training, over which such differences grow


class _Ours(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            layer.Conv2d(1, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(),
            layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(),
            layer.MaxPool2d(2),
            layer.Flatten(),
            layer.Linear(channels * 49, CLASSES),
        )
        functional.set_step_mode(self.net, "m")

    def forward(self, image: Tensor) -> Tensor:
        functional.reset_net(self.net)
        out: Tensor = self.net(image.expand(T, *image.shape)).mean(0)
        return out


class _SpikingJelly(nn.Module):
    def __init__(self, channels: int) -> None:
        from spikingjelly.activation_based import functional, layer, neuron

        super().__init__()
        self.net = nn.Sequential(
            layer.Conv2d(1, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(),
            layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(),
            layer.MaxPool2d(2),
            layer.Flatten(),
            layer.Linear(channels * 49, CLASSES),
        )
        functional.set_step_mode(self.net, "m")
        self.reset = functional.reset_net

    def forward(self, image: Tensor) -> Tensor:
        self.reset(self.net)
        out: Tensor = self.net(image.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)
        return out


class _SnnTorch(nn.Module):
    """The layer halves its input beforehand where the others divide by tau: the batch norm does it, at no cost."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Identity(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Identity(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(channels * 49, CLASSES),
        )
        made = lif("snntorch")
        assert made is not None
        self.lif = made.run

    def halve(self) -> None:
        """Give the batch norms the factor that the equations of the neuron lack."""
        with torch.no_grad():
            for index in (1, 5):
                self.net[index].weight.mul_(0.5)
                self.net[index].bias.mul_(0.5)

    def _spikes(self, current: Tensor) -> Tensor:
        return self.lif(current.unflatten(0, (T, -1))).flatten(0, 1)

    def forward(self, image: Tensor) -> Tensor:
        current = self.net[:2](image.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1))
        current = self.net[3:6](self._spikes(current))
        out: Tensor = self.net[7:](self._spikes(current)).unflatten(0, (T, -1)).mean(0)
        return out


def _nets(channels: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {"ours": _Ours(channels)}
    if lif("spikingjelly") is not None:
        nets["spikingjelly"] = _SpikingJelly(channels)
    if lif("snntorch") is not None:
        nets["snntorch"] = _SnnTorch(channels)
    weights = nets["ours"].state_dict()
    with torch.no_grad():
        for index in (1, 5):  # silent neurons would make the comparison empty
            weights[f"net.{index}.weight"].fill_(1.5)
            weights[f"net.{index}.bias"].fill_(0.5)
    for net in nets.values():
        net.load_state_dict(weights)
        if isinstance(net, _SnnTorch):
            net.halve()
    return nets


def _training(net: nn.Module, image: Tensor, target: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def work() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(image), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return work


def _compared(ours: list[float], theirs: list[float], whole: bool) -> Agreement:
    """By the first loss, and by the last one where the gradients are meant to be the same too."""
    first, last = (abs(a - b) / a for a, b in ((ours[0], theirs[0]), (ours[-1], theirs[-1])))
    words = f"first losses differ by {first:.0e}, after {len(ours) - 1} steps by {last:.0e}"
    return Agreement(first <= LOSS and (last <= LATER or not whole), words)


def rows(options: Options) -> Iterator[Row]:
    """Two widths, milliseconds a step."""
    for channels in (8,) if options.quick else (32, 64):
        nets = _nets(channels)
        image, target = torch.rand(BATCH, 1, 28, 28), torch.randint(CLASSES, (BATCH,))
        work = {name: _training(net, image, target) for name, net in nets.items()}
        losses = {name: [step() for _ in range(6)] for name, step in work.items()}
        found = {
            name: _compared(losses["ours"], held, whole=name == "spikingjelly")
            for name, held in losses.items()
            if name != "ours"
        }
        case = f"conv SNN C={channels}, T={T}, batch {BATCH}"
        yield from measure("training", case, "training step", work, found, options)
