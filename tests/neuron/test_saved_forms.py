"""What hooks on saved tensors give a kernel: the same values laid otherwise are taken, all else is refused in words."""

import re

import pytest
import torch
from neuron_cases import ANY_LENGTH, NEURONS, make, sequence
from torch import nn

from spikescope import functional, layer, monitor, neuron, rnn
from spikescope.dynamics.triton import launch
from spikescope.neuron.parallel import ParallelNeuron

KERNELS = re.compile(r"(_Fused|PreparedRun|_Fired|_Run|_Normed|_Pool)Backward$")
REFUSED = r"A hook on saved tensors gave \w+ \("
AT_ONCE = (
    "|can require gradients|has no memory|meta tensor|sparse tensors do not have strides"  # what is said before that
)


def turned(held):
    """The same values, the first axis beside one another in memory."""
    return held.movedim(0, -1).contiguous().movedim(-1, 0) if held.ndim else held.clone()


def spread(held):
    """The same values, apart from each other."""
    return torch.stack([held, held + 7], -1)[..., 0]


SAME = {
    "cloned": lambda held: held.clone(memory_format=torch.contiguous_format),
    "turned": turned,
    "spread": spread,
    "negated": lambda held: torch._neg_view(-held) if held.is_floating_point() else held.clone(),
    "wider": lambda held: held.double() if held.is_floating_point() else held.clone(),
}
OTHER = {
    "fewer": lambda held: held[: len(held) // 2].clone() if held.ndim else held.expand(2),
    "first alone": lambda held: held[:1] if held.ndim and len(held) > 1 else held.new_zeros(3, 2),
    "more": lambda held: torch.cat([held, held]) if held.ndim else held.expand(3),
    "flat": lambda held: held.flatten().unsqueeze(0) if held.ndim != 2 else held.flatten(),
    "whole numbers": lambda held: held.to(torch.int32),
    "no memory": lambda held: held.to("meta"),
    "sparse": lambda held: held.to_sparse() if held.ndim else held.expand(2),
}
ONE_VALUE = {
    "expanded": lambda held: held.flatten()[:1].expand(held.numel()).view(held.shape),
    "filled": lambda held: held.flatten()[:1].expand(held.numel()).reshape(held.shape).contiguous(),
}


def kernels(outputs):
    """The nodes behind these that are of our kernels and have saved something, one of each call."""
    found, left, seen = [], [held.grad_fn for held in outputs], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if KERNELS.search(node.name()):
            found.append(node)
        left += [before for before, _ in node.next_functions]
    return found


class Case:
    """A network that runs twice from its reset."""

    def __init__(self, net, x):
        self.net, self.x = net, x

    def forwards(self):
        functional.reset_net(self.net)
        x = self.x.detach().clone().requires_grad_()
        outputs = [held for _ in range(2) for held in self._call(x)]
        return x, outputs, kernels(outputs)

    def _call(self, x):
        y = self.net(x)
        return y[:1] if isinstance(y, tuple) else (y,)

    def backwards(self, hook=None, place=(0, 0)):
        """Gradients, where what a kernel saved at that place comes back through a hook."""
        x, outputs, nodes = self.forwards()
        if hook is not None:
            number, i = place
            nodes[number]._raw_saved_tensors[i].register_hooks(lambda held: held.detach().clone(), hook)
        seeds = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) for y in outputs]
        return torch.autograd.grad(outputs, [x, *self.net.parameters()], seeds, allow_unused=True)

    def places(self):
        """Where the kernels of this network have saved values."""
        _, outputs, nodes = self.forwards()
        assert outputs  # which hold the graph: of one that nobody holds PyTorch 2.11 frees what was saved
        found = []
        for number, node in enumerate(nodes):
            count = len(node._raw_saved_tensors)
            found += [(number, i) for i in range(count) if (held := node.saved_tensors[i]) is not None and held.numel()]
        return found


def close(got, want, told):
    for grad, right in zip(got, want, strict=True):
        torch.testing.assert_close(grad, right, rtol=1e-5, atol=1e-5, msg=lambda m: f"{told}: {m}")


def obey(net, x, same=SAME, other=OTHER, calls=3):
    """Have each way of giving back come to each thing that the kernels of a network have saved."""
    case = Case(net, x)
    for _ in range(calls):  # those to come are prepared
        want = case.backwards()
    places = case.places()
    assert places
    for place in places:
        for name, hook in same.items():
            close(case.backwards(hook, place), want, (name, place))
        for hook in other.values():
            with pytest.raises(RuntimeError, match=REFUSED + AT_ONCE):
                case.backwards(hook, place)
        if same is SAME:
            close(*(case.backwards(hook, place) for hook in ONE_VALUE.values()), ("expanded", place))


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", NEURONS)
def test_of_a_neuron(cls, mode):
    if mode not in cls.supported_step_modes:
        pytest.skip("it takes sequences alone")
    fused = {"backend": "auto"} if "auto" in getattr(cls, "supported_backends", ()) else {}
    node, x = make(cls, step_mode=mode, **fused), sequence(cls, 3, 4, length=70 if mode == "m" else 1)
    x = x[: len(x) // 2] if mode == "m" and "T" in cls.fields and cls in ANY_LENGTH else x  # for two calls
    x = x if mode == "m" else x[0]
    if not kernels(Case(node, x).forwards()[1]):
        assert issubclass(cls, ParallelNeuron) or node.implementation(x).backend == "torch"
        pytest.skip("no kernel runs")
    obey(node, x)


IMAGES = torch.randn(4, 8, 32, 32, generator=torch.Generator().manual_seed(3))
LAYERS = {
    "norm": (lambda: layer.BatchNorm2d(8), IMAGES),
    "pool": (lambda: layer.MaxPool2d(2), IMAGES),
    "overlapping pool": (lambda: layer.MaxPool2d(3, 2, 1), IMAGES),
    "LSTM": (lambda: rnn.SpikingLSTM(32, 16, 1), IMAGES[0, :5]),
    "GRU": (lambda: rnn.SpikingGRU(32, 16, 1), IMAGES[0, :5]),
    "RNN": (lambda: rnn.SpikingVanillaRNN(32, 16, 1), IMAGES[0, :5]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_of_a_layer(name):
    obey(LAYERS[name][0](), LAYERS[name][1])


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("fused", [True, False])
def test_of_the_kernels_of_a_gpu(fused, mode):
    if not launch.interpreted():
        pytest.skip("TRITON_INTERPRET is 0")
    net = nn.Sequential(*([layer.BatchNorm2d(3)] if fused else []), neuron.LIFNode(backend="triton"))
    functional.set_step_mode(net, mode)
    if fused:
        net = functional.fuse_bn_neurons(net, training=True)
    x = torch.randn(5, 2, 3, 1, 2, generator=torch.Generator().manual_seed(3))
    obey(net, x if mode == "m" else x[0], {"cloned": SAME["cloned"]}, {"fewer": OTHER["fewer"]})


def test_of_a_neuron_that_is_watched():
    net = nn.Sequential(neuron.LIFNode(step_mode="m"))
    with monitor.record(net, ["rate", "silent share"]):
        obey(net, sequence(neuron.LIFNode, 3, 4, length=70))


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("lies", ["channels last", "channels last with gaps", "one image"])
def test_states_along_the_way_are_in_the_order_in_which_the_input_lay(lies, calls):
    whole = sequence(neuron.LIFNode, 2, 4, 6, 5, length=100)
    last = whole.movedim(2, -1).contiguous().movedim(-1, 2)
    x = {
        "channels last": last,
        "channels last with gaps": last[:, :, :, ::2],
        "one image": last[:1].expand(whole.shape),
    }[lies]
    found = []
    for hook in (None, lambda held: held.clone(memory_format=torch.contiguous_format), torch.clone, turned):
        node = neuron.LIFNode(step_mode="m")
        for _ in range(calls):
            node.reset()
            leaf = x.detach().requires_grad_()
            y = node(leaf)
        assert leaf.stride() == x.stride()
        if hook is not None:
            y.grad_fn._raw_saved_tensors[0].register_hooks(torch.detach, hook)
        found += torch.autograd.grad(y, leaf, torch.linspace(-1, 2, y.numel()).view_as(y))
    for grad in found[1:]:
        torch.testing.assert_close(grad, found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["pool", "overlapping pool"])
@pytest.mark.parametrize("hook", [lambda held: held + 100, lambda held: held * 0 + 255], ids=["more", "most"])
def test_places_that_no_window_has_are_refused(name, hook):
    case = Case(LAYERS[name][0](), IMAGES)
    with pytest.raises(RuntimeError, match="gave MaxPool2d other values than it took"):
        case.backwards(hook)


def test_places_outside_of_an_image_are_refused():
    case = Case(LAYERS["overlapping pool"][0](), IMAGES)
    with pytest.raises(RuntimeError, match="gave MaxPool2d other values than it took"):
        case.backwards(torch.zeros_like)  # of the first window, which begins outside


@pytest.mark.parametrize("name", ["norm", "LSTM", "GRU", "RNN", "PSN"])
def test_of_what_has_no_state_it_is_told_what_is_missing(name):
    """Nothing is reset there; and what it learns may have been changed before its backward pass."""
    made, x = LAYERS.get(name, (lambda: neuron.PSN(4), IMAGES[:, 0]))
    net = made()
    for changed in (False, True):
        y = net(x.clone().requires_grad_())
        loss = (y[0] if isinstance(y, tuple) else y).sum()
        with torch.no_grad():
            for held in net.parameters() if changed else ():
                held.mul_(2)
        if not changed:
            loss.backward()
        words = r"weight.*optimizer\.step" if changed else "backward pass has freed"
        with pytest.raises(RuntimeError, match=words) as told:
            loss.backward()
        assert "reset_net" not in str(told.value)


def test_compiled_code_that_is_given_something_else_is_refused():
    """What a compiler that checks nothing hands on."""
    x = sequence(neuron.LIFNode, 3, 40, length=200).requires_grad_()
    kept = 3, 1, 120
    odd = {
        "fewer": lambda held: held[:1].clone() if held.shape == kept else held,
        "half the input": lambda held: held[:100].clone() if held.shape == x.shape else held,
    }
    same = {
        "nothing": lambda held: held,
        "turned": lambda held: turned(held) if held.shape == kept else held,
    }
    found, node = [], neuron.LIFNode(step_mode="m")
    torch._dynamo.reset()
    compiled = torch.compile(node, backend="aot_eager")
    for hook in (*same.values(), *odd.values()):
        node.reset()
        with torch.autograd.graph.saved_tensors_hooks(lambda held: held, hook):
            y = compiled(x)
        if hook in same.values():
            found += torch.autograd.grad(y.sum(), x)
            continue
        with pytest.raises(RuntimeError, match="has to give back what it took"):
            y.sum().backward()
    torch._dynamo.reset()
    assert torch.equal(*found)
