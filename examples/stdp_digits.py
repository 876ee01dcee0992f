"""Features without labels: one layer of spiking neurons learns prototypes of digits by STDP.

Each pixel fires once, the earlier the brighter it is, and a second one the earlier the darker it is. A hundred neurons
integrate these spikes and compete: the first to fire silences the others. Its synapses learn by `learning.STDPLearner`:
those whose spikes led to it grow, those whose spikes come too late shrink, so that it will fire earlier when something
like this is shown again. A neuron that wins too often gets a higher threshold. No gradient, no error and no label takes
part; at the end every neuron is named after the digit that it fired for most often, and names the test digits.

    python examples/stdp_digits.py            about 10 s on one core
    python examples/stdp_digits.py --quick    about 5 s, fewer epochs

It prints the accuracy of these names, before learning and after each epoch, and saves the receptive fields as
stdp_digits.png in the present folder. It needs rich, scikit-learn and matplotlib: 'spikescope[train,report]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikescope import base, encoding, functional, layer, learning, neuron
from spikescope.report.style import COLOURS, blank, heading, styled
from spikescope.train import Dataset, TrainingProgress, batches, load_digits

NEURONS, T, BATCH = 100, 16, 16
EVEN = 0.05  # how fast thresholds even out the shares of the neurons


class OnOff(nn.Module):
    """Images as what is bright and what is dark: `[N, 1, 8, 8]` to `[N, 128]`."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.flatten(1)
        return torch.cat((bright, 1 - bright), 1)


class Competition(base.MemoryModule):
    """Integrators of which one may fire, and once: the first, or of several in a step the one most above threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.potential = neuron.NonSpikingIFNode()
        self.threshold = torch.full((NEURONS,), threshold)
        self.register_memory("silenced", 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        above = self.potential(x) - self.threshold
        first = F.one_hot(above.argmax(1), NEURONS) * (above >= 0)
        spike = first * (1 - self.silenced)
        self.silenced = self.silenced + spike.sum(1, keepdim=True)
        return spike.to(x.dtype)

    def even_out(self, wins: Tensor) -> None:
        """Make it harder for those who won more than their share."""
        self.threshold += EVEN * (wins - wins.mean())


def network() -> nn.Sequential:
    """Encoder, synapses and competing neurons: `[N, 1, 8, 8]` to spikes `[T, N, NEURONS]`."""
    synapse = layer.Linear(2 * 64, NEURONS, bias=False, step_mode="m")
    nn.init.uniform_(synapse.weight, 0.4, 0.6)
    competition = Competition(threshold=14.4)  # of 64 spikes by half time, each of a weight around a half
    competition.step_mode = "m"
    return nn.Sequential(OnOff(), encoding.LatencyEncoder(T, step_mode="m"), synapse, competition)


@torch.no_grad()
def wins(net: nn.Sequential, images: Tensor) -> Tensor:
    """Which neuron fires for each image, `[N, NEURONS]`."""
    functional.reset_net(net)
    return net(images).sum(0)


def train(net: nn.Sequential, digits: Dataset, epochs: int) -> float:
    """Show the digits, without their labels; print and return how well the neurons can be named."""
    learner = learning.STDPLearner(
        "m", net[2], net[3], tau_pre=50.0, tau_post=50.0, f_pre=lambda w: w, f_post=lambda w: 1 - w
    )
    optimizer = torch.optim.SGD(net[2].parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    accuracy = 0.0
    with TrainingProgress(epochs * -(-len(digits.x_train) // BATCH)) as progress:
        for epoch in range(epochs):
            for images, _ in batches(digits.x_train, digits.y_train, BATCH, generator):
                optimizer.zero_grad()
                learner.reset()
                won = wins(net, images)
                learner.step()
                optimizer.step()
                net[3].even_out(won.sum(0))
                progress.batch()
            learner.disable()  # testing is not to be learned from
            _, accuracy = named(net, digits)
            learner.enable()
            print(f"epoch {epoch + 1}: {100 * accuracy:.1f} % right")
    return accuracy


def named(net: nn.Sequential, digits: Dataset) -> tuple[Tensor, float]:
    """The digit that each neuron stands for, by the training digits, and the accuracy on the test digits."""
    votes = wins(net, digits.x_train).T @ F.one_hot(digits.y_train, 10).float()
    names = votes.argmax(1)
    won = wins(net, digits.x_test)
    right = (names[won.argmax(1)] == digits.y_test) & won.any(1)
    return names, right.float().mean().item()


@styled
def draw(weight: Tensor, names: Tensor, accuracy: float) -> None:
    """The receptive fields, sorted by name: one image of ten by ten, with room for the names."""
    figure = blank(6.6, 8.2)
    heading(figure, "What the neurons have learned", f"by STDP, without labels; named afterwards: {accuracy:.1%} right")
    order = names.argsort(stable=True)
    bright, dark = weight.detach()[order].view(10, 10, 2, 8, 8).unbind(2)
    fields = F.pad(bright - dark, (1, 1, 4, 0), value=float("nan"))  # [row, column, 12, 10]
    axes = figure.subplots()
    axes.imshow(fields.transpose(1, 2).reshape(120, 100).numpy(), cmap="Greys", vmin=-0.6, vmax=0.6)
    for place, name in enumerate(names[order].tolist()):
        row, column = divmod(place, 10)
        axes.text(
            10 * column + 4.5, 12 * row + 2.2, name, ha="center", va="center", color=COLOURS[name % 2], fontsize=9
        )
    axes.set_axis_off()
    figure.savefig("stdp_digits.png")


def main(arguments: Sequence[str] | None = None) -> float:
    """Learn, name the neurons, and return the accuracy on the test digits."""
    parser = argparse.ArgumentParser(description="Features without labels: prototypes of digits, learned by STDP.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    quick = parser.parse_args(arguments).quick

    torch.manual_seed(0)
    digits, net = load_digits(), network()
    print(f"before:  {100 * named(net, digits)[1]:.1f} % right")
    accuracy = train(net, digits, epochs=2 if quick else 8)
    draw(net[2].weight, named(net, digits)[0], accuracy)
    print("saved stdp_digits.png")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # layers as small as these gain nothing from more
    main()
