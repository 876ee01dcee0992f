"""The neurons for training forward in time."""

import copy
import pickle

import pytest
import torch

from spikescope import layer, neuron, surrogate

ONLINE = [neuron.OTTTLIFNode, neuron.SLTTLIFNode]


@pytest.mark.parametrize("cls", ONLINE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_spikes_are_those_of_lif(cls, dtype):
    node = cls()
    plain = neuron.LIFNode(decay_input=node.decay_input, v_reset=node.v_reset)
    x_seq = (2 * torch.rand(7, 5, 3)).to(dtype).transpose(1, 2)
    for x in x_seq:
        got = node(x)
        spike, trace = got if cls is neuron.OTTTLIFNode else (got, got)
        assert torch.equal(spike, plain(x))
        assert spike.dtype == trace.dtype == dtype
    assert torch.equal(node.v, plain.v)


def test_defaults():
    node = neuron.OTTTLIFNode()
    assert (node.decay_input, node.v_reset, node.detach_reset, node.tau) == (False, None, True, 2.0)
    node = neuron.SLTTLIFNode()
    assert (node.decay_input, node.v_reset, node.detach_reset, node.tau) == (True, 0.0, True, 2.0)


@pytest.mark.parametrize("cls", ONLINE)
def test_single_steps_only(cls):
    with pytest.raises(ValueError, match="step_mode must be one of 's', but got 'm'"):
        cls(step_mode="m")


@pytest.mark.parametrize("cls", ONLINE)
def test_gradient_stays_within_a_step(cls):
    node = cls(surrogate_function=surrogate.Sigmoid(alpha=4.0), store_v_seq=True)
    x = torch.tensor([0.75], requires_grad=True)
    node(x)
    assert node.v.grad_fn is None
    h = node.v + (0.75 - node.v) / 2 if node.decay_input else node.v / 2 + 0.75
    out = node(x)
    (out[0] if isinstance(out, list) else out).sum().backward()
    s = torch.sigmoid(4 * (h - 1))
    torch.testing.assert_close(x.grad, 4 * s * (1 - s) * (0.5 if node.decay_input else 1.0))
    assert node.v_seq.shape == (2, 1)
    assert node.v_seq.grad_fn is None


def test_trace_has_no_gradient_and_goes_on_in_eval():
    node = neuron.OTTTLIFNode(tau=4.0)
    spike, trace = node(torch.tensor([2.0], requires_grad=True))
    assert spike.requires_grad
    assert not trace.requires_grad
    node.eval()
    assert isinstance(node(torch.tensor([0.0])), torch.Tensor)
    assert node.trace.item() == 0.75
    node.reset()
    assert (node.v, node.trace) == (0.0, 0.0)


@pytest.mark.parametrize("cls", ONLINE)
def test_copies_and_compiled_steps_go_on_alike(cls):
    node = cls()
    node(torch.rand(3, requires_grad=True))
    x = 2 * torch.rand(3)
    twins = [copy.deepcopy(node), pickle.loads(pickle.dumps(node)), torch.compile(copy.deepcopy(node), backend="eager")]
    want = node(x)
    for twin in twins:
        torch.testing.assert_close(twin(x), want, rtol=0, atol=0)


def test_compiled_container_gives_the_same_gradient():
    torch.manual_seed(0)
    net = layer.OTTTSequential(torch.nn.Linear(2, 3), neuron.OTTTLIFNode(), torch.nn.Linear(3, 1))
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    for x in 2 * torch.rand(3, 4, 2):
        net(x).sum().backward()
        compiled(x).sum().backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
