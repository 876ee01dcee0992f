"""Weights are pruned by size, grow back by gradient, and the gradients of what is gone are masked."""

import torch
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.utils import prune

AGES = ("0.0.0.0.14", "2.0.0")


def network():
    net = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1),
        layer.BatchNorm2d(8),
        neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(128, 4),
    )
    functional.set_step_mode(net, "m")
    return net


def epoch(net, optimizer, data, after=lambda: None):
    losses = []
    for image, label in data:
        loss = nn.functional.cross_entropy(net(image.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0), label)
        optimizer.zero_grad()
        loss.backward()
        after()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    return losses


def by_torch(data):
    torch.manual_seed(20)
    net = network()
    chosen = [(m, "weight") for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=0.5)
    losses = epoch(net, torch.optim.SGD(net.parameters(), lr=0.1), data)
    for m, name in chosen:
        prune.remove(m, name)
    zeros = [int((m.weight == 0).sum()) for m, _ in chosen]
    return losses, zeros, sorted(net.state_dict())


def by_masks(data):
    torch.manual_seed(21)
    net = network()
    weights = {name: p for name, p in net.named_parameters() if p.ndim > 1}
    masks = {name: torch.rand(p.shape) > 0.5 for name, p in weights.items()}
    for name, p in weights.items():
        p.data *= masks[name]

    def keep_out():
        for name, p in weights.items():
            p.grad *= masks[name]

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = epoch(net, optimizer, data, keep_out)
    for name, p in weights.items():  # the smallest go, as many come back where the gradient is largest
        alive = masks[name].flatten().nonzero().flatten()
        gone = alive[p.detach().abs().flatten()[alive].argsort(stable=True)[: len(alive) // 10]]
        masks[name].view(-1)[gone] = False
        p.data *= masks[name]
    losses += epoch(net, optimizer, data[:2], keep_out)
    return losses, [int(mask.sum()) for mask in masks.values()], net


def main():
    data = batches(*images(48), 12)
    pruned, zeros, keys = by_torch(data)
    masked, alive, net = by_masks(data)
    net.eval()
    with torch.no_grad():
        spikes = net[:3](data[0][0].unsqueeze(0).repeat(4, 1, 1, 1, 1))
    return {"losses": pruned, "zeros": zeros, "keys": keys, "masked": masked, "alive": alive, "spikes": spikes}
