"""A detector of one stage whose heads stand, nodes and all, inside `seq_to_ann_forward`: boxes, scores, classes."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
STEPS = 3


def scene(n, seed):
    """Images with one bright square each, and its cell, box and class."""
    made = torch.Generator().manual_seed(seed)
    x = 0.2 * torch.rand(n, 2, 16, 16, generator=made)
    at, side = torch.randint(0, 10, (n, 2), generator=made), torch.randint(3, 6, (n,), generator=made)
    kind = torch.randint(2, (n,), generator=made)
    for i in range(n):
        x[i, kind[i], at[i, 0] : at[i, 0] + side[i], at[i, 1] : at[i, 1] + side[i]] += 0.8
    centre = at + side.view(-1, 1) / 2
    cell = (centre / 4).long().clamp(max=3)
    return x, cell, torch.cat([centre / 4 - cell, side.view(-1, 1) / 16], 1), kind


class Head(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.tower = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            neuron.IFNode(v_threshold=0.5, surrogate_function=surrogate.ATan()),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, x_seq):
        return functional.seq_to_ann_forward(x_seq, self.tower)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            layer.Conv2d(2, 8, 3, 2, 1, step_mode="m"),
            layer.BatchNorm2d(8, step_mode="m"),
            neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan()),
            layer.Conv2d(8, 16, 3, 2, 1, step_mode="m"),
            layer.BatchNorm2d(16, step_mode="m"),
            neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan()),
        )
        self.box, self.score, self.kind = Head(16, 3), Head(16, 1), Head(16, 2)

    def forward(self, x_seq):
        x_seq = self.backbone(x_seq)
        return self.box(x_seq).mean(0), self.score(x_seq).mean(0), self.kind(x_seq).mean(0)


def main():
    torch.manual_seed(7)
    net = Detector()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    x, cell, box, kind = scene(32, seed=7)
    losses, first = [], None
    for part in range(4):
        chosen = slice(8 * part, 8 * part + 8)
        boxes, scores, kinds = net(x[chosen].unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        first = torch.cat([boxes, scores, kinds], 1).detach() if first is None else first
        rows, at = torch.arange(8), cell[chosen]
        wanted = torch.zeros(8, 4, 4)
        wanted[rows, at[:, 0], at[:, 1]] = 1
        loss = nn.functional.binary_cross_entropy_with_logits(scores[:, 0], wanted)
        loss = loss + nn.functional.smooth_l1_loss(boxes[rows, :, at[:, 0], at[:, 1]], box[chosen])
        loss = loss + nn.functional.cross_entropy(kinds[rows, :, at[:, 0], at[:, 1]], kind[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        state = net.box.tower[2].v.detach()
        functional.reset_net(net)
    return {"first": first, "losses": losses, "state": state, "shape": list(state.shape)}
