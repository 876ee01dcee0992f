"""The read-outs: the decoding of the membrane potential against PyTorch's reductions of the potentials."""

import pytest
import torch
from neuron_cases import READOUTS, make

from spikescope.errors import ShapeError
from spikescope.neuron import LIFNode, NonSpikingIFNode, NonSpikingLIFNode

MODES = ["max-mem", "max-abs-mem", "mean-mem", "last-mem"]


def decoded(mode, v_seq):
    """The definition, over a whole course [T, N, *]."""
    match mode:
        case "max-mem":
            return v_seq.amax(0)
        case "max-abs-mem":
            return v_seq.gather(0, v_seq.abs().argmax(0, keepdim=True)).squeeze(0)
        case "mean-mem":
            return v_seq.mean(0)
        case _:
            return v_seq[-1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cls", READOUTS)
def test_the_output_is_the_decoded_course(cls, mode):
    torch.manual_seed(6)
    node, x_seq = make(cls, decode=mode, step_mode="m", store_v_seq=True), torch.randn(7, 3, 5)
    torch.testing.assert_close(node(x_seq), decoded(mode, node.v_seq), rtol=1e-6, atol=1e-6)
    again = make(cls, decode=mode, step_mode="m", store_v_seq=True)
    for t, x in enumerate(x_seq):
        so_far = again(x.unsqueeze(0))
        torch.testing.assert_close(so_far, decoded(mode, node.v_seq[: t + 1]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cls", READOUTS)
def test_single_steps_end_with_the_value_of_the_sequence(cls, mode):
    torch.manual_seed(7)
    whole, single, cut = (make(cls, decode=mode, step_mode=m) for m in "msm")
    x_seq = torch.randn(7, 3, 5)
    want = whole(x_seq)
    assert torch.equal([single(x) for x in x_seq][-1], want)
    cut(x_seq[:4])
    assert torch.equal(cut(x_seq[4:]), want)
    whole.reset()
    assert torch.equal(whole(x_seq), want)


def test_the_potentials_by_hand():
    x_seq = torch.tensor([[2.0], [-1.0], [0.5]])
    summing, leaking = (make(cls, step_mode="m", store_v_seq=True) for cls in (NonSpikingIFNode, NonSpikingLIFNode))
    summing(x_seq)
    leaking(x_seq)
    assert summing.v_seq.flatten().tolist() == [2.0, 1.0, 1.5]
    assert leaking.v_seq.flatten().tolist() == [1.0, 0.0, 0.25]


def test_it_leaks_as_a_neuron_that_never_fires():
    torch.manual_seed(8)
    x_seq = torch.randn(5, 3)
    read, silent = (
        make(NonSpikingLIFNode, tau=3.7, step_mode="m"),
        make(LIFNode, tau=3.7, v_threshold=99.0, step_mode="m"),
    )
    silent(x_seq)
    assert torch.equal(read(x_seq), silent.v)


@pytest.mark.parametrize(
    ("mode", "read", "grad"),
    [("max-mem", 1.0, [1, 1, 0]), ("max-abs-mem", -1.0, [1, 0, 0]), ("last-mem", 1.0, [1, 1, 1])],
)
def test_of_equal_values_the_first_has_the_gradient(mode, read, grad):
    x_seq = torch.tensor([[-1.0], [2.0], [0.0]], requires_grad=True)  # V = -1, 1, 1: all equal in magnitude
    out = make(NonSpikingIFNode, decode=mode, step_mode="m")(x_seq)
    out.sum().backward()
    assert out.item() == read
    assert x_seq.grad.flatten().tolist() == grad


def test_a_negative_maximum_is_not_mistaken_for_the_start():
    node = make(NonSpikingIFNode, decode="max-mem", step_mode="m")
    assert node(torch.tensor([[-2.0], [-1.0]])).item() == -2.0


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(ValueError, match=r"NonSpikingIFNode: decode must be one of 'max-mem'.*but got 'mean'"):
        NonSpikingIFNode(decode="mean")
    with pytest.raises(ValueError, match=r"NonSpikingLIFNode: tau must be above 1"):
        NonSpikingLIFNode(tau=1.0)
    with pytest.raises(ShapeError, match=r"NonSpikingLIFNode decodes at least one step, but got \[T=0, N=2, 3\]"):
        NonSpikingLIFNode(step_mode="m")(torch.rand(0, 2, 3))
    assert list(NonSpikingLIFNode.arguments.parameters)[:2] == ["tau", "decode"]
