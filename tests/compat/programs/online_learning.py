"""Learning while the sequence runs: a backward pass a step on detached states, with and without a running average."""

import torch
import torch.nn.functional as F
from data import signals
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14",)
STEPS, CLASSES = 6, 4
CLOSE = {"fptt": (1e-6, "the terms of a gradient are summed up in another order")}


def network():
    return nn.Sequential(
        layer.Linear(5, 16),
        neuron.LIFNode(tau=1.5, v_threshold=0.2, surrogate_function=surrogate.Sigmoid()),
        layer.Linear(16, CLASSES),
        neuron.LIFNode(tau=1.5, v_threshold=0.2, surrogate_function=surrogate.Sigmoid()),
    )


def by_hand(x, labels):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses, outputs = [], []
    with torch.no_grad():
        first = functional.multi_step_forward(x.transpose(0, 1), net)
    for _ in range(2):
        functional.reset_net(net)
        for t in range(STEPS):
            optimizer.zero_grad()
            out = net(x[:, t])
            loss = F.mse_loss(out, F.one_hot(labels, CLASSES).float())
            loss.backward()
            optimizer.step()
            functional.detach_net(net)
            losses.append(loss.item())
            outputs.append(out.detach())
    return first, losses, torch.stack(outputs)


def truncated(x, labels):
    """Backward passes over two steps at a time."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses, total = [], 0.0
    for t in range(STEPS):
        total = total + F.mse_loss(net(x[:, t]), F.one_hot(labels, CLASSES).float())
        if t % 2:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            functional.detach_net(net)
            losses.append(total.item())
            total = 0.0
    return losses


def fptt(x, labels):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    averages = functional.fptt_online_training_init_w_ra(optimizer)
    averages = [held.clone() for held in averages]  # the list may hold the weights themselves
    target = F.one_hot(labels, CLASSES).float().unsqueeze(0).repeat(STEPS, 1, 1)
    x_seq = x.transpose(0, 1).contiguous()
    functional.fptt_online_training(net, optimizer, x_seq, target, F.mse_loss, 0.1, averages)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def main():
    torch.manual_seed(9)
    x, labels = signals(12, STEPS, 5, CLASSES)
    x = x * 4
    first, losses, outputs = by_hand(x, labels)
    return {
        "first": first,
        "losses": losses,
        "outputs": outputs,
        "truncated": truncated(x, labels),
        "fptt": fptt(x, labels),
    }
