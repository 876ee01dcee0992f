"""Networks of the search for connections, in the smallest sizes they have, and what is kept of each."""

from pathlib import Path
from types import SimpleNamespace

import torch
from model_cases import beginnings, exact, frames, structure

SNAS = Path(__file__).with_name("snas_net.json")
BACK = [[0, 3, 0, 2], [0, 0, 3, 0], [3, 0, 0, 3], [0, 2, 1, 0]]
CASES = {"forward": BACK, "backward": BACK, "backward, skips": [[0, 1, 2, 3], [2, 0, 1, 1], [0, 1, 0, 3], [3, 0, 2, 0]]}
"""To each case its matrix, of convolutions, copies and nothing: a mean over nine is exact in no precision."""


def made(build, name):
    """The network of a case, with the weights that a seed draws."""
    torch.manual_seed(0)
    args = SimpleNamespace(timestep=2, dataset="cifar100", second_avgpooling=16, threshold=0.25, tau=2.0)
    args.celltype = name.split(",")[0]
    return build(args, torch.tensor(CASES[name], dtype=torch.float32))


def told_of(build, name):
    """Names, first weights, and the outputs of one image with weights that make every sum exact."""
    net = made(build, name)
    told = {**structure(net), "beginnings": beginnings(net)}
    with torch.no_grad():
        told["outputs"] = exact(net).double()(frames((1, 3, 32, 32)).double()).tolist()
    return told
