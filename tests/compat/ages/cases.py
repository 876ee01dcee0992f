"""What code of an age builds and calls, as one text for the package of that age and for the aliases.

A case is a path, a name, the arguments, and the shape of what it is called with; `run` gives outputs and gradients.
"""

import importlib

import torch
from torch import nn

NEURON = "v_threshold=0.7"
SURROGATES = (
    "PiecewiseQuadratic() PiecewiseQuadratic(2.0) PiecewiseExp() PiecewiseExp(2.0) Sigmoid(4.0) Sigmoid(2.0) "
    "SoftSign() ATan() ATan(3.0) NonzeroSignLogAbs() Erf() PiecewiseLeakyReLU() PiecewiseLeakyReLU(0.5) "
    "PiecewiseLeakyReLU(w=2.0,c=0.1) SquarewaveFourierSeries() SquarewaveFourierSeries(4,6) S2NN() S2NN(2.0,0.5) "
    "QPseudoSpike()"
)
NEW_SURROGATES = "LeakyKReLU() LeakyKReLU(True,0.1,2.0) FakeNumericalGradient() LogTailedReLU() LogTailedReLU(0.1)"
OF_SIGMOID = "surrogate.Sigmoid(4.0)"
FIRE = f"0.7, 0.0, {OF_SIGMOID}, False"
SOFT = f"0.7, None, {OF_SIGMOID}, True"

RECURRENT = [
    ("rnn.SpikingLSTM(3, 4, 2)", (4, 2, 3)),
    ("rnn.SpikingLSTM(3, 4, 3, False)", (5, 2, 3)),
    ("rnn.SpikingLSTM(3, 4, 1, bidirectional=True)", (4, 2, 3)),
]

CLOCK_DRIVEN = [
    *((f"neuron.IFNode({fire})", (3,)) for fire in (FIRE, SOFT)),
    *((f"neuron.LIFNode(1.5, {decay}, {fire})", (3,)) for fire in (FIRE, SOFT) for decay in (True, False)),
    (f"neuron.LIFNode(v_reset=-0.1, {NEURON})", (3,)),
    ("neuron.LIFNode()", (3,)),
    *((f"neuron.ParametricLIFNode(1.5, {decay}, {fire})", (3,)) for fire in (FIRE, SOFT) for decay in (True, False)),
    (f"neuron.QIFNode({NEURON})", (3,)),
    (f"neuron.EIFNode({NEURON})", (3,)),
    (f"neuron.LIAFNode(torch.relu, True, {NEURON})", (3,)),
    (f"neuron.LIAFNode(torch.sigmoid, False, {NEURON})", (3,)),
    *((f"neuron.MultiStepIFNode({fire}, 'torch')", (4, 2, 3)) for fire in (FIRE, SOFT)),
    *((f"neuron.MultiStepLIFNode(1.5, {decay}, {SOFT}, 'torch')", (4, 2, 3)) for decay in (True, False)),
    *((f"neuron.MultiStepParametricLIFNode(1.5, {decay}, {SOFT})", (4, 2, 3)) for decay in (True, False)),
    (f"neuron.MultiStepEIFNode({NEURON})", (4, 2, 3)),
    ("layer.NeuNorm(3, 4, 4)", (2, 3, 4, 4)),
    ("layer.NeuNorm(3, 4, 4, 0.5, True)", (2, 3, 4, 4)),
    ("layer.SynapseFilter(5.0)", (2, 3)),
    ("layer.SynapseFilter(5.0, True)", (2, 3)),
    ("layer.ChannelsPool(nn.MaxPool1d(2, 2))", (2, 4, 2, 2)),
    ("layer.DCT(2)", (2, 4, 4)),
    ("layer.AXAT(3, 2)", (2, 3, 3)),
    ("layer.MultiStepContainer(neuron.IFNode())", (3, 2, 3)),
    ("layer.SeqToANNContainer(nn.Linear(3, 2), nn.BatchNorm1d(2))", (3, 2, 3)),
    ("layer.ConvBatchNorm2d(2, 3, 3)", (2, 2, 4, 4)),
    ("layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda x, y: x + y)", (2, 3)),
    ("layer.LinearRecurrentContainer(neuron.IFNode(), 3, 3)", (2, 3)),
    ("layer.MultiStepThresholdDependentBatchNorm2d(1.0, 0.5, 3)", (3, 2, 3, 2, 2)),
    ("layer.MultiStepTemporalWiseAttention(4, 2)", (4, 2, 3, 4, 4)),
    ("encoding.LatencyEncoder(6)", (2, 3)),
    ("encoding.LatencyEncoder(6, 'log')", (2, 3)),
    ("encoding.WeightedPhaseEncoder(4)", (2, 3)),
    ("rnn.SpikingLSTM(3, 4, 1)", (4, 2, 3)),
    ("rnn.SpikingLSTM(3, 4, 2, True, 0, False, True)", (4, 2, 3)),
    *RECURRENT,
    ("rnn.SpikingGRU(3, 4, 1)", (4, 2, 3)),
    ("rnn.SpikingVanillaRNN(3, 4, 1)", (4, 2, 3)),
    ("rnn.SpikingLSTMCell(3, 4)", (2, 3)),
    ("rnn.SpikingVanillaRNNCell(3, 4)", (2, 3)),
]

STEPPED = [
    *(f"neuron.IFNode({fire}, '{{mode}}', 'torch', True)" for fire in (FIRE, SOFT)),
    *(f"neuron.LIFNode(1.5, {decay}, {fire}, '{{mode}}')" for fire in (FIRE, SOFT) for decay in (True, False)),
    *(f"neuron.ParametricLIFNode(1.5, {decay}, {SOFT}, '{{mode}}')" for decay in (True, False)),
    f"neuron.QIFNode({NEURON}, step_mode='{{mode}}')",
    f"neuron.EIFNode({NEURON}, step_mode='{{mode}}')",
    f"neuron.IzhikevichNode({NEURON}, a=0.1, b=0.2, step_mode='{{mode}}')",
    *(f"neuron.KLIFNode({scale}, 1.5, step_mode='{{mode}}')" for scale in (True, False)),
    "layer.Linear(3, 2, True, '{mode}')",
    "layer.SynapseFilter(5.0, True, '{mode}')",
    "layer.LinearRecurrentContainer(neuron.IFNode(), 3, 3, True, '{mode}')",
    "layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda x, y: x + y, '{mode}')",
    "layer.Delay(2, '{mode}')",
    "layer.StepModeContainer(True, neuron.IFNode())",
]
IMAGES = [
    "layer.Conv2d(3, 2, 3, 1, 1, 1, 1, False, 'zeros', '{mode}')",
    "layer.ConvTranspose2d(3, 2, 2, 2, 0, 0, 1, True, 1, 'zeros', '{mode}')",
    "layer.BatchNorm2d(3, 1e-5, 0.1, True, True, '{mode}')",
    "layer.GroupNorm(3, 3, 1e-5, True, '{mode}')",
    "layer.MaxPool2d(2, 2, 0, 1, False, False, '{mode}')",
    "layer.AvgPool2d(2, 2, 0, False, True, None, '{mode}')",
    "layer.AdaptiveAvgPool2d((1, 1), '{mode}')",
    "layer.Flatten(1, -1, '{mode}')",
    "layer.NeuNorm(3, 4, 4, 0.9, False, '{mode}')",
]

ACTIVATION_BASED = [
    *((made.format(mode="s"), (2, 3)) for made in STEPPED),
    *((made.format(mode="m"), (4, 2, 3)) for made in STEPPED),
    *((made.format(mode="s"), (2, 3, 4, 4)) for made in IMAGES),
    *((made.format(mode="m"), (3, 2, 3, 4, 4)) for made in IMAGES),
    ("layer.VotingLayer(3, 's')", (2, 6)),
    ("layer.VotingLayer(3, 'm')", (4, 2, 6)),
    ("encoding.LatencyEncoder(6, 'linear', 's')", (2, 3)),
    ("encoding.LatencyEncoder(6, 'log', 's')", (2, 3)),
    ("encoding.WeightedPhaseEncoder(4, 's')", (2, 3)),
    ("rnn.SpikingLSTM(3, 4, 2, True, 0, False, True)", (4, 2, 3)),
    *RECURRENT,
    ("rnn.SpikingGRU(3, 4, 1)", (4, 2, 3)),
    ("rnn.SpikingVanillaRNN(3, 4, 1)", (4, 2, 3)),
    ("lambda x: quantize.k_bit_quantize(x, 3)", (2, 3)),
    ("lambda x: quantize.step_quantize(x, 0.25)", (2, 3)),
    ("lambda x: functional.delay(x, 2)", (4, 2, 3)),
    ("lambda x: functional.temporal_efficient_training_cross_entropy(x, torch.tensor([0, 2]))", (4, 2, 3)),
    ("lambda x: functional.spike_similar_loss(x, torch.eye(2), 'gaussian', 'l1', 1.0)", (2, 3, 4)),
    ("lambda x: functional.kernel_dot_product(x, x, 'polynomial', 2)", (2, 3)),
    ("lambda x: functional.kernel_dot_product(x, x, 'sigmoid', 2.0)", (2, 3)),
]


def surrogate_cases(names):
    """The gradient of each, and its primitive, where it has one (that of LogTailedReLU was NaN below 0)."""
    for made in names.split():
        head = made[:-1] + ("" if made.endswith("()") else ",")
        if made != "NonzeroSignLogAbs()" or SURROGATES is names:  # that of 0.0.0.0.14 has no gradient
            yield f"surrogate.{made}", (7,)
        if not made.startswith(("FakeNumerical", "LogTailedReLU", "LeakyKReLU(True")):
            yield f"surrogate.{head}spiking=False)", (7,)


AGES = {
    "12": ("clock_driven", [*CLOCK_DRIVEN, *surrogate_cases(SURROGATES)]),
    "14": ("activation_based", [*ACTIVATION_BASED, *surrogate_cases(f"{SURROGATES} {NEW_SURROGATES}")]),
}
ROOMS = "neuron surrogate layer functional encoding rnn quantize"


def scope(package):
    """The names that a case is written in."""
    held = {"torch": torch, "nn": nn}
    for room in ROOMS.split():
        try:
            held[room] = importlib.import_module(f"spikingjelly.{package}.{room}")
        except ImportError:
            continue
    return held


def numbers(shape):
    """Numbers of both signs in no order, that need no generator."""
    count = int(torch.tensor(shape).prod())
    return (torch.arange(count, dtype=torch.float64) * 0.618034 % 1 * 2.5 - 0.9).float().reshape(shape)


def run(case, shape, names):
    """Output and gradients of three calls in a row, of `case` made with numbers for its Parameters."""
    module = eval(case, names)
    if isinstance(module, nn.Module):
        for index, p in enumerate(module.parameters()):
            p.data = numbers(p.shape) / 3 + 0.05 * index if p.ndim else p.data
    x = numbers(shape)
    if "Encoder" in case:
        x = x.clamp(0, 0.9)
    x.requires_grad_("Encoder" not in case)
    told = {}
    for call in range(1 if len(shape) > 3 or any(kind in case for kind in ("rnn", "lambda", "Delay(2, 'm'")) else 3):
        y = module(x)
        parts = flat(y)
        parts = parts[:1] if ", 2, True" in case else parts  # of several layers it gave the states of the last alone
        told |= {f"y{call}.{index}": part.detach() for index, part in enumerate(parts)}
        total = sum((part * numbers(part.shape)).sum() for part in parts)
    if total.requires_grad:
        total.backward()
        told["x"] = x.grad
        told |= (
            {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
            if isinstance(module, nn.Module)
            else {}
        )
    return told


def flat(held):
    if isinstance(held, torch.Tensor):
        return [held]
    return [part for item in held for part in flat(item)]
