"""Residual blocks that add spikes, the last norm of each block at zero to begin with, and gradients of it."""

import torch
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")


def conv3x3(inputs, outputs, stride=1):
    return layer.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, connect, spiking_neuron, **kwargs):
        super().__init__()
        self.conv1, self.bn1, self.sn1 = conv3x3(inputs, outputs, stride), layer.BatchNorm2d(outputs), None
        self.sn1 = spiking_neuron(**kwargs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), layer.BatchNorm2d(outputs)
        self.sn2 = spiking_neuron(**kwargs)
        self.connect, self.downsample = connect, None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                layer.Conv2d(inputs, outputs, 1, stride, bias=False),
                layer.BatchNorm2d(outputs),
                spiking_neuron(**kwargs),
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.sn2(self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x))))))
        if self.connect == "ADD":
            return out + identity
        return out * identity if self.connect == "AND" else identity * (1.0 - out)


class SEWResNet(nn.Module):
    def __init__(self, connect, spiking_neuron, **kwargs):
        super().__init__()
        self.conv1, self.bn1, self.sn1 = conv3x3(3, 8), layer.BatchNorm2d(8), spiking_neuron(**kwargs)
        self.layer1 = BasicBlock(8, 8, 1, connect, spiking_neuron, **kwargs)
        self.layer2 = BasicBlock(8, 16, 2, connect, spiking_neuron, **kwargs)
        self.avgpool, self.fc = layer.AdaptiveAvgPool2d((1, 1)), layer.Linear(16, 4)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        for m in self.modules():
            if isinstance(m, BasicBlock):
                nn.init.constant_(m.bn2.weight, 0)
                if connect == "AND":
                    nn.init.constant_(m.bn2.bias, 1)

    def forward(self, x):
        x = self.sn1(self.bn1(self.conv1(x)).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 2)).mean(0)


def main():
    result = {}
    for connect in ("ADD", "AND", "IAND"):
        torch.manual_seed(6)
        net = SEWResNet(connect, neuron.IFNode, v_threshold=0.5, detach_reset=True, surrogate_function=surrogate.ATan())
        functional.set_step_mode(net, "m")
        functional.set_step_mode(net.conv1, "s")
        functional.set_step_mode(net.bn1, "s")
        last = [p for name, p in net.named_parameters() if "bn2" in name]
        others = [p for name, p in net.named_parameters() if "bn2" not in name]
        optimizer = torch.optim.SGD([{"params": others}, {"params": last, "lr": 20.0}], lr=0.1, momentum=0.9)
        losses, norms = [], []
        x, y = images(32, channels=3)
        for image, label in batches(x, y, 8):
            out = net(image)
            result.setdefault(f"first {connect}", out.detach().clone())
            loss = nn.functional.cross_entropy(out, label)
            optimizer.zero_grad()
            loss.backward()
            norms.append(net.layer1.bn2.weight.grad.norm().item())
            optimizer.step()
            functional.reset_net(net)
            losses.append(loss.item())
        result |= {f"losses {connect}": losses, f"norms {connect}": norms}
    return result
