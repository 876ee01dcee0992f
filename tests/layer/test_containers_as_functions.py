"""A module with others inside that keep a state, as a function of states: all come in and out."""

import pytest
import torch

from spikescope import ann2snn, layer, neuron
from spikescope.base.by_states import places_of
from spikescope.compat.memories import extract_memories, to_functional_forward

STEPPING = [name for name, cls in neuron.registry.items() if "s" in cls(**cls.example).supported_step_mode()]


def node(name):
    cls = neuron.registry[name]
    made = cls(**cls.example, **({"store_v_seq": True} if name == "IFNode" else {})).eval()
    made.step_mode = "s"
    return made


WITH_STATES_INSIDE = {
    "element-wise": lambda name: layer.ElementWiseRecurrentContainer(node(name), torch.add),
    "linear": lambda name: layer.LinearRecurrentContainer(node(name), 3, 3),
    "nested": lambda name: layer.LinearRecurrentContainer(
        layer.ElementWiseRecurrentContainer(torch.nn.Sequential(layer.SynapseFilter(2.0), node(name)), torch.add), 3, 3
    ),
}
CASES = [
    (kind, name, call) for kind in WITH_STATES_INSIDE for name in STEPPING for call in ("own", "call", "converted")
]
WITH_STATES_INSIDE["scaled"] = lambda name: ann2snn.ScaledNeuron(0.5)
CASES += [("scaled", "IFNode", "call"), ("scaled", "IFNode", "converted")]
CALLS = {
    "own": lambda module: module.single_step_functional_forward,
    "call": lambda module: module.functional_forward,
    "converted": to_functional_forward,
}


@pytest.mark.parametrize(("kind", "name", "call"), CASES)
def test_steps_as_functions_are_the_sequence_and_leave_the_module_alone(kind, name, call):
    torch.manual_seed(0)
    module, x_seq = (
        WITH_STATES_INSIDE[kind](name),
        2 * torch.rand(4, 2, 3),
    )  # as many as the examples of the registry take
    module(x_seq[0])  # a state of calls, which is not to be touched
    before = extract_memories(module)
    step, states, outputs = CALLS[call](module), tuple(before), []
    torch.manual_seed(1)
    for x in x_seq[1:]:
        (y,), states = step((x,), states)
        outputs.append(y)
        assert len(states) == len(before)
    assert all(now is held for now, held in zip(extract_memories(module), before, strict=True))
    torch.manual_seed(1)
    for x, got in zip(x_seq[1:], outputs, strict=True):
        assert torch.equal(got, module(x))
    for got, wanted in zip(states, extract_memories(module), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("kind", WITH_STATES_INSIDE)
def test_the_own_states_alone_start_the_others_from_what_they_hold(kind):
    module, x = WITH_STATES_INSIDE[kind]("IFNode"), torch.rand(2, 3)
    own, full = tuple(module.memories()), tuple(extract_memories(module))
    (first,), short = module.functional_forward((x,), own)
    (second,), long = module.functional_forward((x,), full)
    assert torch.equal(first, second)
    assert len(short) == len(long) == len(full)
    for got, wanted in zip(short, long, strict=True):
        assert torch.equal(got, wanted)
    with pytest.raises(ValueError, match=places_of(module)[-1][0]):
        module.functional_forward((x,), (*full, 0.0))


def test_a_call_as_a_function_leaves_the_potentials_inside():
    module = layer.ElementWiseRecurrentContainer(node("IFNode"), torch.add)
    module(torch.rand(2, 3))
    kept = module.sub_module.v_seq.clone()
    module.functional_forward((torch.rand(2, 3),), tuple(extract_memories(module)))
    assert torch.equal(module.sub_module.v_seq, kept)
    to_functional_forward(module)((torch.rand(2, 3),), tuple(extract_memories(module)))
    assert torch.equal(module.sub_module.v_seq, kept)
    with pytest.raises(ValueError, match="reset_net"):  # its state is one that a call has left, as before
        module(torch.rand(5, 3))
