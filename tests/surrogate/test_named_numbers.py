"""Surrogates whose functions take the numbers by name that `super().__init__` was given, as in SpikingJelly 2.0."""

import copy
import pickle

import pytest
import torch

from spikescope import neuron, surrogate

X = torch.linspace(-2, 2, 9)


class Line(surrogate.SurrogateFunctionBase):
    """`PiecewiseLeakyReLU` by the functions of somebody."""

    def __init__(self, w=1.5, c=0.25, spiking=True):
        super().__init__(spiking=spiking, w=w, c=c)

    @staticmethod
    def spiking_function(x, *, c, w):
        return surrogate.piecewise_leaky_relu.apply(x, w, c)

    @staticmethod
    def primitive_function(x, w, c):
        return surrogate.PiecewiseLeakyReLU.primitive_function(x, w, c)


class Tall(surrogate.SurrogateFunctionBase):
    """A function of `alpha` and another number."""

    def __init__(self, alpha, height, spiking=True):
        super().__init__(alpha=alpha, spiking=spiking, height=height)

    @staticmethod
    def spiking_function(x, alpha, height):
        return height * surrogate.sigmoid.apply(x, alpha)


class Plain(surrogate.SurrogateFunctionBase):
    """Functions of no number at all."""

    def __init__(self, spiking=True):
        super().__init__(spiking)

    @staticmethod
    def spiking_function(x):
        return surrogate.heaviside(x)

    @staticmethod
    def primitive_function(x):
        return 3 * x


def result(made, x=X):
    x = x.clone().requires_grad_()
    y = made(x)
    return y, torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("spiking", [True, False])
def test_numbers_by_name_reach_the_functions(spiking):
    made, wanted = Line(spiking=spiking), surrogate.PiecewiseLeakyReLU(1.5, 0.25, spiking=spiking)
    for held in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        for mine, ours in zip(result(held), result(wanted), strict=True):
            torch.testing.assert_close(mine, ours)
    made.w = wanted.w = 0.5  # read at every call
    torch.testing.assert_close(result(made), result(wanted))
    assert repr(made) == f"Line(w=0.5, c=0.25, spiking={spiking})"


def test_a_neuron_fires_by_them():
    runs = [
        result(neuron.LIFNode(surrogate_function=held, step_mode="m"), 3 * torch.eye(4))
        for held in (Line(), surrogate.PiecewiseLeakyReLU(1.5, 0.25))
    ]
    torch.testing.assert_close(*runs)


def test_alpha_may_be_one_of_them():
    assert Tall(2.0, 5.0)(X).unique().tolist() == [0.0, 5.0]
    torch.testing.assert_close(result(Tall(2.0, 5.0))[1], 5 * result(surrogate.Sigmoid(2.0))[1])


def test_there_may_be_none():
    assert torch.equal(Plain()(X), surrogate.heaviside(X))
    assert torch.equal(Plain(False)(X), 3 * X)


def test_a_number_that_no_function_takes_is_refused_at_once():
    class Misspelt(Line):
        def __init__(self):
            surrogate.SurrogateFunctionBase.__init__(self, w=1.0, d=2.0)

    with pytest.raises(TypeError, match=r"Misspelt.spiking_function\(x, \*, c, w\) is called with x and w, d"):
        Misspelt()

    class Alone(surrogate.SurrogateFunctionBase):
        @staticmethod
        def spiking_function(x, alpha):
            return x

    with pytest.raises(TypeError, match=r"Alone\.spiking_function.* is called with x and no number"):
        Alone()
    with pytest.raises(TypeError, match="alhpa"):
        surrogate.ATan(alhpa=1.0)
