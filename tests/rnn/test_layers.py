"""Layers against PyTorch's own, against single cells, and in all the ways a network is run."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from rnn_cases import LAYERS, smooth
from torch import nn

from spikescope import functional, monitor, rnn
from spikescope.errors import ShapeError
from spikescope.surrogate import ATan

every = pytest.mark.parametrize("name", LAYERS)
TORCH = {"GRU": nn.GRU, "VanillaRNN": nn.RNN}


def made(name, *args, seed=0, **kwargs):
    torch.manual_seed(seed)
    net = LAYERS[name](*args, **kwargs)
    with torch.no_grad():
        for held in net.parameters():
            held.mul_(3)  # so that all layers fire now and then
    return net


def tensors(states):
    return states if isinstance(states, tuple) else (states,)


def with_weights_of(theirs, ours):
    """Load PyTorch's weights, whose names end in the layer and, for the way back, in `_reverse`."""
    weights = {}
    for key, held in theirs.state_dict().items():
        kind, side, layer, *way = key.split("_")
        cells = "cells_reverse" if way else "cells"
        weights[f"{cells}.{layer[1:]}.linear_{side}.{kind}"] = held
    ours.load_state_dict(weights)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", TORCH)
def test_smooth_layer_equals_that_of_pytorch(name, layers, bidirectional):
    torch.manual_seed(5)
    theirs = TORCH[name](3, 4, layers, bidirectional=bidirectional, dtype=torch.float64)
    ours = made(name, 3, 4, layers, bidirectional=bidirectional, **smooth(name)).double()
    with_weights_of(theirs, ours)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    ways = 1 + bidirectional
    h = torch.randn(layers, ways, 2, 4, dtype=torch.float64)
    wanted, wanted_h = theirs(x, h.flatten(0, 1))
    got, got_h = ours(x, h.transpose(0, 1).flatten(0, 1))  # ours has the layers of one direction after the other
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)
    wanted_h = wanted_h.unflatten(0, (layers, ways)).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(got_h, wanted_h, rtol=1e-12, atol=1e-14)


@every
@pytest.mark.parametrize("spiking", [True, False])
def test_layers_are_cells_on_top_of_each_other(name, spiking):
    net = made(name, 3, 9, 2, **({} if spiking else smooth(name))).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64) * 3
    want = []
    states = [None, None]
    for step in x:
        below = step
        for number, cell in enumerate(net.cells):
            states[number] = cell(below, states[number])
            below = tensors(states[number])[0]
        want.append(below)
    got, ends = net(x)
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-12, atol=1e-14)
    assert len(set(got.unique().tolist())) > 1  # there is something to compare
    for end, each in zip(tensors(ends), zip(*map(tensors, states), strict=True), strict=True):
        torch.testing.assert_close(end, torch.stack(each), rtol=1e-12, atol=1e-14)


@every
def test_both_directions_are_two_runs(name):
    net = made(name, 3, 4, 1, bidirectional=True)
    x = torch.randn(6, 2, 3) * 3
    states = tuple((torch.rand(2, 2, 4) < 0.5).float() for _ in range(net.states_num()))
    got, ends = net(x, states if len(states) > 1 else states[0])
    for way, cells in enumerate((net.cells, net.cells_reverse)):
        single = made(name, 3, 4, 1)
        single.cells.load_state_dict(cells.state_dict())
        start = tuple(state[way : way + 1] for state in states)
        y, end = single(x.flip(0) if way else x, start if len(start) > 1 else start[0])
        assert torch.equal(got[..., 4 * way : 4 * way + 4], y.flip(0) if way else y)
        for held, wanted in zip(tensors(ends), tensors(end), strict=True):
            assert torch.equal(held[way : way + 1], wanted)
    assert not torch.equal(got[..., :4], got[..., 4:])


@every
def test_a_sequence_in_parts_is_the_whole_sequence(name):
    net = made(name, 3, 8, 2)
    x = torch.randn(9, 2, 3) * 3
    first, states = net(x[:4])
    second, ends = net(x[4:], states)
    whole, wanted = net(x)
    assert torch.equal(torch.cat((first, second)), whole)
    assert all(map(torch.equal, tensors(ends), tensors(wanted)))
    assert not torch.equal(net(x[4:])[0], second)  # the state matters


def test_surrogate_gradient_by_hand():
    """Two steps of one neuron: the gradient is the product of the slopes on each way back."""
    net = made("VanillaRNN", 1, 1, 1, bias=False, surrogate_function=ATan(2.0)).double()
    net.load_state_dict(
        {"cells.0.linear_ih.weight": torch.tensor([[2.0]]), "cells.0.linear_hh.weight": -torch.ones(1, 1)}
    )
    y, _ = net(torch.tensor([[[0.25]], [[0.375]]], dtype=torch.float64))
    assert y.flatten().tolist() == [1, 0]  # 0.5, then 0.75 - 1
    y[1].sum().backward()
    first, second = (1 / (1 + (math.pi * a) ** 2) for a in (0.5, -0.25))
    cell = net.cells[0]
    assert math.isclose(cell.weight_hh().grad.item(), second * 1, rel_tol=1e-12)
    assert math.isclose(cell.weight_ih().grad.item(), second * (0.375 - first * 0.25), rel_tol=1e-12)


@every
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_of_the_smooth_layer(name, bidirectional):
    net = made(name, 2, 2, 2, bidirectional=bidirectional, **smooth(name)).double()
    x = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: (lambda y, s: (y, *tensors(s)))(*net(x)), x)


class TestDropout:
    def net(self, p, invariant):
        net = made("VanillaRNN", 5, 40, 2, True, p, invariant)
        seen = []
        net.cells[1].linear_ih.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        return net, seen

    @pytest.mark.parametrize("invariant", [False, True])
    def test_it_acts_between_layers_in_training_alone(self, invariant):
        net, seen = self.net(0.25, invariant)
        x = torch.randn(30, 3, 5) * 3
        spikes, last = [], []
        net.outputs[0].register_forward_hook(lambda module, args, output: spikes.append(output))
        net.outputs[1].register_forward_hook(lambda module, args, output: last.append(output))
        y, _ = net(x)
        assert torch.equal(y, last[0])
        (inside,), (spike,) = seen, spikes
        assert inside.unique().tolist() == pytest.approx([0.0, 4 / 3])
        kept = (inside > 0).float().sum() / spike.sum()
        assert abs(kept.item() - 0.75) < 0.12
        dropped = (spike > 0) & (inside == 0)
        passed = inside > 0
        assert (dropped.any(0) & passed.any(0)).any().item() == (not invariant)  # one mask for all steps, or not
        assert not torch.equal(dropped.any(0)[0], dropped.any(0)[1])  # each sample has its own
        net.eval()
        assert torch.equal(net(x)[0], net(x)[0])
        assert torch.equal(seen[-1], spikes[-1])

    @pytest.mark.parametrize("invariant", [False, True])
    def test_nothing_passes_with_probability_one(self, invariant):
        net, seen = self.net(1.0, invariant)
        net(torch.randn(4, 3, 5))
        assert not seen[0].any()

    def test_between_no_layers_it_warns(self):
        with pytest.warns(UserWarning, match="SpikingLSTM: dropout_p=0.5 does nothing"):
            rnn.SpikingLSTM(3, 4, 1, dropout_p=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rnn.SpikingLSTM(3, 4, 2, dropout_p=0.5)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_gives_spikes(name, dtype):
    net = made(name, 3, 8, 2).to(dtype)
    x = torch.randn(5, 2, 3).to(dtype) * 3
    y, states = net(x)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) == {0.0, 1.0}
    y.sum().backward()
    assert all(held.grad.isfinite().all() for held in net.parameters())
    assert torch.equal(net(x, states)[0][:1], net(torch.cat((x, x)))[0][5:6])


@every
def test_mixed_precision_gives_spikes_and_keeps_the_dtype(name):
    net = made(name, 3, 8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y, states = net(torch.randn(5, 2, 3) * 3)
    assert y.dtype == torch.float32
    assert all(state.dtype == torch.float32 for state in tensors(states))
    assert set(y.unique().tolist()) == {0.0, 1.0}
    y.sum().backward()


@every
def test_one_step_no_samples_and_other_layouts(name):
    net = made(name, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 3, 2).transpose(1, 2) * 3
    assert torch.equal(net(x)[0], net(x.contiguous())[0])
    assert net(x[:1])[0].shape == (1, 2, 8)
    y, states = net(x[:, :0])
    assert y.shape == (5, 0, 8)
    assert all(state.shape == (4, 0, 4) for state in tensors(states))
    y.sum().backward()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
@every
@pytest.mark.slow(keep=1)
def test_compiled_code_is_the_same(name):
    net = made(name, 3, 4, 2, bidirectional=name == "GRU")
    x = torch.randn(4, 2, 3) * 3
    y, states = net(x)
    y.sum().backward()
    want = [held.grad.clone() for held in net.parameters()]
    net.zero_grad()
    got, ends = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(got, y)
    assert all(map(torch.equal, tensors(ends), tensors(states)))
    got.sum().backward()
    for held, grad in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(held.grad, grad, rtol=1e-5, atol=1e-6)


@every
def test_gradients_of_each_sample(name):
    net = made(name, 3, 4, 2)
    x = torch.randn(4, 5, 3) * 3
    weights = dict(net.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(net, weights, (x.unsqueeze(1),))[0].sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(weights, x)
    net(x)[0].sum().backward()
    for key, held in net.named_parameters():
        torch.testing.assert_close(each[key].sum(0), held.grad, rtol=1e-5, atol=1e-6)


@every
def test_copies_and_weights(name):
    net, other = (made(name, 3, 4, 2, bidirectional=True, seed=seed) for seed in (0, 1))
    x = torch.randn(5, 2, 3) * 3
    want = net(x)[0]
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(copied(x)[0], want)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x)[0], want)
    assert "cells_reverse.1.linear_hh.bias" in net.state_dict()
    assert net.cells[1].input_size == 8


@every
def test_a_monitor_sees_the_spikes_of_each_layer(name):
    net = nn.ModuleDict({"memory": made(name, 3, 4, 2, dropout_p=0.5)})
    x = torch.randn(5, 2, 3) * 3
    with monitor.record(net, "rate", where="**.outputs.*", signal="output") as recording:
        y, _ = net["memory"](x)
    assert list(recording) == ["memory.outputs.0", "memory.outputs.1"]
    torch.testing.assert_close(recording["memory.outputs.1"], y.mean((0, 1)).double())


def test_only_whole_sequences():
    net = nn.Sequential(rnn.SpikingGRU(3, 4, 1))
    functional.set_step_mode(net, "m")
    with pytest.raises(ValueError, match=r"not supported by 0 \(SpikingGRU\). The network is left"):
        functional.set_step_mode(net, "s")
    assert net[0].step_mode == "m"


def test_a_cell_of_ones_own():
    class Inverted(rnn.SpikingVanillaRNNCell):
        def step(self, drive, states):
            return (1 - super().step(drive, states)[0],)

    class Layer(rnn.SpikingRNNBase):
        @staticmethod
        def base_cell():
            return Inverted

    net = Layer(3, 4, 1, surrogate_function=ATan())
    assert isinstance(net.cells[0].surrogate_function, ATan)
    x = torch.randn(1, 2, 3)
    assert torch.equal(net(x)[0][0], 1 - (net.cells[0].linear_ih(x[0]) + net.cells[0].linear_hh.bias >= 0).float())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda net: net(torch.zeros(4, 2, 5)), ShapeError, r"\[T, N, input_size=3\] of .*, but got \[T=4, N=2, 5\]"),
        (lambda net: net(torch.zeros(4, 3)), ShapeError, r"but got \[T=4, N=3\]"),
        (lambda net: net(torch.zeros(0, 2, 3)), ShapeError, r"at least one step, but got \[T=0, N=2, 3\]"),
        (lambda net: net(torch.zeros(4, 2, 3).long()), TypeError, "integrates real numbers"),
        (lambda net: net(torch.zeros(4, 2, 3), torch.zeros(4, 2, 6)), TypeError, r"a tuple \(h, c\)"),
        (
            lambda net: net(torch.zeros(4, 2, 3), (torch.zeros(2, 2, 6), torch.zeros(4, 2, 6))),
            ShapeError,
            r"the state h must be \[num_layers \* directions, N, hidden_size\] = \[4, 2, 6\], but got \[2, 2, 6\]",
        ),
        (
            lambda net: rnn.SpikingLSTM(3, 4, 0),
            ValueError,
            "num_layers must be a whole number of at least 1 and at most 65536, but got 0",
        ),
        (
            lambda net: rnn.SpikingLSTM(0, 4, 1),
            ValueError,
            "input_size must be a whole number of at least 1, but got 0",
        ),
        (
            lambda net: rnn.SpikingLSTM(3, 4, 2, True, 1.5),
            ValueError,
            "dropout_p must be at least 0 and at most 1, but got",
        ),
    ],
)
def test_refusals_in_words(call, error, text):
    with pytest.raises(error, match=text):
        call(rnn.SpikingLSTM(3, 6, 2, bidirectional=True))
