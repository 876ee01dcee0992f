"""What is told of a class of neurons that is written wrongly."""

import pytest
import torch
from neuron_cases import NEURONS

from spikescope.neuron import IFNode, IntegrateAndFire, Membrane, PointwiseNeuron


@pytest.mark.parametrize("stage", ["charge", "adapt", "recover"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("gives", ["the potential", "nothing"])
def test_a_stage_that_gives_no_state_is_told(stage, step_mode, gives):
    def bare(cls, p, s, *more):
        return s.v if gives == "the potential" else None

    cls = type("Bare", (IFNode,), {stage: classmethod(bare), "__module__": __name__})
    words = (
        rf"Bare\.{stage} must give the state, Membrane\(v\), but gave a (Tensor|NoneType)\. Write `return s\._replace"
    )
    with pytest.raises(TypeError, match=words):
        cls(step_mode=step_mode)(torch.rand(3, 2, 4))


@pytest.mark.parametrize("base", [IntegrateAndFire, PointwiseNeuron])
@pytest.mark.parametrize("name", ["charge", "step", "rest"])
def test_a_formula_that_is_written_as_a_method_is_told(base, name):
    def method(self, s, x):
        return Membrane(s.v + x)

    with pytest.raises(TypeError, match=rf"Own\.{name} is written as a method.* Write @staticmethod above it, and p"):
        type("Own", (base,), {name: method, "__module__": __name__})


def test_a_method_of_that_name_beside_hooks_is_left_alone():
    class Own(IFNode):
        def charge(self, x):
            return 2 * x

        def neuronal_charge(self, x):
            self.v = self.v + self.charge(x)

    assert Own()(torch.tensor([0.5])).item() == 1


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("given", ["a state behind it", "a state by name", "nothing"])
def test_a_call_with_a_state_says_who_keeps_it(cls, given):
    """As neurons of other libraries are called, which give the state back."""
    node, x = cls(**cls.example), torch.rand(cls.example.get("T", 4), 2, 3)
    node.step_mode = "m" if "m" in node.supported_step_mode() else "s"
    args, named = {
        "a state behind it": ((x, x[0]), {}),
        "a state by name": ((x,), {"mem": x[0]}),
        "nothing": ((), {}),
    }[given]
    came = {"a state behind it": "2 arguments, Tensor and Tensor", "a state by name": "mem=Tensor", "nothing": "none"}
    with pytest.raises(TypeError, match=rf"^{cls.__name__} takes \(\w+\), but got .*{came[given]}") as told:
        node(*args, **named)
    for name, _ in node.named_memories():
        assert f"node.{name}" in str(told.value)


def test_a_forward_of_the_users_takes_what_it_says():
    class Fed(IFNode):
        def single_step_forward(self, x, gain=1.0):
            return super().single_step_forward(gain * x)

    node = Fed()
    assert node(torch.tensor([0.5]), 2.0).item() == 1
    assert node(torch.tensor([0.5]), gain=2.0).item() == 1
    with pytest.raises(TypeError, match=r"Fed takes \(x, gain\), but got 3 arguments"):
        node(torch.tensor([0.5]), 2.0, 3.0)
