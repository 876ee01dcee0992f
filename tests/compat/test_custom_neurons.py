"""Neurons and surrogates of one's own, written as published code writes them, run as they are."""

import copy
import functools
import json
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope import base, functional, layer, monitor, neuron, surrogate
from spikescope.errors import ShapeError
from spikescope.neuron import BaseNode, IFNode, LIFNode

HERE = Path(__file__).parent / "custom"
sys.path.insert(0, str(HERE))
from neurons import drive, kinds, run, surrogates  # noqa: E402

sys.path.remove(str(HERE))
EXPECTED = json.loads((HERE / "expected.json").read_text())
KINDS = kinds(neuron, surrogate, base)
SURROGATES = surrogates(surrogate)
SEQUENCES = [name for name in KINDS if name != "own forward"]
HOOKED = [name for name in KINDS if getattr(KINDS[name](), "custom", False) and name in SEQUENCES]


def stored(name, like):
    held = torch.frombuffer(bytearray.fromhex(EXPECTED[name][like[0]]), dtype=torch.float32)
    return held.view(like[1].shape)


def passes_a_gradient_at_a_bound():
    """At the very bound of `clamp` it is 1 in PyTorch 2.13, where the numbers were compared first, and 0 in 2.15."""
    x = torch.ones((), requires_grad=True)
    return torch.autograd.grad(x.clamp(max=1.0), x)[0].item() == 1


def check(name, result):
    """Bit for bit what SpikingJelly 0.0.0.0.14 gives, see `custom/expected.py`; a gradient is rounded otherwise."""
    for key in ("y", "v"):
        assert torch.equal(result[key], stored(name, (key, result[key]))), key
    if name == "clipped" and not passes_a_gradient_at_a_bound():
        return
    torch.testing.assert_close(result["grad"], stored(name, ("grad", result["grad"])))


@pytest.mark.parametrize("name", KINDS)
def test_single_steps_give_the_stored_numbers(name):
    result = run(KINDS[name](), "s")
    assert len(result["y"].unique()) > 1
    check(name, result)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_gives_what_single_steps_give(name):
    result = run(KINDS[name](), "m")
    if name == "whole sequence":
        assert set(result["y"].unique().tolist()) == {0.0, 0.5}
        return
    check(name, result)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_of_ones_own(name):
    check(f"surrogate {name}", run(LIFNode(surrogate_function=SURROGATES[name](), v_threshold=0.5), "s"))
    again = run(LIFNode(surrogate_function=SURROGATES[name](), v_threshold=0.5), "m")
    check(f"surrogate {name}", again)


@pytest.mark.parametrize("name", SEQUENCES)
def test_reset_copies_and_the_cut_run(name):
    node, x_seq = KINDS[name](), drive()
    node.step_mode = "m"
    with torch.no_grad():
        whole = node(x_seq)
        functional.reset_net(node)
        first = node(x_seq[:2])
        other = copy.deepcopy(node)
        assert torch.equal(torch.cat([first, node(x_seq[2:])]), whole)
        assert torch.equal(torch.cat([first, other(x_seq[2:])]), whole)


@pytest.mark.parametrize("name", HOOKED)
def test_the_potentials_of_a_run(name):
    node, single = KINDS[name](), KINDS[name]()
    node.step_mode, node.store_v_seq = "m", True
    node(drive())
    kept = []
    for x in drive():
        single(x)
        kept.append(single.v)
    assert torch.equal(node.v_seq, torch.stack(kept))
    assert torch.equal(node.v_seq[-1], node.v)


@pytest.mark.parametrize("name", HOOKED)
def test_implementation_says_that_it_is_eager_and_how_to_get_a_kernel(name):
    node = KINDS[name]()
    plan = node.implementation(drive()[0])
    assert plan.backend == "torch"
    assert "its own" in plan.reason
    assert "charge(p, s, x)" in plan.reason


@pytest.mark.parametrize("name", ["quadratic", "recurrent", "attending", "refractory"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_state_is_float32_and_the_spikes_are_narrow(name, dtype):
    node = KINDS[name]()
    node.step_mode = "m"
    x_seq = drive().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        y = node(x_seq)
    y.float().sum().backward()
    assert y.dtype == dtype
    assert node.v.dtype == torch.float32
    assert x_seq.grad.isfinite().all()


def test_another_batch_without_a_reset_is_refused_in_words():
    node = KINDS["quadratic"]()
    node(torch.rand(3, 4))
    with pytest.raises(ShapeError, match=r"Quadratic cannot go on.*\[N=2, 4\].*\[N=3, 4\].*reset_net"):
        node(torch.rand(2, 4))
    node.reset()
    node(torch.rand(2, 4))


class Module(IFNode):
    def neuronal_charge(self, x):
        self.v = self.v + 2 * x


for known in (neuron.registry, surrogate.registry):  # which tests elsewhere go through, for what is in the library
    for name in [name for name, cls in known.items() if not cls.__module__.startswith("spikescope.")]:
        del known[name]


def test_pickles_and_monitors():
    net = nn.Sequential(layer.Linear(4, 5), Module())
    functional.set_step_mode(net, "m")
    with monitor.OutputMonitor(net, Module) as spikes, monitor.AttributeMonitor("v", False, net, Module) as v:
        y = net(drive())
    assert torch.equal(spikes.records[0], y)
    assert torch.equal(v.records[0], net[1].v)
    functional.reset_net(net)
    with monitor.record(net, "rate") as seen:
        again = net(drive())
    torch.testing.assert_close(seen["1"].float(), again.mean((0, 1)))
    other = pickle.loads(pickle.dumps(net))
    assert torch.equal(other(drive()), net(drive()))


def test_the_potential_before_the_reset_is_tapped():
    node = Module(step_mode="m")
    node.request_taps(("h", "v", "count"))
    y = node(drive())
    h, v = node.tapped["h"], node.tapped["v"]
    assert torch.equal((h >= 1).float(), y)
    assert torch.equal(v, h * (1 - y))
    assert torch.equal(node.tapped["count"].long(), y.sum(0).long())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
def test_compiled_with_breaks_it_gives_the_same():
    node, plain = Module(step_mode="m"), Module(step_mode="m")
    compiled = torch.compile(node, backend="aot_eager")
    assert torch.equal(compiled(drive()), plain(drive()))
    assert torch.equal(node.v, plain.v)


@pytest.mark.parametrize("where", ["class", "instance"])
def test_a_hook_put_on_later_acts(where, monkeypatch):
    node = IFNode(step_mode="m")
    if where == "class":
        monkeypatch.setattr(
            IFNode, "neuronal_charge", lambda self, x: setattr(self, "v", self.v + 3 * x), raising=False
        )
    else:
        node.neuronal_charge = lambda x: setattr(node, "v", node.v + 3 * x)
    assert node(torch.full((2, 1), 0.4)).flatten().tolist() == [1.0, 1.0]
    assert "neuronal_charge" in node.implementation(torch.zeros(2, 1)).reason


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_fire_without_a_return_says_so(step_mode):
    kind = type("Forgetful", (IFNode,), {"neuronal_fire": lambda self: None})
    with pytest.raises(TypeError, match=r"Forgetful\.neuronal_fire must return the spike, but returned None"):
        kind(step_mode=step_mode)(torch.ones(2, 3))


@pytest.mark.parametrize("name", ["neuronal_charge", "neuronal_fire", "neuronal_reset"])
@pytest.mark.parametrize("where", ["in a class", "on a class", "on an instance", "of another node"])
@pytest.mark.parametrize("charges", [False, True], ids=["alone", "beside a charge of one's own"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_hook_that_wraps_another_is_called(step_mode, charges, where, name):
    """`functools.wraps` gives it the attributes of what it wraps."""
    own = {"neuronal_charge": lambda self, x: setattr(self, "v", self.v + x)} if charges else {}
    kind = type("Kind", (LIFNode,), own)
    called = []

    def wrapped(method):
        @functools.wraps(method)
        def hook(*args):
            called.append(name)
            return method(*args)

        return hook

    if where == "in a class":
        kind = type("Wrapping", (kind,), {name: wrapped(getattr(kind, name))})
    node, x = kind(step_mode=step_mode), torch.rand(3, 5)
    if where == "on a class":
        node(x)
        node.reset()
        setattr(kind, name, wrapped(getattr(kind, name)))
    elif where == "on an instance":
        setattr(node, name, wrapped(getattr(node, name)))
    elif where == "of another node":
        other = type("Other", (kind,), {name: wrapped(getattr(kind, name))})(step_mode=step_mode)
        other.v = torch.zeros(3, 5)[0] if step_mode == "m" else torch.zeros(3, 5)
        setattr(node, name, getattr(other, name))
    node(x)
    assert len(called) == (3 if step_mode == "m" else 1)


def test_a_pure_charge_in_a_subclass_of_a_hooked_neuron_is_what_runs():
    class Pure(Module):
        @staticmethod
        def charge(p, s, x):
            return s._replace(v=s.v + x / 2)

    assert Pure()(torch.tensor([1.5])).tolist() == [0.0]


def test_arguments_of_a_class_of_ones_own_are_checked_and_its_attributes_are_free():
    with pytest.raises(ValueError, match="LeakDetached: tau must be above 1"):
        type(KINDS["leak detached"]())(tau=0.5)
    node = KINDS["leak detached"]()
    node.tau = 0.5
    assert node.tau == 0.5
    plain = LIFNode()
    with pytest.raises(ValueError, match="LIFNode: tau must be above 1"):
        plain.tau = 0.5


def test_a_neuron_that_decides_by_its_backend_is_on_torch():
    class Deciding(LIFNode):
        @property
        def supported_backends(self):
            return ("torch", "cupy")

        def multi_step_forward(self, x_seq):
            if self.backend == "torch":
                return super().multi_step_forward(x_seq)
            raise ValueError(self.backend)

    assert Deciding(step_mode="m")(drive()).shape == drive().shape
    assert Module().backend == "auto"
    with pytest.raises(RuntimeError, match=r"Module cannot run on the backend 'cpp'.*neuronal_charge.*backend='torch'"):
        Module(backend="cpp")(drive())


@pytest.mark.parametrize("calls_ours", [False, True])
def test_v_seq_of_single_steps_of_ones_own(calls_ours):
    class Stepped(IFNode):
        def single_step_forward(self, x):
            if calls_ours:
                return super().single_step_forward(x)
            self.v_float_to_tensor(x)
            self.neuronal_charge(x)
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            return spike

    node = Stepped(store_v_seq=True)
    for x in (0.75, 0.5, 0.25):
        node(torch.tensor([x]))
    assert node.v_seq.tolist() == [[0.75], [0.0], [0.25]]
    node.reset()
    node(torch.tensor([0.5]))
    assert node.v_seq.tolist() == [[0.5]]


def test_a_memory_v_seq_of_ones_own():
    class Keeping(BaseNode):
        def __init__(self):
            super().__init__()
            self.register_memory("v_seq", None)

        def neuronal_charge(self, x):
            self.v = self.v + x
            self.v_seq = self.v if self.v_seq is None else torch.cat([self.v_seq, self.v])

    node = Keeping()
    node(torch.tensor([0.25]))
    node(torch.tensor([0.25]))
    assert node.v_seq.tolist() == [0.25, 0.5]


@pytest.fixture
def lenient(monkeypatch):
    """Says whether neurons are lenient, as the import aliases do, until the test ends; nothing has been noted yet."""
    monkeypatch.setattr("spikescope.neuron.leniency._said", set())
    yield neuron.leniency.be_lenient
    neuron.leniency.be_lenient(False)


@pytest.mark.parametrize("backend", ["cupy", "lava", "inductor"])
def test_backends_of_another_library_are_refused_unless_they_are_allowed(backend, lenient):
    lenient(False)
    for make in (IFNode, Module):
        with pytest.raises(ValueError, match=rf"{make.__name__}: backend must be one of 'auto'.*'{backend}'"):
            make(backend=backend)
    node = LIFNode(backend="torch")
    with pytest.raises(ValueError, match="LIFNode: backend must be one of 'auto'"):
        node.backend = backend
    assert node.backend == "torch"
    lenient(True)
    with pytest.warns(UserWarning, match=rf"IFNode: there is no backend '{backend}' here; it becomes 'auto'"):
        assert IFNode(backend=backend).backend == "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LIFNode(2.0, True, 1.0, 0.0, None, True, "m", backend).backend == "auto"
        node = LIFNode(backend="torch")
        node.backend = backend
        assert node.backend == "auto"
        assert Module(backend=backend).backend == "auto"


def test_integers_are_refused_unless_they_are_allowed(lenient):
    with pytest.raises(TypeError, match=r"IFNode integrates real numbers.*torch.int64"):
        IFNode()(torch.ones(2, dtype=torch.int64))
    lenient(True)
    with pytest.warns(UserWarning, match=r"IFNode: the input is of dtype torch.int64; it becomes float32"):
        y = IFNode()(torch.ones(2, dtype=torch.int64))
    assert (y.dtype, y.tolist()) == (torch.float32, [1.0, 1.0])
    assert Module(step_mode="m")(torch.ones(3, 2, dtype=torch.uint8)).dtype == torch.float32


def test_helpers_of_a_surrogate():
    x = torch.tensor([-0.25, 0.0, 0.5])
    for cls in (surrogate.Sigmoid, surrogate.ATan, surrogate.S2NN, surrogate.PiecewiseLeakyReLU):
        made = cls()
        values = [getattr(made, name) for name in cls.fields if name != "spiking"]
        assert torch.equal(cls.spiking_function(x, *values), made(x))
        made.set_spiking_mode(False)
        assert torch.equal(cls.primitive_function(x, *values), made(x))
    assert isinstance(surrogate.ATan(), surrogate.SurrogateFunctionBase)
    assert SURROGATES["window"]().spiking is True
    assert repr(SURROGATES["window"]()) == "Window(alpha=0.5, spiking=True)"


def test_a_surrogate_of_ones_own_without_a_primitive_says_so():
    class Bare(surrogate.SurrogateFunctionBase):
        @staticmethod
        def spiking_function(x, alpha):
            return surrogate.heaviside(x)

    bare = Bare(1.0)
    with pytest.raises(ValueError, match="Bare is given by its gradient alone"):
        bare.set_spiking_mode(False)


@pytest.mark.parametrize("v_reset", [0.25, None])
def test_the_helpers_of_an_adapting_neuron_are_its_equations(v_reset):
    class ByHelpers(neuron.AdaptiveLIFNode):
        def neuronal_adaptation(self):
            self.w = self.jit_neuronal_adaptation(self.w, self.tau_w, self.a, self.v_rest, self.v)

        def neuronal_reset(self, spike):
            if self.v_reset is None:
                self.v, self.w = self.jit_soft_reset(self.v, self.w, spike, self.v_threshold, self.b, spike)
            else:
                self.v, self.w = self.jit_hard_reset(self.v, self.w, spike, self.v_reset, self.b, spike)

    made = [cls(v_reset=v_reset, a=0.5, step_mode="m") for cls in (ByHelpers, neuron.AdaptiveLIFNode)]
    assert torch.equal(made[0](drive()), made[1](drive()))
    assert torch.equal(made[0].w, made[1].w)
