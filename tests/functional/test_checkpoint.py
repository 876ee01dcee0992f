"""Checkpointed equals plain: outputs, gradients, states, buffers; whatever is inside and however it is called."""

import copy

import pytest
import torch
from torch import nn

from sample import WHOLE
from spikescope import functional, layer
from spikescope.base import MemoryModule, recomputing
from spikescope.encoding import PoissonEncoder
from spikescope.errors import StateError
from spikescope.functional import checkpoint
from spikescope.neuron import IFNode, LIFNode, NoisyLIFNode, ParametricLIFNode
from spikescope.surrogate import Sigmoid

# of torch.compile itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


class KeptMask(MemoryModule):
    """Dropout with one mask until the reset, and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.register_memory("mask", None)
        self.register_memory("seen", [])
        self.calls = 0
        self.step_mode = "s"

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.detach().sum())
        if self.mask is None:
            self.mask = (torch.rand(x.shape[-1:]) < 0.5).to(x) * 2
        return super().forward(x)

    def single_step_forward(self, x):
        return x * self.mask

    multi_step_forward = single_step_forward


class FoldedNorm(nn.BatchNorm1d):
    """Batch normalisation over all axes but the last."""

    def forward(self, x):
        return super().forward(x.flatten(0, -2)).view_as(x)


def segments(step_mode, spiking=True):
    """Three segments with everything that holds a state."""
    torch.manual_seed(3)

    def surrogate():
        return Sigmoid(spiking=spiking)

    net = nn.ModuleList(
        [
            nn.Sequential(nn.Linear(3, 5), FoldedNorm(5), LIFNode(v_threshold=0.4, surrogate_function=surrogate())),
            nn.Sequential(KeptMask(), nn.Linear(5, 4), ParametricLIFNode(v_threshold=0.3)),
            nn.Sequential(nn.Linear(4, 2), IFNode(v_reset=None, surrogate_function=surrogate(), store_v_seq=True)),
        ]
    )
    net[1][2].surrogate_function = surrogate()
    functional.set_step_mode(net, step_mode)
    return net


def plain(module, *args):
    return module(*args)


def nested(module, x):
    """A checkpoint for the whole and one for each part."""

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = module

        def forward(self, x):
            for part in self.parts:
                x = checkpoint(part, x)
            return x

    return checkpoint(Parts(), x)


def pairs(module, x):
    """Several checkpoints in a segment."""
    return checkpoint(module[2:], checkpoint(module[:2], x))


def outcome(run, step_mode):
    """All that a run of several calls without reset gives and leaves behind."""
    net = segments(step_mode)
    torch.manual_seed(5)
    x = (torch.rand(3, *([4] if step_mode == "m" else []), 6, 3) * 2).requires_grad_()
    torch.manual_seed(7)
    ys = []
    for one in x:
        y = one
        for segment in net:
            y = run(segment, y)
        ys.append(y)
    state = functional.get_state(net)
    buffers = {name: held.clone() for name, held in net.named_buffers()}
    loss = sum((i + 1.5) * (y**2).sum() for i, y in enumerate(ys))
    loss = loss + sum(held["v"].square().sum() for held in state.values() if "v" in held)
    loss = loss + net[2][1].v_seq.square().sum()
    loss.backward()
    return {
        "output": torch.stack(ys),
        "grad x": x.grad,
        **{f"grad {name}": p.grad for name, p in net.named_parameters()},
        **{f"state {path} {name}": v for path, held in state.items() for name, v in held.items() if name != "seen"},
        "seen": torch.stack(list(state["1.0"]["seen"])),
        "calls": torch.tensor(net[1][0].calls),
        "v_seq": net[2][1].v_seq,
        **{f"buffer {name}": held for name, held in buffers.items()},
        **{f"buffer afterwards {name}": held for name, held in net.named_buffers()},
        **{
            f"afterwards {p} {n}": v
            for p, held in functional.get_state(net).items()
            for n, v in held.items()
            if n == "v"
        },
    }


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("run", [checkpoint, nested, pairs])
def test_checkpointed_equals_plain(run, step_mode):
    want, got = outcome(plain, step_mode), outcome(run, step_mode)
    assert want.keys() == got.keys()
    for name in want:
        assert torch.equal(want[name], got[name]), name
    assert want["grad 0.0.weight"].abs().sum() > 0
    assert 0 < (want["output"] > 0).float().mean() < 1


def test_the_comparison_sees_a_recompute_from_the_wrong_state():
    def careless(module, x):
        def run(x):
            with recomputing():
                return module(x)

        return torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)

    results = []
    for run in (plain, careless):
        net = segments("m")[0]
        x = torch.linspace(0, 2, 72).view(4, 6, 3).requires_grad_()
        net(x)
        functional.detach_net(net)
        run(net, x).square().sum().backward()
        results.append((x.grad, net[1].running_mean))
    assert [torch.equal(*both) for both in zip(*results, strict=True)] == [False, False]


def test_the_module_is_as_before_after_backward():
    net = segments("m")[0]
    x = torch.rand(4, 6, 3, requires_grad=True)
    checkpoint(net, x)
    functional.detach_net(net)
    y = checkpoint(net, x)
    before = {id(m): dict(vars(m)) for m in net.modules()}
    memories = net[2]._memories
    v, mean = net[2].v, net[1].running_mean
    numbers = mean.clone()
    y.sum().backward()
    for module in net.modules():
        for name, held in vars(module).items():
            assert held is before[id(module)][name], name
        assert vars(module).keys() == before[id(module)].keys()
    assert net[2]._memories is memories
    assert net[2].v is v
    assert net[1].running_mean is mean
    assert torch.equal(mean, numbers)


@pytest.mark.parametrize("run", [checkpoint, nested, pairs])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_generators_of_the_modules_draw_the_same_numbers_again(run, step_mode):
    def outcome(run):
        torch.manual_seed(0)
        own, shared = torch.Generator().manual_seed(11), torch.Generator().manual_seed(12)
        net = nn.Sequential(
            nn.Linear(3, 5),
            NoisyLIFNode(0.5, v_threshold=0.4, generator=own),
            NoisyLIFNode(0.3, v_threshold=0.3, generator=shared),
            PoissonEncoder(generator=shared),
        )
        functional.set_step_mode(net, step_mode)
        x = torch.linspace(0, 1, 36).view(3, 4, 3).requires_grad_()
        first = run(net[:3], x)
        second = run(net[:3], 2 * x)  # goes on from the state and the numbers of the first
        encoded = run(net[3:], torch.full((7, 2), 0.5))
        (first.sum() + second.square().sum()).backward()
        return first, second, encoded, x.grad, net[0].weight.grad, torch.rand(9, generator=own), shared.get_state()

    for want, got in zip(outcome(plain), outcome(run), strict=True):
        assert want.abs().sum() > 0
        assert torch.equal(want, got)


def test_the_state_may_be_changed_between_forward_and_backward():
    grads = []
    for run in (plain, checkpoint):
        net = segments("m")[0]
        x = torch.full((4, 6, 3), 0.7, requires_grad=True)
        net.eval()
        y = run(net, x)
        functional.reset_net(net)
        net(torch.rand(4, 2, 3))  # another batch in between
        y.sum().backward()
        assert net[2].v.shape == (2, 5)
        grads.append(x.grad)
    assert torch.equal(*grads)


def test_memory_is_kept_for_the_arguments_alone():
    """What autograd keeps for the plain call it does not keep for the checkpointed one."""

    def kept(run):
        sizes = []
        net = nn.Sequential(*(IFNode(step_mode="m") for _ in range(3)))
        x = torch.rand(5, 7, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            run(net, x)
        return sum(sizes)

    assert kept(checkpoint) == 5 * 7
    assert kept(plain) == 3 * 5 * 7


def test_gradients_of_input_parameters_and_state_by_finite_differences():
    net = segments("m", spiking=False).double().eval()
    net[1][0] = nn.Identity()

    def run(x, v):
        functional.reset_net(net)
        net[0][2].v = v
        y = checkpoint(net[2], checkpoint(net[1], checkpoint(net[0], x)))
        return y, net[0][2].v, net[2][1].v

    x = torch.rand(3, 2, 3, dtype=torch.float64, requires_grad=True)
    v = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, v), fast_mode=not WHOLE)
    assert torch.autograd.gradgradcheck(run, (x, v), fast_mode=not WHOLE)


def test_backward_twice():
    node = LIFNode(step_mode="m", v_threshold=0.2)
    x = torch.rand(4, 3, requires_grad=True)
    y = checkpoint(node, 1.5 * x)
    first, second = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for _ in range(2))
    assert first.abs().sum() > 0
    assert torch.equal(first, second)


@pytest.mark.parametrize("inner", [torch.bfloat16, None])
def test_nested_autocast(inner):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.node = LIFNode(v_threshold=0.1, step_mode="m")

        def forward(self, x):
            x = self.node(self.one(x))
            with torch.autocast("cpu", torch.bfloat16, enabled=inner is None):
                return self.two(x if inner is None else x.float())

    results = []
    for run in (plain, checkpoint):
        net, x = Mixed(), torch.linspace(-1, 1, 24).view(4, 2, 3).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = run(net, run(net, x))
        y.float().square().sum().backward()
        results.append((y, x.grad, net.one.weight.grad, net.two.weight.grad, net.node.v))
    for want, got in zip(*results, strict=True):
        assert want.dtype == got.dtype
        assert torch.equal(want, got)


def test_the_layers_of_the_library():
    results = []
    for run in (plain, checkpoint):
        torch.manual_seed(0)
        net = nn.Sequential(
            layer.Conv2d(2, 3, 3, padding=1),
            layer.BatchNorm2d(3),
            LIFNode(v_threshold=0.3),
            layer.Dropout2d(0.5),
            layer.Flatten(),
            layer.ElementWiseRecurrentContainer(nn.Sequential(nn.Linear(75, 75), IFNode()), torch.add),
        )
        functional.set_step_mode(net, "m")
        frame = torch.rand(2, 2, 5, 5, requires_grad=True)
        x_seq = (2 * frame).expand(4, 2, 2, 5, 5)  # the same frame at every step
        y = torch.cat((run(net, x_seq), run(net, x_seq)))
        y.square().sum().backward()
        mask = net[3].mask
        results.append([y, frame.grad, *(p.grad for p in net.parameters()), *net.buffers(), net[2].v, net[5].y, mask])
    for want, got in zip(*results, strict=True):
        assert torch.equal(want, got)
    assert results[0][1].abs().sum() > 0


def test_truncated_by_detach_net():
    grads = []
    for run in (plain, checkpoint):
        net = segments("m")[0]
        net.eval()
        xs = torch.linspace(0, 2, 72).view(2, 6, 2, 3).requires_grad_()
        run(net, xs[0])
        functional.detach_net(net)
        run(net, xs[1]).sum().backward()
        assert xs.grad[0].abs().sum() == 0
        grads.append(xs.grad)
    assert torch.equal(*grads)


def test_keywords_several_outputs_and_no_gradient():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.node = IFNode(v_reset=None)

        def forward(self, pair, *, scale):
            x, y = pair
            return {"spike": self.node(x * scale), "other": (x * y,)}

    net = Two()
    x, scale = torch.full((2,), 0.75, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    out = checkpoint(net, (x, x), scale=scale)
    (out["other"][0].sum() + net.node.v.sum()).backward()
    assert out["spike"].tolist() == [1.0, 1.0]
    h = 1.5 - 1.0  # V = H - S, with S' = g(H - 1)
    g = 4 * torch.sigmoid(torch.tensor(4 * h)) * torch.sigmoid(torch.tensor(-4 * h))
    torch.testing.assert_close(x.grad, (1 - g) * 2 + 1.5 + torch.zeros(2))
    torch.testing.assert_close(scale.grad, 2 * (1 - g) * 0.75)
    with torch.no_grad():
        assert not checkpoint(net, (x, x), scale=scale)["spike"].requires_grad
    assert net.node.v.tolist() == [1.0, 1.0]  # 0.5 + 1.5 - 1


def test_a_state_that_cannot_be_put_back_is_refused():
    class Foreign(nn.Module):
        def reset(self):
            pass

    with pytest.raises(StateError, match=r"0 \(Foreign\) has a reset\(\) but is not a MemoryModule.*Derive it from"):
        checkpoint(nn.Sequential(Foreign()), torch.ones(1, requires_grad=True))


def test_an_error_in_the_segment_leaves_the_module_usable():
    node = IFNode(step_mode="m")
    checkpoint(node, torch.rand(3, 2, requires_grad=True))
    v = node.v
    with pytest.raises(ValueError, match="reset_net"):
        checkpoint(node, torch.rand(3, 4, requires_grad=True))
    assert node.v is v


def compiled_outcome(compile_it):
    torch._dynamo.reset()
    net = segments("m")
    del net[1][0]

    def run(x):
        for segment in net:
            x = checkpoint(segment, x)
        return x

    x = torch.linspace(0, 2, 72).view(4, 6, 3).requires_grad_()
    y = (torch.compile(run, backend="aot_eager", fullgraph=True) if compile_it else run)(x)
    (y.square().sum() + net[2][1].v.square().sum()).backward()
    return [y, x.grad, *(p.grad for p in net.parameters()), *(b for b in net.buffers()), net[0][2].v, net[2][1].v]


def test_compiled():
    with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True):
        got = compiled_outcome(True)
    for want, have in zip(compiled_outcome(False), got, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-6)  # the compiler may fuse a sum


def test_compiled_without_the_setting_is_refused_in_words():
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"functional\.checkpoint in compiled code needs torch"):
        compiled_outcome(True)


def test_a_compiled_segment():
    torch._dynamo.reset()
    net = segments("m")[0]
    other = copy.deepcopy(net)
    grads = []
    for module in (torch.compile(net, backend="aot_eager", fullgraph=True), other):
        x = torch.linspace(0, 2, 72).view(4, 6, 3).requires_grad_()
        checkpoint(module, checkpoint(module, x)[..., :3] + x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(net[2].v, other[2].v)
    torch.testing.assert_close(net[1].running_mean, other[1].running_mean)
