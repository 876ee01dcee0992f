"""What a call of a small neuron takes of the host: functions that run, questions that only the dispatcher answers."""

import sys

import pytest
import torch
from neuron_cases import POINTWISE, make, sequence

from spikescope.internals import LeanFunction
from spikescope.neuron import LIFNode
from spikescope.neuron.fast import shortcut

STEPS = 4


def counted(work, monkeypatch):
    """How many functions of Python run in `work`, and of how many tensors the dispatcher is asked."""
    found, asked, ask = [], [], torch._C._dispatch_keys
    with monkeypatch.context() as patch:
        patch.setattr(torch._C, "_dispatch_keys", lambda x: asked.append(x) or ask(x))
        sys.setprofile(lambda frame, event, argument: found.append(frame.f_code.co_name) if event == "call" else None)
        try:
            work()
        finally:
            sys.setprofile(None)
    return len(found) - len(asked), len(asked)


def run(node, x, steps):
    node.reset()
    return [node(x) for _ in range(steps)]


def forwards(node, x, monkeypatch):
    """The cost of a call within a sequence, forwards."""
    run(node, x, STEPS)
    functions, asked = counted(lambda: node(x), monkeypatch)
    return functions - 1, asked  # without the function that calls


def backwards(node, x, monkeypatch):
    """The cost of a call within a sequence, backwards: what longer ones take more."""
    costs = []
    for steps in (STEPS, 2 * STEPS):
        loss = torch.stack(run(node, x, steps)).sum()
        costs.append(counted(loss.backward, monkeypatch))
    return [(two - one) / STEPS for one, two in zip(*costs, strict=True)]


@pytest.mark.parametrize("cls", POINTWISE)
def test_it_runs_few_functions_and_asks_of_few_tensors(cls, monkeypatch):
    node, x = make(cls, step_mode="s", backend="auto"), sequence(cls)[0]
    if not shortcut.Shortcut(node).is_open or list(node.parameters()):
        pytest.skip("it goes the long way, or has fields to learn")
    learning, states = x.clone().requires_grad_(), len(cls.State._fields)
    for given in (x, learning, x, learning):
        outputs = run(node, given, 3)
        if given is learning:
            torch.stack(outputs).sum().backward()
    costs = [*forwards(node, x, monkeypatch), *forwards(node, learning, monkeypatch)]
    costs += backwards(node, learning, monkeypatch)
    most = [23 + states, 1 + states, 26 + states, 1 + states, 12 + states, 0]
    assert not [(one, bound) for one, bound in zip(costs, most, strict=True) if one > bound]


def charged(monkeypatch):
    """A neuron with a method of its own, of which the registry knows nothing."""

    def neuronal_charge(self, x):
        self.v = self.v + (x - self.v) / self.tau

    monkeypatch.setattr("spikescope.neuron.base.registry", {})
    return type("Charged", (LIFNode,), {"neuronal_charge": neuronal_charge})


@pytest.mark.parametrize(
    ("made", "backend", "most"),
    [(charged, "auto", 90), (charged, "torch", 115), (lambda _: LIFNode, "torch", 150)],
    ids=["hook", "hook, eager", "eager loop"],
)
def test_a_step_of_which_no_kernel_runs_the_whole_runs_few_functions(made, backend, most, monkeypatch):
    node, x = made(monkeypatch)(backend=backend), torch.rand(3, 5, requires_grad=True)
    functions, _ = forwards(node, x, monkeypatch)
    assert functions <= most


def below(cls):
    return {cls}.union(*map(below, cls.__subclasses__()))


def test_no_function_of_ours_has_its_arguments_bound_to_a_signature_at_every_call():
    """PyTorch does so where a function has a `setup_context`, from 2.15 on below Python too."""
    functions = below(LeanFunction)
    assert any(function.setup_context is not torch.autograd.Function.setup_context for function in functions)
    for function in functions:
        assert function.outside.__self__.setup_context is torch.autograd.Function.setup_context, function


def test_a_function_with_a_context_runs_itself_alone_and_keeps_its_gradients(monkeypatch):
    class Product(LeanFunction):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, y):
            return x * y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            x, y = ctx.saved_tensors
            return grad * y, grad * x

        @staticmethod
        def jvp(ctx, dx, dy):
            x, y = ctx.saved_tensors
            return dx * y + x * dy

    x, y = (torch.tensor(held, dtype=torch.float64, requires_grad=True) for held in ([0.3, -1.7], [2.1, 0.7]))
    functions, _ = counted(lambda: Product.apply(x, y), monkeypatch)
    assert functions - 1 == 6  # apply, the two that are written, what calls them, and what they save tensors by
    assert torch.autograd.gradcheck(Product.apply, (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(Product.apply, (x, y))
    assert torch.equal(torch.func.vmap(Product.apply)(x, y), x * y)
