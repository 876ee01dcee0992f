"""The short way of a call is left where the neuron, a part, its class or its state is no longer as it was."""

import copy
import io
import pickle

import pytest
import torch
from neuron_cases import assert_same_state, make
from shortcut_cases import assert_equal, runs, twins
from torch import nn

from spikescope import neuron, surrogate
from spikescope.errors import ShapeError

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


def test_replicas_share_nothing_that_moves():
    node, _ = twins()
    replica = node._replicate_for_data_parallel()
    replica._modules = dict(node._modules)
    replica.tau = 4.0
    node.reset()
    assert_equal(runs(node), runs(make(neuron.LIFNode)), 3)
