"""Numbers that a class reads from elsewhere than its fields: a kernel has them as they are at the call."""

import contextlib
import functools
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import fields, functional, layer, rnn, surrogate
from spikescope.dynamics.graphs.trace import UnsupportedOperationError
from spikescope.fields.class_form import changed_since
from spikescope.fields.readings import readings_of, told_by
from spikescope.neuron import IFNode
from spikescope.neuron.integrate import IntegrateAndFire, Membrane

SETTINGS = types.SimpleNamespace(decay=0.5)
TABLE = {"decay": {"slow": 0.5}}
LIST = [0.5, 0.25]
decay = 0.5


def helper(v):
    return v * decay


def set_global(value):
    globals()["decay"] = value


def set_list(value):
    LIST[0] = value


def of_closure():
    held = 0.5

    def change(value):
        nonlocal held
        held = value

    return (lambda v: v * held), change


in_closure, set_in_closure = of_closure()


class Base:
    decay = 0.5


class Called:
    def __init__(self):
        self.decay = 0.5

    def __call__(self, v):
        return v * self.decay


CALLED = Called()
NAME = "decay"
NARROW = np.float32(0.5)
ARRAY = np.array([0.5, 0.25])
SETTINGS_IN_A_LIST = [SETTINGS]


def through_a_local_name(v):
    held = SETTINGS
    return v * held.decay


def set_entry(value):
    TABLE["decay"]["slow"] = value


def set_setting(value):
    SETTINGS.decay = value


def set_narrow(value):
    globals()["NARROW"] = np.float32(value)


PLACES = {
    "a global": (lambda v: v * decay, set_global),
    "a global of a helper": (helper, set_global),
    "a global of a function within": (lambda v: (lambda: v * decay)(), set_global),
    "an attribute": (lambda v: v * SETTINGS.decay, set_setting),
    "an attribute by a local name": (through_a_local_name, set_setting),
    "an attribute by its name": (lambda v: v * getattr(SETTINGS, NAME), set_setting),
    "an attribute of what is in a list": (lambda v: v * SETTINGS_IN_A_LIST[0].decay, set_setting),
    "an object that is called": (lambda v: CALLED(v) * 1, lambda value: setattr(CALLED, "decay", value)),
    "a number of numpy": (lambda v: v * float(NARROW), set_narrow),
    "an array": (lambda v: v * float(ARRAY[0]), lambda value: ARRAY.__setitem__(0, value)),
    "an entry that may lack": (
        lambda v: v * TABLE.get("decay", {})["slow"],
        lambda value: TABLE["decay"].update(slow=value),
    ),
    "part of a function": (functools.partial(lambda v, k: v * k * decay, k=1.0), set_global),
    "an attribute of a class": (lambda v: v * Base.decay, lambda value: setattr(Base, "decay", value)),
    "an entry": (lambda v: v * TABLE["decay"]["slow"], set_entry),
    "a list": (lambda v: v * sum(each for each in LIST), set_list),
    "a closure": (in_closure, set_in_closure),
    "a choice": (lambda v: v * 0.5 if decay < 0.7 else v * 0.9, set_global),
}


@pytest.fixture(params=PLACES)
def place(request):
    function, change = PLACES[request.param]
    yield function, change
    change(0.5)


def with_decay(function):
    class Decaying(IntegrateAndFire):
        @staticmethod
        def charge(p, s, x):
            return Membrane(function(s.v) + x)

    return Decaying


def a_sequence(node, x):
    node.step_mode = "m"
    return node(x)


def single_steps(node, x):
    node.step_mode = "s"
    return torch.stack([node(step) for step in x])


def in_a_row(node, x):
    node.step_mode = "s"
    net = nn.Sequential(nn.Identity(), node, nn.Identity())
    with torch.no_grad():
        return torch.stack([net(step) for step in x])


def behind_a_norm(node, x):
    node.step_mode = "m"
    norm = layer.BatchNorm1d(x.shape[-1], step_mode="m").eval()
    return nn.Sequential(norm, node).eval()(x)


def in_a_stream(node, x):
    node.step_mode = "s"
    stream = functional.stream(nn.Sequential(node))
    return torch.stack([stream.step(step) for step in x])


WAYS = [a_sequence, single_steps, in_a_row, behind_a_norm, in_a_stream]


@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_has_a_number_from_elsewhere_as_it_is_at_the_call(place, way):
    function, change = place
    cls = with_decay(function)
    x = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))
    node, eager = cls(), cls(backend="torch")
    assert node.implementation(x).backend == "cpp"
    seen = []
    for value in (0.5, 0.9, 0.1, 0.5):
        change(value)
        for _ in range(3):  # the first call prepares, the others take what is prepared
            functional.reset_net(node)
            functional.reset_net(eager)
            got, wanted = way(node, x), way(eager, x)
            assert torch.equal(got, wanted)
            assert torch.equal(node.v, eager.v)
        seen.append(node.v.clone())
    assert torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_so_has_an_attribute_of_the_class_itself():
    class Decaying(IntegrateAndFire):
        decay = 0.5

        @classmethod
        def charge(cls, p, s, x):
            return Membrane(s.v * cls.decay + x)

    class Other(Decaying):
        decay = 0.9

    x = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))
    seen = []
    for cls, value in ((Decaying, 0.5), (Other, 0.9), (Other, 0.1), (Decaying, 0.1), (Other, 0.9)):
        cls.decay = value
        node, eager = cls(step_mode="m"), cls(step_mode="m", backend="torch")
        assert torch.equal(node(x), eager(x))
        assert torch.equal(node.v, eager.v)
        seen.append(node.v)
    assert torch.equal(seen[1], seen[4])
    assert not torch.equal(seen[1], seen[2])


def test_so_has_a_name_that_is_there_later(monkeypatch):
    cls = with_decay(lambda v: v * decay if "later" not in globals() else v * later)  # noqa: F821
    x = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))
    node, eager = cls(step_mode="m"), cls(step_mode="m", backend="torch")
    for value in (None, 0.9, 0.1):
        if value is not None:
            monkeypatch.setitem(globals(), "later", value)
        functional.reset_net(node)
        functional.reset_net(eager)
        assert torch.equal(node(x), eager(x))
        assert torch.equal(node.v, eager.v)


def test_so_has_a_function_that_is_defined_anew(monkeypatch):
    cls = with_decay(lambda v: leak(v) * 1)
    x = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))
    node, eager = cls(step_mode="m"), cls(step_mode="m", backend="torch")
    for leak in (lambda v: v * 0.5, lambda v: v * 0.9, lambda v: v * Base.decay):
        monkeypatch.setitem(globals(), "leak", leak)
        for value in (0.5, 0.3):
            monkeypatch.setattr(Base, "decay", value)
            functional.reset_net(node)
            functional.reset_net(eager)
            assert torch.equal(node(x), eager(x))
            assert torch.equal(node.v, eager.v)


def test_so_has_a_cell_that_sees_its_own_output(monkeypatch):
    class Cell(rnn.SpikingVanillaRNNCell):
        @staticmethod
        def equations(options, functions, drive, feedback, states):
            return (functions[0](drive.one(0) * decay + feedback.one(0)),)

    class Layer(rnn.SpikingRNNBase):
        @staticmethod
        def base_cell():
            return Cell

    net, x = Layer(3, 4, 1), torch.randn(6, 2, 3)
    for value in (0.5, -1.0, 0.5):
        monkeypatch.setitem(globals(), "decay", value)
        h, (cell,) = torch.zeros(2, 4), net.cells
        for step, got in zip(x, net(x)[0], strict=True):
            drive = cell.linear_ih(step) * value + cell.linear_hh(h)
            assert torch.equal(cell(step, h), got)
            h = (drive >= 0).float()
            assert torch.equal(h, got)


def test_a_step_that_counts_its_calls_runs_as_the_eager_loop():
    calls = {"charge": 0}

    def counted(v):
        calls["charge"] += 1
        return v * 0.5

    cls = with_decay(counted)
    x = torch.rand(6, 3, 4, requires_grad=True)
    node, eager = cls(step_mode="m"), with_decay(lambda v: v * 0.5)(step_mode="m", backend="torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(20):
            functional.reset_net(node)
            functional.reset_net(eager)
            got, wanted = node(x), eager(x)
            assert torch.equal(got, wanted)
            gradients = [torch.autograd.grad(out.sum(), x)[0] for out in (got, wanted)]
            torch.testing.assert_close(*gradients)


def test_a_change_between_a_call_and_its_gradients_is_none_or_refused(monkeypatch):
    class Scaled(IntegrateAndFire):
        scale: object = fields.value(torch.tensor(1.0))

        @staticmethod
        def charge(p, s, x):
            return Membrane(s.v * decay + x * p.scale * decay)

    x = torch.rand(6, 3, 4, requires_grad=True)
    node, eager = Scaled(step_mode="m"), Scaled(step_mode="m", backend="torch")
    outputs = [each(x) for each in (node, eager)]
    monkeypatch.setitem(globals(), "decay", 0.9)
    wanted = torch.autograd.grad(outputs[1].sum(), x)[0]
    try:
        got = torch.autograd.grad(outputs[0].sum(), x)[0]
    except UnsupportedOperationError as error:
        got = wanted  # where the kernel was not made ahead
        said = str(error)
    else:
        said = "has changed since the call that the kernel is made for"
    torch.testing.assert_close(got, wanted)
    assert "has changed since the call that the kernel is made for" in said
    monkeypatch.setitem(globals(), "decay", 0.5)
    gradients = []
    for each in (node, eager):
        functional.reset_net(each)
        gradients.append(torch.autograd.grad(each(x).sum(), x)[0])
    torch.testing.assert_close(*gradients)


def test_so_has_the_gradient_of_a_surrogate(monkeypatch):
    class Box(surrogate.SurrogateFunctionBase):
        @staticmethod
        def gradient(p, x):
            return (x.abs() < decay) * 1.0

        @staticmethod
        def primitive(p, x):
            return x.clamp(-decay, decay)

    x = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0))
    shown = []
    for value in (0.5, 0.9, 0.5):
        monkeypatch.setitem(globals(), "decay", value)
        grads = []
        for backend in ("auto", "torch"):
            node = IFNode(surrogate_function=Box(1.0), step_mode="m", backend=backend)
            leaf = x.clone().requires_grad_()
            node(leaf).sum().backward()
            grads.append(leaf.grad)
        assert torch.equal(*grads)
        shown.append(grads[0])
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[1])


def test_what_is_not_read_and_what_stays_as_it_is():
    assert readings_of(surrogate.Sigmoid) == ()
    kept = readings_of(with_decay(lambda v: v * torch.tensor(0.5) * torch.pi + nn.functional.relu(v)))
    assert [reading.name for reading in kept] == ["function"]
    missing, _ = readings_of(with_decay(lambda v: v * Base.decay))
    assert told_by([missing]) == ("0.5",)
    assert told_by([missing._replace(path=((getattr, "nothing"),))]) == ("AttributeError",)
    assert told_by([missing._replace(name="nobody", path=())]) == ("KeyError",)


def test_compiled_code_does_not_run_with_what_has_changed():
    node = with_decay(lambda v: v * decay)(step_mode="m")
    run = torch.compile(node, backend="aot_eager", fullgraph=True)
    x = torch.rand(6, 3, 4, requires_grad=True)
    try:
        run(x).sum().backward()
        set_global(0.9)
        functional.reset_net(node)
        with pytest.raises(
            RuntimeError, match=r"reads from elsewhere.*decay.*has changed since the network was compiled.*reset"
        ):
            run(x)
        torch.compiler.reset()
        functional.reset_net(node)
        got = run(x)
        functional.reset_net(node)
        assert torch.equal(got, node(x))
    finally:
        set_global(0.5)
        torch.compiler.reset()


def test_a_form_says_what_has_changed_since(monkeypatch):
    node = with_decay(lambda v: v * decay)()
    form = node.form
    assert changed_since(form, "then") is None
    monkeypatch.setitem(globals(), "decay", 0.9)
    assert "Decaying reads from elsewhere than its fields (decay" in changed_since(form, "then")
    assert "has changed since then" in changed_since(form, "then")
    assert changed_since(node.form, "then") is None
    assert changed_since(IFNode().form, "then") is None


def test_what_changes_all_the_time_runs_as_the_eager_loop(monkeypatch):
    cls = with_decay(lambda v: v * decay)
    x = torch.rand(6, 3, 4)
    node, eager = cls(step_mode="m"), cls(step_mode="m", backend="torch")
    for i in range(20):
        monkeypatch.setitem(globals(), "decay", 0.5 + i / 50)
        with pytest.warns(RuntimeWarning, match="Make it a field") if i == 16 else contextlib.nullcontext():
            planned = node.implementation(x)
        assert planned.backend == ("cpp" if i < 16 else "torch")
        functional.reset_net(node)
        functional.reset_net(eager)
        assert torch.equal(node(x), eager(x))
        assert torch.equal(node.v, eager.v)
    functional.reset_net(node)
    functional.reset_net(eager)
    assert torch.equal(torch.compile(node, backend="aot_eager", fullgraph=True)(x), eager(x))
    assert planned.reason.startswith("Decaying reads numbers from elsewhere than its fields that change often")
    monkeypatch.setitem(globals(), "decay", 0.5)
    assert node.implementation(x).backend == "cpp"


def test_a_method_of_an_instance_is_no_part_of_the_step():
    class Told(with_decay(lambda v: v * 0.5)):
        def extra_repr(self):
            return f"{decay}"

    assert [reading.name for reading in readings_of(Told)] == ["function"]
