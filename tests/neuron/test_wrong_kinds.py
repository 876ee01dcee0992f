"""What is no number, tensor or name where one is wanted: refused by every neuron and surrogate, in words of ours."""

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import neuron, surrogate
from spikescope.errors import ShapeError

NEURONS = list(neuron.registry.values())
PARALLEL = [cls for cls in NEURONS if issubclass(cls, neuron.ParallelNeuron)]
STATEFUL = [cls for cls in NEURONS if hasattr(cls, "State")]
SURROGATES = list(surrogate.registry.values())


def modes(cls):
    return cls.supported_step_modes


def made(cls, mode):
    node = cls(**cls.example)
    node.step_mode = mode
    return node


def step_or_sequence(mode):
    return torch.rand(4, 2, 3) if mode == "m" else torch.rand(2, 3)


@pytest.mark.parametrize("cls", [*NEURONS, *SURROGATES], ids=lambda cls: cls.__name__)
def test_a_field_takes_dense_tensors_of_16_bits_or_more(cls):
    held = cls(**cls.example)
    for name in cls.dynamic:
        if not cls.fields[name].init:
            continue
        value = getattr(held, name)
        value = torch.ones(3) if value is None else torch.as_tensor(value).expand(3).clone()
        with pytest.raises(TypeError, match=f"{cls.__name__}: {name} takes a dense tensor, but got .*sparse"):
            setattr(held, name, value.to_sparse())
        with pytest.raises(TypeError, match=f"{cls.__name__}: {name} must be a floating point tensor of 16 bits"):
            setattr(held, name, value.to(torch.float8_e4m3fn))


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", ["step_mode", "backend"])
@pytest.mark.parametrize("given", [np.array([1, 2]), ["s"], torch.ones(2)], ids=["array", "list", "tensor"])
def test_a_name_is_not_an_array(cls, name, given):
    node = cls(**cls.example)
    if hasattr(node, name):
        with pytest.raises(ValueError, match=f"{cls.__name__}: {name} must be one of '"):
            setattr(node, name, given)


@pytest.mark.parametrize("cls", STATEFUL, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("given", ["rest", [1.0], 1j, object()], ids=["text", "list", "complex", "object"])
@pytest.mark.parametrize("calls", [0, 3])  # the long way, and the short way of a call that comes again
def test_a_state_that_is_no_number_is_refused_where_a_step_would_go_on_from_it(cls, given, calls):
    for mode in modes(cls):
        for name in cls.State._fields:
            node, x = made(cls, mode), step_or_sequence(mode)
            with torch.no_grad():
                for _ in range(calls):
                    node(x)
                    node.reset()
                setattr(node, name, given)
                with pytest.raises(TypeError, match=f"{cls.__name__}: {name} must be a number or a tensor"):
                    node(x)
                node.reset()
                node(x)


@pytest.mark.parametrize("cls", STATEFUL, ids=lambda cls: cls.__name__)
def test_a_state_takes_dense_tensors_of_real_numbers(cls):
    for mode in modes(cls):
        for name in cls.State._fields:
            node, x = made(cls, mode), step_or_sequence(mode)
            setattr(node, name, torch.ones(2, 3, dtype=torch.complex64))
            with pytest.raises(TypeError, match=f"{name} must be a tensor of real numbers, .*complex64"):
                node(x)
            setattr(node, name, torch.ones(2, 3).to_sparse())
            with pytest.raises(TypeError, match=f"{name} takes a dense tensor"):
                node(x)


@pytest.mark.parametrize("cls", SURROGATES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "given",
    [0.5, None, "x", np.ones(2), torch.ones(2, dtype=torch.complex64), torch.ones(2).to_sparse()],
    ids=["number", "None", "text", "array", "complex", "sparse"],
)
def test_a_surrogate_takes_a_tensor_of_real_numbers(cls, given):
    with pytest.raises(TypeError, match=f"{cls.__name__}.* (must be a torch.Tensor|takes)"):
        cls(**cls.example)(given)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_a_number_for_what_is_learned_takes_its_place_or_is_refused(cls):
    """A Parameter that the constructor made, and of which the equation needs more than its number."""
    learned = [name for name, _ in cls(**cls.example).named_parameters() if name in cls.fields]
    for name in learned:
        node = made(cls, modes(cls)[0])
        before = getattr(node, name)
        setattr(node, name, 0.5)
        x = step_or_sequence(node.step_mode)
        if cls in PARALLEL:
            with pytest.raises(ShapeError, match=rf"{name} must be a tensor of the shape .*, but got 0\.5"):
                node(x)
        else:
            node(x)
            assert getattr(node, name) is before  # what an optimizer has
            assert (before == 0.5).all()


@pytest.mark.parametrize("cls", PARALLEL, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_of_other_steps_are_refused_instead_of_giving_other_steps(cls, name):
    for mode in modes(cls):
        node, x = made(cls, mode), step_or_sequence(mode)
        held = getattr(node, name)
        setattr(
            node, name, nn.Parameter(torch.ones(*(size + 4 for size in held.shape)) if held.ndim else torch.ones(5))
        )
        with pytest.raises(ShapeError, match=f"{cls.__name__}: {name} must be a tensor of the shape"):
            node(x)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_tells_shapes_on_the_device_meta(cls):
    for mode in modes(cls):
        node, x = made(cls, mode).to("meta"), step_or_sequence(mode).to("meta")
        found = node(x)
        spikes = found[0] if isinstance(found, (list, tuple)) else found
        assert spikes.is_meta
        assert spikes.shape in (x.shape, x.shape[1:])
