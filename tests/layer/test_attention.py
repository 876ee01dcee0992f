"""Attention against its formulas written out on samples, and the ways it is run."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sample import WHOLE
from spikescope import functional, monitor
from spikescope.errors import ShapeError
from spikescope.layer import (
    ChannelQKAttention,
    MultiDimensionalAttention,
    QKAttention,
    SpikeDrivenSelfAttention,
    SpikingSelfAttention,
    TemporalWiseAttention,
    TokenQKAttention,
)
from spikescope.neuron import IFNode, LIFNode
from spikescope.surrogate import ATan

GATES = {  # name -> the layer, and the shape of a sequence for it
    "time": (lambda: TemporalWiseAttention(5, 2), (5, 2, 3, 4, 6)),
    "time of features": (lambda: TemporalWiseAttention(5, 2, dimension=2), (5, 2, 7)),
    "all": (lambda: MultiDimensionalAttention(5, 7, 2, 3), (5, 2, 7, 4, 6)),
    "all, wide": (lambda: MultiDimensionalAttention(5, 7, 1, 7, kernel_size=7), (5, 2, 7, 4, 6)),
    "time alone": (lambda: MultiDimensionalAttention(5, 7, 2, 99, 3, True, False, False), (5, 2, 7, 4, 6)),
    "channels alone": (lambda: MultiDimensionalAttention(5, 7, 99, 2, 3, False, True, False), (5, 2, 7, 4, 6)),
    "space alone": (lambda: MultiDimensionalAttention(5, 7, 99, 99, 5, False, False, True), (5, 2, 7, 4, 6)),
}
SELF = {
    "spikformer": (SpikingSelfAttention, (4, 2, 16, 18)),
    "few tokens": (SpikingSelfAttention, (4, 2, 16, 5)),
    "tokens": (TokenQKAttention, (4, 2, 16, 18)),
    "channels": (ChannelQKAttention, (4, 2, 16, 18)),
    "spike-driven": (SpikeDrivenSelfAttention, (4, 2, 16, 3, 5)),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so

gates = pytest.mark.parametrize("name", GATES)
selves = pytest.mark.parametrize("name", SELF)


def gate(name, seed=0):
    torch.manual_seed(seed)
    make, shape = GATES[name]
    return make(), torch.randn(shape)


def self_attention(name, seed=0, **kwargs):
    """A layer whose neurons fire about half the time, without the statistics of a batch."""
    torch.manual_seed(seed)
    cls, shape = SELF[name]
    layer = cls(16, 2, **kwargs).eval()
    for key, held in layer.state_dict().items():
        if "running_mean" in key:
            held.normal_(0, 0.1)
        elif "running_var" in key:
            held.uniform_(0.05, 0.1)
        elif held.ndim == 1:
            held.fill_(1.5)  # gain and bias of the normalisation
    strength = 2.3 if cls is SpikeDrivenSelfAttention else 1.0  # of potentials, which are yet to fire, or spikes
    return layer, strength * (torch.rand(shape) < 0.5)


def excite(first, second, values):
    """Two linear layers with a ReLU between them, number by number."""
    hidden = [max(0.0, sum(w * v for w, v in zip(row, values, strict=True))) for row in first.tolist()]
    return [sum(w * v for w, v in zip(row, hidden, strict=True)) for row in second.tolist()]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def axis_gates(first, second, pieces):
    """The gate of each piece of a sample, from its mean and its largest value."""
    means = excite(first, second, [piece.mean().item() for piece in pieces])
    most = excite(first, second, [piece.max().item() for piece in pieces])
    return [sigmoid(a + b) for a, b in zip(means, most, strict=True)]


@pytest.mark.parametrize("name", ["time", "time of features"])
def test_temporal_attention_by_its_formula(name):
    layer, x_seq = gate(name)
    layer, x_seq = layer.double(), x_seq.double()
    y = layer(x_seq)
    first, second = (layer.sharedMLP[k].weight for k in (0, 2))
    for n in range(x_seq.shape[1]):
        scores = axis_gates(first, second, x_seq[:, n])
        assert len({round(score, 3) for score in scores}) > 1  # not all frames weigh the same
        for t, score in enumerate(scores):
            torch.testing.assert_close(y[t, n], score * x_seq[t, n], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in GATES if not name.startswith("time of") and name != "time"])
def test_multi_dimensional_attention_by_its_formula(name):
    layer, x_seq = gate(name)
    layer, x_seq = layer.double(), x_seq.double()
    y = layer(x_seq)
    for n in range(x_seq.shape[1]):
        x = x_seq[:, n]  # [T, C, H, W]
        if layer.ta is not None:
            first, second = (layer.ta.sharedMLP[k].weight.flatten(1) for k in (0, 2))
            x = torch.stack([g * piece for g, piece in zip(axis_gates(first, second, x), x, strict=True)])
        if layer.ca is not None:
            first, second = (layer.ca.sharedMLP[k].weight.flatten(1) for k in (0, 2))
            pieces = x.unbind(1)
            x = torch.stack([g * piece for g, piece in zip(axis_gates(first, second, pieces), pieces, strict=True)], 1)
        if layer.sa is not None:
            flat = x.flatten(0, 1)
            seen = torch.stack((flat.mean(0), flat.max(0).values)).unsqueeze(0)
            size = layer.sa.conv.kernel_size[0]
            x = x * torch.sigmoid(F.conv2d(seen, layer.sa.conv.weight, padding=size // 2))[0]
        torch.testing.assert_close(y[:, n], x.clamp(min=0), rtol=1e-12, atol=1e-15)


@gates
def test_gradients_of_the_gates(name):
    layer, x_seq = gate(name)
    x_seq = x_seq[:, :1, ..., :2].double().requires_grad_()
    assert torch.autograd.gradcheck(layer.double(), x_seq, fast_mode=not WHOLE)


@gates
def test_gates_in_all_the_ways(name):
    layer, x_seq = gate(name)
    y = layer(x_seq)
    assert y.shape == x_seq.shape
    assert layer(x_seq[:, :0]).shape == x_seq[:, :0].shape
    torch.testing.assert_close(layer(x_seq.mT.contiguous().mT), y)
    torch.testing.assert_close(layer.bfloat16()(x_seq.bfloat16()).float(), y, rtol=0.05, atol=0.02)
    layer.float()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x_seq), layer(x_seq))
    each = torch.func.vmap(lambda x: layer(x.unsqueeze(1)).squeeze(1), in_dims=1, out_dims=1)(x_seq)
    torch.testing.assert_close(each, layer(x_seq))  # a sample does not see the others


@pytest.mark.parametrize(("name", "dynamic"), [("time of features", True), ("all", False)])
def test_gates_compiled(name, dynamic):
    layer, x_seq = gate(name)
    x_seq.requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    (want,), (got,) = (torch.autograd.grad((run(x_seq) ** 2).sum(), x_seq) for run in (layer, compiled))
    torch.testing.assert_close(got, want)


def lif(x_seq, v_threshold=1.0):
    return LIFNode(v_threshold=v_threshold, step_mode="m")(x_seq)


def conv_bn(x_seq, conv, norm):
    """A convolution of one point and the normalisation of evaluation, written out on the channel axis 2."""
    x = torch.einsum("oc,tnc...->tno...", conv.weight.flatten(1), x_seq)
    stored = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, var, weight, bias = (held.view(-1, *[1] * (x.ndim - 3)) for held in stored)
    if conv.bias is not None:
        x = x + conv.bias.view(-1, *[1] * (x.ndim - 3))
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def attend(layer, x_seq):
    """What each layer does, in Einstein's notation; h: head, d and e: its channels, l and m: tokens."""
    if isinstance(layer, SpikeDrivenSelfAttention):
        spikes = lif(x_seq)
        q, k, v = (lif(conv_bn(spikes, getattr(layer, f"{part}_conv"), getattr(layer, f"{part}_bn"))) for part in "qkv")
        mask = lif(torch.einsum("tnchw,tnchw->tnc", k, v), 0.5)
        assert 0.1 < spikes.mean() < 0.9
        assert 0.1 < mask.mean() < 0.9
        return x_seq + conv_bn(torch.einsum("tnchw,tnc->tnchw", q, mask), layer.proj_conv, layer.proj_bn)
    if isinstance(layer, SpikingSelfAttention):
        parts = lif(conv_bn(x_seq, *layer.qkv_conv_bn)).chunk(3, 2)
        q, k, v = (part.unflatten(2, (2, 8)) for part in parts)
        inside = lif(0.125 * torch.einsum("tnhdl,tnhdm,tnhem->tnhel", q, k, v).flatten(2, 3), 0.5)
    else:
        q, k = (part.unflatten(2, (2, 8)) for part in lif(conv_bn(x_seq, *layer.qk_conv_bn)).chunk(2, 2))
        if isinstance(layer, TokenQKAttention):
            inside = torch.einsum("tnhl,tnhdl->tnhdl", lif(torch.einsum("tnhdl->tnhl", q), 0.5), k).flatten(2, 3)
        else:
            inside = torch.einsum("tnhd,tnhdl->tnhdl", lif(torch.einsum("tnhdl->tnhd", q), 0.5), k).flatten(2, 3)
    assert 0.1 < inside.mean() < 0.9
    return lif(conv_bn(inside, *layer.proj_conv_bn))


@selves
def test_self_attention_by_its_formula(name):
    layer, x_seq = self_attention(name)
    layer, x_seq = layer.double(), x_seq.double()
    y = layer(x_seq)
    torch.testing.assert_close(y, attend(layer, x_seq), rtol=1e-12, atol=1e-12)
    assert y.unique().numel() > 1


@selves
def test_steps_are_the_sequence(name):
    layer, x_seq = self_attention(name)
    want = layer(x_seq)
    functional.reset_net(layer)
    layer.step_mode = "s"
    assert all(inner.step_mode == "s" for inner in layer.modules() if hasattr(inner, "step_mode"))
    got = torch.stack([layer(x) for x in x_seq])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    functional.set_step_mode(layer, "m")
    assert torch.equal(layer(x_seq), attend(layer, x_seq)) is False  # it goes on from where it was
    functional.reset_net(layer)
    torch.testing.assert_close(layer(x_seq), want)


@selves
def test_gradients_of_smooth_self_attention(name):
    layer, x_seq = self_attention(name)
    layer.double()
    for inner in layer.modules():
        if isinstance(inner, LIFNode):
            inner.surrogate_function.spiking = False
            inner.detach_reset = False

    def run(x_seq):
        functional.reset_net(layer)
        return layer(x_seq)

    assert torch.autograd.gradcheck(run, x_seq[:2, :1, ..., :2].double().requires_grad_(), fast_mode=not WHOLE)


@selves
def test_training_reaches_every_weight(name):
    layer, x_seq = self_attention(name)
    layer.train()
    x_seq.requires_grad_()
    (layer(x_seq) * torch.rand(x_seq.shape)).sum().backward()
    assert x_seq.grad.abs().sum() > 0
    for key, held in layer.named_parameters():
        assert held.grad is not None, key
        assert held.grad.isfinite().all(), key
    assert all(held.grad.abs().sum() > 0 for key, held in layer.named_parameters() if "conv.weight" in key)


@selves
def test_self_attention_in_all_the_ways(name):
    layer, x_seq = self_attention(name)
    fresh = copy.deepcopy(layer)
    y = layer(x_seq)
    functional.reset_net(layer)
    assert torch.equal(layer(x_seq.mT.contiguous().mT), y)
    for other in (fresh, pickle.loads(pickle.dumps(fresh))):
        assert torch.equal(other(x_seq), y)
        functional.reset_net(other)
    assert fresh(x_seq[:1]).shape == (1, *x_seq.shape[1:])
    functional.reset_net(fresh)
    assert fresh(x_seq[:, :0]).shape == x_seq[:, :0].shape
    functional.reset_net(fresh)
    half = fresh.bfloat16()(x_seq.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - y).abs().mean() < 0.1


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["spikformer", "channels", "spike-driven"])
def test_self_attention_compiled(name):
    layer, x_seq = self_attention(name)
    y = layer(x_seq)
    functional.reset_net(layer)
    got = torch.compile(layer, fullgraph=True, backend="aot_eager")(x_seq)
    torch.testing.assert_close(got, y)


def test_names_in_the_state_dict():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def pair(name):
        return {f"{name}.0.weight", *(f"{name}.1.{key}" for key in norm)}

    assert set(SpikingSelfAttention(8).state_dict()) == pair("qkv_conv_bn") | pair("proj_conv_bn")
    assert set(QKAttention(8).state_dict()) == pair("qk_conv_bn") | pair("proj_conv_bn")
    assert set(SpikeDrivenSelfAttention(8).state_dict()) == {
        "proj_conv.bias",
        *(f"{part}_conv.weight" for part in ("q", "k", "v", "proj")),
        *(f"{part}_bn.{key}" for part in ("q", "k", "v", "proj") for key in norm),
    }
    layer = MultiDimensionalAttention(4, 6, 2, 3, 7)
    shapes = {key: tuple(held.shape) for key, held in layer.state_dict().items()}
    assert shapes == {
        "ta.sharedMLP.0.weight": (2, 4, 1, 1, 1),
        "ta.sharedMLP.2.weight": (4, 2, 1, 1, 1),
        "ca.sharedMLP.0.weight": (2, 6, 1, 1, 1),
        "ca.sharedMLP.2.weight": (6, 2, 1, 1, 1),
        "sa.conv.weight": (1, 2, 7, 7),
    }


def test_neurons_of_ones_own():
    layer = SpikingSelfAttention(8, 2, tau=3.0, surrogate_function=ATan())
    assert (layer.qkv_lif.tau, layer.attn_lif.v_threshold, layer.proj_lif.v_threshold) == (3.0, 0.5, 1.0)
    assert layer.attn_lif.detach_reset
    layer = QKAttention(8, 2, "channel", IFNode, v_threshold=0.7)
    assert type(layer.attn_lif) is IFNode
    assert (layer.qk_lif.v_threshold, layer.attn_lif.v_threshold, layer.attn_lif.step_mode) == (0.7, 0.7, "m")
    assert SpikeDrivenSelfAttention(8, step_mode="s").q_conv.step_mode == "s"
    assert isinstance(TokenQKAttention(8), QKAttention)
    assert (TokenQKAttention(8).qka_type, ChannelQKAttention(8).qka_type) == ("token", "channel")


def test_a_monitor_finds_the_neurons_and_the_layer():
    layer, x_seq = self_attention("spikformer")
    net = nn.Sequential(layer)
    with monitor.record(net, "rate") as recording:
        y = net(x_seq)
    assert list(recording) == ["0.qkv_lif", "0.attn_lif", "0.proj_lif"]
    torch.testing.assert_close(recording["0.proj_lif"], y.mean((0, 1)).double())
    functional.reset_net(net)
    with monitor.record(net, "rate", where="0", signal="output") as recording:
        net(x_seq)
    torch.testing.assert_close(recording["0"], y.mean((0, 1)).double())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: TemporalWiseAttention(8), ValueError, "reduction must not be above T, .* reduction=16 and T=8"),
        (lambda: TemporalWiseAttention(8, 0), ValueError, "reduction must be a whole number of at least 1, but got 0"),
        (lambda: TemporalWiseAttention(0, 1), ValueError, "T must be a whole number of at least 1, but got 0"),
        (lambda: TemporalWiseAttention(4, 2, 3), ValueError, "dimension must be one of 2, 4, but got 3"),
        (
            lambda: TemporalWiseAttention(4, 2)(torch.zeros(5, 1, 2, 3, 3)),
            ShapeError,
            r"\[T=4, N, C, H, W\], but got \[T=5",
        ),
        (
            lambda: TemporalWiseAttention(4, 2)(torch.zeros(4, 1, 2)),
            ShapeError,
            r"N, C, H, W\], but got \[T=4, N=1, 2\]",
        ),
        (lambda: TemporalWiseAttention(4, 2)(torch.zeros(4, 1, 2, 3, 3).long()), TypeError, "Convert it first"),
        (
            lambda: MultiDimensionalAttention(4, 8, 2, 2)(torch.zeros(4, 1, 7, 3, 3)),
            ShapeError,
            r"a whole sequence \[T=4, N, C=8, H, W\], but got \[T=4, N=1, 7, 3, 3\]",
        ),
        (lambda: MultiDimensionalAttention(4, 8, 2), ValueError, "reduction_c must not be above C"),
        (lambda: MultiDimensionalAttention(4, 8, 2, 2, 4), ValueError, "kernel_size must be odd"),
        (lambda: MultiDimensionalAttention(4, 8, 2, 2, 3, False, False, False), ValueError, "at least one of use_"),
        (lambda: SpikingSelfAttention(8, 3), ValueError, "dim must be a multiple of num_heads, but got 8 and 3"),
        (lambda: SpikingSelfAttention(8, 0), ValueError, "num_heads must be a whole number of at least 1, but got 0"),
        (lambda: QKAttention(8, 2, "head"), ValueError, "qka_type must be one of 'token', 'channel', but got 'head'"),
        (
            lambda: SpikingSelfAttention(8)(torch.zeros(2, 8, 5)),
            ShapeError,
            r"takes \[T, N, C, L\], but got \[2, 8, 5\]",
        ),
        (
            lambda: SpikingSelfAttention(8)(torch.zeros(4, 2, 6, 5)),
            ShapeError,
            r"C=8 channels, but got \[T=4, N=2, C=6",
        ),
        (
            lambda: SpikeDrivenSelfAttention(8, step_mode="s")(torch.zeros(2, 6, 5, 5)),
            ShapeError,
            r"C=8 channels, but got \[N=2, C=6, H=5, W=5\]",
        ),
    ],
)
def test_refusals_in_words(call, error, text):
    with pytest.raises(error, match=text):
        call()


@gates
def test_gates_need_the_whole_sequence(name):
    layer, _ = gate(name)
    with pytest.raises(ValueError, match="step_mode must be one of 'm', but got 's'"):
        layer.step_mode = "s"
    with pytest.raises(ValueError, match="The network is left as it was"):
        functional.set_step_mode(nn.Sequential(layer), "s")


def test_without_a_gate_over_an_axis_it_may_have_any_size():
    gate = MultiDimensionalAttention(5, 7, 2, 3, use_temporal=False)
    assert gate(torch.rand(3, 2, 7, 4, 6)).shape == (3, 2, 7, 4, 6)
    with pytest.raises(ValueError, match=r"takes a whole sequence \[T, N, C=7, H, W\]"):
        gate(torch.rand(3, 2, 8, 4, 6))
    gate = MultiDimensionalAttention(5, 7, 2, 3, use_channel=False)
    assert gate(torch.rand(5, 2, 8, 4, 6)).shape == (5, 2, 8, 4, 6)
    with pytest.raises(ValueError, match=r"takes a whole sequence \[T=5, N, C, H, W\]"):
        gate(torch.rand(3, 2, 8, 4, 6))
