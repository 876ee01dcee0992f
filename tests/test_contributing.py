"""The example of CONTRIBUTING.md does what the text says."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikescope import neuron
from spikescope.fields import Value, value
from spikescope.neuron.integrate import IntegrateAndFire, Membrane

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def example():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names = {
        "IntegrateAndFire": IntegrateAndFire,
        "Membrane": Membrane,
        "Tensor": Tensor,
        "Value": Value,
        "value": value,
    }
    exec(f"from __future__ import annotations\n{code}", names)  # as every file of the package begins
    yield names["SquareInputNode"]
    del neuron.registry["SquareInputNode"]


def test_it_is_registered_and_fires_as_its_docstring_says(example):
    node = example(gain=4.0, step_mode="m")
    assert neuron.registry["SquareInputNode"] is example
    assert node(torch.tensor([[0.5], [1.0]])).flatten().tolist() == [0.0, 1.0]


def test_its_fused_kernel_equals_the_eager_loop(example):
    """Spikes in every bit; gradients to a few roundings of the largest. Far from the threshold the slope s (1 - s) of
    the surrogate is off by a rounding of 1 in the eager loop, which subtracts near numbers, and in the kernel is not.
    """
    x = torch.randn(9, 3, 37, generator=torch.Generator().manual_seed(0))
    found = {}
    for backend in ("torch", "auto"):
        node = example(gain=torch.nn.Parameter(torch.tensor(1.37)), step_mode="m", backend=backend)
        x_seq = x.clone().requires_grad_()
        y = node(x_seq)
        y.sum().backward()
        found[backend] = y, x_seq.grad, node.gain.grad
    assert node.implementation(x).backend != "torch"
    assert torch.equal(found["torch"][0], found["auto"][0])
    for eager, fused in zip(found["torch"][1:], found["auto"][1:], strict=True):
        atol = 16 * torch.finfo(eager.dtype).eps * eager.abs().max().item()
        torch.testing.assert_close(fused, eager, rtol=0, atol=atol)


def test_its_arguments_are_checked_in_words(example):
    with pytest.raises(ValueError, match=r"SquareInputNode: tau must be above 1\.0, but got 0\.5"):
        example(tau=0.5)
