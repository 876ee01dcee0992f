"""Data-parallel training by gloo: two processes, each with half of every batch, weights the same on both at the end."""

import os

import torch
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

AGES = ("0.0.0.0.14", "2.0.0")
RANKS = 2


def main():
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo")
    torch.manual_seed(26)
    net = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1, bias=False),
        layer.GroupNorm(2, 8),
        neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(128, 4),
    )
    functional.set_step_mode(net, "m")
    whole = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9)
    x, y = images(48)
    first, losses = None, []
    for image, label in batches(x[rank::world], y[rank::world], 6):
        out = whole(image.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)
        first = out.detach() if first is None else first
        loss = nn.functional.cross_entropy(out, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(whole)
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        losses.append(mean.item() / world)
    sums = torch.stack([p.detach().double().sum() for p in net.parameters()])
    everyone = [torch.empty_like(sums) for _ in range(world)]
    distributed.all_gather(everyone, sums)
    same = all(torch.equal(other, sums) for other in everyone)
    return {"first": first, "losses": losses, "weights": net[5].bias.detach(), "same on all": same}
