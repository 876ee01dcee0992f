"""Inputs of which each process has a part, as `torch.distributed.tensor` makes them: the numbers of the whole."""

import warnings

import torch
from neuron_cases import POINTWISE, make, sequence

from ranks import in_two_ranks
from spikescope.neuron import ResonateAndFireNode


def _compared(rank):
    """What differs between a neuron of a `DTensor` and one of the whole, for each neuron, step mode and placement."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    warnings.simplefilter("ignore")
    mesh, wrong, ran = init_device_mesh("cpu", (2,)), [], 0
    for cls in POINTWISE:
        if cls is ResonateAndFireNode or any(held.ndim for held in make(cls).parameters()):
            continue  # what is no part of the input, as of a first step, meets parts: PyTorch says so, in its words
        for mode in cls.supported_step_modes:
            for placed in (Shard(1 if mode == "m" else 0), Replicate()):
                node, whole = (make(cls, step_mode=mode, backend="auto").requires_grad_(False) for _ in range(2))
                x = sequence(cls) if mode == "m" else sequence(cls)[0]
                for _ in range(2):  # the second from a state that is in parts
                    leaf, same = distribute_tensor(x, mesh, [placed]).requires_grad_(), x.clone().requires_grad_()
                    torch.manual_seed(1)
                    y = node(leaf)
                    torch.manual_seed(1)
                    want = whole(same)
                    if isinstance(want, (list, tuple)):
                        y, want = y[0], want[0]
                    y.sum().backward()
                    want.sum().backward()
                    alike = torch.equal(y.full_tensor(), want)
                    alike = alike and torch.allclose(leaf.grad.full_tensor(), same.grad, 1e-4, 1e-5)
                    node.detach()
                    whole.detach()
                    ran += 1
                    if not alike:
                        wrong.append((cls.__name__, mode, str(placed)))
    return ran, wrong


def test_of_parts_every_neuron_gives_the_numbers_of_the_whole(tmp_path):
    for ran, wrong in in_two_ranks(_compared, tmp_path / "meeting"):
        assert ran > 100
        assert wrong == []
