"""Sums of squares by the kernel: those of float64, for every layout, number of threads and kind of number."""

import math

import pytest
import torch

from spikescope.monitor.reduce import squares
from spikescope.monitor.reduce.squares import step_squares

CASES = {
    "one run of memory": lambda: torch.randn(3, 5, 70),
    "several blocks": lambda: torch.randn(2, 3, 20_011),
    "channels last": lambda: torch.randn(6, 4, 5, 7).to(memory_format=torch.channels_last).view(2, 3, 4, 5, 7),
    "with gaps": lambda: torch.randn(3, 8, 6)[:, ::2, 1:],
    "of one step shown again": lambda: torch.randn(4, 5).expand(3, 4, 5),
    "backwards in time": lambda: torch.randn(4, 9).flip(0),
    "a step of no axes": lambda: torch.randn(7),
    "no neurons": lambda: torch.randn(3, 0),
    "no steps": lambda: torch.randn(0, 3),
    "one that learns": lambda: torch.randn(2, 9).requires_grad_(),
    "negative by a flag": lambda: torch.imag(torch.randn(2, 9, dtype=torch.complex64).conj()),
    "half": lambda: torch.randn(2, 9).half(),
    "bfloat16": lambda: torch.randn(2, 9).bfloat16(),
    "double": lambda: torch.randn(2, 9).double(),
    "whole numbers": lambda: torch.randint(-3, 4, (2, 9)),
    "large": lambda: torch.full((2, 9), 3e38),
    "small": lambda: torch.full((2, 9), 1e-40),
    "infinite": lambda: torch.tensor([[1.0, math.inf], [2.0, 3.0]]),
    "NaN": lambda: torch.tensor([[1.0, math.nan], [2.0, 3.0]]),
}


@pytest.mark.parametrize("compiled", [True, False], ids=["kernel", "without a compiler"])
@pytest.mark.parametrize("name", CASES)
def test_sums_of_squares_are_those_of_float64(name, compiled, monkeypatch):
    torch.manual_seed(0)
    x = CASES[name]()
    if not compiled:
        monkeypatch.setattr(squares, "_kernel", lambda: None)
    found = step_squares(x)
    want = x.detach().double().square().reshape(len(x), -1).sum(1) if x.numel() else x.new_zeros(len(x)).double()
    torch.testing.assert_close(found, want, rtol=1e-12, atol=0, equal_nan=True)
    assert found.dtype is torch.float64
    assert not found.requires_grad


def test_the_sum_is_the_same_for_any_number_of_threads():
    x, before = torch.randn(3, 3 * squares.BLOCK + 5), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(step_squares(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_lies_in_another_order_is_not_copied():
    x = CASES["channels last"]()
    assert squares._in_order(x).data_ptr() == x.data_ptr()
