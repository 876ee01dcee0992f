"""Inputs of which each process has a part, as `torch.distributed.tensor` makes them: the numbers of the whole."""

import sys
import types
import warnings

import torch
from neuron_cases import POINTWISE, make, sequence

from ranks import error_of, in_two_ranks
from spikescope import surrogate
from spikescope.internals import is_distributed
from spikescope.neuron import LIFNode, ParametricLIFNode, ResonateAndFireNode


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


LEARNING = [cls for cls in POINTWISE if list(make(cls).parameters())]


def _learned(rank):
    """What differs between learning neurons whose parameters are distributed too, and those of the whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

    warnings.simplefilter("ignore")
    mesh, wrong, ran = init_device_mesh("cpu", (2,)), [], 0
    for cls in LEARNING:
        for placed in (Shard(1), Replicate()):
            node, whole = (make(cls, step_mode="m", backend="auto") for _ in range(2))
            whole.load_state_dict(node.state_dict())
            x = sequence(cls)
            distribute_module(node, mesh)
            both = (node, distribute_tensor(x, mesh, [placed])), (whole, x)
            found = []
            for one, given in both:
                optimizer = torch.optim.SGD(one.parameters(), 0.1)
                y = one(given)
                (y.sum() ** 2).backward()
                optimizer.step()
                found.append([y, *one.parameters()])
            got = [held.full_tensor() for held in found[0]]
            ran += 1
            if not all(torch.allclose(held, want, 1e-4, 1e-5) for held, want in zip(got, found[1], strict=True)):
                wrong.append((cls.__name__, str(placed)))
    return ran, wrong


def test_what_neurons_learn_may_be_distributed_too(tmp_path):
    for ran, wrong in in_two_ranks(_learned, tmp_path / "meeting"):
        assert ran == 2 * len(LEARNING) > 2
        assert wrong == []


def _plain_fields(rank):
    """What is said of fields that are no part of the mesh, and what runs all the same."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    x = distribute_tensor(torch.rand(3, 4, 5), mesh, [Shard(1)])
    odd = ParametricLIFNode(step_mode="m", surrogate_function=surrogate.ATan())
    odd.surrogate_function.register_forward_hook(lambda *_: None)  # none of its fields can enter a kernel
    learning = [ParametricLIFNode(step_mode="m", backend=name) for name in ("auto", "torch")]
    said = [error_of(lambda node=node: node(x)) for node in (*learning, odd)]
    with torch.no_grad():
        said.append(error_of(lambda: learning[0](x)))
    wide = LIFNode(v_threshold=torch.full((5,), 0.4), step_mode="m")
    said.append(error_of(lambda: wide(x)))
    wide.v_threshold = distribute_tensor(wide.v_threshold, mesh)
    given = wide(x).full_tensor()
    whole = LIFNode(v_threshold=torch.full((5,), 0.4), step_mode="m")
    return said, torch.equal(given, whole(x.full_tensor()))


def test_fields_that_are_not_distributed_are_refused_in_words(tmp_path):
    for said, same in in_two_ranks(_plain_fields, tmp_path / "meeting"):
        *learning, unlearning, wide = said
        for words in learning:
            assert "ParametricLIFNode: the input is a DTensor, but w is a plain tensor" in words
            assert "torch.distributed.tensor.distribute_module(net, mesh)" in words
        assert unlearning == "no error"
        assert "but v_threshold is a plain tensor" in wide
        assert "node.v_threshold = torch.distributed.tensor.distribute_tensor(node.v_threshold, mesh)" in wide
        assert same


class OwnTensor(torch.Tensor):
    """A kind of tensor of the user's."""


def test_a_module_that_another_thread_is_importing_has_no_such_tensors_yet(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", types.ModuleType("torch.distributed.tensor"))
    assert not is_distributed(torch.ones(3).as_subclass(OwnTensor))
