"""A state that a mode, a device without values or a transform has left: told in words by all that keep one."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from spikescope import functional, layer, neuron
from spikescope.errors import StateError

MAKE = {
    "SynapseFilter": layer.SynapseFilter,
    "Delay": lambda: layer.Delay(2),
    "ElementWiseRecurrentContainer": lambda: layer.ElementWiseRecurrentContainer(neuron.IFNode(), torch.add),
    "LinearRecurrentContainer": lambda: layer.LinearRecurrentContainer(neuron.IFNode(), 3, 3),
    "Dropout": lambda: layer.Dropout(0.5),
    "SlidingPSN": lambda: neuron.SlidingPSN(k=2, step_mode="s"),
    "IFNode": lambda: neuron.IFNode(backend="torch"),
}


def under_fake(module, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        module(mode.from_tensor(x))


def on_meta(module, x):
    given = {name: held.to("meta") for name, held in module.named_parameters()}
    torch.func.functional_call(module, given, x.to("meta"))


def under_vmap(module, x):
    torch.func.vmap(module, randomness="different")(torch.stack((x, x)))


@pytest.mark.parametrize("leave", [under_fake, on_meta, under_vmap])
@pytest.mark.parametrize("name", MAKE)
def test_a_state_without_values_is_refused_in_words_until_the_reset(name, leave):
    if (name, leave) == ("SlidingPSN", on_meta):
        pytest.skip("PyTorch does not run it on the meta device, so that it leaves nothing")
    module, x = MAKE[name](), torch.rand(2, 3)
    leave(module, x)
    with pytest.raises(StateError, match=r"has no values: it is .* left from another call"):
        module(x)
    functional.reset_net(module)
    assert type(module(x)) is torch.Tensor
    assert not module(x).is_meta
