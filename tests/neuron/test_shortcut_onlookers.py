"""The short way of a call is left where somebody looks on: hooks, monitors, compilers, tracers, transforms, modes."""

from functools import partial

import pytest
import torch
from neuron_cases import POINTWISE, make, sequence
from shortcut_cases import assert_equal, input_of, runs, twins
from torch import fx, nn

from spikescope import functional, monitor, neuron


def test_number_that_compiled_code_sets_is_seen():
    node, twin = twins()

    def change(x):
        node.v_threshold = 0.25
        return node(x)

    torch.compile(change, backend="eager", fullgraph=True)(torch.ones(3, 5))
    node.reset()
    twin.v_threshold = 0.25
    assert_equal(runs(node), runs(twin), 3)


def test_compiled_calls_and_others_take_turns():
    node, twin = twins()
    compiled = torch.compile(node, backend="eager", fullgraph=True)
    for i, x in enumerate(sequence(neuron.LIFNode)):
        assert torch.equal((node, compiled)[i % 2](x), twin(x))


def test_hooks_of_all_modules_are_called():
    node, _ = twins()
    seen = []
    handles = [
        nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append("after")),
        nn.modules.module.register_module_forward_pre_hook(lambda module, args: seen.append("before")),
        nn.modules.module.register_module_full_backward_hook(lambda module, gx, gy: seen.append("back")),
    ]
    try:
        node(torch.ones(3, 5).requires_grad_()).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    assert seen[0] == "before"
    assert {"after", "back"} <= set(seen)


HOOKS = {
    "before": lambda node: node.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,)),
    "after": lambda node: node.register_forward_hook(lambda module, args, out: out * 2),
    "with words": lambda node: node.register_forward_hook(lambda module, args, kwargs, out: out * 2, with_kwargs=True),
    "backwards": lambda node: node.register_full_backward_hook(lambda module, gx, gy: (gx[0] * 3,)),
    "before backwards": lambda node: node.register_full_backward_pre_hook(lambda module, gy: (gy[0] * 3,)),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_between_the_hooks_of_others_a_call_is_short(cls, hook, short):
    node, twin = twins(cls)
    if "backwards" in hook and not twin(input_of(cls, "s").requires_grad_()).requires_grad:
        pytest.skip("the first output is no function of the input, which the eager loop sees: no hook is called there")
    for each in (node, twin):
        HOOKS[hook](each)
    for learn in (True, False, True, True):
        node.reset(), twin.reset()
        short.clear()
        if not learn and "backwards" in hook:
            continue  # PyTorch warns of a hook that will not be called
        assert_equal(runs(node, cls=cls, learn=learn), runs(twin, cls=cls, learn=learn), 3 + len(cls.State._fields))
    assert len(short) == (3 if node.implementation(input_of(cls, "s")).backend == "cpp" else 0)


def test_between_the_hooks_of_others_what_is_told_may_be_of_other_values():
    """A monitor that trusts the counts of a kernel would not see what a hook makes of the spikes."""
    node, twin = twins()
    for each in (node, twin):
        each.register_forward_hook(lambda module, args, out: out * 0)
    found = []
    for each in (node, twin):
        with monitor.record(nn.Sequential(each), ["rate"]) as recording:
            for x in sequence(neuron.LIFNode)[:3]:
                each(x)
        found.append(next(iter(recording.rows().values()))["rate"])
    assert not any(rates.any() for rates in found)


def test_monitor_that_comes_later_sees_every_call():
    node, _ = twins()
    net = nn.Sequential(node)
    net(torch.ones(3, 5))
    with monitor.OutputMonitor(net, neuron.LIFNode) as watch:
        for _ in range(4):
            net(torch.ones(3, 5))
    assert len(watch.records) == 4


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: torch.func.vmap(f)(x),
        lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
        lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[0],
        lambda f, x: torch.autograd.functional.hessian(lambda x: (f(x) * x).sum(), x),
        lambda f, x: torch.jit.trace(f, x)(x),
    ],
    ids=["vmap", "grad", "jvp", "second derivative", "jit"],
)
@pytest.mark.filterwarnings("ignore")
def test_transforms_go_the_long_way(transform):
    node, twin = twins(mode="m")
    x = sequence(neuron.LIFNode)[:3]
    found = []
    for each in (node, twin):

        def run(x, each=each):
            each.reset()
            return each(x)

        found.append(transform(run, x))
        each.reset()
    torch.testing.assert_close(*found)


class Leaves(fx.Tracer):
    """Takes every module as a leaf."""

    def is_leaf_module(self, m, module_qualified_name):
        return True


class Fed(nn.Module):
    """Runs a neuron on the input and on a tensor of its own."""

    def __init__(self, node, own):
        super().__init__()
        self.node, self.own = node, own

    def forward(self, x):
        return self.node(x) + self.node(self.own)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
def test_fx_sees_a_neuron_as_one_call_and_reads_nothing_of_it(cls, mode, warm):
    node = twins(cls, mode)[0] if warm else make(cls, step_mode=mode, backend="auto")
    for name in cls.dynamic:
        if type(getattr(node, name)) is float and not warm:
            setattr(node, name, nn.Parameter(torch.tensor(getattr(node, name))))
    net = Fed(node, input_of(cls, mode))
    graph = Leaves().trace(net)
    calls = [each for each in graph.nodes if each.op == "call_module"]
    assert [each.target for each in calls] == ["node", "node"]
    assert not [each.target for each in graph.nodes if each.op == "get_attr" and each.target.startswith("node")]
    traced = fx.GraphModule(net, graph)
    for learn in (True, False):
        x = input_of(cls, mode).requires_grad_(learn)
        node.reset()
        want = net(x)
        node.reset()
        assert torch.equal(traced(x), want)


def test_stand_ins_are_no_memory():
    node, _ = twins()
    with torch._subclasses.FakeTensorMode():
        assert type(node(torch.ones(3, 5))).__name__ == "FakeTensor"
    with pytest.raises(RuntimeError, match="has no values"):
        node(torch.ones(3, 5))
    node.reset()
    assert type(node(torch.ones(3, 5))) is torch.Tensor


def test_inference_mode_and_back():
    node, twin = twins()
    for each in (node, twin):
        with torch.inference_mode():
            for _ in range(3):
                y = each(torch.ones(3, 5))
        assert y.is_inference()
    assert_equal(runs(node), runs(twin), 3)


def test_saved_tensors_that_come_back_in_another_order():
    node, twin = (make(neuron.LIFNode, backend=backend) for backend in ("auto", "torch"))
    found = []
    for each in (node, twin):
        for _ in range(3):
            each.reset()
            x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
            x = x.to(memory_format=torch.channels_last).requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(lambda held: held, lambda held: held.contiguous()):
                y = each(each(x)) * x
            y.sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(*found)


def test_checkpoint_runs_the_same_again():
    for calls in (1, 2, 3):
        net = nn.Sequential(nn.Linear(5, 5), make(neuron.LIFNode, backend="auto", step_mode="m"))
        grads = []
        for run in (net, partial(functional.checkpoint, net)):
            for _ in range(calls):
                net.zero_grad()
                net[1].reset()
                run(sequence(neuron.LIFNode)[:3].requires_grad_()).sum().backward()
            grads.append(net[0].weight.grad.clone())
        torch.testing.assert_close(*grads)
