"""What cannot be converted is refused, and the node is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope.ann2snn import Converter
from spikescope.neuron import IFNode


class Written(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.written(self, x)


@torch.fx.wrap
def mean(x, dim):  # not the one that it sounds like
    return x.median(dim).values


class Branching(nn.Module):
    def forward(self, x):
        return torch.relu(x) if x.sum() > 0 else x


X = torch.rand(3, 4, 8)


def named(part):
    return lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.Identity(), part))


def written(function, **parts):
    return lambda: Written(lambda self, x: function(F.relu(x)), **parts)


MEAN = "over time is not"
CASES = {
    "GELU": (named(nn.GELU()), rf"1 node of Sequential.*\n  1\.1 \(GELU\): the mean of GELU {MEAN}.*Use ReLU"),
    "LeakyReLU": (named(nn.LeakyReLU()), rf"1\.1 \(LeakyReLU\): the mean of LeakyReLU {MEAN}"),
    "Sigmoid": (named(nn.Sigmoid()), rf"1\.1 \(Sigmoid\): the mean of Sigmoid {MEAN}"),
    "LayerNorm": (named(nn.LayerNorm(8)), r"1\.1 \(LayerNorm\): LayerNorm is neither a ReLU"),
    "LSTM": (named(nn.LSTM(8, 8)), r"1\.1 \(LSTM\)"),
    "neuron": (named(IFNode()), r"1\.1 \(IFNode\)"),
    "Hardtanh": (named(nn.Hardtanh()), r"1\.1 \(Hardtanh\): it clips to -1.0 and 1.0, but .* 0 as its lower bound"),
    "indices": (named(nn.MaxPool1d(2, return_indices=True)), r"1\.1 \(MaxPool1d\): it also gives the indices"),
    "indices of a function": (
        written(lambda x: F.max_pool1d(x, 2, return_indices=True)[0]),
        r"1 node of Written.*\n.*the function max_pool1d_with_indices, called in .*: it also gives the indices",
    ),
    "a name that is taken": (written(lambda x: mean(x, 2)), r"mean \(the function mean.*: mean is neither a ReLU"),
    "no statistics": (named(nn.BatchNorm1d(4, track_running_stats=False)), r"1\.1 \(BatchNorm1d\): it divides by"),
    "parametrized": (
        named(torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
        r"1\.1 \(ParametrizedLinear\): its weight is computed at each call",
    ),
    "flattened batch": (named(nn.Flatten(0)), r"1\.1 \(Flatten\): it flattens the batch"),
    "attention": (
        lambda: Written(
            lambda self, x: self.attention(x, x, x)[0], attention=nn.MultiheadAttention(8, 2, batch_first=True)
        ),
        r"1 node of Written.*\n  attention \(MultiheadAttention\)",
    ),
    "F.gelu": (written(F.gelu), rf"gelu \(the function gelu, called in the network\): the mean of gelu {MEAN}"),
    "softmax": (
        written(lambda x: x.softmax(1)),
        r"softmax \(the function softmax, called in the network\).*Leave it to the code around the network",
    ),
    "product": (written(lambda x: x * x), r"mul \(the function mul.*a product \(or a quotient\) of two activations"),
    "quotient": (written(lambda x: 1 / x), r"truediv \(the function truediv.*below the line"),
    "attention by hand": (written(lambda x: x @ x.transpose(1, 2)), r"matmul \(the function matmul.*product"),
    "mean of all": (written(lambda x: x.mean()), r"mean \(the function mean.*with dim=None it takes in the axis of"),
    "sum over samples": (written(lambda x: x.sum((0, 1))), r"sum.*with dim=\(0, 1\) it takes in the axis of the batch"),
    "cat of samples": (written(lambda x: torch.cat([x, x])), r"cat \(the function cat.*with dim=0"),
    "flatten": (written(torch.flatten), r"flatten \(the function flatten.*with start_dim=0"),
    "permute": (written(lambda x: x.permute(1, 0, 2)), r"permute.*moves the axis of the batch"),
    "one sample": (written(lambda x: x[0]), r"getitem \(the function getitem.*it takes some of the samples"),
    "clamp": (written(lambda x: x.clamp(-1, 1)), r"clamp.*it clips to -1 and 1"),
    "a part in place": (
        lambda: Written(lambda self, x: (F.relu_((y := x + 1)[:, 1:]), y)[1]),
        r"relu_ \(the function relu, .*it changes a part of a tensor in place",
    ),
    "rounding": (written(lambda x: torch.div(x, 2, rounding_mode="floor")), r"div.*it rounds"),
    "random": (written(lambda x: F.dropout(x, 0.5)), r"dropout.*it drops at random with training=True"),
    "pool of a computed size": (written(lambda x: F.max_pool1d(x, x.size(2))), r"max_pool1d.*AdaptiveMaxPool"),
    "transposed by .T": (written(lambda x: x.mT), r"getattr.*the attribute 'mT' of a tensor is not followed"),
    "two at once": (
        lambda: nn.Sequential(nn.GELU(), nn.ReLU(), nn.Tanh()),
        r"2 nodes of Sequential cannot be converted to spikes.\n  0 \(GELU\).*\n  2 \(Tanh\)",
    ),
    "no ReLU": (lambda: nn.Linear(8, 8), "found no ReLU in Linear"),
    "control flow": (
        lambda: nn.Sequential(nn.Identity(), Branching()),
        r"cannot follow the forward of Sequential, in the module 1: .*control flow.*\n.*has no fixed graph",
    ),
    "a number": (written(lambda x: x * float(x.sum(2).mean(1)[:, None])), "cannot follow the forward of Written"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_node_is_named(name):
    make, text = CASES[name]
    with pytest.raises(ValueError, match=text):
        Converter(X)(make())


def test_a_function_is_named_with_its_caller():
    inner = Written(lambda self, x: F.silu(x))
    with pytest.raises(ValueError, match=r"1_silu|silu \(the function silu, called in 1\)"):
        Converter(X)(nn.Sequential(nn.ReLU(), inner))


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (nn.Sequential(nn.ReLU()), TypeError, r"but got the network Sequential: Converter\(batches\)\(net\)"),
        (3, TypeError, "Converter takes batches, such as a DataLoader or a list, but got int"),
        ([], ValueError, "the dataloader is empty"),
        ([{"x": X}], TypeError, "a batch must be a tensor, or a tuple or list .* but got dict"),
        (["x"], TypeError, "a batch must be .* but got str"),
        (-X, ValueError, r"measured the scale 0 for 0: with mode='Max' it was never active"),
        (X * torch.nan, ValueError, "Converter, at 0: VoltageHook measured an activation of nan"),
    ],
)
def test_data_is_checked(data, error, text):
    with pytest.raises(error, match=text):
        Converter(data)(nn.Sequential(nn.ReLU()))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="The mode must be"):
        Converter(X, mode="median")
    with pytest.raises(ValueError, match="momentum must be"):
        Converter(X, momentum=-0.1)
    with pytest.raises(TypeError, match=r"Converter takes an nn\.Module, but got function"):
        Converter(X)(lambda x: x)
