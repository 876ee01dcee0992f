"""Networks that NIR can express, each with the shape of one sample."""

import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.exchange import Scale, Threshold

TENSOR = {"v_threshold": torch.tensor([0.7, 0.9, 1.1]), "tau": torch.tensor([1.7, 2.3, 5.1])}


class Residual(nn.Module):
    """A forward of a user's own, with a sum and a flatten."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.node = neuron.IFNode(v_threshold=0.4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(2 * 4 * 4, 3), neuron.LIFNode(tau=1.7))

    def forward(self, x):
        x = self.node(self.conv(x)) + x
        return self.head(self.drop(torch.flatten(x, 1)))


def fused():
    """A normalisation inside a neuron, per channel."""
    norm = layer.BatchNorm2d(3).eval()
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.5, 2.0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3), norm, neuron.LIFNode(tau=2.7, v_threshold=0.3, v_reset=-0.1))
    return functional.fuse_bn_neurons(net.eval())


def behind(*nodes):
    return nn.Sequential(layer.Linear(5, 3), *nodes)


CASES = {
    "if": lambda: (behind(neuron.IFNode(v_threshold=0.73)), (5,)),
    "lif": lambda: (behind(neuron.LIFNode(tau=3.0, v_threshold=0.31)), (5,)),
    "lif without decay": lambda: (behind(neuron.LIFNode(tau=1.9, decay_input=False, v_reset=-0.17)), (5,)),
    "two layers": lambda: (
        behind(neuron.LIFNode(v_threshold=0.2), layer.Linear(3, 4, bias=False), neuron.IFNode(v_threshold=0.1)),
        (5,),
    ),
    "soft": lambda: (behind(neuron.LIFNode(tau=2.3, v_threshold=0.21, v_reset=None)), (5,)),
    "parametric": lambda: (behind(neuron.ParametricLIFNode(init_tau=2.9, v_threshold=0.3)), (5,)),
    "current based": lambda: (behind(neuron.CUBALIFNode(0.37, 0.81, v_threshold=0.9, v_reset=-0.2)), (5,)),
    "per neuron": lambda: (behind(neuron.LIFNode(**TENSOR)), (5,)),
    "per channel": lambda: (
        nn.Sequential(nn.Conv2d(1, 3, 3), neuron.IFNode(v_threshold=torch.rand(3, 1, 1) + 0.1)),
        (1, 5, 6),
    ),
    "convolutions": lambda: (
        nn.Sequential(
            layer.Conv2d(2, 4, (3, 5), stride=(1, 2), padding=(1, 2), groups=2, bias=False),
            neuron.IFNode(v_threshold=0.5),
            layer.Conv2d(4, 3, 3, padding="same", dilation=2),
            layer.AvgPool2d((2, 3), padding=1),
            neuron.LIFNode(v_threshold=0.05),
            nn.AvgPool2d(2, divisor_override=1),
            layer.Flatten(),
            layer.Dropout(0.3),
            layer.Linear(6, 4),
            neuron.LIFNode(v_threshold=0.1),
        ),
        (2, 7, 11),
    ),
    "conv1d": lambda: (nn.Sequential(layer.Conv1d(2, 3, 3, stride=2, padding=1), neuron.IFNode()), (2, 9)),
    "containers": lambda: (
        nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(1, 2, 3), nn.Flatten()),
            layer.MultiStepContainer(neuron.IFNode(v_threshold=0.4)),
            neuron.LIFNode(v_threshold=0.3, step_mode="m"),
        ),
        (1, 4, 5),
    ),
    "own forward": lambda: (Residual(), (2, 4, 4)),
    "fused": lambda: (fused(), (2, 6, 5)),
    "recurrent": lambda: (
        nn.Sequential(
            layer.Linear(5, 4),
            layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.2), 4, 4),
            layer.Linear(4, 2),
        ),
        (5,),
    ),
    "recurrent of two": lambda: (
        layer.LinearRecurrentContainer(
            nn.Sequential(nn.Linear(5, 3), neuron.IFNode(v_threshold=0.3)), 5, 3, bias=False
        ),
        (5,),
    ),
    "element-wise recurrent": lambda: (
        nn.Sequential(nn.Linear(5, 3), layer.ElementWiseRecurrentContainer(neuron.IFNode(v_threshold=1.3), torch.add)),
        (5,),
    ),
    "read-out": lambda: (
        behind(neuron.IFNode(v_threshold=0.3), layer.Linear(3, 2), neuron.NonSpikingLIFNode(3.3)),
        (5,),
    ),
    "recurrent read-out": lambda: (
        nn.Sequential(
            layer.ElementWiseRecurrentContainer(neuron.IFNode(v_threshold=1.3), torch.add),
            layer.Linear(5, 2),
            neuron.NonSpikingIFNode(),
        ),
        (5,),
    ),
    "sum read-out": lambda: (behind(neuron.NonSpikingIFNode()), (5,)),
    "delay": lambda: (behind(layer.Delay(2), neuron.IFNode(v_threshold=0.5)), (5,)),
    "pointwise": lambda: (behind(Scale(torch.tensor([1.5, 2.0, 0.5])), Threshold(0.3)), (5,)),
    "one layer": lambda: (nn.Linear(5, 3), (5,)),
    "one neuron": lambda: (neuron.LIFNode(v_threshold=0.4), (5,)),
}


def made(name):
    torch.manual_seed(3)
    net, shape = CASES[name]()
    return net.eval(), shape
