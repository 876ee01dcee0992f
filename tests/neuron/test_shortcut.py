"""The short way of a call gives what the long way gives, and is left wherever the long way would see something else.

The law: a neuron whose calls have become short and a twin in the eager loop, which has no short way, stay equal in
outputs, states, gradients and errors, whatever is done to both.
"""

import copy
import gc
import io
import pickle
import threading
import weakref
from functools import partial

import pytest
import torch
from neuron_cases import POINTWISE, READOUTS, assert_same_state, make, sequence
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from spikescope import functional, internals, monitor, neuron, surrogate
from spikescope.dynamics import launch
from spikescope.dynamics.prepared_cpp import PreparedOnCpu
from spikescope.dynamics.prepared_gpu import PreparedOnGpu
from spikescope.errors import ShapeError

SHORT = [cls for cls in POINTWISE if cls.drive is neuron.PointwiseNeuron.drive]


@pytest.fixture
def short(monkeypatch):
    """Every run on the short way, as a list that grows."""
    runs = []

    def noted(forward):
        def run(self, *args):
            runs.append(self)
            return forward(self, *args)

        return run

    for kind in (PreparedOnCpu, PreparedOnGpu):
        monkeypatch.setattr(kind, "forward", noted(kind.forward))
    return runs


def twins(cls=neuron.LIFNode, mode="s", backend="auto", **fields):
    """The same neuron twice: as it comes, after calls that make those to come short, and in the eager loop."""
    one, other = make(cls, step_mode=mode, backend=backend, **fields), make(cls, step_mode=mode, **fields)
    for learn in (True, False, True, False):
        one.reset()
        for _ in range(3):
            one(_input(cls, mode).requires_grad_(learn))
    one.reset()
    return one, other


def _input(cls, mode):
    return sequence(cls)[: 3 if mode == "m" else None] if mode == "m" else sequence(cls)[0]


def runs(node, mode="s", cls=neuron.LIFNode, learn=True, given=None):
    """Outputs, last state and gradients of three calls on end, on inputs made here or given."""
    x = given
    if x is None:
        x = sequence(cls) if mode == "s" else torch.stack([sequence(cls)[:3]] * 3)
    x = x[:3].clone().requires_grad_(learn)
    outputs = [node(each) for each in x]
    state = [held for held in node.memories() if isinstance(held, torch.Tensor)]
    if not learn:
        return [*outputs, *state]
    loss = sum((i + 1) * y.sum() for i, y in enumerate(outputs)) + sum((s * s).sum() for s in state if s.requires_grad)
    wanted = [x, *(p for p in node.parameters() if p.requires_grad)]
    return [*outputs, *state, *torch.autograd.grad(loss, wanted, allow_unused=True)]


def assert_equal(got, want, exact):
    assert len(got) == len(want)
    for place, (a, b) in enumerate(zip(got, want, strict=True)):
        if a is None or b is None:
            assert a is b
        elif place < exact:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", SHORT, ids=lambda cls: cls.__name__)
def test_short_way_is_the_eager_loop(cls, mode, short):
    node, twin = twins(cls, mode)
    runs_a_kernel = node.implementation(_input(cls, mode)).backend == "cpp"
    keeps = cls in READOUTS and mode == "m"  # the last step of a sequence
    for learn in (True, False, True):
        node.reset(), twin.reset()
        short.clear()
        got, want = runs(node, mode, cls, learn), runs(twin, mode, cls, learn)
        assert_equal(got, want, 3 + len(cls.State._fields))
        assert len(short) == (3 if runs_a_kernel and not keeps else 0)


ON_A_GPU = [neuron.LIFNode, neuron.ParametricLIFNode, neuron.AdaptiveLIFNode, neuron.KLIFNode, neuron.IzhikevichNode]


@pytest.mark.skipif(not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter")
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", ON_A_GPU, ids=lambda cls: cls.__name__)
def test_short_way_on_a_gpu_is_the_eager_loop(cls, mode, short):
    node, twin = twins(cls, mode, backend="triton")
    for learn in (True, False, True):
        node.reset(), twin.reset()
        short.clear()
        assert_equal(runs(node, mode, cls, learn), runs(twin, mode, cls, learn), 3 + len(cls.State._fields))
        assert [type(made) for made in short] == [PreparedOnGpu] * 3


@pytest.mark.skipif(not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter")
def test_short_way_on_a_gpu_takes_long_runs_and_gradients_as_they_come():
    """Runs of several segments, a gradient that is expanded, one of the last state alone, one that is not aligned."""
    node, twin = twins(neuron.LIFNode, "m", backend="triton")
    x = 2 * torch.rand(11, 3, 6)
    for loss in (
        lambda y, v: (y * torch.arange(11.0).view(-1, 1, 1)).sum() + v.sum(),
        lambda y, v: y.sum(),
        lambda y, v: (y * 2).sum() + (v * v).sum(),
        lambda y, v: v.sum(),
    ):
        found = []
        for each in (node, twin):
            for _ in range(3):  # the third call is short
                each.reset()
                leaf = x.clone().requires_grad_()
                y = each(leaf)
            found.append((y, *torch.autograd.grad(loss(y, each.v), leaf)))
        assert_equal(*found, 1)


def test_tensors_of_a_device_are_known_by_their_keys():
    """Without one: a stand-in of a tensor on a GPU has the keys of that tensor, and those of the stand-in."""
    with FakeTensorMode():
        for device in ("cpu", "cuda"):
            held = torch.empty(3, device=device)
            own = torch._C._dispatch_keys(held)
            for key in ("Python", "PythonTLSSnapshot"):
                own = own.remove(getattr(torch._C.DispatchKey, key))
            assert own.raw_repr() in internals._ORDINARY
            assert not internals.is_ordinary(held)
    with torch.inference_mode():
        held = torch.empty(3)
        assert internals.is_ordinary(held)
    assert not internals.is_ordinary(held)


DEEDS = {
    "tau": lambda node: setattr(node, "tau", 3.0),
    "a number behind its back": lambda node: object.__setattr__(node, "v_threshold", 0.25),
    "a tensor behind its back": lambda node: vars(node).update(v_threshold=torch.full((5,), 0.25)),
    "a number of the surrogate": lambda node: setattr(node.surrogate_function, "alpha", 1.5),
    "a tensor in place of a number": lambda node: setattr(node, "v_threshold", torch.full((5,), 0.5)),
    "a parameter in place of a number": lambda node: setattr(node, "tau", nn.Parameter(torch.tensor(2.5))),
    "soft reset": lambda node: setattr(node, "v_reset", None),
    "option": lambda node: setattr(node, "detach_reset", True),
    "another surrogate": lambda node: setattr(node, "surrogate_function", surrogate.ATan()),
    "a surrogate by another door": lambda node: node._modules.update(surrogate_function=surrogate.ATan(alpha=3.0)),
    "no spikes": lambda node: node.surrogate_function.set_spiking_mode(False),
    "state": lambda node: setattr(node, "v", torch.full((3, 5), 0.5)),
    "state of another shape": lambda node: setattr(node, "v", torch.full((5,), 0.5)),
    "state of one number": lambda node: setattr(node, "v", torch.tensor(0.5)),
    "state that is a number": lambda node: setattr(node, "v", 0.5),
    "state below zero": lambda node: setattr(node, "v", -0.0),
    "state that learns": lambda node: setattr(node, "v", torch.full((3, 5), 0.5, requires_grad=True)),
    "state in double precision": lambda node: setattr(node, "v", torch.full((3, 5), 0.5, dtype=torch.float64)),
    "state in another order": lambda node: setattr(node, "v", torch.full((5, 3), 0.5).t()),
    "detached state": lambda node: (node(torch.ones(3, 5).requires_grad_()), node.detach()),
    "reset value": lambda node: (node.set_reset_value("v", 0.25), node.reset()),
    "a memory more": lambda node: node.register_memory("more", 0.0),
    "hook": lambda node: node.register_forward_hook(lambda module, args, out: 2 * out),
    "hook before": lambda node: node.register_forward_pre_hook(lambda module, args: (2 * args[0],)),
    "hook backwards": lambda node: node.register_full_backward_hook(lambda module, gx, gy: (2 * gx[0],)),
    "hook on the surrogate": lambda node: node.surrogate_function.register_forward_hook(lambda m, a, out: 0 * out),
    "forward of its own": lambda node: setattr(node, "forward", lambda x: 3 * x),
    "step of its own": lambda node: setattr(node, "single_step_forward", lambda x: 3 * x),
    "charge of its own": lambda node: setattr(node, "neuronal_charge", lambda x: setattr(node, "v", x)),
    "drive of its own": lambda node: setattr(type(node), "drive", lambda self, x_seq: 2 * x_seq),
    "v_seq": lambda node: setattr(node, "store_v_seq", True),
    "step mode": lambda node: setattr(node, "step_mode", "m"),
    "double": lambda node: node.double(),
    "surrogate forward": lambda node: setattr(node.surrogate_function, "forward", lambda x: (x > 0.25).to(x)),
}


@pytest.fixture
def own_class():
    class Own(neuron.LIFNode):
        pass

    return Own


@pytest.mark.parametrize("name", DEEDS)
def test_whatever_is_done_is_seen(name, own_class, short):
    node, twin = twins(own_class)
    node(torch.ones(3, 5)), twin(torch.ones(3, 5))
    assert short
    for each in (node, twin):
        DEEDS[name](each)
    for _ in range(3):
        for each in (node, twin):
            each.reset()
        assert_equal(runs(node, cls=own_class), runs(twin, cls=own_class), 3)
    if name.startswith(("state", "detached")):
        for each in (node, twin):
            DEEDS[name](each)
        assert_equal(runs(node, cls=own_class), runs(twin, cls=own_class), 3)
    assert_same_state(node, twin)


def test_state_that_was_set_is_met_at_once():
    for name in (name for name in DEEDS if name.startswith(("state", "detached"))):
        node, twin = twins()
        for _ in range(3):
            for each in (node, twin):
                each.reset()
                DEEDS[name](each)
            assert_equal(runs(node), runs(twin), 3)


def test_method_put_on_a_class_is_called(own_class):
    node, _ = twins(own_class)
    own_class.neuronal_fire = lambda self: torch.ones_like(self.v)
    assert node(torch.zeros(3, 5)).sum() == 15
    del own_class.neuronal_fire
    assert node(torch.zeros(3, 5)).sum() == 0


class ByParams(neuron.LIFNode, abstract=True):
    def params(self):
        return super().params()._replace(v_threshold=vars(self).get("own", 1.0))


class ByValues(neuron.LIFNode, abstract=True):
    def values(self, p):
        return super().values(p._replace(v_threshold=vars(self).get("own", 1.0)))


class ByFitting(neuron.LIFNode, abstract=True):
    def fitting(self, *args):
        return super().fitting(*args) + 2 * (1.0 - vars(self).get("own", 1.0))


class ByProperty(neuron.LIFNode, abstract=True):
    @property
    def v_threshold(self):
        return vars(self).get("own", 1.0)

    @v_threshold.setter
    def v_threshold(self, given):
        vars(self)["v_threshold"] = given


@pytest.mark.parametrize("base", [ByParams, ByValues, ByFitting, ByProperty], ids=lambda base: base.__name__)
def test_method_or_property_that_tells_a_number_is_asked_at_every_call(base):
    class Own(base):
        pass

    node, fresh = Own(), Own()
    x = torch.full((3, 5), 0.75)
    for _ in range(4):
        assert node(x).sum() == 0
        node.reset()
    node.own = fresh.own = 0.25
    assert torch.equal(node(x), fresh(x))
    fresh.reset()
    assert fresh(x).sum() == 15


def test_tensor_of_the_same_value_behind_its_back_learns():
    node, _ = twins()
    vars(node)["v_threshold"] = threshold = torch.tensor(node.v_threshold, requires_grad=True)
    node(torch.ones(3, 5)).sum().backward()
    assert threshold.grad != 0


def test_state_that_was_left_is_not_spread_as_one_that_was_set():
    node = neuron.LIFNode()
    for _ in range(4):
        node.reset()
        node.v = torch.zeros(5)
        node(torch.ones(1, 5))
    node.reset()
    node(torch.ones(5))
    with pytest.raises(ShapeError, match="the shapes differ"):
        node(torch.ones(1, 5))


def test_neuron_goes_with_its_last_user(short):
    gc.collect()
    gc.disable()
    try:
        node, _ = twins()
        node(torch.ones(3, 5))
        assert short
        seen = weakref.ref(node)
        del node
        assert seen() is None
    finally:
        gc.enable()


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


def test_monitor_that_comes_later_sees_every_call():
    node, _ = twins()
    net = nn.Sequential(node)
    net(torch.ones(3, 5))
    with monitor.OutputMonitor(net, neuron.LIFNode) as watch:
        for _ in range(4):
            net(torch.ones(3, 5))
    assert len(watch.records) == 4


def test_learning_number_is_read_at_every_call(short):
    node, twin = twins(neuron.ParametricLIFNode)
    for step in range(3):
        with torch.no_grad():
            for each in (node, twin):
                each.w.data.fill_(0.3 * step)  # which no version of a tensor tells
                each.reset()
        short.clear()
        assert_equal(runs(node, cls=neuron.ParametricLIFNode), runs(twin, cls=neuron.ParametricLIFNode), 4)
        assert short


def test_bad_input_has_words_on_every_way():
    node, _ = twins()
    for _ in range(3):
        node.reset()
        node(torch.ones(3, 5))
        with pytest.raises(ValueError, match="the shapes differ"):
            node(torch.ones(4, 5))
        with pytest.raises(TypeError, match="integrates real numbers"):
            node(torch.ones(3, 5, dtype=torch.int64))
        with pytest.raises(TypeError):
            node()
        with pytest.raises(TypeError):
            node(torch.ones(3, 5), 1)


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
    net = Fed(node, _input(cls, mode))
    graph = Leaves().trace(net)
    calls = [each for each in graph.nodes if each.op == "call_module"]
    assert [each.target for each in calls] == ["node", "node"]
    assert not [each.target for each in graph.nodes if each.op == "get_attr" and each.target.startswith("node")]
    traced = fx.GraphModule(net, graph)
    for learn in (True, False):
        x = _input(cls, mode).requires_grad_(learn)
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


def test_copies_have_ways_of_their_own(short):
    node, _ = twins()
    file = io.BytesIO()
    torch.save(node, file)
    file.seek(0)
    copies = (
        copy.deepcopy(node),
        pickle.loads(pickle.dumps(node)),
        torch.load(file, weights_only=False),
        copy.copy(node),
    )
    for made in copies:
        assert made._short is None
        made.tau = 4.0
        twin = make(neuron.LIFNode, tau=4.0)
        made.reset()
        assert_equal(runs(made), runs(twin), 3)
    assert node.tau == 2.0
    assert_equal(runs(node), runs(make(neuron.LIFNode)), 3)


def test_what_a_call_gives_is_nobody_elses():
    node, twin = twins()
    for _ in range(3):
        for each in (node, twin):
            x = torch.full((3, 5), 0.75)
            y = each(x)
            y += 5
            x.fill_(100)
            each.v.add_(0)
    assert_same_state(node, twin)


def test_change_of_what_was_saved_is_refused():
    for calls in range(4):
        node, _ = twins()
        x = torch.ones(3, 5).requires_grad_() * 1
        for _ in range(calls):
            node(x)
        y = node(x)
        x += 1
        with pytest.raises(RuntimeError, match=r"LIFNode.*changed in place"):
            y.sum().backward()


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


def test_threads_have_one_neuron_each():
    shared = surrogate.Sigmoid()
    nodes = [make(neuron.LIFNode, backend="auto", surrogate_function=shared) for _ in range(4)]
    given = sequence(neuron.LIFNode)  # here: threads share the generator that it is drawn from
    want, found = runs(make(neuron.LIFNode), learn=False, given=given), [None] * 4

    def work(i):
        for _ in range(20):
            nodes[i].reset()
            found[i] = runs(nodes[i], learn=False, given=given)

    threads = [threading.Thread(target=partial(work, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got in found:
        assert_equal(got, want, 4)


def test_replicas_share_nothing_that_moves():
    node, _ = twins()
    replica = node._replicate_for_data_parallel()
    replica._modules = dict(node._modules)
    replica.tau = 4.0
    node.reset()
    assert_equal(runs(node), runs(make(neuron.LIFNode)), 3)


def test_shapes_that_never_come_again_leave_nothing():
    node = make(neuron.LIFNode, backend="auto")
    for length in range(1, 200):
        node.reset()
        node(torch.ones(length))
    assert len(node._short.seen) <= 64
    assert not node._short.runs
