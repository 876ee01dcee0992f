"""Every layer and neuron takes its input by each of the names that an age of SpikingJelly has for it."""

import pytest
import torch
from torch import nn

from spikescope import layer, neuron
from spikescope.base import INPUT_NAMES, MemoryModule
from spikescope.layer import registry

OTHERS = {
    "BatchNorm2d": lambda: (layer.BatchNorm2d(3), (2, 3, 4, 4)),
    "ThresholdDependentBatchNorm2d": lambda: (layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 3), (5, 2, 3, 4, 4)),
    "TemporalEffectiveBatchNorm1d": lambda: (layer.TemporalEffectiveBatchNorm1d(5, 3), (5, 2, 3)),
    "BatchNormThroughTime1d": lambda: (layer.BatchNormThroughTime1d(5, 3, step_mode="m"), (5, 2, 3)),
    "Dropout": lambda: (layer.Dropout(0.5, "m"), (5, 2, 3)),
    "Dropout2d": lambda: (layer.Dropout2d(0.5), (2, 3, 4, 4)),
    "DropConnectLinear": lambda: (layer.DropConnectLinear(3, 4, p=0.0, step_mode="m"), (5, 2, 3)),
    "OTTTSequential": lambda: (layer.OTTTSequential(nn.Linear(3, 4)), (2, 3)),
    "SynapseFilter": lambda: (layer.SynapseFilter(2.0), (2, 3)),
    "Delay": lambda: (layer.Delay(1, "m"), (5, 2, 3)),
    "NeuNorm": lambda: (layer.NeuNorm(3, 4, 4), (2, 3, 4, 4)),
    "LIFNode": lambda: (neuron.LIFNode(v_threshold=0.3, step_mode="m"), (5, 2, 3)),
    "PSN": lambda: (neuron.PSN(5, step_mode="m"), (5, 2, 3)),
}


def stateless(name):
    made = registry[name]
    sizes = {"N": 2, "C": 4, "F": 4, "L": 6, "D": 4, "H": 6, "W": 4}
    return made(*made.example, step_mode="m"), (3, *(sizes[axis] for axis in made.axes if axis[0] not in "(*"))


def output(module, *args, **named):
    torch.manual_seed(5)
    if hasattr(module, "reset"):
        module.reset()
    return module(*args, **named)


@pytest.mark.parametrize("given", sorted(INPUT_NAMES))
@pytest.mark.parametrize("name", [*OTHERS, *(name for name in sorted(registry) if "Unpool" not in name)])
def test_the_input_by_name_is_the_input_by_place(name, given):
    module, shape = OTHERS[name]() if name in OTHERS else stateless(name)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(output(module, **{given: x}), output(module, x))


@pytest.mark.parametrize("name", sorted(name for name in registry if "Unpool" in name))
def test_an_unpool_takes_its_indices_by_name_too(name):
    shape = (3, 2, 4, *[4] * int(name[-2]))
    y, indices = registry[name.replace("Unpool", "Pool")](2, return_indices=True, step_mode="m")(torch.rand(shape))
    unpool = registry[name](2, step_mode="m")
    assert unpool(indices=indices, x=y).equal(unpool(y, indices))


@pytest.mark.parametrize("name", ["BatchNorm2d", "Dropout", "DropConnectLinear", "OTTTSequential"])
def test_another_name_and_a_second_input_are_refused_in_words(name):
    module, shape = OTHERS[name]()
    x = torch.rand(shape)
    for args, named in ([(), {"images": x}], [(x,), {"x_seq": x}], [(), {}]):
        with pytest.raises(TypeError, match=r"takes one input, by its place or as one of dv, .* but got"):
            module(*args, **named)


def test_a_parameter_behind_the_input_keeps_its_name():
    class Scaled(MemoryModule):
        def single_step_forward(self, scale=None, x=None):
            return "x" if scale is None else "scale"

    assert Scaled()(x=torch.ones(2)) == "x"
    assert Scaled()(scale=torch.ones(2)) == Scaled()(input=torch.ones(2)) == "scale"
