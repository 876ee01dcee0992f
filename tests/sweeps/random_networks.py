"""Random small networks over the registries of neurons, surrogates and layers, and random calls of them.

A module is drawn without asking whether it fits: what a copy of it does to a sequence says so, and gives the shape that
goes on. So a new neuron or layer is drawn like the others, without a line here.
"""

from __future__ import annotations

import copy
import operator
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikescope import layer, neuron, rnn, surrogate
from spikescope.errors import ShapeError
from spikescope.functional import set_step_mode

C = 4  # channels of the first input, which the examples of the layers take
SHAPES = ((C,), (C,), (C, 6), (C, 5, 6), (C, 5, 6), (C, 2, 3, 4))  # of a sample
NORMS = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}  # by the axes of a sample
CONVOLUTIONS = {2: "Conv1d", 3: "Conv2d", 4: "Conv3d"}
THROUGH_TIME = ("ThresholdDependent", "TemporalEffective")
READ_OUTS = ("NonSpikingIFNode", "NonSpikingLIFNode")
SINGLE_STEPS = ("OTTTLIFNode", "SLTTLIFNode")
NODES = sorted(name for name in neuron.registry if name not in READ_OUTS + SINGLE_STEPS)
SURROGATES = sorted(name for name, cls in surrogate.registry.items() if cls.pointwise)


class Call(NamedTuple):
    """A call of the network; what happens between the last one and this."""

    between: str  # '', 'reset' or 'detach'
    x: Tensor


class Case(NamedTuple):
    """A network in multi-step mode, and what is done to it."""

    net: nn.Module
    calls: list[Call]
    single: bool  # the calls are cut into single steps
    training: bool


class Sum(nn.Module):
    """`x + branch(x)`: a residual connection."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Branches(nn.Module):
    """Two ways to the same place, one of them gated by plain Python."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.ways = nn.ModuleDict({"one": one, "other": other})

    def forward(self, x: Tensor) -> Tensor:
        given = {name: way(x) for name, way in self.ways.items()}
        first = given["one"]
        if first.shape[-1] > 4:
            first = 2 * first
        return first - 0.5 * given["other"]


class Twice(nn.Module):
    """A module that is shared: called twice in a row, on one state."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.shared(x))


class Halves(nn.Module):
    """Each half of the last axis goes its own way; a network of several inputs inside."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.cat([self.one(x[..., :half]), self.other(x[..., half:])], -1)


class Written(nn.Module):
    """Writes into its own values in place, and keeps a buffer of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = 1.5 * x
        y.mul_(0.75).add_(0.0625)
        if self.training:
            self.seen = self.seen + y.detach().sum()  # the same by steps and by sequences
        return y.relu_()


def draw_node(rng: random.Random, T: int, name: str | None = None) -> nn.Module:
    """A neuron with random options, and fields that are numbers, tensors or Parameters."""
    cls = neuron.registry[name or rng.choice(("LIFNode", "IFNode", "ParametricLIFNode", *NODES, *NODES))]
    takes, options = cls.arguments.parameters, dict(cls.example)
    if "T" in takes:
        options["T"] = T
    if "k" in options:
        options["k"] = min(T, rng.choice((1, 2, 3)))
    if "sigma" in options:
        options["sigma"] = rng.choice((0.0, 0.2))
    choices = {"detach_reset": (True, False), "decay_input": (True, False), "scale_reset": (True, False)}
    options |= {key: rng.choice(held) for key, held in choices.items() if key in takes and rng.random() < 0.5}
    if "surrogate_function" in takes and cls.__name__ != "ILIFNode" and rng.random() < 0.6:
        made = surrogate.registry[rng.choice(SURROGATES)]
        options["surrogate_function"] = made(**made.example)
    if "store_v_seq" in takes and rng.random() < 0.3:
        options["store_v_seq"] = True
    if "v_reset" in takes and cls.fields["v_reset"].default == 0.0 and rng.random() < 0.4:
        options["v_reset"] = rng.choice((None, -0.1))
    if "v_threshold" in takes and cls.__name__ != "ILIFNode" and rng.random() < 0.5:
        held = rng.choice((0.3, 0.75))
        options["v_threshold"] = rng.choice((held, torch.tensor(held), nn.Parameter(torch.tensor(held))))
    try:
        made = cls(**options)
    except (TypeError, ValueError, NotImplementedError):  # not for this neuron: a soft reset, say
        options.pop("v_reset", None)
        options.pop("surrogate_function", None)
        made = cls(**options)
    if rng.random() < 0.3:
        made.backend = rng.choice(("torch", "auto"))
    return made


def draw_layer(rng: random.Random, shape: torch.Size, T: int, depth: int) -> nn.Module:
    """Any module, which may not fit."""
    channels, axes = shape[0], len(shape)
    inner = lambda most=3: draw_row(rng, shape, T, depth + 1, most)[0]  # noqa: E731
    single = lambda: draw_node(rng, T, rng.choice(("IFNode", "LIFNode", "ParametricLIFNode", "CUBALIFNode")))  # noqa: E731
    by_name = lambda name, *args, **kwargs: getattr(layer, name)(*args, **kwargs)  # noqa: E731
    through = lambda: rng.choice(THROUGH_TIME) + NORMS[axes]  # noqa: E731
    kinds = {
        "node": (7, lambda: draw_node(rng, T)),
        "linear": (3, lambda: layer.Linear(shape[-1], rng.choice((3, C, 6)), bias=rng.random() < 0.7)),
        "conv": (4, lambda: by_name(CONVOLUTIONS[axes], channels, C, 3, padding=1, bias=rng.random() < 0.5)),
        "norm": (4, lambda: by_name(NORMS[axes], channels, **rng.choice(({}, {"affine": False}, {"momentum": None})))),
        "through time": (
            1,
            lambda: by_name(through(), channels) if rng.random() < 0.5 else by_name(through(), T, channels),
        ),
        "each step": (1, lambda: by_name("BatchNormThroughTime" + NORMS[axes][-2:], T, channels)),
        "registry": (4, lambda: (made := layer.registry[rng.choice(sorted(layer.registry))])(*made.example)),
        "plain": (1, rng.choice((nn.Tanh, nn.Identity, nn.ReLU, Written))),
        "dropout": (1, lambda: layer.Dropout(0.4)),
        "connections": (0.5, lambda: layer.DropConnectLinear(shape[-1], C)),
        "synapse": (1, lambda: layer.SynapseFilter(rng.choice((1.5, 4.0)), learnable=rng.random() < 0.5)),
        "delay": (0.5, lambda: layer.Delay(rng.choice((0, 1, 2)))),
        "gate": (0.5, lambda: layer.TemporalWiseAttention(T, reduction=1)),
        "gates": (0.5, lambda: layer.MultiDimensionalAttention(T, channels, reduction_t=1, reduction_c=1)),
        "neuronal norm": (0.5, lambda: layer.NeuNorm(channels, *shape[1:])),
        "feedback": (
            1,
            lambda: layer.ElementWiseRecurrentContainer(single(), rng.choice((operator.add, operator.sub))),
        ),
        "weights": (1, lambda: layer.LinearRecurrentContainer(single(), shape[-1], shape[-1])),
        "recurrent": (0.7, lambda: draw_recurrent(rng, channels)),
    }
    nested = {
        "sum": (1, lambda: Sum(inner())),
        "branches": (1, lambda: Branches(inner(), inner())),
        "twice": (1, lambda: Twice(inner())),
        "halves": (0.5, lambda: Halves(*(draw_row(rng, cut, T, depth + 1, 2)[0] for cut in halves(shape)))),
        "row": (0.5, inner),
        "steps": (0.5, lambda: layer.MultiStepContainer(inner())),
        "mode": (0.5, lambda: layer.StepModeContainer(rng.random() < 0.5, inner())),
        "folded": (1, lambda: layer.SeqToANNContainer(folded(rng, shape))),
    }
    held = list((kinds | nested if depth < 2 else kinds).values())
    _, make = rng.choices(held, [weight for weight, _ in held])[0]
    return make()


def halves(shape: torch.Size) -> list[torch.Size]:
    half = shape[-1] // 2
    return [torch.Size([*shape[:-1], half]), torch.Size([*shape[:-1], shape[-1] - half])]


def folded(rng: random.Random, shape: torch.Size) -> nn.Module:
    if len(shape) == 1:
        return nn.Linear(shape[0], C)
    made = getattr(nn, CONVOLUTIONS[len(shape)])(shape[0], C, 3, padding=1)
    norm = getattr(nn, NORMS[len(shape)])(C)
    return nn.Sequential(made, norm) if rng.random() < 0.5 else made


class Outputs(nn.Module):
    """A recurrent layer without the last states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_seq: Tensor) -> Tensor:
        return self.layer(x_seq)[0]


def draw_recurrent(rng: random.Random, channels: int) -> nn.Module:
    made = rng.choice((rnn.SpikingLSTM, rnn.SpikingGRU, rnn.SpikingVanillaRNN))
    return Outputs(made(channels, C, rng.choice((1, 2)), bidirectional=rng.random() < 0.3))


def after(net: nn.Module, shape: torch.Size, T: int) -> torch.Size | None:
    """The shape of a sample behind the network; None where it does not take one, or gives something else."""
    tried = copy.deepcopy(net).eval()
    try:
        set_step_mode(tried, "m")
        with torch.no_grad():
            y = tried(torch.zeros(T, 2, *shape))
    except (ShapeError, ValueError, TypeError, IndexError, RuntimeError, AttributeError, NotImplementedError):
        return None
    fits = isinstance(y, Tensor) and y.ndim > 2 and y.shape[:2] == (T, 2) and y.is_floating_point() and y.numel()
    return y.shape[2:] if fits else None


def draw_row(
    rng: random.Random, shape: torch.Size, T: int, depth: int = 0, most: int = 6
) -> tuple[nn.Sequential, torch.Size]:
    """Modules one after the other, each of which fits, and the shape behind them."""
    row: list[nn.Module] = []
    for _ in range(rng.randint(1, most)):
        for _ in range(5):
            try:
                made = draw_layer(rng, shape, T, depth)
            except (KeyError, ValueError, TypeError):  # no such layer for so many axes, or not of these sizes
                continue
            if (found := after(made, shape, T)) is not None:
                row.append(made)
                shape = found
                break
    return nn.Sequential(*row), shape


def has_single_steps(net: nn.Module) -> bool:
    return all("s" in getattr(module, "supported_step_modes", "s") for module in net.modules())


def draw(seed: int) -> Case:
    """The network of a seed and the calls of it."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    T, shape = rng.choice((1, 2, 3, 5)), torch.Size(rng.choice(SHAPES))
    net, _ = draw_row(rng, shape, T)
    set_step_mode(net, "m")
    N, calls = rng.choice((1, 2, 2, 3)), []
    bound = any(hasattr(module, "T") or hasattr(module, "bn_list") for module in net.modules())  # to so many steps
    for number in range(rng.choice((1, 1, 2, 3))):
        between = rng.choice(("reset",) if bound else ("", "reset", "reset", "detach")) if number else ""
        if between == "reset" and rng.random() < 0.3:
            N = rng.choice((2, 3, 5))
        generator = torch.Generator().manual_seed(seed + number)
        x = 2.0 * torch.randn(T, N, *shape, generator=generator, dtype=torch.float64) + 0.4
        calls.append(Call(between, x.to(torch.float64 if seed % 4 == 0 else torch.float32)))
    if seed % 4 == 0:
        net.double()
    training = rng.random() < 0.6
    net.train(training)
    return Case(net, calls, has_single_steps(net) and rng.random() < 0.4, training)
