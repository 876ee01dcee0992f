"""Declared fields: the constructor that follows from them, the checks, and what is a Parameter."""

import copy
import inspect
import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import neuron, surrogate
from spikescope.fields import Declared, Value, option, part, value


class Base(Declared):
    gain: Value = value(1.0, above=0.0)
    offset: Value | None = value(None, optional=True)


class Example(Base):
    rate: Value = value(at_least=0.0, below=2.0)
    kind: str = option("linear", choices=("linear", "cubic"))
    count: int = option(3, kind=int, at_least=1)
    inner: nn.Module = part(nn.Identity)
    scale: Value = value(0.5, learnable=True)
    state: Value = value(init=False)

    def prepare(self):
        self.state = torch.zeros(2)


def test_the_constructor_follows_from_the_fields():
    assert list(inspect.signature(Example).parameters) == [
        *("rate", "kind", "count", "inner", "scale"),
        *("gain", "offset"),
    ]
    module = Example(1.5, "cubic", gain=3)
    assert (module.rate, module.kind, module.count, module.gain, module.offset) == (1.5, "cubic", 3, 3.0, None)
    assert isinstance(module.gain, float), "an int is a number of the equations"
    assert Example.dynamic == ("rate", "scale", "state", "gain", "offset")


def test_a_redeclared_field_takes_its_place_among_the_own():
    class Changed(Base):
        other: Value = value(2.0)
        gain: Value = value(5.0)

    assert list(Changed.arguments.parameters) == ["other", "gain", "offset"]
    assert Changed().gain == 5.0
    assert Base().gain == 1.0


def test_params_are_the_present_values():
    module = Example(0.25)
    before = module.params()
    module.rate = 0.75
    assert (before.rate, module.params().rate) == (0.25, 0.75)
    assert module.params().inner is module.inner
    assert type(before)._fields == tuple(Example.fields)


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("rate", -0.1, "rate must be at least 0.0, but got -0.1"),
        ("rate", 2.0, "rate must be below 2.0, but got 2.0"),
        ("rate", float("nan"), "rate must be below 2.0 and at least 0.0 and finite, but got nan"),
        ("rate", torch.tensor([0.5, 2.5]), "rate must be below 2.0"),
        ("gain", 0, "gain must be above 0.0, but got 0.0"),
        ("gain", float("inf"), "gain must be finite, but got inf"),
        ("kind", "square", "kind must be one of 'linear', 'cubic', but got 'square'"),
        ("count", 0, "count must be at least 1, but got 0"),
    ],
)
def test_values_out_of_bounds_are_refused_in_words(name, wrong, words):
    module = Example(0.5)
    before = getattr(module, name)
    with pytest.raises(ValueError, match=f"Example: {words}"):
        setattr(module, name, wrong)
    assert getattr(module, name) is before
    with pytest.raises(ValueError, match=f"Example: {words}"):
        Example(**{"rate": 0.5} | {name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("rate", "fast", "rate must be a number, a tensor or an nn.Parameter, but got 'fast'"),
        ("rate", 10**400, "rate must be a number, a tensor or an nn.Parameter, but got 1000"),
        ("rate", None, "rate must be a number, a tensor or an nn.Parameter, but got None"),
        ("rate", True, "rate must be a number.*but got True"),
        ("rate", [1.0], r"rate must be a number.*but got \[1.0\]"),
        ("offset", "0", "offset must be a number, a tensor or an nn.Parameter or None, but got '0'"),
        ("rate", torch.tensor(1), "rate must be a floating point tensor, but got dtype torch.int64"),
        ("count", 2.5, "count must be int, but got 2.5"),
        ("count", True, "count must be int, but got True"),
        ("inner", "relu", r"inner must be a module, for example Identity\(\), but got 'relu'"),
        (
            "inner",
            nn.ReLU,
            r"inner must be a module, for example Identity\(\), but got <class.*ReLU'>. .*make one of it, ReLU\(\)",
        ),
    ],
)
def test_values_of_another_type_are_refused_in_words(name, wrong, words):
    with pytest.raises(TypeError, match=f"Example: {words}"):
        setattr(Example(0.5), name, wrong)


def test_arguments_that_do_not_fit_are_refused_in_words():
    with pytest.raises(TypeError, match=r"Example\(rate, kind='linear'.*\): missing a required argument: 'rate'"):
        Example()
    with pytest.raises(TypeError, match=r"Example\(.*\): got an unexpected keyword argument 'speed'"):
        Example(0.5, speed=1)
    with pytest.raises(TypeError, match=r"Base\(gain=1\.0, offset=None\): too many positional arguments"):
        Base(1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'state'"):
        Example(0.5, state=1.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Example(0.5, rat=1.0), "unexpected keyword argument 'rat'. Did you mean rate"),
        (lambda: neuron.LIFNode(threshold=1.0), "unexpected keyword argument 'threshold'. Did you mean v_threshold?"),
        (lambda: surrogate.ATan(alfa=2.0), "unexpected keyword argument 'alfa'. Did you mean alpha?"),
    ],
)
def test_a_keyword_that_is_misspelt_is_told_which_was_meant(make, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        make()


@pytest.mark.parametrize("wrong", ["a", None, [2.0], True])
def test_a_bounded_option_is_a_number(wrong):
    with pytest.raises(
        TypeError, match=rf"ParametricLIFNode: init_tau must be a number, but got {re.escape(repr(wrong))}"
    ):
        neuron.ParametricLIFNode(init_tau=wrong)
    for right in (3, np.float32(3.0), torch.tensor(3.0)):
        assert neuron.ParametricLIFNode(init_tau=right).tau == pytest.approx(3.0)


def test_a_part_is_made_anew_for_each():
    first, second = Example(0.5), Example(0.5)
    assert first.inner is not second.inner
    given = nn.ReLU()
    assert Example(0.5, inner=given).inner is given
    assert list(dict(first.named_children())) == ["inner"]

    class Counted(Declared):
        inner: nn.Module = part(partial(nn.Flatten, 2))

    assert Counted().inner.start_dim == 2
    with pytest.raises(TypeError, match=r"for example Flatten\(\), but got 3"):
        Counted(3)


def test_numbers_tensors_and_parameters_replace_each_other():
    module = Example(0.5)
    assert isinstance(module.scale, nn.Parameter), "learnable"
    assert list(dict(module.named_parameters())) == ["scale"]
    module.rate = nn.Parameter(torch.tensor(0.25))
    assert set(dict(module.named_parameters())) == {"scale", "rate"}
    module.rate = 0.75
    assert module.rate == 0.75
    assert set(module.state_dict()) == {"scale"}
    module.scale = torch.tensor(0.125)
    assert not list(module.parameters())
    module.scale = 0.25
    assert isinstance(module.scale, nn.Parameter)


def test_tensors_move_and_survive_copies():
    module = Example(torch.tensor([0.5, 1.5]))
    module.double()
    assert module.rate.dtype == module.scale.dtype == module.state.dtype == torch.float64
    module.rate = torch.rand(2, requires_grad=True) * 0.5  # no leaf
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin.rate, module.rate)
        assert twin.rate.grad_fn is None
        twin.rate = 0.125
        assert isinstance(module.rate, torch.Tensor)
    assert module.rate.grad_fn is not None
    assert module.to("meta").rate.is_meta


def test_repr():
    shown = repr(Example(torch.ones(2, 3), gain=nn.Parameter(torch.tensor(1.5))))
    for words in (
        "rate=<tensor 2x3>",
        "kind=linear",
        "gain=1.5 (learnable scalar)",
        "offset=None",
        "(inner): Identity",
    ):
        assert words in shown


def test_signature_of_a_class_with_its_own_constructor():
    class Own(Base):
        def __init__(self, both: float) -> None:
            super().__init__(both, both)

    assert list(inspect.signature(Own).parameters) == ["both"]
    assert Own(2.0).offset == 2.0
