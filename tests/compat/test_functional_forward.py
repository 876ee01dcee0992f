"""Modules that say how they step as a function of inputs and states, as code for SpikingJelly 2.0 does."""

import copy

import pytest
import torch

from spikescope import base, functional, layer, monitor, neuron
from spikescope.compat.steps import if_step

NEURONS = sorted(name for name, cls in neuron.registry.items() if cls.__module__.startswith("spikescope."))


class Trace(base.MemoryModule):
    def __init__(self, step_mode="s"):
        super().__init__()
        self.register_memory("total", 0.0)
        self.register_memory("calls", 0)
        self.step_mode = step_mode

    def single_step_functional_forward(self, inputs, states, **kwargs):
        total, calls = states
        total = 0.5 * total + inputs[0] * kwargs.get("gain", 1.0)
        return (total,), (total, calls + 1)


class Filtered(neuron.BaseNode):
    """A current that decays, and a soft reset."""

    def __init__(self, **kwargs):
        super().__init__(v_reset=None, **kwargs)
        self.register_memory("i", 0.0)

    def single_step_functional_forward(self, inputs, states, **kwargs):
        v, i = states
        i = 0.5 * i + inputs[0]
        h = v + i
        spike = self.surrogate_function(h - self.v_threshold)
        return (spike,), (h - spike * self.v_threshold, i)


class FilteredByHooks(neuron.BaseNode):
    def __init__(self, **kwargs):
        super().__init__(v_reset=None, **kwargs)
        self.register_memory("i", 0.0)

    def neuronal_charge(self, x):
        self.i = 0.5 * self.i + x
        self.v = self.v + self.i


def drive():
    return (1.5 * torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(1)) - 0.25).requires_grad_()


def test_a_module_runs_by_its_function_in_both_modes():
    x_seq = drive().detach()
    single, multi = Trace(), Trace("m")
    wanted = torch.stack([single(x) for x in x_seq])
    assert torch.equal(multi(x_seq), wanted)
    assert torch.equal(multi.total, single.total)
    assert multi.calls == 5
    functional.reset_net(multi)
    assert (multi.total, multi.calls) == (0.0, 0)
    assert torch.equal(Trace()(x_seq[0], gain=2.0), 2 * x_seq[0])


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_neuron_is_that_of_the_same_equations_by_hooks(mode):
    told, grads = [], []
    for cls in (Filtered, FilteredByHooks):
        node, x_seq = cls(step_mode=mode, store_v_seq=True), drive()
        with monitor.OutputMonitor(node, cls) as seen:
            y = node(x_seq) if mode == "m" else torch.stack([node(x) for x in x_seq])
        y.sum().backward()
        told.append((y, node.v, node.i, node.v_seq, torch.stack(list(seen.records)).view_as(y)))
        grads.append(x_seq.grad)
        again = copy.deepcopy(node)
        functional.reset_net(again)
        assert (again.v, again.i) == (0.0, 0.0)
    assert len(told[0][0].unique()) == 2
    for held, wanted in zip(*told, strict=True):
        assert torch.equal(held, wanted)
    torch.testing.assert_close(*grads)  # that of firing and reset by one kernel is rounded otherwise


def test_a_whole_sequence_may_have_a_function_of_its_own():
    class Whole(Trace):
        def multi_step_functional_forward(self, inputs, states, **kwargs):
            y = inputs[0].cumsum(0)
            return (y, -y), (y[-1], states[1] + len(y))

    module, x_seq = Whole("m"), drive().detach()
    y, negated = module(x_seq)
    assert torch.equal(y, x_seq.cumsum(0))
    assert torch.equal(negated, -y)
    assert module.calls == 5


def test_a_state_too_few_is_said_in_words():
    class Short(Trace):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            return inputs, states[:1]

    with pytest.raises(ValueError, match=r"Short.single_step_functional_forward must give a state for each of total"):
        Short()(torch.rand(2))


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", [neuron.LIFNode, neuron.IzhikevichNode, neuron.CUBALIFNode, neuron.ILIFNode])
def test_a_call_of_a_neuron_as_a_function(cls, mode):
    node = cls(step_mode=mode)
    x = 2 * torch.rand(5, 2, 3) if mode == "m" else 2 * torch.rand(2, 3)
    states = tuple(torch.rand(2, 3, requires_grad=True) for _ in node.memories())
    other = copy.deepcopy(node)
    outputs, after = node.functional_forward((x,), states)
    assert list(node.memories()) == list(other.memories())  # at rest
    for (name, _), held in zip(list(other.named_memories()), states, strict=True):
        setattr(other, name, held)
    assert torch.equal(outputs[0], other(x))
    for got, wanted in zip(after, other.memories(), strict=True):
        assert torch.equal(got, wanted)
    outputs[0].sum().backward()
    assert states[0].grad is not None
    node(x)  # the state is as any other that a call left
    with pytest.raises(ValueError, match="reset_net"):
        node(x[..., :1])
    held = list(node.memories())
    with pytest.raises(ValueError, match=rf"{cls.__name__}.functional_forward takes a state for each of"):
        node.functional_forward((x,), ())
    with pytest.raises(TypeError):
        node.functional_forward((None,), states)
    assert all(now is before for now, before in zip(node.memories(), held, strict=True))
    with pytest.raises(ValueError, match="reset_net"):
        node(x[..., :1])


def states_of(module, x, mode):
    """States that an earlier call may have left."""
    rest = module.materialize_states((x,), tuple(module.memories()), mode)
    return tuple(held + 0.125 if isinstance(held, torch.Tensor) and held.is_floating_point() else held for held in rest)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_in_either_mode_as_a_function(name, mode):
    cls = neuron.registry[name]
    node, by = cls(**cls.example), f"{'single' if mode == 's' else 'multi'}_step_functional_forward"
    if mode not in node.supported_step_mode():
        with pytest.raises(ValueError, match=f"{name}: step_mode"):
            getattr(node, by)((torch.rand(2, 3),), tuple(node.memories()))
        return
    node.step_mode = "s" if "s" in node.supported_step_mode() else "m"  # which has no part in it
    x = 2 * (torch.rand(cls.example.get("T", 5), 2, 3) if mode == "m" else torch.rand(2, 3))
    states, before = states_of(node, x, mode), list(node.memories())
    torch.manual_seed(0)
    outputs, after = getattr(node, by)((x,), states)
    assert list(node.memories()) == before
    other = copy.deepcopy(node)
    other.step_mode = mode
    for (key, _), held in zip(list(other.named_memories()), states, strict=True):
        setattr(other, key, held)
    torch.manual_seed(0)
    wanted = other(x)
    for got, held in zip(outputs, wanted if isinstance(wanted, list | tuple) else [wanted], strict=True):
        assert torch.equal(got, held)
    assert repr(after) == repr(tuple(other.memories()))


LAYERS = {
    "Delay": lambda: layer.Delay(2),
    "Dropout": lambda: layer.Dropout(0.5),
    "DropConnectLinear": lambda: layer.DropConnectLinear(3, 3),
    "ElementWiseRecurrentContainer": lambda: layer.ElementWiseRecurrentContainer(torch.nn.Tanh(), torch.add),
    "LinearRecurrentContainer": lambda: layer.LinearRecurrentContainer(torch.nn.Tanh(), 3, 3),
    "SynapseFilter": lambda: layer.SynapseFilter(2.0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_steps_of_a_layer_as_functions_are_its_sequence(name):
    torch.manual_seed(0)
    module, x_seq = LAYERS[name](), torch.rand(5, 2, 3)
    states, before, outputs = tuple(module.memories()), list(module.memories()), []
    torch.manual_seed(1)
    for x in x_seq:
        (y,), states = module.single_step_functional_forward((x,), states)
        outputs.append(y)
    assert list(module.memories()) == before
    torch.manual_seed(1)
    (y_seq,), after = module.multi_step_functional_forward((x_seq,), tuple(before))
    module.step_mode = "m"
    torch.manual_seed(1)
    wanted = module(x_seq)
    for got in (torch.stack(outputs), y_seq):
        torch.testing.assert_close(got, wanted)
    for held in (states, after):
        torch.testing.assert_close(list(held), list(module.memories()))


STATES = {
    **dict.fromkeys(("IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "KLIFNode", "SLTTLIFNode"), "v"),
    **dict.fromkeys(("ILIFNode", "TernaryIFNode", "TernaryLIFNode", "HalfThresholdIFNode"), "v"),
    **{"CUBALIFNode": "v c", "ComplementaryLIFNode": "v m", "IzhikevichNode": "v w", "OTTTLIFNode": "v trace"},
    **{"RAFNode": "v u", "DSRIFNode": "", "DSRLIFNode": ""},
}


@pytest.mark.usefixtures("aliases")
@pytest.mark.parametrize(("name", "states"), STATES.items())
def test_states_have_the_order_of_that_release(name, states):
    from spikingjelly.activation_based import neuron as theirs

    assert " ".join(key for key, _ in getattr(theirs, name)().named_memories()) == states


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_function_of_states_may_build_on_that_of_its_base(mode):
    class Doubled(neuron.LIFNode):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            (spike,), (v,) = super().single_step_functional_forward((2 * inputs[0],), states)
            return (spike,), (0.5 * v,)

    class Once(neuron.LIFNode):
        def multi_step_functional_forward(self, inputs, states, **kwargs):
            return super().multi_step_functional_forward((2 * inputs[0],), states, **kwargs)

    class ByHooks(neuron.LIFNode):
        def neuronal_charge(self, x):
            super().neuronal_charge(2 * x)

        def neuronal_reset(self, spike):
            super().neuronal_reset(spike)
            self.v = 0.5 * self.v

    x_seq = drive().detach()
    own, wanted = (cls(step_mode=mode, store_v_seq=True) for cls in (Doubled, ByHooks))
    for x in [x_seq] if mode == "m" else x_seq:
        assert torch.equal(own(x), wanted(x))
    assert torch.equal(own.v, wanted.v)
    assert torch.equal(own.v_seq, wanted.v_seq)
    assert torch.equal(Once(step_mode="m")(x_seq), neuron.LIFNode(step_mode="m")(2 * x_seq))


class Twice(neuron.LIFNode):
    def single_step_functional_forward(self, inputs, states, **kwargs):
        return super().single_step_functional_forward((2 * inputs[0],), states, **kwargs)


class TwiceAndLess(Twice):
    def single_step_forward(self, x):
        return super().single_step_forward(x - 0.25)


class Again(TwiceAndLess):
    def single_step_functional_forward(self, inputs, states, **kwargs):
        return super().single_step_functional_forward((inputs[0] + 0.5,), states, **kwargs)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_functions_of_states_and_steps_of_subclasses_build_on_each_other(mode):
    x_seq = drive().detach()
    for cls, seen in ((TwiceAndLess, 2 * (x_seq - 0.25)), (Again, 2 * (x_seq + 0.5))):
        own, plain = cls(step_mode=mode), neuron.LIFNode(step_mode=mode)
        for x, given in [(x_seq, seen)] if mode == "m" else zip(x_seq, seen, strict=True):
            assert torch.equal(own(x), plain(given))
        assert torch.equal(own.v, plain.v)


class WithACurrent(neuron.IFNode):
    """A current before the step of the base, which knows nothing of it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_memory("i", 0.0)

    def single_step_functional_forward(self, inputs, states, **kwargs):
        v, i = states
        i = 0.5 * i + inputs[0]
        outputs, (v,) = super().single_step_functional_forward((i,), (v,), **kwargs)
        return outputs, (v, i)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_base_takes_the_states_that_it_has_itself(mode):
    x_seq, current, currents = drive().detach(), torch.zeros(2, 3), []
    for x in x_seq:
        current = 0.5 * current + x
        currents.append(current)
    own, plain = WithACurrent(step_mode=mode), neuron.IFNode(step_mode=mode)
    for x, i in [(x_seq, torch.stack(currents))] if mode == "m" else zip(x_seq, currents, strict=True):
        assert torch.equal(own(x), plain(i))
    assert torch.equal(own.v, plain.v)
    assert torch.equal(own.i, current)
    before = list(own.memories())
    _, after = own.single_step_functional_forward((x_seq[0],), (plain.v, current))
    assert torch.equal(after[1], 0.5 * current + x_seq[0])
    assert all(now is held for now, held in zip(own.memories(), before, strict=True))
    with pytest.raises(ValueError, match="takes a state for each of v, but got 0"):
        neuron.IFNode().single_step_functional_forward((x_seq[0],), ())


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_call_as_a_function_leaves_the_potentials_of_the_calls(mode):
    node = neuron.LIFNode(step_mode=mode, store_v_seq=True)
    x_seq = drive().detach()
    node(x_seq if mode == "m" else x_seq[0])
    held = node.v_seq.clone()
    node.functional_forward((x_seq[1:] if mode == "m" else x_seq[1],), (torch.zeros(2, 3),))
    assert torch.equal(node.v_seq, held)


def test_what_a_reset_gives_is_told():
    node = neuron.LIFNode(v_reset=0.25)
    node(torch.rand(3))
    assert node.get_reset_value("v") == 0.25
    node.set_reset_value("v", 0.5)
    assert node.get_reset_value("v") == 0.5
    with pytest.raises(ValueError, match="memory name"):
        node.get_reset_value("u")


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [0.25, torch.tensor([0.25, 0.5, 0.0])])
def test_a_neuron_by_its_states_has_them_as_tensors_of_a_step(v_reset, mode):
    seen = []

    class ByStates(neuron.IFNode):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            seen.append(states)
            fields = (self.v_threshold, self.v_reset, self.surrogate_function, self.detach_reset)
            spike, v = if_step(inputs[0], *states, *fields)
            return (spike,), (v,)

    x_seq = 2 * torch.rand(4, 2, 3)
    own, ours = (cls(v_reset=v_reset, step_mode=mode) for cls in (ByStates, neuron.IFNode))
    for x in [x_seq] if mode == "m" else x_seq:
        assert torch.equal(own(x), ours(x))
    assert torch.equal(own.v, ours.v)
    assert [held.shape for (held,) in seen] == [(2, 3)] * 4
    torch.testing.assert_close(seen[0][0], torch.as_tensor(v_reset).expand(2, 3))


def test_a_module_may_make_its_states_by_its_inputs():
    class Sum(base.MemoryModule):
        def __init__(self):
            super().__init__()
            self.register_memory("total", None)

        def materialize_states(self, inputs, states, step_mode):
            (held,) = super().materialize_states(inputs, states, step_mode)
            return (torch.zeros_like(inputs[0]) if held is None else held,)

        def single_step_functional_forward(self, inputs, states):
            return (states[0] + inputs[0],), (states[0] + inputs[0],)

    module = Sum()
    module.step_mode = "m"
    assert module(torch.tensor([[1.0], [2.0]])).tolist() == [[1.0], [3.0]]
    assert module.functional_forward((torch.ones(1, 1),), (None,))[1] == (torch.ones(1),)


@pytest.mark.parametrize("name", ["functional_forward", "single_step_functional_forward"])
@pytest.mark.parametrize(("inputs", "states", "what"), [((1,), None, "states"), (torch.zeros(2), (0.0,), "inputs")])
def test_what_is_no_tuple_of_inputs_or_states_is_told(name, inputs, states, what):
    with pytest.raises(TypeError, match=rf"LIFNode\.{name} takes {what} as a tuple, also of one, but got a"):
        getattr(neuron.LIFNode(), name)(inputs, states)
