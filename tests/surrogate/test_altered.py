"""A surrogate whose call is more than its formulas: hooks and a forward of its own act on every backend, in words."""

from __future__ import annotations

import pytest
import torch
from torch.nn.modules import module as modules

from spikescope import monitor, surrogate
from spikescope.monitor.reduce import Packed
from spikescope.neuron import IFNode, LIFNode
from spikescope.surrogate import ATan, MultiLevelSpikeCount, SurrogateFunctionBase

ALTERATIONS = {
    "forward hook": lambda held: held.register_forward_hook(lambda module, args, y: y * 0.5),
    "forward pre-hook": lambda held: held.register_forward_pre_hook(lambda module, args: (args[0] + 0.5,)),
    "backward hook": lambda held: held.register_full_backward_hook(lambda module, gx, gy: (gx[0] * 3,)),
    "backward pre-hook": lambda held: held.register_full_backward_pre_hook(lambda module, gy: (gy[0] * 3,)),
    "forward": lambda held: setattr(held, "forward", lambda x: x.sigmoid()),
}


def run(node, x, mode):
    node.step_mode = mode
    x = x.clone().requires_grad_()
    y = node(x) if mode == "m" else torch.stack([node(step) for step in x])
    (gradient,) = torch.autograd.grad((y * torch.arange(y.numel()).view_as(y).sin()).sum(), x)
    return y.detach(), gradient


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_what_is_put_on_a_surrogate_acts_whatever_the_backend(alteration, mode):
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    nodes = [LIFNode(surrogate_function=ATan(), backend=backend) for backend in ("auto", "torch")]
    before = run(nodes[1], x, mode)
    for node in nodes:
        node.reset()
        ALTERATIONS[alteration](node.surrogate_function)
    (y, gradient), (eager_y, eager_gradient) = (run(node, x, mode) for node in nodes)
    assert torch.equal(y, eager_y)
    assert torch.equal(gradient, eager_gradient)
    assert not torch.equal(gradient, before[1])
    plan = nodes[0].implementation(x if mode == "m" else x[0])
    assert plan.backend == "torch"
    assert "there are hooks on its surrogate_function, or a forward of its own" in plan.reason
    nodes[0].backend = "cpp"
    with pytest.raises(RuntimeError, match="cannot run on the backend 'cpp': there are hooks on its surrogate"):
        nodes[0](x if mode == "m" else x[0])


def test_a_hook_on_all_modules_acts_on_surrogates_too():
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    hook = modules.register_module_forward_hook(
        lambda module, args, y: y * 0.5 if isinstance(module, surrogate.Surrogate) else None
    )
    try:
        got, wanted = (run(LIFNode(backend=backend), x, "m")[0] for backend in ("auto", "torch"))
    finally:
        hook.remove()
    assert torch.equal(got, wanted)
    assert 0.5 in got


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("alteration", ["forward hook", "forward pre-hook", "forward"])
def test_compiled_code_runs_what_is_put_on_a_surrogate(alteration):
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    nodes = [LIFNode(step_mode="m", backend=backend) for backend in ("auto", "torch")]
    for node in nodes:
        ALTERATIONS[alteration](node.surrogate_function)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(nodes[0], fullgraph=True, backend="aot_eager")(x), nodes[1](x))


@pytest.mark.parametrize("name", ["gradient", "primitive", "spike", "fire", "spiking_function", "primitive_function"])
def test_a_formula_on_an_instance_is_refused(name):
    with pytest.raises(
        TypeError, match=f"ATan: {name} belongs to the class; one that is set on an instance would never"
    ):
        setattr(ATan(), name, lambda p, x: x)


@pytest.mark.parametrize("name", ["step", "charge", "emit", "recover", "rest", "fed"])
def test_a_formula_on_an_instance_of_a_neuron_is_refused(name):
    with pytest.raises(
        TypeError, match=f"LIFNode: {name} belongs to the class; one that is set on an instance would never"
    ):
        setattr(LIFNode(), name, lambda p, s, x: x)


class Halves(SurrogateFunctionBase):
    @staticmethod
    def spiking_function(x, alpha):
        return (x >= 0).to(x) * 0.5


class Quarters(ATan):
    @staticmethod
    def spike(p, x):
        return (x >= 0).to(x) * 0.25


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("kind", [Halves, Quarters, MultiLevelSpikeCount, "hook"])
def test_what_is_no_spike_is_not_packed_as_one(kind, backend):
    made = {Halves: lambda: Halves(1.0), MultiLevelSpikeCount: lambda: MultiLevelSpikeCount(4)}.get(kind, ATan)()
    made = Quarters() if kind is Quarters else made
    node = IFNode(surrogate_function=made, step_mode="m", backend=backend)
    if kind == "hook":
        made.register_forward_hook(lambda module, args, y: y * 0.5)
    assert not made.gives_spikes
    with monitor.record(node, Packed()) as recording, pytest.warns(RuntimeWarning, match="0 or 1"):
        node(torch.full((4, 2, 3), 4.0))
    with pytest.raises(ValueError, match="0 or 1"):
        recording.rows()


for _name in ("Halves", "Quarters"):
    del surrogate.registry[_name]
