"""The complementary neuron of SpikingJelly 2.0 keeps the course of both its potentials."""

import copy
import pickle

import pytest
import torch

import spikescope

pytestmark = pytest.mark.usefixtures("aliases")


def drive(steps=6, **options):
    return (3 * torch.rand(steps, 2, 4, generator=torch.Generator().manual_seed(3))).to(**options).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_courses_are_those_of_single_steps(dtype):
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.ComplementaryLIFNode(1.5, 0.75, surrogate.Rect(2.0), "m", True)
    x_seq = drive(dtype=dtype)
    y = node(x_seq)
    single = spikescope.neuron.ComplementaryLIFNode(1.5, 0.75, spikescope.surrogate.Rect(2.0))
    stepped, vs, ms = [], [], []
    for x in x_seq:
        stepped.append(single(x))
        vs.append(single.v)
        ms.append(single.m)
    assert torch.equal(y, torch.stack(stepped))
    assert y.dtype is dtype
    torch.testing.assert_close(node.state_seqs, [torch.stack(vs), torch.stack(ms)])
    grads = [torch.autograd.grad(sum(h.sum() for h in held), x_seq)[0] for held in (node.state_seqs, (*vs, *ms))]
    torch.testing.assert_close(*grads)
    assert torch.equal(node.v, node.state_seqs[0][-1])


def test_it_keeps_them_until_it_is_reset_or_told_otherwise():
    from spikingjelly.activation_based import neuron

    node = neuron.ComplementaryLIFNode(step_mode="m", store_v_seq=True)
    y = node(drive())
    assert node.state_seqs is None
    wanted = node.v_seq
    node.reset()
    node.store_state_seqs = True
    assert torch.equal(node(drive()), y)
    torch.testing.assert_close(node.state_seqs[0], wanted)
    torch.testing.assert_close(node.v_seq, wanted)
    for other in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert torch.equal(other.state_seqs[1], node.state_seqs[1])
    node.detach()
    assert not node.state_seqs[1].requires_grad
    assert node.double().state_seqs[0].dtype is torch.float64
    node.store_state_seqs = True
    assert node.state_seqs is None
    node.float().reset()
    node(drive())
    node.reset()
    assert node.state_seqs is None
    node(drive(0))
    assert node.state_seqs is None


def test_a_monitor_sees_the_same():
    from spikingjelly.activation_based import neuron

    told = []
    for store in (False, True):
        node = neuron.ComplementaryLIFNode(step_mode="m", store_state_seqs=store)
        node.request_taps(("v", "h", "count"))
        node(drive())
        told.append(node.tapped)
    assert sorted(told[1]) == ["count", "h", "v"]
    torch.testing.assert_close(*told)
