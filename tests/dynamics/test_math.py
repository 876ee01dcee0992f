"""The functions of math.h against the same functions of Python, up to the ends of their ranges."""

import ctypes
import math
from importlib import resources

import numpy as np
import pytest

from spikescope.toolchain.compiler import load

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def library():
    text = resources.files("spikescope.dynamics.cpp").joinpath("math.h").read_text()
    for real in ("float", "double"):
        for name in ("exponential", "logistic", "logistic_slope", "hyperbolic_tangent"):
            text += f'extern "C" void {name}_{real}(const {real}* x, {real}* y, long n) '
            text += f"{{ for (long i = 0; i < n; i++) y[i] = {name}(x[i]); }}\n"
    return load(text)


def call(library, name, values, dtype=np.float32):
    x = np.asarray(values, dtype=dtype)
    y = np.empty_like(x)
    real = "float" if dtype is np.float32 else "double"
    library[f"{name}_{real}"](
        x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_long(len(x))
    )
    return y.astype(np.float64), x.astype(np.float64)


def sigmoid(x):
    return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def test_the_exponential_is_good_to_two_units_all_over_its_range(library):
    x = np.concatenate(
        [np.linspace(-87.29, 88.7227, 100_001), np.linspace(88.3, 88.7227, 5_001), np.linspace(-1, 1, 999)]
    )
    got, x = call(library, "exponential", x)
    assert np.max(np.abs(got / np.exp(x) - 1)) < 2 * EPS


def test_the_exponential_beyond_its_range(library):
    got, _ = call(library, "exponential", [-math.inf, -1e30, -88.0, 88.73, 1e30, math.inf, math.nan, 0.0, -0.0])
    np.testing.assert_array_equal(got, [0, 0, 0, math.inf, math.inf, math.inf, math.nan, 1, 1])
    got, x = call(library, "exponential", [-87.31, -87.33])
    assert np.all(np.abs(got - np.exp(x)) < np.finfo(np.float32).tiny * 1.1)


def test_logistic_and_hyperbolic_tangent(library):
    x = np.concatenate([np.linspace(-20, 20, 20_001), np.linspace(-0.2, 0.2, 2_001), [-1e-30, 0.0, 1e-30, 99, -85]])
    for name, function in (("logistic", sigmoid), ("hyperbolic_tangent", np.tanh)):
        got, wide = call(library, name, x)
        want = function(wide)
        assert np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-37)) < 5 * EPS
    got, _ = call(library, "logistic", [-math.inf, math.inf, math.nan, 200, -200])
    np.testing.assert_array_equal(got, [0, 1, math.nan, 1, 0])
    got, _ = call(library, "hyperbolic_tangent", [-math.inf, math.inf, math.nan])
    np.testing.assert_array_equal(got, [-1, 1, math.nan])


def slope(x):
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def test_the_slope_of_the_logistic_function(library):
    x = np.concatenate([np.linspace(-86, 86, 50_001), np.linspace(-1, 1, 999), [0.0, -0.0, 1e-30, -1e-30]])
    for dtype, eps in ((np.float32, EPS), (np.float64, float(np.finfo(np.float64).eps))):
        got, wide = call(library, "logistic_slope", x, dtype)
        assert np.max(np.abs(got / slope(wide) - 1)) < 6 * eps
    got, _ = call(library, "logistic_slope", [-math.inf, math.inf, 1e30, -100.0, math.nan])
    assert np.isnan(got[-1])
    np.testing.assert_array_equal(got[:-1], 0)  # an infinite factor times this is NaN, as in the eager loop


@pytest.mark.parametrize("name", ["exponential", "logistic", "logistic_slope", "hyperbolic_tangent"])
def test_every_nan_stays_one(library, name):
    nans = np.array([0x7FC00000, 0x7FC00001, 0xFFC00003, 0x7FFFFFFF], dtype=np.uint32).view(np.float32)
    got, _ = call(library, name, nans)
    assert np.isnan(got).all()


def test_double_precision_is_that_of_the_c_library(library):
    for name, function in (("exponential", np.exp), ("hyperbolic_tangent", np.tanh), ("logistic", sigmoid)):
        got, x = call(library, name, np.linspace(-9.1, 9.3, 501), np.float64)
        np.testing.assert_allclose(got, function(x), rtol=4 * np.finfo(np.float64).eps)
