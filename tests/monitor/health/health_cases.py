"""What the tests of health share."""

import torch
from torch import nn

from spikescope import neuron


def found(watch):
    """All findings but that of an input of ones, which small tests give."""
    return [held for held in watch.everything if held.kind != "input constant"]


def kinds(watch):
    return [(held.layer, held.kind) for held in found(watch)]


def advice_of(watch):
    return {held.kind: held.advice for held in watch.everything}


def if_node(**options):
    return neuron.IFNode(step_mode="m", v_reset=None, **options)


class Break(nn.Module):
    """Gives a NaN in one step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x_seq):
        bad = torch.zeros_like(x_seq)
        bad[self.step] = torch.nan
        return x_seq + bad
