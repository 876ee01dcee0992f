"""The arguments of every reducer: what is no number is refused when it is made, and numbers of any kind are taken."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from spikescope.monitor import reduce

ARGUMENTS = [
    (cls, field.name)
    for cls in reduce.registry.values()
    for field in (dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ())
    if field.init and field.name != "seed"  # NumPy says what that may be
]


@pytest.mark.parametrize(("cls", "name"), ARGUMENTS, ids=lambda held: getattr(held, "__name__", held))
@pytest.mark.parametrize(
    "given", ["many", object(), 1j, math.nan, True], ids=["text", "object", "complex", "nan", "bool"]
)
def test_what_is_no_number_is_refused_when_a_reducer_is_made(cls, name, given):
    if given is True and isinstance(getattr(cls, name, None), bool):
        assert getattr(cls(**{**cls.example, name: given}), name) is True
        return
    with pytest.raises((ValueError, TypeError), match=rf"^{cls.__name__}: .*{name}.* must be .*"):
        cls(**{**cls.example, name: given})


def test_negative_synapses_are_refused():
    with pytest.raises(ValueError, match="SynOps: fan_out must be at least 0, but got -1"):
        reduce.SynOps(-1)


def test_numbers_of_numpy_are_taken():
    whole, real = np.int64, np.float32
    assert reduce.LogHistogram(whole(-2), whole(1), whole(1)) == reduce.LogHistogram(-2, 1, 1)
    assert reduce.Fano(whole(2)) == reduce.Fano(2)
    assert reduce.Quantile(real(0.5), whole(7)) == reduce.Quantile(0.5, 7)
    assert (
        reduce.Quantile(np.array([0.25, 0.5]))
        == reduce.Quantile((0.25, 0.5))
        == reduce.Quantile(torch.tensor([0.25, 0.5]))
    )
    assert reduce.Histogram(np.array([0.25, 0.5])) == reduce.Histogram((0.25, 0.5))


@pytest.mark.parametrize("given", [[2.0, -1.0], [2.0, float("nan")]])
def test_synapses_of_each_neuron_are_at_least_none(given):
    with pytest.raises(ValueError, match="SynOps: fan_out must be at least 0 for each neuron"):
        reduce.SynOps(torch.tensor(given))
    assert torch.equal(reduce.SynOps(torch.tensor([2.0, 0.0])).fan_out, torch.tensor([2.0, 0.0]))
