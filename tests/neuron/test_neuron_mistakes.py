"""What is told of a class of neurons that is written wrongly."""

import pytest
import torch

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
