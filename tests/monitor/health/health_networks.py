"""Networks that are broken on purpose, each in one way, and how such a network is made, run and watched."""

import copy
import itertools
from types import SimpleNamespace

import torch
from torch import nn

from spikescope import functional, layer, neuron, surrogate
from spikescope.monitor import health

T, N, F = 8, 16, 20


class Apply(nn.Module):
    """Any function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Gain(nn.Module):
    """Passes its input on and multiplies the gradient."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return x.detach() + self.gain * (x - x.detach())


class TwoPlaces(nn.Module):
    """One neuron in two places of its forward."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.sn = linear(F, 32), linear(32, 32), neuron.LIFNode()

    def forward(self, x):
        return self.sn(self.fc2(self.sn(self.fc1(x))))


def linear(inputs, outputs):
    """A layer whose spikes drive the next one well."""
    made = layer.Linear(inputs, outputs)
    nn.init.normal_(made.weight, std=3 / inputs**0.5)
    nn.init.constant_(made.bias, 0.3)
    return made


def perceptron(depth=3, node=neuron.LIFNode, width=32, **options):
    """Linear layers and neurons: `net[0]`, `net[1]`, ..."""
    sizes = [F, *[width] * depth]
    parts = [part for a, b in itertools.pairwise(sizes) for part in (linear(a, b), node(**options))]
    net = nn.Sequential(*parts)
    functional.set_step_mode(net, "m")
    return net


def spikes(shape=(T, N, F)):
    """Random spikes."""
    return (torch.rand(shape) < 0.4).float()


def smooth(shape=(T, N, F)):
    """Courses in time that go on smoothly, of samples that differ."""
    steps = torch.randn(shape).mul(0.1).cumsum(0)
    return (steps + 0.5 * torch.randn(shape[1:])).abs()


def learn(scene):
    """A forward and a backward pass."""
    functional.reset_net(scene.net)
    scene.loss(scene.net(scene.x)).backward()


def train(scene, updates=4):
    """Some updates of the weights."""
    for _ in range(updates):
        functional.reset_net(scene.net)
        scene.optimizer.zero_grad()
        scene.loss(scene.net(scene.x)).backward()
        scene.optimizer.step()


def look(scene):
    """Forward passes of a batch and another one, in evaluation."""
    with torch.no_grad():
        for _ in range(3):
            scene.net.eval()(scene.x)


def scene(net, x=None, run=learn, loss=None, rate=None, optimizer=None, **watched):
    """A network, its input, what is done with it, and how it is watched."""
    loss = (lambda y: (y - 0.3).square().mean()) if loss is None else loss
    return SimpleNamespace(
        net=net,
        x=spikes() if x is None else x,
        run=run,
        loss=loss,
        optimizer=optimizer,
        watched={"rate": rate, **watched},
    )


def watched(held):
    """What health says of a scene."""
    with health(held.net, **{key: value for key, value in held.watched.items() if value is not None}) as watch:
        held.run(held)
    return watch


def changed(held, line):
    """Do what a finding advises."""
    names = {"net": held.net, "x": held.x, "optimizer": held.optimizer, "y": torch.zeros(1, 1)}
    names |= {"torch": torch, "functional": functional, "surrogate": surrogate, "copy": copy}
    exec(line, names)
    held.x = names["x"]
    functional.reset_net(held.net)


def with_(net, change):
    change(net)
    return net


def _fill(part, value):
    def change(net):
        with torch.no_grad():
            net.get_parameter(part).fill_(value)

    return change


def scaled(part, factor):
    def change(net):
        with torch.no_grad():
            net.get_parameter(part).mul_(factor)

    return change


def _half_dead(net):
    with torch.no_grad():
        net[2].weight[:20] = 0
        net[2].bias[:20] = 0


def _bad_state(held):
    learn(held)
    held.net[1].v = torch.full_like(held.net[1].v.detach(), torch.nan)
    held.net(held.x)


def _trained(lr, of=lambda net: net.parameters(), **options):
    net = perceptron(**options)
    return scene(net, run=train, optimizer=torch.optim.SGD(of(net), lr=lr))


def _without_reset(held):
    learn(held)
    held.net(held.x)  # its backward pass would be refused by autograd


def _shared():
    node = neuron.LIFNode()
    net = nn.Sequential(linear(F, 32), node, linear(32, 32), node)
    functional.set_step_mode(net, "m")
    return net


def _in_two_places():
    net = TwoPlaces()
    functional.set_step_mode(net, "m")
    return net


def _recurrent():
    inner = layer.LinearRecurrentContainer(neuron.IFNode(), 32, 32)
    with torch.no_grad():
        inner.rc.weight.copy_(torch.cat((torch.eye(32), 30 * torch.eye(32)), 1) / 4)
    net = nn.Sequential(linear(F, 32), inner)
    functional.set_step_mode(net, "m")
    return net


def _last_step(y):
    return y[-1].sum() + 0 * y.sum()


def _deep(at, module):
    net = perceptron(4)
    net.insert(at, module)
    return net


def _put(x, value):
    x[3, 2, 1] = value
    return x


def _read_out(*between, **options):
    """A network that sees something in its last steps, and reads its classes from potentials."""
    net = nn.Sequential(*perceptron(1, tau=1.1), *between, layer.Linear(32, 4), neuron.NonSpikingLIFNode(**options))
    nn.init.constant_(net[-2].weight, 0.05)
    functional.set_step_mode(net, "m")
    late = torch.arange(24) >= (0 if between else 16)
    return scene(net, spikes((24, N, F)) * late[:, None, None], loss=lambda y: y.square().sum())


def _soft_neurons():
    """Neurons that pass every gradient on."""
    return layer.Linear(32, 32), neuron.LIFNode(surrogate_function=surrogate.ATan(0.5), v_threshold=0.1)


def _look_in_steps(held):
    """Sequences in evaluation, step by step, none from a fresh state."""
    with torch.no_grad():
        for step in (*held.x, *held.x):
            held.net.eval()(step)


def single(net):
    functional.set_step_mode(net, "s")
    return net


def adam(net, x, lr=1e-3, updates=4):
    return scene(net, x, lambda held: train(held, updates), optimizer=torch.optim.Adam(net.parameters(), lr=lr))


BROKEN = {  # name -> the layer and the kind that come first, and the scene
    "a NaN in the data": ("", "non-finite input", lambda: scene(perceptron(), _put(spikes(), torch.nan))),
    "an infinity in the data": ("", "non-finite input", lambda: scene(perceptron(), _put(spikes(), torch.inf))),
    "bytes divided as integers": ("", "input all zero", lambda: scene(perceptron(), (spikes() * 254 // 255))),
    "a fill value": ("", "input constant", lambda: scene(perceptron(), torch.full((T, N, F), 0.5))),
    "bytes as they are": (
        "",
        "input not normalised",
        lambda: scene(perceptron(), torch.randint(0, 256, (T, N, F)).float()),
    ),
    "normalised twice": ("", "input not normalised", lambda: scene(perceptron(), torch.rand(T, N, F) / 255)),
    "images repeated along the second axis": (
        "",
        "time and batch swapped",
        lambda: scene(perceptron(), torch.rand(N, 1, F).repeat(1, T, 1)),
    ),
    "recordings with the batch in front": (
        "",
        "time and batch swapped",
        lambda: scene(perceptron(), smooth().transpose(0, 1)),
    ),
    "as many steps as samples are wanted": (
        "",
        "time and batch swapped",
        lambda: scene(perceptron(), spikes().transpose(0, 1), steps=T),
    ),
    "sequences for a network in single steps": (
        "",
        "sequence in single steps",
        lambda: scene(single(perceptron()), steps=T),
    ),
    "single steps without a reset": (
        "",
        "state carried over in evaluation",
        lambda: scene(single(perceptron()), run=_look_in_steps, steps=T),
    ),
    "weights shrunk before the training": (
        "3",
        "never near the threshold",
        lambda: adam(with_(perceptron(), scaled("2.weight", 1e-3)), spikes()),
    ),
    "a weight that is NaN": (
        "2",
        "non-finite weights",
        lambda: scene(with_(perceptron(), lambda net: net[2].weight.data[0].fill_(torch.nan))),
    ),
    "an infinite bias": ("0", "non-finite weights", lambda: scene(with_(perceptron(), _fill("0.bias", torch.inf)))),
    "a division by zero": ("2", "non-finite output", lambda: scene(_deep(2, Apply(lambda x: x / 0)))),
    "a logarithm of spikes": ("2", "non-finite output", lambda: scene(_deep(2, Apply(torch.log)))),
    "a potential that somebody spoiled": ("1", "non-finite state", lambda: scene(perceptron(), run=_bad_state)),
    "a logarithm in the loss": (
        "5",
        "non-finite gradient",
        lambda: scene(perceptron(), loss=lambda y: -torch.log(y).mean()),
    ),
    "weights of the wrong sign and size": (
        "1",
        "runs away downwards",
        lambda: scene(with_(perceptron(), _fill("0.weight", -1e4))),
    ),
    "soft resets under a flood": (
        "1",
        "runs away upwards",
        lambda: scene(with_(perceptron(node=neuron.IFNode, v_reset=None), _fill("0.weight", 1e3))),
    ),
    "weights far too small": (
        "5",
        "never near the threshold",
        lambda: scene(with_(with_(perceptron(), scaled("4.weight", 1e-3)), _fill("4.bias", 0.0))),
    ),
    "a dead layer at the beginning": (
        "1",
        "never near the threshold",
        lambda: scene(with_(with_(perceptron(4), scaled("0.weight", 1e-3)), _fill("0.bias", 0.0))),
    ),
    "a threshold out of reach": (
        "3",
        "silent layer",
        lambda: scene(with_(perceptron(), lambda net: setattr(net[3], "v_threshold", 4.5))),
    ),
    "a bias far below": ("3", "driven below rest", lambda: scene(with_(perceptron(), _fill("2.bias", -30.0)))),
    "a bias far above": ("3", "saturated neurons", lambda: scene(with_(perceptron(), _fill("2.bias", 30.0)))),
    "a threshold of nearly zero": (
        "1",
        "saturated neurons",
        lambda: scene(
            with_(perceptron(), lambda net: (setattr(net[1], "v_threshold", 1e-3), net[0].weight.data.abs_()))
        ),
    ),
    "most rows of a weight dead": ("3", "silent neurons", lambda: scene(with_(perceptron(), _half_dead))),
    "weights all alike": ("1", "synchrony", lambda: scene(with_(perceptron(), _fill("0.weight", 0.1)))),
    "a surrogate far too narrow": (
        "1",
        "outside the surrogate",
        lambda: scene(perceptron(1, surrogate_function=surrogate.PiecewiseQuadratic(alpha=1e4))),
    ),
    "a gradient that fades on the way": ("3", "vanishing gradient in depth", lambda: scene(_deep(4, Gain(1e-6)))),
    "a gradient that grows on the way": ("3", "exploding gradient in depth", lambda: scene(_deep(4, Gain(1e6)))),
    "a loss of the last step alone": (
        "1",
        "vanishing gradient in time",
        lambda: scene(perceptron(1, tau=1.1), spikes((16, N, F)), loss=_last_step),
    ),
    "a read-out of the last step": ("1", "vanishing gradient in time", lambda: _read_out(decode="last-mem")),
    "a read-out of the largest step": ("1", "vanishing gradient in time", lambda: _read_out(decode="max-mem")),
    "a read-out of all steps behind a layer that forgets": (
        "1",
        "vanishing gradient in time",
        lambda: _read_out(Gain(torch.logspace(-6, 0, 24)[:, None, None]), decode="mean-mem"),
    ),
    "a read-out of all steps behind neurons that forget": (
        "1",
        "vanishing gradient in time",
        lambda: _read_out(Gain(torch.logspace(-6, 0, 24)[:, None, None]), *_soft_neurons(), decode="mean-mem"),
    ),
    "feedback that is too strong": (
        "1.sub_module",
        "exploding gradient in time",
        lambda: scene(_recurrent(), spikes((16, N, F)), loss=_last_step),
    ),
    "a graph that is cut": ("2", "no gradient arrives", lambda: scene(_deep(4, Apply(torch.Tensor.detach)))),
    "a forgotten reset": ("", "state carried over", lambda: scene(perceptron(), run=_without_reset)),
    "a forgotten reset in evaluation": ("", "state carried over in evaluation", lambda: scene(perceptron(), run=look)),
    "a learning rate far too high": (None, "learning rate too high", lambda: _trained(1e4)),
    "a learning rate beyond all numbers": (None, "learning rate too high", lambda: _trained(1e38)),
    "Adam with steps far too large": (None, "learning rate too high", lambda: adam(perceptron(), spikes(), 1.0, 24)),
    "a layer without an optimizer": (
        "0",
        "weights not updated",
        lambda: _trained(0.05, lambda net: net[2:].parameters()),
    ),
    "one neuron under two names": ("1", "one neuron used twice", lambda: scene(_shared())),
    "one neuron twice in forward": ("sn", "one neuron used twice", lambda: scene(_in_two_places())),
    "more spikes than the energy allows": ("1", "rate too high", lambda: scene(perceptron(), rate=0.05)),
}
