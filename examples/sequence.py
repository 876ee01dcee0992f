"""Same or different? Two cues with a silence between them, told apart by a network that has to remember the first.

Each sample is a train of spikes in two groups of channels, A and B, over a noisy background. One group fires for three
steps early on, and one group fires in the last three steps; the label says whether it was the same one. At the end
nothing is left of the first cue in the input: a feed-forward network of leaky neurons, read out at the last step, stays
at chance (50 %), and a `SpikingGRU` of as many neurons, whose state is spikes, learns the task.

    python examples/sequence.py            about 10 s on one core
    python examples/sequence.py --quick    about 3 s, fewer and shorter sequences

It prints the accuracy of both on new sequences, and how much each layer fires, recorded by `monitor.record`. It needs
rich, which is in 'spikescope[train]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from spikescope import functional, layer, monitor, neuron, rnn

CHANNELS = 8  # of each group
CUE = 3  # steps that a cue lasts
HIDDEN = 32
SPIKING = monitor.by_type(neuron.LIFNode) | monitor.by_glob("**.outputs.*")


def cues(samples: int, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spikes `[T, samples, 2 * CHANNELS]`, and whether both cues were the same."""
    first, second = torch.randint(2, (2, samples), generator=generator)
    start = torch.randint(1, T // 2 - CUE, (samples,), generator=generator)
    step = torch.arange(T).unsqueeze(1)
    early = (step >= start) & (step < start + CUE)
    late = (step >= T - CUE).expand(T, samples)
    shown = early.unsqueeze(2) * F.one_hot(first, 2) + late.unsqueeze(2) * F.one_hot(second, 2)  # [T, samples, group]
    rate = 0.04 + 0.7 * shown.unsqueeze(3).expand(-1, -1, -1, CHANNELS)
    return torch.bernoulli(rate, generator=generator).flatten(2), (first == second).long()


class FeedForward(nn.Module):
    """Two layers of leaky neurons: all they remember is what their membranes have not yet lost."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = layer.Linear(2 * CHANNELS, HIDDEN), layer.Linear(HIDDEN, HIDDEN)
        self.neuron1, self.neuron2 = (neuron.LIFNode(v_threshold=0.25, decay_input=False) for _ in range(2))
        self.read_out = nn.Linear(HIDDEN, 2)
        functional.set_step_mode(self, "m")

    def forward(self, x_seq: Tensor) -> Tensor:
        """The scores of both answers, from the spikes of the last step."""
        spikes = self.neuron2(self.linear2(self.neuron1(self.linear1(x_seq))))
        return self.read_out(spikes[-1])


class Recurrent(nn.Module):
    """A gated recurrent unit whose state is spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = rnn.SpikingGRU(2 * CHANNELS, HIDDEN, num_layers=1)
        self.read_out = nn.Linear(HIDDEN, 2)

    def forward(self, x_seq: Tensor) -> Tensor:
        """The scores of both answers, from the spikes of the last step."""
        spikes, _ = self.memory(x_seq)
        return self.read_out(spikes[-1])


def train(net: nn.Module, name: str, updates: int, T: int) -> None:
    """Minimise the cross entropy on sequences that are new at every update."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in track(range(updates), f"training {name}", transient=True):
        x_seq, label = cues(64, T, generator)
        functional.reset_net(net)
        loss = F.cross_entropy(net(x_seq), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def test(net: nn.Module, name: str, T: int) -> float:
    """Print the accuracy on new sequences and the rate of each layer; return the accuracy."""
    x_seq, label = cues(1000, T, torch.Generator().manual_seed(2))
    functional.reset_net(net)
    with monitor.record(net, ["rate", "silent share"], where=SPIKING, signal="output") as recording:
        accuracy = (net(x_seq).argmax(1) == label).float().mean().item()
    print(f"{name}: {100 * accuracy:.1f} % right")
    print(recording.table(), end="\n\n")
    return accuracy


def main(arguments: Sequence[str] | None = None) -> float:
    """Train both networks and return the accuracy of the recurrent one."""
    parser = argparse.ArgumentParser(description="Same or different? Two cues with a silence between them.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter sequences")
    quick = parser.parse_args(arguments).quick
    T, updates = (20, 100) if quick else (28, 250)

    accuracy = 0.0
    for name, network in (("feed-forward", FeedForward), ("recurrent", Recurrent)):
        torch.manual_seed(0)
        net = network()
        train(net, name, updates, T)
        accuracy = test(net, name, T)
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # steps of small tensors are no work for two
    main()
