"""PyTorch's own checks of an operator: schema, fake tensors, autograd and compilation."""

import pytest
import torch
from dynamics_cases import inputs, make, unround
from torch import nn

from sample import sample as kept
from spikescope.dynamics import gain, operator
from spikescope.dynamics.layout import checkpoint_shape
from spikescope.neuron import AdaptiveLIFNode, LIFNode

# of torch.compile itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def sample(cls, steps, learn):
    """A node's definition, an input and a start that all have a gradient if `learn`."""
    node = make(cls, "cpp")
    node.v_threshold, node.v_reset = nn.Parameter(torch.tensor(1.1)), nn.Parameter(torch.zeros(5))
    made = node._definition(node.params())
    state = [(inputs(2, 5, seed=i) / 7).requires_grad_(learn) for i in range(len(cls.State._fields))]
    return made, inputs(steps, 2, 5).requires_grad_(learn), state, [held.detach() for held in made.tensors]


@pytest.mark.parametrize(("cls", "steps", "keep_v"), [(LIFNode, 3, True), (AdaptiveLIFNode, 70, False)])
def test_opcheck_of_the_run(cls, steps, keep_v):
    made, x, state, _ = sample(cls, steps, learn=True)
    args = (x, state, made.tensors, made.numbers, "t" * len(state), made.key, "cpp", keep_v, True, "")
    torch.library.opcheck(operator.neuron, args)


@pytest.mark.parametrize(
    ("cls", "steps", "keep_v", "learn"), [(LIFNode, 2, True, True), (AdaptiveLIFNode, 70, False, False)]
)
def test_opcheck_of_its_gradient(cls, steps, keep_v, learn):
    """With a gradient of its own for a short run only: that is the eager loop, unrolled."""
    made, x, state, fixed = sample(cls, steps, learn)
    tensors = made.tensors if learn else fixed
    plain = [held.detach() for held in state]
    rest = (made.numbers, "t" * len(state), made.key, "cpp", False, True, "")
    checkpoints = operator.neuron(x.detach(), plain, fixed, *rest)[-1]
    assert checkpoints.shape == checkpoint_shape("cpp", steps, len(state), 10)
    gv = inputs(steps, 2, 5, seed=8) if keep_v else None
    gstate = [inputs(2, 5, seed=4)] * len(state) if learn else [None] * len(state)
    gradients = (checkpoints, inputs(steps, 2, 5, seed=6), gv, gstate)
    torch.library.opcheck(
        operator.neuron_backward,
        (x, state, tensors, *gradients, made.numbers, "t" * len(state), [0, 1], made.key, "cpp"),
    )


def test_opcheck_with_taps_and_without_numbers():
    node = make(LIFNode, "cpp")
    made = node._definition(node.params())
    rest = ("t", made.key, "cpp", False, False, "h,count,range,packed")
    torch.library.opcheck(operator.neuron, (inputs(4, 2, 5), [torch.tensor(0.0)], [], made.numbers, *rest))
    unround(node, ())
    made = node._definition(node.params())
    x = inputs(3, 2, 5).requires_grad_()
    torch.library.opcheck(
        operator.neuron, (x, [torch.tensor(0.0)], made.tensors, [], "t", made.key, "cpp", False, True, "")
    )


@pytest.mark.parametrize("starts", kept(["nt", "tn", "nn"], "tn", "nn"))
def test_opcheck_of_states_that_start_from_numbers(starts):
    """Their numbers stand behind those of the equations; they have no gradient."""
    made, x, state, _ = sample(AdaptiveLIFNode, 2, learn=True)
    state = [held for held, kind in zip(state, starts, strict=True) if kind == "t"]
    numbers = [*made.numbers, *[0.3, 0.4][: starts.count("n")]]
    torch.library.opcheck(operator.neuron, (x, state, made.tensors, numbers, starts, made.key, "cpp", False, True, ""))
    gradients = (None, inputs(2, 2, 5, seed=6), None, [None, None])
    args = (x, state, made.tensors, *gradients, numbers, starts, [0, 1], made.key, "cpp")
    torch.library.opcheck(operator.neuron_backward, args)
    assert len(operator.neuron_backward(*args)) == 1 + len(state) + 2


def test_a_state_of_another_shape_spreads_or_is_refused():
    """What calls an operator directly, as an exported program does, has gone through no check of ours."""
    made, x, _, fixed = sample(LIFNode, 3, learn=False)
    rest = (fixed, made.numbers, "t", made.key, "cpp", False, False, "")
    found = [operator.neuron(x, [held], *rest) for held in (inputs(1, 5), inputs(1, 5).repeat(2, 1))]
    assert all(map(torch.equal, *found))
    for shape in ((3, 5), (2, 1, 5), (2, 4)):
        with pytest.raises(RuntimeError, match=r"broadcast|expand|must match|dimensions"):
            operator.neuron(x, [inputs(*shape)], *rest)


@pytest.mark.parametrize("shape", [(5, 1, 1), (5,)], ids=str)
def test_opcheck_of_a_gain(shape):
    x = inputs(5, 2, 6).requires_grad_() if len(shape) == 3 else inputs(5).requires_grad_()
    factors = torch.linspace(0.4, 1.3, 5).reshape(shape).requires_grad_()
    torch.library.opcheck(gain._operator, (x, factors, "a neuron"))
    torch.library.opcheck(gain._operator_backward, (x.detach() * 2, x.detach(), factors.detach()))


def test_a_gain_in_compiled_code_is_that_of_others_under_vmap():
    x, factors = inputs(3, 5, 2, 6), torch.linspace(0.4, 1.3, 5).reshape(5, 1, 1)
    found = torch.func.vmap(gain._operator, (0, None, None))(x, factors, "a neuron")
    assert torch.equal(found, x * factors)
    gx, summed = torch.func.vmap(gain._operator_backward, (0, 0, None))(x, x, factors)
    assert torch.equal(gx, x * factors)
    torch.testing.assert_close(summed, x.square().sum((2, 3), keepdim=True))
