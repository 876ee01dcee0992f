"""Norms are folded into the convolutions before them, by walks that look for classes, and the spikes compared."""

import copy

import torch
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14",)
CLOSE = {"v function": (1e-5, "the factors of a folded weight are multiplied in another order")}


def network():
    return nn.Sequential(
        nn.Sequential(
            layer.Conv2d(1, 8, 3, padding=1, bias=False),
            layer.BatchNorm2d(8),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        ),
        layer.AvgPool2d(2),
        nn.Sequential(
            layer.Conv2d(8, 8, 3, padding=1, bias=False),
            layer.BatchNorm2d(8),
            neuron.LIFNode(surrogate_function=surrogate.ATan()),
        ),
        layer.Flatten(),
        layer.Linear(128, 4),
    )


class Stepped(nn.Sequential):
    def forward(self, x_seq):
        return functional.multi_step_forward(x_seq, list(self[0]))


def fold_by_pairs(net):
    """By the class of torch, replacing the children in their places."""
    before = None
    for name, child in net.named_children():
        fold_by_pairs(child)
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            scale = child.weight / torch.sqrt(child.running_var + child.eps)
            before.weight.data = before.weight.data * scale.view(-1, 1, 1, 1)
            before.bias = nn.Parameter(child.bias - child.running_mean * scale)
            setattr(net, name, nn.Identity())
        before = child
    return net


def fold_by_function(net):
    """By the function of the library."""
    for block in net:
        if isinstance(block, nn.Sequential):
            block[0] = functional.fuse_convbn2d(block[0], block[1])
            block[1] = nn.Identity()
    functional.set_step_mode(net, "s")  # what it gives knows no sequences
    return Stepped(net)


def main():
    torch.manual_seed(19)
    net = network()
    functional.set_step_mode(net, "m")
    decay = [p for name, p in net.named_parameters() if "bn" not in name and p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD([{"params": decay, "weight_decay": 1e-2}, {"params": plain}], lr=0.1, momentum=0.9)
    x, y = images(48)
    losses, first = [], None
    for image, label in batches(x, y, 12):
        out = net(image.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)
        first = out.detach() if first is None else first
        loss = nn.functional.cross_entropy(out, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    net.eval()
    result = {"first": first, "losses": losses, "norms": sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())}
    x_seq = x[:8].unsqueeze(0).repeat(4, 1, 1, 1, 1)
    for name, fold in {"plain": lambda n: n, "pairs": fold_by_pairs, "function": fold_by_function}.items():
        with torch.no_grad():
            folded = fold(copy.deepcopy(net)).eval()
            result[name] = folded(x_seq)
            nodes = [m for m in folded.modules() if isinstance(m, neuron.BaseNode)]
            result |= {f"v {name} {i}": node.v for i, node in enumerate(nodes)}
        result[f"norms {name}"] = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    return result
