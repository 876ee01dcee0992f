"""Quantisers against their formulas in exact arithmetic, and their straight gradients."""

import math
from fractions import Fraction

import pytest
import torch

from spikescope import quantize

W, B = torch.tensor(1.7), torch.tensor(-0.3)

QUANTISERS = {  # name -> the quantiser, its formula on a fraction, and the interval that has a gradient
    "round": (quantize.round, lambda x: Fraction(round(x)), (-math.inf, math.inf)),
    "ceil": (quantize.ceil, lambda x: Fraction(math.ceil(x)), (-math.inf, math.inf)),
    "floor": (quantize.floor, lambda x: Fraction(math.floor(x)), (-math.inf, math.inf)),
    "clamp": (
        lambda x: quantize.clamp(x, -0.75, 1.5),
        lambda x: min(max(x, Fraction(-3, 4)), Fraction(3, 2)),
        (-0.75, 1.5),
    ),
    "step": (
        lambda x: quantize.step_quantize(x, 0.375),
        lambda x: round(x / Fraction(3, 8)) * Fraction(3, 8),
        (-math.inf, math.inf),
    ),
    "3 bits": (lambda x: quantize.k_bit_quantize(x, 3), lambda x: Fraction(round(7 * x), 7), (-math.inf, math.inf)),
    "16 bits": (
        lambda x: quantize.k_bit_quantize(x, 16),
        lambda x: Fraction(round(65535 * x), 65535),
        (-math.inf, math.inf),
    ),
    "count": (lambda x: quantize.multi_level_spike_count(x, 2), lambda x: Fraction(round(min(max(x, 0), 2))), (0, 2)),
    "count in a window": (
        lambda x: quantize.multi_level_spike_count(x, 2, (-0.5, 3.0)),
        lambda x: Fraction(round(min(max(x, 0), 2))),
        (-0.5, 3.0),
    ),
    "power of two": (
        quantize.power_of_two_quantize,
        lambda x: Fraction(0) if x == 0 else Fraction(2) ** round(math.log2(abs(x))) * (1 if x > 0 else -1),
        (-math.inf, math.inf),
    ),
}
POINTS = [-7.25, -2.5, -1.5, -0.75, -0.72, -0.5, -0.19, -0.0, 1e-3, 0.25, 0.5, 0.71, 1.37, 1.5, 2.0, 2.5, 3.0, 5.75]
TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

every = pytest.mark.parametrize("name", QUANTISERS)


@every
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_value_against_the_formula_in_exact_arithmetic(name, dtype):
    function, formula, _ = QUANTISERS[name]
    x = torch.tensor(POINTS, dtype=dtype)
    want = torch.tensor([float(formula(Fraction(point))) for point in x.tolist()], dtype=torch.float64)
    got = function(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps, atol=0)


@every
def test_gradient_is_one_inside_and_nothing_outside_also_twice(name):
    function, _, (first, last) = QUANTISERS[name]
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    y = function(x)
    slope = torch.tensor([float(first <= point <= last) for point in POINTS], dtype=torch.float64)
    (grad,) = torch.autograd.grad((y**3).sum() / 3, x, create_graph=True)
    torch.testing.assert_close(grad.detach(), y.detach() ** 2 * slope, rtol=1e-14, atol=0)
    (again,) = torch.autograd.grad(grad.sum(), x)  # the slope of y^2 is 2 y, and only y depends on x
    assert torch.equal(again, 2 * y.detach() * slope)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
@every
def test_per_sample_gradients_and_compiled_code_are_the_same(name):
    function, _, _ = QUANTISERS[name]
    x = torch.tensor(POINTS).view(3, 6)

    def loss(x):
        return (function(x) ** 2).sum()

    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(loss(leaf), leaf)
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(x), want)
    assert torch.equal(torch.func.vmap(function, in_dims=1, out_dims=1)(x), function(x))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    got = compiled(leaf)
    assert torch.equal(got, function(x))
    assert torch.equal(torch.autograd.grad((got**2).sum(), leaf)[0], want)
    assert torch.equal(compiled(x), function(x))  # no gradient wanted: dynamo takes another way


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("function", [quantize.step_quantize, lambda x, number: quantize.clamp(x, -number, number)])
def test_a_number_that_changes_stays_in_the_compiled_graph(function):
    x = torch.tensor(POINTS)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for number in (0.25, 0.5, 0.3):  # from the second on it is a symbol
        assert torch.equal(compiled(x, number), function(x, number))


@every
def test_other_layouts_and_empty_tensors(name):
    function, _, _ = QUANTISERS[name]
    x = torch.tensor(POINTS).view(3, 6)
    assert torch.equal(function(x.T), function(x).T)
    assert torch.equal(function(x[:, ::2]), function(x)[:, ::2])
    assert function(x[:0]).shape == (0, 6)
    assert function(x[0, 0]).shape == ()


def test_infinity_stays_and_nan_stays():
    x = torch.tensor([math.inf, -math.inf, math.nan], requires_grad=True)
    for function in (quantize.round, quantize.ceil, quantize.floor, quantize.power_of_two_quantize):
        y = function(x)
        assert torch.equal(y[:2], x[:2])
        assert y[2].isnan()
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(grad, torch.ones(3))


@pytest.mark.parametrize("dtype", TYPES[:2], ids=str)
def test_powers_of_two_over_the_whole_range(dtype):
    lowest, highest = (-1020, 1022) if dtype == torch.float64 else (-125, 126)
    exponents = torch.arange(lowest, highest, 13)
    powers = torch.tensor([2.0**e for e in exponents.tolist()], dtype=dtype)
    assert torch.equal(quantize.power_of_two_quantize(powers), powers)
    assert torch.equal(quantize.power_of_two_quantize(-1.41 * powers), -powers)
    assert torch.equal(quantize.power_of_two_quantize(1.42 * powers), 2 * powers)


def test_levels_of_half_precision_do_not_leave_its_range():
    x = torch.linspace(0, 1, 11, dtype=torch.float16)
    for k in range(1, 33):
        torch.testing.assert_close(
            quantize.k_bit_quantize(x, k), (torch.round(x.double() * (2**k - 1)) / (2**k - 1)).half(), rtol=1e-3, atol=0
        )
    torch.testing.assert_close(quantize.step_quantize(1000 * x, 1e-4), 1000 * x)


def test_affine_by_hand_and_its_learnable_scale():
    x = torch.tensor([0.0, 0.4, 0.45, 1.0], dtype=torch.float64, requires_grad=True)  # 3 x = 0, 1.2, 1.35, 3
    w, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.5, -0.5))
    y = quantize.affine_k_bit_quantize(x, 2, w, b)
    torch.testing.assert_close(y.detach(), torch.tensor([-0.5, 0.0, 0.0, 1.0], dtype=torch.float64))
    grads = torch.autograd.grad(y.sum(), (x, w, b))
    want = (torch.full((4,), 1.5), torch.tensor(5 / 3), torch.tensor(4.0))
    for got, wanted in zip(grads, want, strict=True):
        torch.testing.assert_close(got, wanted.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_clamp_by_linear(dtype):
    x = torch.tensor([[-3.0, 0.0], [1.0, 5.0]], dtype=dtype)
    y = quantize.clamp_by_linear(x)
    torch.testing.assert_close(y, torch.tensor([[0.0, 3 / 8], [0.5, 1.0]], dtype=dtype), rtol=1e-2, atol=1e-2)
    assert y.dtype == dtype
    constant = quantize.clamp_by_linear(torch.full((3,), 7.0, dtype=dtype))
    assert torch.equal(constant, torch.zeros(3, dtype=dtype))
    x = torch.tensor([0.3, -1.1, 2.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quantize.clamp_by_linear, x)
    with pytest.raises(ValueError, match=r"of shape \[0, 2\] has no smallest element"):
        quantize.clamp_by_linear(x.new_zeros(0, 2))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8], ids=str)
def test_right_shift_over_all_shifts(dtype):
    bounds = torch.iinfo(dtype)
    x = torch.tensor([v for v in (-100, -7, -1, 0, 1, 7, 100, bounds.min, bounds.max) if bounds.min <= v], dtype=dtype)
    for bits in range(bounds.bits):
        want = [(1 if v >= 0 else -1) * (abs(v) >> bits) for v in x.tolist()]
        got = quantize.right_shift_to_zero(x, bits)
        assert got.dtype == dtype
        assert got.tolist() == want


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: quantize.round([1.5]), TypeError, "quantize.round: x must be a torch.Tensor, but got list"),
        (lambda x: quantize.floor(x.long()), TypeError, r"quantize.floor: x must be a floating point .* x.float\(\)"),
        (lambda x: quantize.clamp(x, 1.0, 0.5), ValueError, "must not be above max_value, but got 1.0 and 0.5"),
        (lambda x: quantize.clamp(x, x, 1.0), TypeError, "min_value must be a number, but got tensor"),
        (lambda x: quantize.clamp(x, 0.0, math.nan), TypeError, "max_value must be a number, but got nan"),
        (lambda x: quantize.step_quantize(x, 0.0), ValueError, "step must be above 0 and finite, but got 0.0"),
        (lambda x: quantize.step_quantize(x, W), TypeError, "step must be a number, but got tensor"),
        (lambda x: quantize.k_bit_quantize(x, 0), ValueError, "k must be an int from 1 to 32, but got 0"),
        (lambda x: quantize.k_bit_quantize(x, 33), ValueError, "k must be an int from 1 to 32, but got 33"),
        (lambda x: quantize.k_bit_quantize(x, 2.0), ValueError, "k must be an int from 1 to 32, but got 2.0"),
        (lambda x: quantize.affine_k_bit_quantize(x, 2, 1.5, B), TypeError, "w must be a torch.Tensor, but got float"),
        (lambda x: quantize.multi_level_spike_count(x, 1.5), ValueError, "an int of at least 1, but got 1.5"),
        (lambda x: quantize.multi_level_spike_count(x, 2, (1.0, 0.0)), ValueError, "from a lower to a higher number"),
        (lambda x: quantize.right_shift_to_zero(x, 1), TypeError, "a tensor of integers, but got dtype torch.float32"),
        (lambda x: quantize.right_shift_to_zero(x.int(), 32), ValueError, "an int from 0 to 31, but got 32"),
    ],
)
def test_refusals_in_words(call, error, text):
    with pytest.raises(error, match=text):
        call(torch.rand(3))
