"""A threshold of infinity: the neuron integrates and never fires, and nothing of it is NaN."""

import math

import pytest
import torch
from neuron_cases import POINTWISE, make, sequence
from torch import nn

from spikescope import surrogate
from spikescope.neuron import HalfThresholdIFNode, IFNode, ILIFNode, LIAFNode, LIFNode, TernaryIFNode

INF = math.inf
FAMILY = [cls for cls in POINTWISE if "v_threshold" in cls.fields and cls.fields["v_threshold"].init]
SURROGATES = sorted(
    (cls for cls in surrogate.registry.values() if cls.__module__.startswith("spikescope.") and cls.pointwise),
    key=lambda cls: cls.__name__,
)


def resets(cls):
    fixed = not cls.fields["v_reset"].init
    return [{}] if fixed else [{"v_reset": 0.0}, {"v_reset": None}, {"v_reset": -0.25}]


def swept(cls, threshold, backend, x_seq, **fields):
    """Outputs, potentials and the gradient of a run, with a threshold that no input reaches or with an infinite one."""
    node = make(cls, v_threshold=threshold, step_mode="m", backend=backend, store_v_seq=True, **fields)
    x_seq = x_seq.clone().requires_grad_()
    y = node(x_seq)
    (y.sum() + (node.v_seq * torch.linspace(0.5, 1.5, len(x_seq)).view(-1, 1, 1)).sum()).backward()
    return y.detach(), node.v_seq.detach(), x_seq.grad


@pytest.mark.slow(keep=6)  # every neuron, in the eager loop, in test_numbers
@pytest.mark.parametrize(
    ("cls", "backend"),
    [*((cls, "torch") for cls in FAMILY), (LIFNode, "auto"), (TernaryIFNode, "auto"), (ILIFNode, "auto")],
)
def test_it_integrates_and_never_fires(cls, backend):
    x_seq = sequence(cls) / 8
    for reset in resets(cls):
        fields = reset | ({"act": torch.relu, "threshold_related": False} if cls is LIAFNode else {})
        y, v, grad = swept(cls, INF, backend, x_seq, **fields)
        # far off, where the window is 0 for ever: the run without a threshold
        window = {"surrogate_function": surrogate.Rect()}
        if cls is HalfThresholdIFNode:  # which starts at 0 here, and not halfway
            far = swept(IFNode, 1e30, "torch", x_seq, v_reset=None, **window)
        elif cls is ILIFNode:  # whose window has no end
            far = swept(LIFNode, 1e30, "torch", x_seq, tau=4 / 3, decay_input=False, v_reset=None, **window)
        else:
            far = swept(cls, 1e30, "torch", x_seq, **fields | window)
        assert torch.equal(y, far[0])
        assert torch.equal(v, far[1])
        torch.testing.assert_close(grad, far[2])


@pytest.mark.parametrize("made", SURROGATES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("spiking", [True, False])
def test_with_every_surrogate(made, spiking):
    if not spiking and not made.has_primitive():
        return
    x_seq = sequence(LIFNode) - 1
    for v_reset in (0.0, None):
        made_of = made(**made.example, spiking=spiking)
        node = LIFNode(v_threshold=INF, v_reset=v_reset, surrogate_function=made_of, step_mode="m", backend="torch")
        x = x_seq.clone().requires_grad_()
        y = node(x)
        (y.sum() + node.v.sum()).backward()
        assert not y.any()
        decay = 0.5 ** torch.arange(len(x), 0, -1.0).view(-1, 1, 1)
        torch.testing.assert_close(x.grad, decay.expand_as(x))


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_a_tensor_with_some_of_it(kind, backend, v_reset):
    held = torch.tensor([1.0, INF, 0.5, INF, 2.0])
    threshold = nn.Parameter(held.clone()) if kind == "parameter" else held
    x_seq = sequence(IFNode)
    node = IFNode(threshold, v_reset, step_mode="m", backend=backend)
    x = x_seq.clone().requires_grad_()
    y = node(x)
    (y.sum() + node.v.sum()).backward()
    for i, number in enumerate(held.tolist()):
        one = IFNode(number, v_reset, step_mode="m", backend="torch")
        xi = x_seq[..., i : i + 1].clone().requires_grad_()
        yi = one(xi)
        (yi.sum() + one.v.sum()).backward()
        assert torch.equal(y[..., i : i + 1], yi)
        torch.testing.assert_close(x.grad[..., i : i + 1], xi.grad)
    if kind == "parameter":
        assert threshold.grad.isfinite().all()
        assert threshold.grad[1] == threshold.grad[3] == 0
        assert threshold.grad[[0, 2, 4]].all()


def test_it_may_come_and_go():
    node = IFNode(INF)
    node(torch.tensor([0.75]))
    node.v_threshold = 1.0
    assert node(torch.tensor([0.75])).item() == 1
    node.v_threshold = INF
    assert node(torch.tensor([9.0])).item() == 0


@pytest.mark.parametrize("wrong", [math.nan, -INF, torch.tensor([1.0, math.nan])])
def test_what_is_no_threshold_is_refused_in_words(wrong):
    with pytest.raises(ValueError, match="IFNode: v_threshold must be a number or infinity"):
        IFNode(v_threshold=wrong)
