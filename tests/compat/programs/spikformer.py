"""A small spiking transformer: patches by convolutions, attention between spikes without softmax, AdamW, a cosine."""

import torch
from data import batches, images
from spikingjelly.clock_driven import functional
from spikingjelly.clock_driven.neuron import MultiStepLIFNode
from torch import nn

AGES = ("0.0.0.0.12",)


def lif(v_threshold=1.0):
    return MultiStepLIFNode(tau=2.0, v_threshold=v_threshold, detach_reset=True, backend="torch")


class MLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1_linear, self.fc1_bn, self.fc1_lif = nn.Linear(width, hidden), nn.BatchNorm1d(hidden), lif()
        self.fc2_linear, self.fc2_bn, self.fc2_lif = nn.Linear(hidden, width), nn.BatchNorm1d(width), lif()

    def forward(self, x):
        T, B, N, _ = x.shape
        for linear, bn, node in (
            (self.fc1_linear, self.fc1_bn, self.fc1_lif),
            (self.fc2_linear, self.fc2_bn, self.fc2_lif),
        ):
            x = linear(x.flatten(0, 1))
            x = bn(x.transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, -1).contiguous()
            x = node(x)
        return x


class SSA(nn.Module):
    def __init__(self, width, heads=4):
        super().__init__()
        self.heads, self.scale = heads, 0.125
        self.linears = nn.ModuleDict({key: nn.Linear(width, width) for key in "qkvp"})
        self.norms = nn.ModuleDict({key: nn.BatchNorm1d(width) for key in "qkvp"})
        self.nodes = nn.ModuleDict({key: lif() for key in "qkvp"})
        self.attn_lif = lif(v_threshold=0.5)

    def branch(self, key, x, T, B, N, C):
        out = self.norms[key](self.linears[key](x).transpose(-1, -2)).transpose(-1, -2)
        return self.nodes[key](out.reshape(T, B, N, C).contiguous())

    def forward(self, x):
        T, B, N, C = x.shape
        folded = x.flatten(0, 1)
        q, k, v = (
            self.branch(key, folded, T, B, N, C).reshape(T, B, N, self.heads, -1).permute(0, 1, 3, 2, 4).contiguous()
            for key in "qkv"
        )
        x = (q @ k.transpose(-2, -1)) @ v * self.scale
        x = self.attn_lif(x.transpose(2, 3).reshape(T, B, N, C).contiguous())
        return self.branch("p", x.flatten(0, 1), T, B, N, C)


class Spikformer(nn.Module):
    def __init__(self, width=32, depth=2, classes=4, T=4):
        super().__init__()
        self.T = T
        self.proj, self.proj_bn, self.proj_lif = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), lif()
        self.blocks = nn.ModuleList(nn.ModuleList((SSA(width), MLP(width, 2 * width))) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B = x.shape[:2]
        x = self.proj_bn(self.proj(x.flatten(0, 1)))
        x = self.proj_lif(x.reshape(T, B, *x.shape[1:])).flatten(-2).transpose(-1, -2)
        for attention, mlp in self.blocks:
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x.mean(2)).mean(0)


def main():
    torch.manual_seed(5)
    net = Spikformer()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, weight_decay=0.06)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    x, y = images(40, channels=3)
    first, losses, rates = None, [], []
    for image, label in batches(x, y, 8):
        out = net(image)
        first = out.detach().clone() if first is None else first
        loss = criterion(out, label)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        functional.reset_net(net)
        losses.append(loss.item())
    hooks = [
        m.register_forward_hook(lambda m, args, out: rates.append(out.mean().item()))
        for m in net.modules()
        if isinstance(m, MultiStepLIFNode)
    ]
    with torch.no_grad():
        logits = net(x[:8])
    for hook in hooks:
        hook.remove()
    return {"first": first, "losses": losses, "rates": rates, "logits": logits}
