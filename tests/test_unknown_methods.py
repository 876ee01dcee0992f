"""A method that there is not is refused in words, by an error that code for either library catches."""

import pytest
import torch

from spikescope import encoding, functional, neuron, surrogate

X = torch.rand(2, 3)
WITHOUT_PRIMITIVE = sorted(name for name, held in surrogate.registry.items() if not held.has_primitive())


class Bare(surrogate.SurrogateFunctionBase):
    @staticmethod
    def spiking_function(x, alpha):
        return surrogate.heaviside(x)


REFUSED = {
    "backend given": lambda: neuron.IFNode(backend="nonsense"),
    "backend assigned": lambda: setattr(neuron.LIFNode(), "backend", "nonsense"),
    "latency": lambda: encoding.LatencyEncoder(3, "cubic"),
    "kernel": lambda: functional.kernel_dot_product(X, X, "cubic"),
    "loss": lambda: functional.spike_similar_loss(X[..., None], X, "linear", "huber"),
    "primitive of one's own": lambda: Bare(1.0, spiking=False),
    **{f"primitive of {name}": lambda name=name: surrogate.registry[name](spiking=False) for name in WITHOUT_PRIMITIVE},
}


@pytest.mark.parametrize("error", [ValueError, NotImplementedError])
@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_it_is_a_value_error_and_a_not_implemented_error(call, error):
    with pytest.raises(error, match=r"must be one of '\w+'.*but got '\w+'|Surrogates that have one: ATan"):
        call()


def test_each_surrogate_without_a_primitive_is_asked():
    assert {"SuperSpike", "FakeNumericalGradient"} <= set(WITHOUT_PRIMITIVE)
