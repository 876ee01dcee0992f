"""A network followed without values, by torch.fx: refused in words that say how it is done, and done so."""

import pytest
import torch
from torch import fx, nn

from spikescope import functional, layer, neuron
from spikescope.layer.norm import BatchNorm2d

NEURONS = [cls for cls in neuron.registry.values() if cls.__module__.startswith("spikescope.")]
LAYERS = [cls for name, cls in layer.registry.items() if "Unpool" not in name]
MODULES = [
    *((cls, cls.example, mode) for cls in NEURONS for mode in cls.supported_step_modes),
    *((cls, cls.example, mode) for cls in LAYERS for mode in ("s", "m")),
    (BatchNorm2d, (4,), "m"),
    (layer.Dropout, (), "m"),
    (layer.SynapseFilter, (), "s"),
]


class Leaves(fx.Tracer):
    """As the words say."""

    def is_leaf_module(self, m, module_qualified_name):
        return type(m).__module__.startswith("spikescope.") or super().is_leaf_module(m, module_qualified_name)


@pytest.mark.parametrize(("cls", "example", "step_mode"), MODULES)
def test_what_needs_values_says_how_to_follow_a_network_without(cls, example, step_mode):
    made = cls(**example) if isinstance(example, dict) else cls(*example)
    made.step_mode = step_mode
    with pytest.raises(TypeError, match=r"torch\.fx\.symbolic_trace follows.*is_leaf_module.*torch\.export"):
        fx.symbolic_trace(nn.Sequential(made))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_network_is_followed_with_its_modules_as_leaves(step_mode):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 4, 3), layer.BatchNorm2d(4), neuron.LIFNode(), layer.Flatten(), layer.Linear(16, 2)
    )
    functional.set_step_mode(net, step_mode)
    graph = Leaves().trace(net)
    followed = fx.GraphModule(net, graph)
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["0", "1", "2", "3", "4"]
    x = torch.rand(2, 1, 4, 4) if step_mode == "s" else torch.rand(3, 2, 1, 4, 4)
    found = followed(x)
    functional.reset_net(net)
    assert torch.equal(found, net(x))
