"""The steps of a row are those of the network, bit for bit, whatever is done to it between them."""

import copy
import pickle
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

from spikescope import functional, layer, monitor, neuron
from spikescope.errors import ShapeError
from spikescope.neuron import PointwiseNeuron
from spikescope.neuron.base import registry
from spikescope.neuron.fast.row import Place, Row
from spikescope.neuron.fast.shortcut import Shortcut

POINTWISE = [
    cls
    for cls in registry.values()
    if issubclass(cls, PointwiseNeuron)
    and "s" in cls.supported_step_modes
    and cls.__module__.startswith("spikescope.")
    and cls is not neuron.OTTTLIFNode  # it gives a pair, which no layer of PyTorch takes
]


def network(cls=neuron.LIFNode, dtype=torch.float32):
    torch.manual_seed(0)
    node = [cls(**cls.example, step_mode="s") for _ in range(2)]
    inner = nn.Sequential(nn.Linear(6, 6), nn.Identity(), node[1])
    return nn.Sequential(nn.Linear(6, 6), node[0], inner).to(dtype)


def inputs(steps=5, dtype=torch.float32, batch=2):
    return (4 * torch.rand(steps, batch, 6, generator=torch.Generator().manual_seed(1))).to(dtype)


class Pair:
    """A network in a stream, and a twin that is called; what is done is done to both."""

    def __init__(self, made=network, given=None):
        self.net, self.twin = made(), made()
        self.loop = functional.stream(self.net)
        self.go(given)

    def go(self, given=None):
        for x in inputs() if given is None else given:
            torch.manual_seed(2)
            got = self.loop.step(x)
            torch.manual_seed(2)
            with torch.no_grad():
                want = self.twin(x)
            assert got.dtype is want.dtype
            assert got.stride() == want.stride()
            assert torch.equal(got, want)
        for (path, a), b in zip(self.net.named_modules(), self.twin.modules(), strict=True):
            for name, held in getattr(a, "_memories", {}).items():
                other = b._memories[name]
                assert torch.equal(held, other) if isinstance(held, torch.Tensor) else held == other, (path, name)

    def both(self, change):
        for net in (self.net, self.twin):
            torch.manual_seed(3)
            with torch.no_grad():
                change(net)
        self.go()


@pytest.mark.parametrize("cls", POINTWISE, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_neuron_steps_as_it_is_called(cls, dtype):
    pair = Pair(lambda: network(cls, dtype), inputs(8, dtype))
    pair.loop.reset()
    functional.reset_net(pair.twin)
    pair.go(inputs(4, dtype, batch=3))


def test_a_plain_row_is_not_called(monkeypatch):
    pair, seen = Pair(), []
    step = Row.step
    monkeypatch.setattr(Row, "step", lambda self, x: (seen.append(self), step(self, x))[1])
    monkeypatch.setattr(Shortcut, "run", None)  # what a call of a neuron comes to
    pair.loop.step(inputs()[0])
    assert len(seen) == 1


def halve(module, args):
    return (args[0] / 2,)


CHANGES = {
    "a hook on a layer": lambda net: net[0].register_forward_hook(lambda module, args, y: y * 2),
    "a hook on a neuron": lambda net: net[1].register_forward_pre_hook(halve),
    "a hook on the row": lambda net: net[2].register_forward_pre_hook(halve),
    "a hook on all of it": lambda net: net.register_forward_pre_hook(halve),
    "a field": lambda net: setattr(net[1], "v_threshold", 0.5),
    "a field behind its back": lambda net: net[1].__dict__.update(v_threshold=0.5),
    "a surrogate": lambda net: setattr(net[1], "surrogate_function", type(net[1].surrogate_function)()),
    "weights in place": lambda net: net[0].weight.mul_(2),
    "new weights": lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight * 2)),
    "no bias": lambda net: setattr(net[0], "bias", None),
    "a weight of the instance": lambda net: (net[0].__dict__.update(weight=net[0]._parameters.pop("weight") * 3),),
    "a forward of the instance": lambda net: setattr(net[0], "forward", lambda x: x + 1),
    "a neuron's forward": lambda net: setattr(net[1], "forward", lambda x: x + 1),
    "a parametrisation": lambda net: nn.utils.parametrizations.weight_norm(net[0]),
    "pruning": lambda net: prune.l1_unstructured(net[0], "weight", 0.5),
    "the backend": lambda net: setattr(net[1], "backend", "torch"),
    "potentials kept": lambda net: setattr(net[1], "store_v_seq", True),
    "evaluation": lambda net: net.eval(),
    "another module": lambda net: net.__setitem__(1, neuron.IFNode()),
    "another module within": lambda net: net[2].__setitem__(1, nn.ReLU()),
    "one more module": lambda net: net.append(nn.Linear(6, 3)),
    "one module less": lambda net: net.__delitem__(2),
    "a module of one's own": lambda net: net.insert(1, type("Own", (nn.Module,), {"forward": lambda self, x: x * 2})()),
    "compiled": lambda net: net.compile(backend="eager"),
    "a compiled layer": lambda net: net[0].compile(backend="eager"),
    "a neuron used twice": lambda net: net.append(net[1]),
    "a state": lambda net: setattr(net[1], "v", torch.full((2, 6), 0.75)),
    "a number for a state": lambda net: setattr(net[1], "v", 0.25),
    "a state that spreads": lambda net: setattr(net[1], "v", torch.full((6,), 0.75)),
    "a state in other memory": lambda net: setattr(net[1], "v", torch.full((6, 2), 0.75).t()),
    "a state changed in place": lambda net: net[1].v.fill_(0.5),
    "a state turned in place": lambda net: net[1].v.resize_(6, 2).t_(),
    "a state of other memory": lambda net: setattr(net[1].v, "data", net[1].v + 1),
    "a state with another sign": lambda net: setattr(net[1].v, "data", torch._neg_view(net[1].v)),
    "a state of another dtype": lambda net: setattr(net[1].v, "data", net[1].v.bfloat16()),
    "a reset": functional.reset_net,
    "a reset of one": lambda net: net[1].reset(),
    "a state taken and given": lambda net: functional.set_state(net, functional.get_state(net)),
    "sequences in one of them": lambda net: (setattr(net[1], "step_mode", "m"), net[1].reset()),
    "a tensor for a field": lambda net: setattr(net[1], "v_threshold", torch.full((6,), 0.5)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_between_two_steps_acts_in_the_next(change):
    Pair().both(CHANGES[change])


def test_a_patched_class_acts_in_the_next_step(monkeypatch):
    for cls in (nn.Linear, nn.Sequential, neuron.LIFNode):
        pair, before = Pair(), cls.forward
        with monkeypatch.context() as patch:
            patch.setattr(cls, "forward", lambda self, x, before=before: before(self, x) + 1)
            pair.go()


def test_hooks_of_all_modules_are_called():
    pair, seen = Pair(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, y: seen.append(module))
    try:
        pair.loop.step(inputs()[0])
        got = [type(module) for module in seen]
        seen.clear()
        pair.twin(inputs()[0])
    finally:
        handle.remove()
    assert got == [type(module) for module in seen]
    assert got[-1] is nn.Sequential


def test_a_monitor_sees_the_steps():
    pair = Pair()
    seen = monitor.OutputMonitor(pair.net, neuron.LIFNode)
    y = pair.loop.step(inputs()[0])
    assert torch.equal(seen.records[-1], y)


def test_function_modes_are_asked():
    class Seen(TorchFunctionMode):
        names = ()

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.names += (getattr(func, "__name__", ""),)
            return func(*args, **(kwargs or {}))

    pair, x = Pair(), inputs()[0]
    with Seen() as a:
        got = pair.loop.step(x)
    with Seen() as b, torch.no_grad():
        want = pair.twin(x)
    assert torch.equal(got, want)
    assert a.names == b.names


def test_other_situations_give_what_a_call_gives():
    for situation in (
        torch.inference_mode,
        torch.enable_grad,
        lambda: torch.autocast("cpu", torch.bfloat16),
    ):
        pair = Pair()
        with situation():
            pair.go()
        pair.loop.reset()
        functional.reset_net(pair.twin)
        pair.go()


def test_what_a_step_gave_stays_as_it_was():
    pair = Pair()
    x = inputs()[0]
    held, y = [pair.net[1].v, pair.net[2][2].v], pair.loop.step(x)
    state = pair.loop.state
    kept = [each.clone() for each in (*held, y, x, state["1"]["v"])]
    v = pair.net[1].v
    for _ in range(3):
        pair.loop.step(x)
    assert all(torch.equal(a, b) for a, b in zip((*held, y, x, state["1"]["v"]), kept, strict=True))
    assert v.data_ptr() != pair.net[1].v.data_ptr()


def test_copies_step_alone():
    pair = Pair()
    for made in (copy.deepcopy(pair.loop), pickle.loads(pickle.dumps(pair.loop))):
        other = copy.deepcopy(pair.twin)
        for x in inputs():
            with torch.no_grad():
                assert torch.equal(made.step(x), other(x))
        assert made.net is not pair.net
    pair.go()


def test_another_network_in_the_stream_is_run():
    pair = Pair()
    pair.loop.net = pair.net = pair.net[2]
    pair.twin = pair.twin[2]
    pair.go()


def test_threads_have_networks_of_their_own():
    pairs = [Pair() for _ in range(2)]
    want, got = [pairs[0].twin(x) for x in inputs(50)], {}

    def steps(i):
        got[i] = [pairs[i].loop.step(x) for x in inputs(50)]

    threads = [threading.Thread(target=steps, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for i in range(2) for a, b in zip(got[i], want, strict=True))


def test_threads_may_share_one_network():
    """Whose state a step goes on from is then by chance, but it is a step."""
    loop, odd = functional.stream(network()), []

    def steps():
        for number, x in enumerate(inputs(1500)):
            if number % 5 == 0:
                loop.reset()
            try:
                loop.step(x)
            except Exception as error:
                odd.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=steps) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not odd


BETWEEN = {
    "a filter": (layer.SynapseFilter, True),
    "dropout": (lambda: layer.Dropout(0.5), True),
    "a normalisation": (lambda: layer.BatchNorm1d(6), False),  # it asks who calls it
    "a container": (
        lambda: layer.ElementWiseRecurrentContainer(nn.Identity(), torch.add),
        False,
    ),  # of what others gave
}


@pytest.mark.parametrize("which", BETWEEN)
def test_a_row_holds_layers_in_which_no_code_of_others_runs(which, monkeypatch):
    made, known = BETWEEN[which]
    pair, seen = Pair(lambda: nn.Sequential(network()[0], made(), neuron.LIFNode())), []
    step = Row.step
    monkeypatch.setattr(Row, "step", lambda self, x: (seen.append(self), step(self, x))[1])
    pair.go()
    assert len(seen) == (len(inputs()) if known else 0)


def test_wrong_inputs_go_the_way_of_a_call():
    pair = Pair()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        pair.loop.step(torch.zeros(2, 5))
    with pytest.raises(TypeError, match="must be Tensor"):
        pair.loop.step([1.0])
    with pytest.raises(ShapeError, match="the shapes differ"):
        pair.loop.step(torch.zeros(3, 6))


def test_what_ran_last_is_not_run_on_memory_of_another_device(monkeypatch):
    """As after a network was moved: its kernel would be given an address that means nothing to it."""
    pair = Pair()
    place = next(call for _, call in pair.loop._row.steps if isinstance(call, Place))
    with torch.no_grad():
        x = pair.net[0](inputs()[0])
        monkeypatch.setattr(Place, "_anew", lambda *given: "asked")
        assert torch.is_tensor(place(x))
        monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda held: held is not x), raising=False)
        assert place(x) == "asked"


def test_layers_of_ours_are_taken_as_those_of_pytorch(monkeypatch):
    def made():
        torch.manual_seed(0)
        node = neuron.LIFNode()
        return nn.Sequential(
            layer.Linear(6, 6), node, layer.Flatten(), layer.LayerNorm(6), layer.Linear(6, 6, bias=False)
        )

    pair, call = Pair(made), layer.Linear.__call__
    pair.both(lambda net: setattr(net[0], "step_mode", "m"))
    pair.both(lambda net: setattr(net[0], "step_mode", "s"))
    seen = []
    monkeypatch.setattr(layer.Flatten, "forward", lambda self, x: (seen.append(self), x)[1])
    pair.loop.step(inputs()[0])
    assert seen == [pair.net[2]]
    monkeypatch.setattr(layer.Linear, "__call__", lambda self, x: (seen.append(self), call(self, x))[1])
    pair.loop.step(inputs()[0])
    assert seen[1:] == [pair.net[i] for i in (0, 2, 4)]
    monkeypatch.undo()
    with pytest.raises(ShapeError, match="got \\[\\] with 0 axes"):  # of PyTorch's other words
        pair.loop.step(torch.zeros(()))
