"""Containers: how modules inside see time, feedback worked by hand, and what must not be inside."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from spikescope import layer
from spikescope.errors import ShapeError
from spikescope.functional import fuse_convbn2d, seq_to_ann_forward, set_step_mode
from spikescope.layer.fold import is_expanded
from spikescope.monitor import OutputMonitor, instrument
from spikescope.neuron import IFNode, LIFNode

T, N = 5, 3


def stateless_stack():
    torch.manual_seed(4)
    return [nn.Conv2d(2, 3, 3), nn.ReLU(), layer.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4)]


def test_stateless_children_run_once_on_the_folded_batch():
    modules = stateless_stack()
    container, plain = layer.SeqToANNContainer(*modules), nn.Sequential(*modules)
    x = torch.randn(T, N, 2, 5, 7)
    torch.testing.assert_close(container(x), torch.stack([plain(step) for step in x]))
    assert container.step_mode == "m"
    assert list(container.state_dict()) == list(plain.state_dict())
    assert container(x[:, :0]).shape == (T, 0, 4)


def test_a_repeated_frame_is_shared_only_among_known_children():
    class Counting(nn.Module):
        def forward(self, x):
            return x + torch.arange(len(x)).view(-1, 1, 1, 1)

    class Losing(nn.Module):
        def forward(self, x):
            return x[1:]

    frame = torch.randn(N, 2, 5, 7, requires_grad=True)
    x = frame.expand(T, *frame.shape)
    container = layer.SeqToANNContainer(*stateless_stack())
    y = container(x)
    assert is_expanded(y)
    torch.testing.assert_close(y, container(x.contiguous()))
    (got,) = torch.autograd.grad(y.pow(2).sum(), frame)
    (want,) = torch.autograd.grad(container(x.contiguous()).pow(2).sum(), frame)
    torch.testing.assert_close(got, want)
    for unknown in (Counting(), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Sequential(nn.ReLU()), nn.Flatten(0)):
        assert not is_expanded(layer.SeqToANNContainer(unknown)(x))
    assert layer.SeqToANNContainer(Counting())(x)[4, 2].sub(x[4, 2]).mean().round() == 14
    with pytest.raises(ShapeError, match="cannot be unfolded"):
        layer.SeqToANNContainer(Losing())(x)
    for given in (x[:, :2, 0], x.contiguous()[:, :2, 0]):  # N = 2 would pass for the channels of one sample
        with pytest.raises(ShapeError, match=r"Conv2d .* takes \[N, C, H, W\], but got \[.* with 3 axes"):
            container(given)
    with pytest.raises(ShapeError, match="3 axes"):  # nor T*N in a layer of ours
        layer.SeqToANNContainer(layer.Conv2d(T * N, 2, 3))(torch.zeros(T, N, 5, 5))


def test_loops():
    x = torch.randn(T, N, 4) + 0.5
    node = LIFNode(v_threshold=0.4)
    single = nn.Sequential(nn.Linear(4, 2), copy.deepcopy(node))
    many = layer.MultiStepContainer(*copy.deepcopy(single))
    want = torch.stack([single(step) for step in x])
    assert torch.equal(many(x), want)
    assert 0 < want.sum() < want.numel()
    chosen = layer.StepModeContainer(True, *copy.deepcopy(single))
    chosen[1].reset()
    assert torch.equal(torch.stack([chosen(step) for step in x]), want)
    chosen[1].reset()
    chosen.step_mode = "m"
    assert torch.equal(chosen(x), want)
    with pytest.raises(ShapeError, match="at least one step"):
        many(x[:0])
    assert "stateful=True, step_mode=m" in repr(chosen)


def test_step_mode_container_without_state():
    torch.manual_seed(1)
    plain = nn.BatchNorm1d(4)
    container = layer.StepModeContainer(False, copy.deepcopy(plain))
    x = torch.randn(T, N, 4)
    torch.testing.assert_close(container(x[0]), plain(x[0]))
    container.step_mode = "m"
    torch.testing.assert_close(container(x), plain(x.flatten(0, 1)).unflatten(0, (T, N)))


def test_element_wise_feedback_by_hand():
    net = layer.ElementWiseRecurrentContainer(IFNode(v_reset=None), torch.add)
    # input of the neuron: x + y; V: 0.75 | 1.5 -> .5, spike | .5 + 1.75 = 2.25 -> 1.25, spike | 1.25 + 1 = 2.25, spike
    got = [net(torch.tensor([x])).item() for x in (0.75, 0.75, 0.75, 0.0)]
    assert got == [0.0, 1.0, 1.0, 1.0]
    assert net.sub_module.v.item() == 1.25
    net.reset()
    assert net.y is None
    assert net.sub_module.v.item() == 1.25  # the child has a reset of its own, which reset_net calls


def test_element_wise_feedback_gradient():
    net = layer.ElementWiseRecurrentContainer(nn.Tanh(), torch.mul, step_mode="m")
    assert not net(torch.randn(T, N)).any()  # y_0 = 0
    net = layer.ElementWiseRecurrentContainer(nn.Tanh(), torch.sub, step_mode="m")

    def run(x):
        net.reset()
        return net(x)

    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    y1 = torch.tanh(-x[0])
    torch.testing.assert_close(run(x)[1], torch.tanh(y1 - x[1]))
    assert torch.autograd.gradcheck(run, x)


def test_linear_feedback_by_hand():
    net = layer.LinearRecurrentContainer(nn.Linear(2, 1, bias=False), 2, 1, step_mode="m")
    net.load_state_dict(
        {
            "rc.weight": torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
            "rc.bias": torch.tensor([0.5, 0.0]),
            "sub_module.weight": torch.tensor([[1.0, 3.0]]),
        }
    )
    x = torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]])
    # step 1: (1.5, 2) -> 7.5; step 2: (0 + 15 + 0.5, 1 - 7.5) -> 15.5 - 19.5
    assert net(x).flatten().tolist() == [7.5, -4.0]
    net.reset()
    net.step_mode = "s"
    assert [net(step).item() for step in x] == [7.5, -4.0]
    net.reset()
    assert net(torch.zeros(2, 3, 2)).shape == (2, 3, 1)


def test_recurrent_gradients_copies_and_cutting():
    net = layer.LinearRecurrentContainer(nn.Tanh(), 3, 3, step_mode="m").double()

    def run(x):
        net.reset()
        return net(x)

    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, x)
    whole = run(x)
    net.reset()
    assert torch.equal(torch.cat([net(x[:1]), net(x[1:])]), whole)
    other = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    assert torch.equal(other(x), net(x))
    assert list(net.state_dict()) == ["rc.weight", "rc.bias"]
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize("put", ["forward", "before", "backward", "every module", "instance"])
def test_a_repeated_frame_is_not_shared_where_a_hook_could_mix_the_samples(put):
    def numbered(x):
        return x + torch.arange(len(x)).view(-1, 1)

    relu = nn.ReLU()
    handles = {
        "forward": lambda: relu.register_forward_hook(lambda module, args, y: numbered(y)),
        "before": lambda: relu.register_forward_pre_hook(lambda module, args: (numbered(args[0]),)),
        "backward": lambda: relu.register_full_backward_hook(lambda module, grad_in, grad_out: None),
        "every module": lambda: nn.modules.module.register_module_forward_hook(
            lambda module, args, y: numbered(y) if module is relu else None
        ),
        "instance": lambda: setattr(relu, "forward", numbered),
    }
    container = layer.SeqToANNContainer(relu)
    x = torch.ones(1, N, 2).expand(T, N, 2)
    handle = handles[put]()
    try:
        want = x if put == "backward" else 1 + torch.arange(T * N).view(T, N, 1).expand(T, N, 2)
        assert torch.equal(container(x), want)
        frame = torch.ones(N, 2, requires_grad=True)
        assert not is_expanded(container((frame * 1).expand(T, N, 2)))
    finally:
        if handle is not None:
            handle.remove()


def test_a_hook_keeps_samples_apart_no_more_in_compiled_code():
    relu = nn.ReLU()
    relu.register_forward_hook(lambda module, args, y: y + torch.arange(len(y)).view(-1, 1))
    compiled = torch.compile(layer.SeqToANNContainer(relu), fullgraph=True, backend="eager")
    x = torch.ones(1, N, 2).expand(T, N, 2)
    assert torch.equal(compiled(x), 1 + torch.arange(T * N).view(T, N, 1).expand(T, N, 2))


@pytest.mark.parametrize("compiling", [False, True])
def test_a_monitor_inside_sees_every_step_of_a_repeated_frame(compiling):
    net = instrument(layer.SeqToANNContainer(layer.Linear(2, 2), nn.ReLU()))
    x = torch.rand(N, 2).expand(T, N, 2)
    run = torch.compile(net, fullgraph=True, backend="eager") if compiling else net
    for _ in range(2):  # before it and after it the frame is shared
        assert is_expanded(net((x[0] * torch.ones((), requires_grad=True)).expand(T, N, 2)))
        with OutputMonitor(net, (layer.Linear, nn.ReLU)) as monitor:
            y = run(x)
        assert [record.shape for record in monitor.records] == [(T * N, 2), (T * N, 2)]
        torch.testing.assert_close(monitor["1"][0].unflatten(0, (T, N)), y)


@pytest.mark.parametrize("compiling", [False, True])
def test_layers_without_a_state_take_the_folded_batch_for_one_step(compiling):
    torch.manual_seed(4)
    conv, bn = layer.Conv2d(2, 3, 3, bias=False), layer.BatchNorm2d(3).eval()
    bn.running_mean.normal_()
    net = nn.Sequential(layer.SeqToANNContainer(conv, bn), IFNode(), layer.SeqToANNContainer(layer.AvgPool2d(3)))
    x = torch.randn(T, N, 2, 5, 5)
    net[1].step_mode = "m"
    want = net(x)
    net[1].reset()
    net[0] = layer.SeqToANNContainer(fuse_convbn2d(conv, bn))
    for module in (net, net[0][0], net[2][0]):
        set_step_mode(module, "m")
    assert net[0][0].step_mode == net[2][0].step_mode == "m"
    run = torch.compile(net, fullgraph=True, backend="eager") if compiling else net
    torch.testing.assert_close(run(x), want)
    assert net[0][0].step_mode == net[2][0].step_mode == "m"  # only as long as the call
    torch.testing.assert_close(seq_to_ann_forward(x, nn.Sequential(net[0][0])), net[0](x))
    torch.testing.assert_close(layer.StepModeContainer(False, net[0][0], step_mode="m")(x), net[0](x))
    with pytest.raises(ShapeError, match="3 axes"):
        net[0](x[:, :, 0])
    assert net[0][0].step_mode == "m"


def test_modules_that_see_time_themselves_are_refused():
    x = torch.zeros(T, N, 4)
    inner = layer.SeqToANNContainer(nn.ReLU())
    for container, seen, name in (
        (layer.SeqToANNContainer, inner, "SeqToANNContainer"),
        (layer.MultiStepContainer, layer.Linear(4, 4, step_mode="m"), "Linear"),
    ):
        with pytest.raises(ValueError, match=rf"to the modules inside, but 0\.0 \({name}\) has step_mode='m'"):
            container(nn.Sequential(seen))(x)
    with pytest.raises(ValueError, match=r"0 \(IFNode\) has step_mode='m'"):
        layer.StepModeContainer(True, IFNode(step_mode="m"))(x[0])
    for net in (
        layer.ElementWiseRecurrentContainer(IFNode(step_mode="m"), torch.add),
        layer.LinearRecurrentContainer(IFNode(step_mode="m"), 4, 4),
    ):
        with pytest.raises(ValueError, match=r"sub_module \(IFNode\) has step_mode='m'"):
            net(x[0])


def folding(container, mode):
    node = LIFNode(v_threshold=0.3, step_mode=mode)
    if container is seq_to_ann_forward:
        return lambda x: seq_to_ann_forward(x, [nn.Tanh(), node])
    made = container(nn.Tanh(), node)
    made.step_mode = "m"
    return made


@pytest.mark.parametrize(
    ("container", "mode"),
    [
        *((layer.SeqToANNContainer, mode) for mode in "sm"),
        *((seq_to_ann_forward, mode) for mode in "sm"),
        (partial(layer.StepModeContainer, False), "s"),
    ],
)
def test_a_state_where_time_is_folded_sees_one_batch_with_one_warning(container, mode):
    run = folding(container, mode)
    x = torch.rand(T, N, 4)
    alone = LIFNode(v_threshold=0.3, step_mode=mode)
    seen = {"s": "one step", "m": r"T\*N steps"}[mode]
    with pytest.warns(UserWarning, match=rf"LIFNode, which keeps a state, takes that for {seen}"):
        got = run(x)
    want = alone(x.tanh().flatten(0, 1)).unflatten(0, (T, N))
    assert torch.equal(got, want)
    assert 0 < got.sum() < got.numel()
    assert torch.equal(run(x), alone(x.tanh().flatten(0, 1)).unflatten(0, (T, N)))  # it goes on, and warns no more


@pytest.mark.parametrize("container", [layer.SeqToANNContainer, layer.MultiStepContainer])
def test_module_reaches_what_is_inside(container):
    net = container(nn.Linear(3, 4), nn.Tanh())
    assert isinstance(net.module, nn.Sequential)
    assert net.module[0] is net[0]
    assert [type(held) for held in net.module] == [nn.Linear, nn.Tanh]
    x = torch.randn(N, 3)
    assert torch.equal(net.module(x), net[1](net[0](x)))
    net.module[1] = nn.ReLU()
    assert isinstance(net[1], nn.ReLU)
    row = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert container(row).module is row
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert len(list(net.modules())) == 3


@pytest.mark.parametrize("container", [layer.SeqToANNContainer, layer.MultiStepContainer])
@pytest.mark.parametrize("nested", [False, True])
def test_entries_of_when_all_was_in_one_child_named_module(container, nested):
    def make():
        row = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)]
        return nn.Sequential(container(nn.Sequential(*row) if nested else row[0], *row[1:] * (not nested)))

    net, other = make(), make()
    nn.init.normal_(net[0].module[1].running_mean)
    own = "0.0." if nested else "0."
    old = {key.replace(own, "0.module.", 1): held for key, held in net.state_dict().items()}
    assert "0.module.1.num_batches_tracked" in old
    assert other.load_state_dict(dict(old)).missing_keys == []
    assert all(torch.equal(held, other.state_dict()[key]) for key, held in net.state_dict().items())
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0\.[0-9.]*gain"'):
        other.load_state_dict(old | {"0.module.0.gain": torch.zeros(1)})
    del old["0.module.0.bias"]
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{own}0.bias"'):
        other.load_state_dict(old)
    lone = container(nn.Conv2d(1, 2, 3))
    lone.load_state_dict({"module." + key: held for key, held in nn.Conv2d(1, 2, 3).state_dict().items()})


def test_the_step_mode_may_stand_before_the_modules():
    net = layer.StepModeContainer(True, "m", IFNode())
    assert (net.step_mode, len(net)) == ("m", 1)
    assert layer.StepModeContainer(True, IFNode(), step_mode="m").step_mode == "m"
    with pytest.raises(ValueError, match="step_mode must be one of 's', 'm', but got 'x'"):
        layer.StepModeContainer(True, "x", IFNode())


def test_wrong_shapes_and_arguments():
    with pytest.raises(TypeError, match="stateful, the first argument, must be True or False, but got Linear"):
        layer.StepModeContainer(nn.Linear(2, 2))
    net = layer.ElementWiseRecurrentContainer(nn.Linear(4, 2), torch.add)
    with pytest.raises(ShapeError, match=r"\[N=3, 4\] came in and \[N=3, 2\] out"):
        net(torch.zeros(3, 4))
    net = layer.LinearRecurrentContainer(nn.Linear(4, 3), 4, 2)
    with pytest.raises(ShapeError, match=r"must be \[N=3, 2\], as out_features=2 says, but it is \[N=3, 3\]"):
        net(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match=r"takes steps of \[N, \*, 4\], but got \[N=3, 5\]"):
        net(torch.zeros(3, 5))
    net = layer.ElementWiseRecurrentContainer(nn.Identity(), torch.add)
    net(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="cannot go on from its stored state"):
        net(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="time first"):
        layer.SeqToANNContainer(nn.ReLU())(torch.zeros(3))
