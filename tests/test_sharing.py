"""Nobody's memory is another's: what a call gives out, what it took in and what it keeps may be changed in place.

The law, over every neuron, layer, container and encoder: a program that changes a tensor in place after the call gives
what the same program gives with a clone in its place, values and gradients; or it is refused in words.
"""

from itertools import product

import pytest
import torch
from torch import nn

from sample import sample
from spikescope import encoding, layer, neuron
from spikescope.layer import registry as layers
from spikescope.layer.fold import is_expanded
from spikescope.neuron import registry as neurons

T = 3
SIZES = {"T": T, "N": 2, "C": 4, "F": 4, "L": 6, "D": 4, "H": 6, "W": 5}


def made(cls, backend):
    node = cls(**cls.example)
    if backend:
        node.backend = backend
    return node


def neuron_cases():
    for name, cls in sorted(neurons.items()):
        for backend in getattr(cls, "supported_backends", (None,)):
            if backend == "triton" and name not in ("LIFNode", "NonSpikingLIFNode", "CUBALIFNode"):
                continue  # its interpreter is slow, and the kernels of all neurons fill the same buffers
            for mode in cls.supported_step_modes:
                steps = (cls.example.get("T", T),) if mode == "m" else ()
                run = 1 if backend == "triton" or (name == "GatedLIFNode" and mode == "m") else 3
                inputs = [(*steps, 2, 3, 4, 4)] * run
                yield pytest.param(lambda c=cls, b=backend: made(c, b), mode, inputs, id=f"{name}-{backend}-{mode}")


def layer_cases():
    for name, cls in sorted(layers.items()):
        if "Unpool" in name or name == "Flatten":  # indices; and a view of the input, as PyTorch's own
            continue
        for mode in "sm":
            axes = ("T", *cls.axes) if mode == "m" else cls.axes
            shape = tuple(SIZES[axis] for axis in axes if axis[0] not in "(*")
            yield pytest.param(lambda c=cls: c(*c.example), mode, [shape] * 2, id=f"{name}-{mode}")


class Total(layer.Delay):
    """As users write a stateful module: what it gives out is its state."""

    def __init__(self):
        super().__init__(0)
        self.register_memory("total", 0.0)

    def single_step_forward(self, x):
        self.total = self.total + x
        return self.total


class LastSeen(layer.Delay):
    """It keeps its input, and gives out a view of what it kept."""

    def __init__(self):
        super().__init__(0)
        self.register_memory("seen", None)

    def single_step_forward(self, x):
        before, self.seen = self.seen, x
        return x[:] if before is None else before[:]


STATEFUL = {
    "ElementWise": lambda: layer.ElementWiseRecurrentContainer(nn.Identity(), torch.add),
    "ElementWise of the input": lambda: layer.ElementWiseRecurrentContainer(nn.Identity(), lambda y, x: x),
    "LinearRecurrent": lambda: layer.LinearRecurrentContainer(neuron.LIFNode(), 4, 4),
    "LinearRecurrent plain": lambda: layer.LinearRecurrentContainer(nn.Identity(), 4, 4),
    "SynapseFilter": lambda: layer.SynapseFilter(3.0),
    "SynapseFilter learned": lambda: layer.SynapseFilter(3.0, learnable=True),
    "Delay(0)": lambda: layer.Delay(0),
    "Delay(2)": lambda: layer.Delay(2),
    "Dropout": lambda: layer.Dropout(0.5),
    "StepMode": lambda: layer.StepModeContainer(True, neuron.NonSpikingLIFNode()),
    "Delta": lambda: encoding.DeltaEncoder(0.1),
    "a user's": Total,
    "a user's view": LastSeen,
}
ENCODERS = {
    "Latency": lambda: encoding.LatencyEncoder(T),
    "WeightedPhase": lambda: encoding.WeightedPhaseEncoder(T),
    "Periodic": lambda: encoding.PeriodicEncoder(torch.eye(T).unsqueeze(1)),
}


def stateful_cases():
    for name, make in STATEFUL.items():
        for mode in "sm":
            yield pytest.param(make, mode, [(T, 2, 4) if mode == "m" else (2, 4)] * 5, id=f"{name}-{mode}")


CASES = [*neuron_cases(), *layer_cases(), *stateful_cases()]
CHANGES = ("output", "input")


def change(held):
    held[0] = 0.25
    held *= 2
    held += 1
    torch.relu_(held)


def program(make, mode, inputs, what, clone, grad):
    """All that a program sees of the module: outputs before and after, inputs after, gradients."""
    torch.manual_seed(1)
    module = make()
    module.step_mode = mode
    weight = torch.ones((), requires_grad=grad)
    seen, total = [], 0
    for number, shape in enumerate(inputs):
        torch.manual_seed(number)
        x = torch.rand(shape) * 2 * weight
        out = module(x.clone() if clone and what == "input" else x)
        for y in out if isinstance(out, list) else [out]:
            seen.append(y.detach().clone())
            held = y.clone() if clone else y
            if what == "output":
                change(held)
            seen.append(held.detach().clone())
            total = total + (held * torch.linspace(1, 2, held.numel()).view(held.shape)).sum()
        if what == "input":
            change(x)
        seen.append(x.detach().clone())
    if grad and total.requires_grad:
        learned = [weight, *(p for p in module.parameters() if p.requires_grad)]
        seen += torch.autograd.grad(total, learned, allow_unused=True, materialize_grads=True)
    return seen


def assert_same(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def attempt(make, mode, inputs, what, grad):
    """What the program sees, or the words with which it is refused."""
    try:
        return program(make, mode, inputs, what, False, grad), ""
    except RuntimeError as error:
        return None, str(error)


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(("make", "mode", "inputs"), CASES)
def test_a_change_in_place_is_that_of_a_clone(make, mode, inputs, what, grad):
    with torch.set_grad_enabled(grad):
        want = program(make, mode, inputs, what, True, grad)
        got, refused = attempt(make, mode, inputs, what, grad)
    if got is not None:
        assert_same(got, want)
        return
    assert what == "input"
    assert grad  # a graph needs the input as it was
    assert ("The backward pass of" if _names_itself(make()) else "inplace") in refused


def _names_itself(module):
    """Whether its own code keeps the input for the backward pass; else an operation of PyTorch does, and says so."""
    by_step = isinstance(module, neuron.PointwiseNeuron) and module.backend == "torch" and module._plainly_driven()
    return isinstance(module, (neuron.Neuron, layer.StepModeContainer)) and not by_step


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("name", ENCODERS)
def test_what_an_encoder_gives_out_is_not_its_code(name, mode):
    x, got = torch.rand(2, 3) * 0.8, []
    for clone in (True, False):
        module = ENCODERS[name]()
        module.step_mode = mode
        for _ in range(2 * T):
            y = module(x)
            got.append(y.clone())
            change(y.clone() if clone else y)
    assert_same(got[: 2 * T], got[2 * T :])


def test_an_input_that_was_changed_in_place_is_another_input():
    x = torch.rand(2, 3)
    module = encoding.LatencyEncoder(T)
    first = module(x)
    assert torch.equal(module(x.clone()), encoding.LatencyEncoder(T, step_mode="m")(x)[1])
    x += -x
    with pytest.raises(RuntimeError, match="was called with another"):
        module(x)
    spike = torch.ones(2, 1)
    periodic = encoding.PeriodicEncoder(spike)
    spike.zero_()
    assert periodic().item() == 1.0
    assert first.shape == (2, 3)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    ("grad", "cls", "backend"),
    sample(
        product(
            (True, False),
            (neuron.LIFNode, neuron.NonSpikingIFNode, neuron.LIAFNode, neuron.GatedLIFNode),
            ("torch", "auto"),
        ),
        (True, neuron.LIAFNode, "torch"),
        (False, neuron.LIFNode, "auto"),
    ),
)
def test_compiled_outputs_may_be_changed_too(cls, backend, grad):
    torch._dynamo.reset()
    got = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 3), made(cls, backend))
        net[1].step_mode = "s"
        run = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled else net
        with torch.set_grad_enabled(grad):
            for number in range(2):
                torch.manual_seed(number)
                y = run(torch.rand(2, 3))
                change(y)
            got += [net[1].v.detach().clone(), y.detach().clone()]
        if grad:
            y.sum().backward()
            got.append(net[0].weight.grad)
    torch.testing.assert_close(got[: len(got) // 2], got[len(got) // 2 :])


def test_the_record_of_potentials_is_apart_from_the_state():
    node = neuron.LIFNode(store_v_seq=True)
    node(torch.rand(2, 3))
    before = node.v.clone()
    node.v_seq.zero_()
    assert torch.equal(node.v, before)


@pytest.mark.parametrize("grad", [True, False])
def test_a_frame_computed_once_comes_out_as_steps_of_their_own(grad):
    frame = torch.rand(2, 4, 6, 6, requires_grad=grad)
    got = []
    for repeated in (True, False):
        torch.manual_seed(0)
        conv, norm = layer.Conv2d(4, 3, 3, step_mode="m"), layer.BatchNorm2d(3, step_mode="m")
        x = frame.expand(T, *frame.shape)
        y = conv(x if repeated else x.contiguous())
        y[0] = 0
        y += 1
        y.mul_(torch.linspace(1, 2, T).view(T, 1, 1, 1, 1))
        z = nn.ReLU(inplace=True)(norm(y))
        got += [y.detach(), z.detach(), norm.running_var]
        if grad:
            got += torch.autograd.grad(z.pow(2).sum(), [frame, conv.weight])
    torch.testing.assert_close(got[: len(got) // 2], got[len(got) // 2 :])


def test_a_repeated_frame_is_known_until_it_is_changed():
    conv = layer.Linear(4, 3, step_mode="m")
    frame = torch.rand(2, 4)
    y = conv(frame.expand(T, 2, 4))
    assert is_expanded(y)
    assert not is_expanded(y[1:])
    assert not is_expanded(y.detach())
    assert y.stride(0)
    with torch.no_grad():
        y[0] = 0
    assert not is_expanded(y)
    again = conv(frame.expand(T, 2, 4))
    again.retain_grad()
    assert not is_expanded(again)  # each step is due a gradient of its own
