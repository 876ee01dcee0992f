"""PyTorch's own checkpoint around a stateful module: right where the state is put back, refused in words elsewhere."""

import copy
import gc
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikescope import functional
from spikescope.errors import RecomputeError
from spikescope.neuron import AdaptiveLIFNode, IFNode
from spikescope.surrogate import Sigmoid


def test_torch_checkpoint_alone_is_refused_in_words():
    node = IFNode(step_mode="m")
    x = torch.rand(3, 2, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(node, x, use_reentrant=False)
    with pytest.raises(RecomputeError, match=r"functional\.checkpoint"):
        y.sum().backward()


def resets(net, x, v):
    functional.reset_net(net)
    return net(x)


def sets_all(net, x, v):
    net[1].v, net[1].w = v, 2 * v
    return net(x)


def goes_on(net, x, v):
    return net(x)


def sets_a_part(net, x, v):
    net[1].v = v
    return net(x)


def adapting():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(3, 5), AdaptiveLIFNode(v_threshold=0.2, surrogate_function=Sigmoid(2.0)))
    functional.set_step_mode(net, "m")
    return net, torch.rand(4, 6, 3).requires_grad_(), torch.rand(6, 5).requires_grad_()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("function", [resets, sets_all])
def test_torch_checkpoint_alone_where_the_function_puts_the_state_in_place(function, reentrant):
    results = []
    for plainly in (True, False):
        net, x, v = adapting()
        for scale in (1.0, 2.0):  # the second call ends in another state than the first
            if plainly:
                y = function(net, scale * x, v)
            else:
                y = torch.utils.checkpoint.checkpoint(function, net, scale * x, v, use_reentrant=reentrant)
            y.square().sum().backward()
        results.append([y, x.grad, net[0].weight.grad, net[1].v, net[1].w] + [v.grad] * (function is sets_all))
    assert results[0][1].abs().sum() > 0
    for want, got in zip(*results, strict=True):
        assert torch.equal(want, got)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("function", [goes_on, sets_a_part])
def test_torch_checkpoint_alone_is_refused_where_a_part_of_the_state_is_not_put_in_place(function, reentrant):
    net, x, v = adapting()
    y = torch.utils.checkpoint.checkpoint(function, net, x, v, use_reentrant=reentrant)
    with pytest.raises(RecomputeError, match=r"functional\.checkpoint"):
        y.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_torch_checkpoint_alone_where_the_user_resets_before_the_backward_pass(reentrant):
    results = []
    for plainly in (True, False):
        net, x, _ = adapting()
        ys = []
        for scale in (1.0, 2.0):
            functional.reset_net(net)
            run = goes_on if plainly else torch.utils.checkpoint.checkpoint
            ys.append(run(net, scale * x, None) if plainly else run(net, scale * x, use_reentrant=reentrant))
        functional.reset_net(net)
        sum(y.square().sum() for y in ys).backward()  # two recomputations, each of them from rest
        assert (net[1].v, net[1].w) == (0.0, 0.0)
        results.append([*ys, x.grad, net[0].weight.grad])
    assert results[0][2].abs().sum() > 0
    for want, got in zip(*results, strict=True):
        assert torch.equal(want, got)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("agrees", [True, False])
def test_torch_checkpoint_alone_where_the_user_puts_a_state_back(agrees, reentrant):
    net, x, v = adapting()
    v, w = v.detach(), v.detach() / 3
    net[1].v, net[1].w = v, w
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=reentrant)
    net[1].v, net[1].w = v.clone(), w if agrees else w + 1e-6
    if not agrees:
        with pytest.raises(RecomputeError, match=r"functional\.checkpoint"):
            y.square().sum().backward()
        return
    y.square().sum().backward()
    other, x_plain, _ = adapting()
    other[1].v, other[1].w = v, w
    other(x_plain).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert torch.equal(x.grad, x_plain.grad)


def test_a_state_that_was_changed_in_place_is_none_of_before():
    net, x, v = adapting()
    net[1].v, net[1].w = held = v.detach(), v.detach() / 3
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    held[0].add_(1.0)
    net[1].v, net[1].w = held
    with pytest.raises(RecomputeError, match="another state than the first time"):
        y.sum().backward()


def test_what_a_checkpoint_remembers_ends_with_it():
    net, x, _ = adapting()
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    assert len(net[1]._starts) == 1
    assert copy.deepcopy(net)[1]._starts is None
    del y
    functional.reset_net(net)  # its state has the graph too
    gc.collect()
    assert not net[1]._starts


class Reversed(torch.autograd.Function):
    """Runs a block twice without a graph, and again in the backward pass in the other order, as reversible nets do."""

    @staticmethod
    def forward(ctx, x, net, between, once_more=False):
        ctx.save_for_backward(x)
        ctx.net, ctx.between, ctx.once_more = net, between, once_more
        first = net(x)
        between(net)
        return torch.stack([first, net(2 * x)])

    @staticmethod
    def backward(ctx, grads):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        for scale, grad in ((2, grads[1]), (1, grads[0])):
            with torch.enable_grad():
                y = ctx.net(scale * x)
            ctx.between(ctx.net)
            y.backward(grad)
        if ctx.once_more:
            ctx.net(x)
            ctx.net(x)
        return x.grad, None, None, None


def test_a_function_that_runs_its_blocks_again_each_from_rest():
    results = []
    for plainly in (True, False):
        net, x, _ = adapting()
        if plainly:
            first = net(x)
            functional.reset_net(net)
            y = torch.stack([first, net(2 * x)])
        else:
            y = Reversed.apply(x, net, functional.reset_net)
        functional.reset_net(net)
        y.square().sum().backward()
        assert (net[1].v, net[1].w) == (0.0, 0.0)
        results.append([y, x.grad, net[0].weight.grad])
    assert results[0][1].abs().sum() > 0
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("resets_at_the_end", [True, False])
def test_a_function_whose_blocks_go_on_from_one_another_may_not_run_them_in_another_order(resets_at_the_end):
    net, x, _ = adapting()
    y = Reversed.apply(x, net, lambda net: None)
    if resets_at_the_end:
        functional.reset_net(net)
    with pytest.raises(RecomputeError, match="reversible blocks"):
        y.square().sum().backward()


def test_a_function_whose_block_did_not_begin_at_rest_may_not_run_it_again_from_there():
    net, x, _ = adapting()
    net(x)
    y = Reversed.apply(x, net, functional.reset_net)
    functional.reset_net(net)
    with pytest.raises(RecomputeError, match="reversible blocks"):
        y.square().sum().backward()


def test_a_function_may_not_run_its_block_again_from_where_it_ended():
    net, x, _ = adapting()
    y = Reversed.apply(x, net, functional.reset_net, True)
    functional.reset_net(net)
    with pytest.raises(RecomputeError, match="reversible blocks"):
        y.square().sum().backward()


def steps(net, xs, reset=True):
    if reset:
        functional.reset_net(net)
    return torch.stack([net(x) for x in xs])


class Recomputed(torch.autograd.Function):
    """Runs a function of its network without a graph, and once more with one in the backward pass."""

    @staticmethod
    def forward(ctx, xs, net, function, again):
        ctx.save_for_backward(xs)
        ctx.net, ctx.again = net, again
        return function(net, xs)

    @staticmethod
    def backward(ctx, grads):
        xs = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.again(ctx.net, xs).backward(grads)
        return xs.grad, None, None, None


class CheckpointFunction(torch.autograd.Function):
    """A checkpoint that is not PyTorch's, but has the name that several libraries give theirs."""

    @staticmethod
    def forward(ctx, run, xs):
        ctx.run = run
        ctx.save_for_backward(xs)
        with torch.no_grad():
            return run(xs)

    @staticmethod
    def backward(ctx, grads):
        xs = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.run(xs), grads)
        return None, xs.grad


def single_steps(training=True):
    net, x, _ = adapting()
    functional.set_step_mode(net, "s")
    return net.train(training), x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "run",
    [
        lambda net, xs: Recomputed.apply(xs, net, steps, steps),
        lambda net, xs: CheckpointFunction.apply(lambda xs: steps(net, xs), xs),
    ],
    ids=["of its own", "somebody else's checkpoint"],
)
def test_a_function_that_resets_and_goes_over_the_steps_runs_again_as_it_did(run, training):
    results = []
    for function in (steps, run):
        net, x = single_steps(training)
        for scale in (1.0, 2.0):
            y = function(net, scale * x)
            y.square().sum().backward()
        results.append([y, x.grad, net[0].weight.grad])
    assert results[0][1].abs().sum() > 0
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_a_function_may_go_on_from_a_reset_for_no_more_steps_than_the_first_time():
    net, x = single_steps()
    y = Recomputed.apply(x, net, steps, lambda net, xs: steps(net, [*xs, xs[0]])[:-1])
    with pytest.raises(RecomputeError, match="reversible blocks"):
        y.sum().backward()


def test_a_function_may_not_go_over_the_steps_again_from_where_it_ended():
    net, x = single_steps()
    y = Recomputed.apply(x, net, steps, lambda net, xs: steps(net, xs, reset=False))
    with pytest.raises(RecomputeError, match="reversible blocks"):
        y.sum().backward()


def test_a_hook_of_a_gradient_may_reset_and_run_another_network():
    (net, x), (other, _) = single_steps(), single_steps()
    wanted = steps(other, x)
    found = []
    y = net(x[0])
    y.register_hook(lambda grad: found.append(steps(other, x)))
    y.sum().backward()
    assert wanted.any()
    assert torch.equal(found[0], wanted)


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_a_step_inside_a_function_of_autograd_costs_no_operation_more_than_outside():
    net, x = single_steps()
    told = []

    def watched(net, xs):
        functional.reset_net(net)
        net(xs[0])
        net(xs[1])
        with Counted() as counted:
            y = net(xs[2])
        told.append(counted.calls)
        return y

    with torch.no_grad():
        watched(net, x)
    Recomputed.apply(x, net, watched, watched)
    assert told[0]
    assert told[1] == told[0]


def test_no_step_inside_a_function_of_autograd_reads_the_values_of_a_device():
    """A GPU would have to be waited for, and refuses while a graph is captured; 'meta' has no values to read."""
    net, x = single_steps()
    net.to("meta")

    def each_from_a_state(net, xs):
        ys = []
        for x, held in zip(xs, torch.zeros(4, 6, 5, device="meta"), strict=True):  # at four places
            net[1].v, net[1].w = held, held
            ys.append(net(x))
        return torch.stack(ys)

    assert Recomputed.apply(x.detach().to("meta").requires_grad_(), net, each_from_a_state, each_from_a_state).is_meta


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_same_memory_in_another_order_is_another_state(reentrant):
    node, x = IFNode(), torch.rand(3, 3, requires_grad=True)
    start = torch.arange(9.0).reshape(3, 3) / 10
    node.v = start
    y = torch.utils.checkpoint.checkpoint(node, x, use_reentrant=reentrant)
    node.v = start.t()
    with pytest.raises(RecomputeError):
        y.sum().backward()
