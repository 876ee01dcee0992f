"""The short way of sequences whose potentials are kept, as `MultiStep...` neurons keep them, is the eager loop."""

import pytest
import torch
from neuron_cases import POINTWISE, READOUTS, make, sequence
from shortcut_cases import assert_equal, input_of, twins
from torch import nn

from spikescope import functional, monitor, neuron

LOSSES = {
    "output": lambda y, v_seq, v: y.sum(),
    "potentials": lambda y, v_seq, v: (v_seq * v_seq).sum(),
    "all": lambda y, v_seq, v: (
        (y * y).sum() + (v_seq * torch.linspace(-1, 1, len(v_seq)).view(-1, 1, 1)).sum() + v.sum()
    ),
}


def told(node, xs, loss):
    """Outputs, potentials and gradients of calls on end, each with a loss of its own."""
    outputs, gradients = [], []
    for held in xs:
        x = held.clone().requires_grad_()
        y = node(x)
        wanted = [x, *node.parameters()]
        outputs += [y, node.v_seq, node.v]
        value = LOSSES[loss](y, node.v_seq, node.v)
        gradients += torch.autograd.grad(value, wanted, allow_unused=True)
        node.detach()
    return [*outputs, *gradients]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cls", [cls for cls in POINTWISE if cls not in READOUTS], ids=lambda cls: cls.__name__)
def test_it_is_the_eager_loop(cls, loss, short):
    node, twin = twins(cls, "m", store_v_seq=True)
    if node.implementation(input_of(cls, "m")).backend != "cpp" or "v" not in cls.State._fields:
        pytest.skip("no kernel, or no potential")
    xs = [sequence(cls)[:3]] * 3
    short.clear()
    assert_equal(told(node, xs, loss), told(twin, xs, loss), 9)
    assert len(short) == (3 if node._plainly_driven() else 0)
    node.reset()
    with pytest.raises(RuntimeError, match=f"{cls.__name__} has no v_seq"):
        _ = node.v_seq


@pytest.mark.parametrize("form", ["channels last", "half", "double"])
def test_it_keeps_the_form(form, short):
    x = torch.rand(3, 2, 4, 5, 5)
    x = {"half": x.half(), "double": x.double()}.get(form, x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3))
    node, twin = (make(neuron.LIFNode, step_mode="m", store_v_seq=True, backend=name) for name in ("auto", "torch"))
    for _ in range(4):
        node.reset(), twin.reset()
        short.clear()
        y, want = node(x), twin(x)
    assert short
    assert torch.equal(y, want)
    assert torch.equal(node.v_seq, twin.v_seq)
    assert node.v_seq.dtype is twin.v_seq.dtype
    assert y.stride() == x.stride()


def test_it_is_left_and_taken_with_the_switch(short):
    node, twin = twins(neuron.LIFNode, "m")
    x = sequence(neuron.LIFNode)[:3]
    for keep in (True, False, True):
        for each in (node, twin):
            each.store_v_seq = keep
        for _ in range(3):
            node.reset(), twin.reset()
            short.clear()
            assert torch.equal(node(x), twin(x))
            if keep:
                assert torch.equal(node.v_seq, twin.v_seq)
            else:
                with pytest.raises(RuntimeError, match="no v_seq"):
                    _ = node.v_seq
        assert short


def test_a_later_call_leaves_what_was_kept_as_it_is():
    node, _ = twins(neuron.LIFNode, "m", store_v_seq=True)
    first, second = torch.rand(3, 2, 4), torch.rand(3, 2, 4)
    kept = []
    for x in (first, second):
        node.reset()
        node(x)
        kept.append(node.v_seq)
    alone = make(neuron.LIFNode, step_mode="m", store_v_seq=True, backend="torch")
    alone(first)
    assert torch.equal(kept[0], alone.v_seq)
    assert not torch.equal(*kept)


@pytest.mark.parametrize("what", [["rate", "silent share"], "packed", "gradients", "potentials"])
def test_who_watches_is_told_the_same(what):
    node, twin = twins(neuron.LIFNode, "m", store_v_seq=True)
    options = {
        "potentials": {"reducers": "raw", "signal": "v"},
        "gradients": {"reducers": "gradient norm", "signal": "grad_output"},
    }.get(str(what), {"reducers": what})
    found = []
    for each in (node, twin):
        net, kept = nn.Sequential(each), []
        with monitor.record(net, **options) as seen:
            for _ in range(5):  # the same call again and again
                x = sequence(neuron.LIFNode)[:3].clone().requires_grad_()
                net(x).sum().backward()
                kept += [each.v_seq.detach(), x.grad]
                each.reset()
        found.append((kept, seen["0"]))
    assert_equal(found[0][0], found[1][0], 1)
    assert str(found[0][1]) == str(found[1][1])


def test_a_checkpoint_runs_it_again():
    node, twin = twins(neuron.LIFNode, "m", store_v_seq=True)
    found = []
    for each in (node, twin):
        x = sequence(neuron.LIFNode)[:3].clone().requires_grad_()
        y = functional.checkpoint(nn.Sequential(each), x)
        found.append([y, *torch.autograd.grad(y.sum(), x)])
    assert_equal(*found, 1)


@pytest.mark.parametrize("keep", [False, True])
def test_behind_a_normalisation_it_is_not_taken(keep):
    node, _ = twins(neuron.LIFNode, "m", store_v_seq=keep)
    x, asked = sequence(neuron.LIFNode)[:3], []
    for _ in range(2):  # the second call of a kind has it made
        assert node._short.behind(node, x, ("a normalisation",), [], lambda *args: asked.append(args)) is None
    assert bool(asked) is not keep
