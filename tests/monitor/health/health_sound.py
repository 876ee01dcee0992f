"""Sound networks, of which nothing is found."""

import torch
from health_networks import (
    F,
    N,
    T,
    adam,
    learn,
    linear,
    perceptron,
    scaled,
    scene,
    single,
    smooth,
    spikes,
    train,
    with_,
)
from torch import nn

from spikescope import functional, layer, models, neuron


def _read_by_potential():
    """A network whose last neurons never fire: their potential is what is read."""
    net = nn.Sequential(*perceptron(2), layer.Linear(32, 4), neuron.LIFNode(v_threshold=float("inf"), store_v_seq=True))
    functional.set_step_mode(net, "m")
    return scene(net, loss=lambda y: (net[-1].v_seq - 0.3).square().mean())


def _convolutions():
    net = nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1, bias=False),
        layer.BatchNorm2d(8),
        neuron.LIFNode(),
        layer.MaxPool2d(2),
        layer.Conv2d(8, 16, 3, padding=1, bias=False),
        layer.BatchNorm2d(16),
        neuron.LIFNode(),
        layer.Flatten(),
        layer.Dropout(0.2),
        linear(16 * 4 * 4, 10),
    )
    functional.set_step_mode(net, "m")
    return net


def _in_steps(held):
    """Single steps, as online encoding gives them."""
    for _ in range(3):
        functional.reset_net(held.net)
        held.loss(torch.stack([held.net(step) for step in held.x])).backward()


def _evaluate(held):
    """Batches in evaluation, each from a fresh state."""
    with torch.no_grad():
        for _ in range(3):
            functional.reset_net(held.net)
            held.net.eval()(held.x)


def _online(held):
    """A backward pass after each step, with the state cut."""
    for _ in range(2):
        functional.reset_net(held.net)
        for step in held.x:
            held.loss(held.net(step)).backward()
            functional.detach_net(held.net)


def _in_half(held):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learn(held)


def _compiled(held):
    run = torch.compile(held.net, backend="eager")
    held.loss(run(held.x)).backward()


def _residual():
    block = models.sew_resnet.BasicBlock
    net = models.SEWResNet(block, (1, 1, 1, 1), num_classes=10, spiking_neuron=neuron.LIFNode)
    functional.set_step_mode(net, "m")
    return net


def _with_feedback():
    feedback = layer.LinearRecurrentContainer(neuron.LIFNode(), 32, 32)
    nn.init.normal_(feedback.rc.weight, 0.1, 0.4)
    net = nn.Sequential(linear(F, 32), feedback, linear(32, 10))
    functional.set_step_mode(net, "m")
    return net


class Attention(nn.Module):
    """Spikes times spikes, of neurons that nobody drives hard enough to fire at the first step."""

    def __init__(self):
        super().__init__()
        self.fc, self.sn = linear(F, 32), neuron.LIFNode()

    def forward(self, x):
        fired = self.sn(1.9 * self.fc(x).sigmoid())  # half of it is below the threshold
        return fired * fired.roll(1, -1)


class Opened(nn.Module):
    """A branch whose scale begins at zero, as that of the last norm of a residual block."""

    def __init__(self):
        super().__init__()
        self.fc, self.scale = linear(F, F), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.scale * self.fc(x)


def _after(first):
    net = nn.Sequential(first, linear(32 if isinstance(first, Attention) else F, 32), neuron.LIFNode(), linear(32, 10))
    functional.set_step_mode(net, "m")
    return net


def _wide():
    """A layer whose weights begin so small that the first steps of Adam move them far."""
    net = nn.Sequential(layer.Linear(8192, 32), layer.BatchNorm1d(32), neuron.LIFNode(), linear(32, 10))
    functional.set_step_mode(net, "m")
    return net


def _many_inputs():
    net = nn.Sequential(linear(4096, 32), layer.BatchNorm1d(32), neuron.LIFNode(), linear(32, 10))
    functional.set_step_mode(net, "m")
    return net


def _few_given():
    """Inputs of which hardly any is ever given: most of the gradients of their weights are zero."""
    given = torch.zeros(T, N, 4096)
    given[..., 1:61:3] = spikes()
    return given


def _update_and_learn(held):
    """The gradient that comes last is left to an update that nobody sees."""
    train(held, updates=1)
    learn(held)


SOUND = {
    "a perceptron in training": lambda: adam(perceptron(), spikes()),
    "a perceptron on smooth recordings": lambda: scene(perceptron(), 3 * smooth()),
    "soft resets": lambda: scene(with_(perceptron(node=neuron.IFNode, v_reset=None), scaled("4.weight", 0.5))),
    "convolutions with norms": lambda: adam(_convolutions(), spikes((4, 8, 2, 8, 8))),
    "a potential that is read": _read_by_potential,
    "an image that is repeated": lambda: scene(_convolutions(), torch.rand(8, 2, 8, 8).expand(4, 8, 2, 8, 8)),
    "single steps": lambda: scene(single(perceptron()), run=_in_steps),
    "evaluation with resets": lambda: scene(perceptron(), run=_evaluate),
    "online learning": lambda: scene(single(perceptron()), run=_online),
    "half precision": lambda: scene(perceptron(), run=_in_half),
    "compiled code": lambda: scene(perceptron(), run=_compiled),
    "learned time constants": lambda: adam(perceptron(node=neuron.ParametricLIFNode), spikes()),
    "feedback": lambda: scene(_with_feedback(), spikes()),
    "a residual network": lambda: scene(_residual(), torch.rand(4, 4, 3, 32, 32)),
    "a parallel neuron": lambda: scene(perceptron(node=lambda: neuron.PSN(T)), spikes()),
    "a threshold that is kept as a logit": lambda: adam(perceptron(node=lambda: neuron.GatedLIFNode(T=T)), spikes()),
    "spikes times spikes, none of them at first": lambda: scene(_after(Attention())),
    "the first steps of Adam": lambda: scene(
        net := _wide(),
        spikes((4, N, 8192)),
        run=lambda held: train(held, 2),
        optimizer=torch.optim.Adam(net.parameters()),
    ),
    "inputs that are hardly ever given": lambda: adam(_many_inputs(), _few_given()),
    "a branch that is closed at first": lambda: scene(
        net := _after(Opened()), run=_update_and_learn, optimizer=torch.optim.SGD(net.parameters(), lr=0.05)
    ),
    "a rate that keeps to the energy": lambda: scene(perceptron(), rate=0.9),
}
