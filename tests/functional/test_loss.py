"""Losses against their formulas written out, element by element."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope.errors import ShapeError
from spikescope.functional import (
    kernel_dot_product,
    set_threshold_margin,
    spike_similar_loss,
    temporal_efficient_training_cross_entropy,
)
from spikescope.neuron import IFNode, LIFNode, ParametricLIFNode, registry

KERNELS = {
    "linear": ((), lambda dot, far: dot),
    "polynomial": ((3,), lambda dot, far: dot**3),
    "sigmoid": ((0.7,), lambda dot, far: 1 / (1 + math.exp(-0.7 * dot))),
    "gaussian": ((1.3,), lambda dot, far: math.exp(-far / (2 * 1.3**2))),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_element_by_element(kernel):
    args, formula = KERNELS[kernel]
    torch.manual_seed(0)
    x, y = torch.rand(3, 5, dtype=torch.float64) - 0.5, torch.rand(5, 4, dtype=torch.float64).T
    k = kernel_dot_product(x, y, kernel, *args)
    assert k.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            dot = sum(a * b for a, b in zip(x[i].tolist(), y[j].tolist(), strict=True))
            far = sum((a - b) ** 2 for a, b in zip(x[i].tolist(), y[j].tolist(), strict=True))
            assert math.isclose(k[i, j], formula(dot, far), rel_tol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_gradients(kernel):
    torch.manual_seed(0)
    x, y = (torch.rand(n, 3, dtype=torch.float64, requires_grad=True) for n in (2, 4))
    assert torch.autograd.gradcheck(lambda x, y: kernel_dot_product(x, y, kernel, *KERNELS[kernel][0]), (x, y))
    assert kernel_dot_product(x[:0], y, kernel, *KERNELS[kernel][0]).shape == (0, 4)


def test_gaussian_of_equal_rows_is_never_above_one():
    torch.manual_seed(0)
    x = torch.rand(50, 37) * 1000
    squared = (x * x).sum(1).unsqueeze(1) + (x * x).sum(1) - 2 * (x @ x.T)
    assert (squared < 0).any()  # rounding does take distances below zero
    assert kernel_dot_product(x, x, "gaussian", 0.5).max() <= 1


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (("cosine",), ValueError, "must be one of"),
        (
            ("cosine",),
            NotImplementedError,
            "must be one of 'linear', 'polynomial', 'sigmoid', 'gaussian', but got 'cosine'",
        ),
        (("polynomial",), TypeError, "'polynomial' takes d, but got"),
        (("polynomial", None), ValueError, "d must be a number, but got None"),
        (("sigmoid", "steep"), ValueError, "alpha must be a number, but got 'steep'"),
        (("gaussian", "wide"), ValueError, "sigma must be above 0, but got 'wide'"),
        (("gaussian", 0.0), ValueError, "sigma must be above 0, but got 0.0"),
    ],
)
def test_kernel_refuses_in_words(args, error, text):
    with pytest.raises(error, match=text):
        kernel_dot_product(torch.ones(2, 3), torch.ones(2, 3), *args)
    with pytest.raises(ShapeError, match=r"the same M, but got \[2, 3\] and \[2, 4\]"):
        kernel_dot_product(torch.ones(2, 3), torch.ones(2, 4))


def test_surplus_arguments_of_a_kernel_are_ignored():
    x = torch.rand(3, 4)
    for kernel in (("linear",), ("polynomial", 2), ("sigmoid", 0.5), ("gaussian", 0.7)):
        assert torch.equal(kernel_dot_product(x, x, *kernel, 9.0, 8.0), kernel_dot_product(x, x, *kernel))
        want = spike_similar_loss(x, torch.eye(3), kernel[0], "mse", *kernel[1:])
        assert torch.equal(spike_similar_loss(x, torch.eye(3), kernel[0], "mse", *kernel[1:], 9.0), want)


@pytest.mark.parametrize("error", [ValueError, NotImplementedError])
@pytest.mark.parametrize(("kernel", "loss"), [("cubic", "mse"), ("linear", "huber")])
def test_an_unknown_kernel_or_loss_is_the_error_of_both(error, kernel, loss):
    with pytest.raises(error, match=f"must be one of 'linear'|must be one of 'mse', 'l1', 'bce', but got '{loss}'"):
        spike_similar_loss(torch.rand(2, 3), torch.eye(2), kernel, loss)


# rows (1,1,0,0), (1,0,0,0), (0,0,1,1): cosines 1/sqrt(2), 0, 0; labels: 0 and 1 share one, 2 has its own
SPIKES = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]])
LABELS = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 1, 0]])
GAP = 1 - 1 / math.sqrt(2)


@pytest.mark.parametrize(("loss_type", "want"), [("mse", 2 * GAP**2 / 9), ("l1", 2 * GAP / 9)])
def test_similarity_by_hand(loss_type, want):
    loss = spike_similar_loss(SPIKES, LABELS, "linear", loss_type)
    assert loss.shape == ()
    assert math.isclose(loss, want, rel_tol=1e-6)


def test_similarity_by_hand_bce_and_other_kernels():
    spikes = SPIKES[:2].double()  # dots 2, 1, 1, 1; squared distances 0, 1, 1, 0
    labels = torch.eye(2)
    p = torch.sigmoid(torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64) * 0.5)
    want = -(p[0].log() + 2 * (1 - p[1]).log() + p[3].log()) / 4
    got = spike_similar_loss(spikes, labels, "sigmoid", "bce", 0.5)
    assert math.isclose(got, want, rel_tol=1e-12)
    got = spike_similar_loss(spikes, labels, "gaussian", "l1", 2.0)
    assert math.isclose(got, 2 * math.exp(-1 / 8) / 4, rel_tol=1e-12)
    got = spike_similar_loss(spikes, labels, "polynomial", "mse", 2)
    assert math.isclose(got, (9 + 1 + 1 + 0) / 4, rel_tol=1e-12)


def test_similarity_with_bce_keeps_within_one_in_spite_of_rounding():
    torch.manual_seed(0)
    spikes = (torch.rand(64, 11, 7) < 0.4).float()
    assert spike_similar_loss(spikes, torch.eye(64), "linear", "bce").isfinite()


def test_similarity_of_a_silent_sample_and_in_half_precision():
    spikes = torch.cat((SPIKES, torch.zeros(1, 2, 2)))
    labels = torch.eye(4)
    want = 2 * 0.5 / 16 + 1 / 16  # the silent one is not even like itself
    assert math.isclose(spike_similar_loss(spikes, labels), want, rel_tol=1e-6)
    half = spike_similar_loss(spikes.half(), labels)
    assert half.dtype == torch.float32
    graded = torch.rand(4, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = spike_similar_loss(graded, labels, "linear", "bce")
    want = spike_similar_loss(graded.double(), labels, "linear", "bce")
    assert math.isclose(mixed, want, rel_tol=1e-5)


def test_similarity_gradient():
    spikes = torch.rand(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: spike_similar_loss(s, LABELS), spikes)


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (
            (SPIKES, LABELS, "linear", "huber"),
            ValueError,
            "loss_type must be one of 'mse', 'l1', 'bce', but got 'huber'",
        ),
        ((SPIKES, LABELS, "rbf"), ValueError, "kernel_type must be one of"),
        ((SPIKES, LABELS[:2]), ShapeError, r"the same N, but got \[N=3, 2, 2\] and \[N=2, 3\]"),
        ((SPIKES, LABELS[0]), ShapeError, r"labels \[N, C\]"),
        ((SPIKES, LABELS, "polynomial", "bce", 2), ValueError, "'polynomial' has no upper bound"),
    ],
)
def test_similarity_refuses_in_words(args, error, text):
    with pytest.raises(error, match=text):
        spike_similar_loss(*args)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 3, 5, 2), (2, 1, 5, 3, 2)], ids=str)
def test_tet_equals_the_mean_over_time(shape, probabilities, reduction):
    torch.manual_seed(0)
    x_seq = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    _, n, c, *rest = shape
    target = torch.rand(n, c, *rest, dtype=torch.float64).softmax(1) if probabilities else torch.randint(c, (n, *rest))
    if not probabilities:
        target.view(-1)[0] = 1
        target.view(-1)[-1] = 2
    options = {"weight": torch.rand(c, dtype=torch.float64), "label_smoothing": 0.13, "reduction": reduction}
    if not probabilities:
        options["ignore_index"] = 2
    want = sum(F.cross_entropy(x, target, **options) for x in x_seq) / shape[0]
    got = temporal_efficient_training_cross_entropy(x_seq, target, **options)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, equal_nan=True)
    weight = torch.rand_like(got)
    grads = [torch.autograd.grad(loss, x_seq, weight, retain_graph=True)[0] for loss in (got, want)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((3, 2), (2,)), ((3, 2, 5), (3,)), ((3, 2, 5), (2, 4)), ((3, 2, 5, 4), (2,)), ((0, 2, 5), (2,))],
)
def test_tet_refuses_in_words(shape, target):
    with pytest.raises(ShapeError, match=r"x_seq \[T, N, C, \*\] of at least one step with the target"):
        temporal_efficient_training_cross_entropy(torch.ones(shape), torch.zeros(target, dtype=torch.int64))
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none'"):
        temporal_efficient_training_cross_entropy(torch.ones(1, 1, 2), torch.zeros(1).long(), reduction="total")


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("cls", [IFNode, LIFNode, ParametricLIFNode])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_threshold_margin(cls, v_reset, step_mode):
    node = cls(v_reset=v_reset, step_mode=step_mode)
    label = torch.tensor([[0, 1, 0], [1, 0, 0]])
    set_threshold_margin(node, label)
    torch.testing.assert_close(node.v_threshold, torch.tensor([[0.9, 1.1, 0.9], [1.1, 0.9, 0.9]]))
    x = torch.ones(2, 3) if cls is IFNode else 2 * torch.ones(2, 3)  # one step takes each to 1
    spike = node(x if step_mode == "s" else x.unsqueeze(0)).view(2, 3)
    assert torch.equal(spike, 1.0 - label)
    node.reset()
    node.eval()
    set_threshold_margin(node, label, eval_threshold=0.95)
    assert node.v_threshold == 0.95
    assert node(x if step_mode == "s" else x.unsqueeze(0)).min() == 1


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("backend", ["torch", "auto", "cpp"])
def test_threshold_margin_in_every_backend(backend, v_reset):
    node = IFNode(v_reset=v_reset, step_mode="m", backend=backend)
    label = torch.tensor([[0, 1, 0], [1, 0, 0]])
    set_threshold_margin(node, label)
    spikes = node(torch.full((3, 2, 3), 0.5))  # H = 0.5, 1.0, and 1.5 where nothing has fired
    assert torch.equal(spikes, torch.stack((0 * label, 1 - label, label)).float())


@pytest.mark.parametrize("cls", [c for c in registry.values() if "v_threshold" in c.dynamic], ids=lambda c: c.__name__)
def test_threshold_margin_of_every_neuron(cls):
    node = cls(**cls.example)
    if isinstance(node.v_threshold, nn.Parameter):
        with pytest.raises(ValueError, match="learnable"):
            set_threshold_margin(node, torch.eye(3))
        return
    set_threshold_margin(node, torch.eye(3), threshold0=0.7, threshold1=1.3)
    torch.testing.assert_close(node.v_threshold, 0.7 + 0.6 * torch.eye(3))
    node.eval()
    set_threshold_margin(node, torch.eye(3), eval_threshold=1.25)
    assert node.v_threshold == 1.25


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.float64, torch.float16])
def test_threshold_margin_of_any_label_dtype(dtype):
    node = IFNode()
    set_threshold_margin(node, torch.tensor([[0, 1]]).to(dtype), threshold0=0.3, threshold1=0.6)
    assert node.v_threshold.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(node.v_threshold, torch.tensor([[0.3, 0.6]], dtype=node.v_threshold.dtype))


def test_threshold_margin_refuses_in_words():
    learnable = nn.Parameter(torch.tensor(1.0))
    node = IFNode(v_threshold=learnable)
    for training in (True, False):
        node.train(training)
        with pytest.raises(ValueError, match="overwrite the learnable v_threshold of IFNode"):
            set_threshold_margin(node, torch.eye(2))
        assert node.v_threshold is learnable
    with pytest.raises(TypeError, match="a neuron with a v_threshold, but Linear has none"):
        set_threshold_margin(nn.Linear(2, 2), torch.eye(2))
    with pytest.raises(TypeError, match="label_one_hot must be a"):
        set_threshold_margin(IFNode(), [[0, 1]])


@pytest.mark.parametrize("name", ["eval_threshold", "threshold0", "threshold1"])
@pytest.mark.parametrize("given", ["1", None, [1.0], True, torch.ones(3), float("nan")], ids=repr)
def test_a_margin_is_a_number(name, given):
    with pytest.raises(ValueError, match=f"set_threshold_margin: {name} must be a number, but got"):
        set_threshold_margin(LIFNode(), torch.eye(3), **{name: given})


def test_the_margin_is_at_labels_of_one_alone():
    node = IFNode()
    set_threshold_margin(node, torch.tensor([[0.9, 0.1, 1.0], [0.0, 2.0, 1.0]]), threshold0=0.7, threshold1=1.3)
    assert node.v_threshold.tolist() == torch.tensor([[0.7, 0.7, 1.3], [0.7, 0.7, 1.3]]).tolist()
