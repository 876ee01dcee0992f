"""What is no number is refused in words by every layer that computes with one."""

import math

import pytest
import torch

from spikescope import layer

MADE = {
    "p": [layer.Dropout, layer.Dropout2d, lambda p: layer.DropConnectLinear(2, 2, p=p)],
    "tau": [layer.SynapseFilter],
    "k": [lambda k: layer.NeuNorm(2, 3, 3, k=k)],
    "alpha": [lambda alpha: layer.ThresholdDependentBatchNorm2d(alpha, 1.0, 2)],
    "v_th": [lambda v_th: layer.ThresholdDependentBatchNorm2d(1.0, v_th, 2)],
}
ROWS = [(name, make) for name, made in MADE.items() for make in made]


@pytest.mark.parametrize(("name", "make"), ROWS, ids=[f"{name}{i}" for i, (name, _) in enumerate(ROWS)])
@pytest.mark.parametrize("given", ["half", None, math.nan, True], ids=["text", "none", "nan", "bool"])
def test_what_is_no_number_is_refused(name, make, given):
    with pytest.raises(ValueError, match=rf"^[A-Z]\w+: {name} must be .*, but got {given!r}\."):
        make(given)


@pytest.mark.parametrize(("name", "make"), ROWS, ids=[f"{name}{i}" for i, (name, _) in enumerate(ROWS)])
def test_a_tensor_of_one_is_a_number(name, make):
    make(torch.tensor(2.0 if name == "tau" else 0.5))
