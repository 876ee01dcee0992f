"""Cells against PyTorch's own with smooth functions for spikes, and against logic written out with spikes."""

import copy
import math
import pickle

import pytest
import torch
from rnn_cases import CELLS, Tanh, smooth
from torch import nn

from spikescope import rnn
from spikescope.errors import ShapeError
from spikescope.surrogate import ATan, Erf, Sigmoid

every = pytest.mark.parametrize("name", CELLS)
TORCH = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "VanillaRNN": nn.RNNCell}


def tensors(states):
    return states if isinstance(states, tuple) else (states,)


def theirs_and_ours(name, bias=True):
    torch.manual_seed(3)
    theirs = TORCH[name](3, 5, bias, dtype=torch.float64)
    ours = CELLS[name](3, 5, bias, **smooth(name)).double()
    names = {key: key.replace("weight_", "linear_").replace("bias_", "linear_") for key in theirs.state_dict()}
    weights = {f"{names[key]}.{key.split('_')[0]}": held for key, held in theirs.state_dict().items()}
    ours.load_state_dict(weights)
    return theirs, ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["GRU", "VanillaRNN"])
def test_smooth_cell_equals_that_of_pytorch(name, bias):
    theirs, ours = theirs_and_ours(name, bias)
    x, h = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x, h), theirs(x, h), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("bias", [True, False])
def test_smooth_memory_equals_that_of_pytorch_but_for_the_tanh_of_the_output(bias):
    theirs, ours = theirs_and_ours("LSTM", bias)
    x, h, c = (torch.randn(4, size, dtype=torch.float64) for size in (3, 5, 5))
    c /= 3
    wanted_h, wanted_c = theirs(x, (h, c))
    assert wanted_c.max() < 1  # where nothing is bounded
    got_h, got_c = ours(x, (h, c))
    torch.testing.assert_close(got_c, wanted_c, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(got_h, wanted_h * wanted_c / torch.tanh(wanted_c), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours(x)[1], theirs(x)[1], rtol=1e-13, atol=1e-15)


def lstm_logic(a, h, c, units):
    i, f, g, o = ([a[part * units + unit] >= 0 for unit in range(units)] for part in range(4))
    c = [(f[u] and c[u]) or (i[u] and g[u]) for u in range(units)]
    return [o[u] and c[u] for u in range(units)], c


@pytest.mark.parametrize("second", [None, ATan()], ids=["one surrogate", "two"])
def test_spiking_memory_equals_its_logic(second):
    """With spikes for gates the memory is a flip-flop: set by `i and g`, kept by `f`, shown by `o`."""
    torch.manual_seed(0)
    cell = rnn.SpikingLSTMCell(2, 3, surrogate_function2=second).double()
    states, h, c = None, [False] * 3, [False] * 3
    weights = {key: held.tolist() for key, held in cell.state_dict().items() if "linear" in key}
    seen = set()
    for x in torch.randn(40, 2, dtype=torch.float64) * 2:
        a = [
            sum(w * v for w, v in zip(weights["linear_ih.weight"][k], x.tolist(), strict=True))
            + sum(w * v for w, v in zip(weights["linear_hh.weight"][k], h, strict=True))
            + weights["linear_ih.bias"][k]
            + weights["linear_hh.bias"][k]
            for k in range(12)
        ]
        h, c = lstm_logic(a, h, c, 3)
        states = cell(x.unsqueeze(0), states)
        assert [state.bool().tolist() for state in states] == [[h], [c]]
        seen.update(zip(h, c, strict=True))
    assert seen == {(False, False), (False, True), (True, True)}  # shown and hidden memories came up


def flip_flop():
    """One memory whose gates follow inputs of their own: x = (i, f, g, o)."""
    cell = rnn.SpikingLSTMCell(4, 1, bias=False).double()
    cell.load_state_dict({"linear_ih.weight": torch.eye(4), "linear_hh.weight": torch.zeros(4, 1)})
    return cell


def test_memory_is_bounded_and_the_gradient_goes_through_the_bound():
    cell = flip_flop()
    x = torch.full((1, 4), 0.1, dtype=torch.float64, requires_grad=True)
    h0, c0 = (torch.ones(1, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    h, c = cell(x, (h0, c0))  # all gates fire: f c + i g = 2
    assert (h.item(), c.item()) == (1, 1)
    x_grad, c_grad = torch.autograd.grad(h, (x, c0))
    slope = 2 / math.sqrt(math.pi) * math.exp(-4 * 0.01)  # of Erf at 0.1
    torch.testing.assert_close(x_grad, torch.full((1, 4), slope, dtype=torch.float64))
    assert c_grad.item() == 1
    cell.surrogate_function1.spiking = False
    _, c = cell(10 * x, (h0, c0))
    assert c.item() == 1
    assert torch.autograd.grad(c, c0)[0].item() == 0  # the smooth cell has its true derivative


def test_memory_narrower_than_float_is_kept_in_float():
    cell = flip_flop().half()
    cell.surrogate_function1.spiking = False
    h, c = cell(torch.full((2, 4), 0.1, dtype=torch.float16))
    assert (h.dtype, c.dtype) == (torch.float16, torch.float32)
    h, c = cell(torch.full((2, 4), 0.1, dtype=torch.float16), (h, c))
    assert (h.dtype, c.dtype) == (torch.float16, torch.float32)


@every
@pytest.mark.parametrize("bias", [True, False])
def test_weights_start_as_those_of_pytorch_and_have_names(name, bias):
    torch.manual_seed(0)
    cell = CELLS[name](7, 400, bias)
    bound = 1 / 20
    for held in cell.parameters():
        assert held.abs().max() <= bound
        assert held.abs().max() > 0.9 * bound
        assert abs(held.mean().item()) < 0.2 * bound
    assert cell.weight_ih() is cell.linear_ih.weight
    assert cell.weight_hh() is cell.linear_hh.weight
    assert cell.bias_ih() is cell.linear_ih.bias
    assert cell.bias_hh() is cell.linear_hh.bias
    assert (cell.bias_ih() is None) == (not bias)


def test_drawing_anew_leaves_a_learnable_surrogate_alone():
    cell = rnn.SpikingVanillaRNNCell(2, 3, surrogate_function=Sigmoid(alpha=nn.Parameter(torch.tensor(5.0))))
    before = cell.weight_hh().clone()
    cell.reset_parameters()
    assert cell.surrogate_function.alpha.item() == 5.0
    assert not torch.equal(cell.weight_hh(), before)


@every
def test_surrogates_are_their_own_unless_given(name):
    first, second = CELLS[name](2, 3), CELLS[name](2, 3)
    key = "surrogate_function" if name == "VanillaRNN" else "surrogate_function1"
    assert isinstance(getattr(first, key), Erf)
    assert getattr(first, key) is not getattr(second, key)
    given = ATan()
    assert getattr(CELLS[name](2, 3, True, given), key) is given


@every
def test_gradients_of_the_smooth_cell(name):
    torch.manual_seed(1)
    cell = CELLS[name](2, 3, **smooth(name)).double()
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    states = [torch.rand(2, 3, dtype=torch.float64, requires_grad=True) for _ in cell.states]

    def run(x, *states):
        return cell(x, states if len(states) > 1 else states[0])

    assert torch.autograd.gradcheck(run, (x, *states))
    assert torch.autograd.gradgradcheck(run, (x, *states))


@every
def test_copies_empty_batches_and_other_layouts(name):
    torch.manual_seed(0)
    cell = CELLS[name](3, 4)
    x = torch.randn(3, 5).T
    want = tensors(cell(x))
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert all(map(torch.equal, tensors(other(x.contiguous())), want))
    assert all(state.shape == (0, 4) for state in tensors(cell(x[:0])))


def test_refusals_in_words():
    cell = rnn.SpikingLSTMCell(3, 4)
    x, h = torch.zeros(2, 3), torch.zeros(2, 4)
    with pytest.raises(ShapeError, match=r"SpikingLSTMCell takes one step \[N, input_size=3\], but got \[N=2, 5\]"):
        cell(torch.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"but got \[N=7, 2, 3\]"):
        cell(torch.zeros(7, 2, 3))
    with pytest.raises(TypeError, match="Convert it first"):
        cell(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"a tuple \(h, c\) of tensors, or None for zeros, but got Tensor"):
        cell(x, h)
    with pytest.raises(TypeError, match="but got 3 of them"):
        cell(x, (h, h, h))
    with pytest.raises(ShapeError, match=r"the state c must be \[N, hidden_size\] = \[2, 4\], but got \[1, 4\]"):
        cell(x, (h, h[:1]))
    with pytest.raises(TypeError, match="SpikingGRUCell: the states must be a tensor, or None for zeros, but got int"):
        rnn.SpikingGRUCell(3, 4)(x, 1)
    with pytest.raises(ValueError, match="SpikingGRUCell: hidden_size must be a whole number of at least 1, but got 0"):
        rnn.SpikingGRUCell(3, 0)
    with pytest.raises(TypeError, match=r"surrogate_function2 must be a surrogate function, for example Erf\(\)"):
        rnn.SpikingGRUCell(3, 4, surrogate_function2=nn.Tanh())
    with pytest.raises(TypeError, match="SpikingVanillaRNNCell: surrogate_function must be a surrogate"):
        rnn.SpikingVanillaRNNCell(3, 4, surrogate_function=torch.sigmoid)
    with pytest.raises(ValueError, match="must both spike or neither, but their `spiking` is True and False"):
        rnn.SpikingLSTMCell(3, 4, surrogate_function2=Tanh(spiking=False))
    cell = rnn.SpikingGRUCell(3, 4, surrogate_function2=ATan())
    cell.surrogate_function2.spiking = False
    with pytest.raises(ValueError, match="must both spike or neither"):
        cell(x)
