"""Learn while the sequence runs: a convolutional spiking network trained online, in the memory of one time step.

Backpropagation through time keeps the graph of all T steps until the last. Online training through time (OTTT) has a
backward pass, and here an update of the weights, at every step, and forgets the graph: each synapse needs no more of
the past than a trace of the spikes before it. The same network learns to read digits by either, or by SLTT (as OTTT,
without the trace) or FPTT (a pull towards running averages of the weights).

    python examples/online_digits.py                about 15 s on one core
    python examples/online_digits.py --quick        about 5 s, fewer epochs
    python examples/online_digits.py --rule bptt    or sltt, or fptt

It prints the accuracy on the test digits after each epoch, and what the graph of one training step keeps at T = 4 and
at T = 32, by the rule chosen and by backpropagation through time. It needs rich and scikit-learn, which are in
'spikescope[train]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikescope import functional, layer, neuron, surrogate
from spikescope.train import TrainingProgress, batches, direct_encoding, load_digits

BATCH = 64
RULES = {"ottt": neuron.OTTTLIFNode, "sltt": neuron.SLTTLIFNode, "fptt": neuron.LIFNode, "bptt": neuron.LIFNode}


def network(rule: str, channels: int = 16) -> nn.Module:
    """Two convolutions and a linear read-out for single steps `[N, 1, 8, 8]`; norms of weights instead of batches."""

    def spiking() -> nn.Module:
        return RULES[rule](
            decay_input=False, v_reset=None, detach_reset=True, surrogate_function=surrogate.Sigmoid(alpha=4.0)
        )

    return layer.OTTTSequential(
        layer.WSConv2d(1, channels, 3, padding=1),
        spiking(),
        layer.AvgPool2d(2),
        layer.WSConv2d(channels, 2 * channels, 3, padding=1),
        spiking(),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(8 * channels, 10),
    )


class Training:
    """One training step of a batch at a time, by one of the rules."""

    def __init__(self, rule: str, net: nn.Module, T: int, lr: float = 2e-3) -> None:
        self.rule, self.net, self.T = rule, net, T
        self.optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        self.averages = functional.fptt_online_training_init_w_ra(self.optimizer)

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """The share of one step."""
        return F.cross_entropy(y, target) / self.T

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Learn from a batch of digits, each shown for T steps."""
        x_seq, target_seq = direct_encoding(images, self.T), labels.expand(self.T, -1)
        functional.reset_net(self.net)
        if self.rule == "bptt":
            self.optimizer.zero_grad()
            losses = [self.loss(self.net(x), target) for x, target in zip(x_seq, target_seq, strict=True)]
            torch.stack(losses).sum().backward()
            self.optimizer.step()
        elif self.rule == "fptt":
            functional.fptt_online_training(
                self.net, self.optimizer, x_seq, target_seq, self.loss, alpha=0.5, w_ra=self.averages
            )
        else:
            x_seq, target_seq = x_seq.transpose(0, 1), target_seq.T  # this one takes the batch first
            functional.ottt_online_training(self.net, self.optimizer, x_seq, target_seq, self.loss, online=True)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor, T: int) -> float:
    """The share of digits whose class has the highest mean output."""
    functional.reset_net(net.eval())
    scores = functional.multi_step_forward(direct_encoding(images, T), net).mean(0)
    net.train()
    return (scores.argmax(1) == labels).float().mean().item()


class Kept:
    """Counts the bytes of the tensors that graphs hold for their backward passes, and the most there were at a time."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}  # how often each piece of memory is held
        self.bytes = self.most = 0

    def pack(self, tensor: Tensor) -> Held:
        """Autograd keeps what this gives in place of the tensor."""
        return Held(self, tensor)


class Held:
    """A tensor that a graph holds; it goes away with the graph."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.kept, self.tensor = kept, tensor
        self.memory = tensor.untyped_storage()
        self.place = self.memory.data_ptr()
        if self.place not in kept.held:
            kept.bytes += self.memory.nbytes()
            kept.most = max(kept.most, kept.bytes)
        kept.held[self.place] = kept.held.get(self.place, 0) + 1

    def __del__(self) -> None:
        self.kept.held[self.place] -= 1
        if not self.kept.held[self.place]:
            del self.kept.held[self.place]
            self.kept.bytes -= self.memory.nbytes()


def graph_bytes(rule: str, images: Tensor, labels: Tensor, T: int) -> int:
    """The most that the graph of a training step keeps, in bytes."""
    step, kept = Training(rule, network(rule), T), Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
        step(images, labels)
    return kept.most


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print what it took, and return the accuracy on the test digits."""
    parser = argparse.ArgumentParser(description="Learn while the sequence runs: a spiking network trained online.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--rule", choices=RULES, default="ottt", help="how to train (ottt)")
    given = parser.parse_args(arguments)
    T, epochs = (3, 3) if given.quick else (6, 15)

    torch.manual_seed(0)
    digits = load_digits()
    net = network(given.rule)
    step = Training(given.rule, net, T)
    shuffle = torch.Generator().manual_seed(0)
    reached = 0.0
    with TrainingProgress(epochs * -(-len(digits.x_train) // BATCH)) as progress:
        for epoch in range(epochs):
            for images, labels in batches(digits.x_train, digits.y_train, BATCH, shuffle):
                step(images, labels)
                progress.batch()
            reached = accuracy(net, digits.x_test, digits.y_test, T)
            print(f"epoch {epoch + 1:>2}: {100 * reached:.1f} % right")

    print(f"\nwhat the graph of a training step keeps, {BATCH} digits")
    images, labels = digits.x_train[:BATCH], digits.y_train[:BATCH]
    for rule in dict.fromkeys((given.rule, "bptt")):
        few, many = (graph_bytes(rule, images, labels, steps) / 1e6 for steps in (4, 32))
        print(f"{rule}: {few:5.1f} MB at T = 4, {many:5.1f} MB at T = 32")
    return reached


if __name__ == "__main__":
    torch.set_num_threads(1)  # steps of small tensors are no work for two
    main()
