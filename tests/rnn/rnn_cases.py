"""The recurrent layers, what they are called in PyTorch, and smooth functions in place of their spikes."""

import torch

from spikescope import rnn
from spikescope.surrogate import Sigmoid, Surrogate, core

LAYERS = {"LSTM": rnn.SpikingLSTM, "GRU": rnn.SpikingGRU, "VanillaRNN": rnn.SpikingVanillaRNN}
CELLS = {"LSTM": rnn.SpikingLSTMCell, "GRU": rnn.SpikingGRUCell, "VanillaRNN": rnn.SpikingVanillaRNNCell}


class Tanh(Surrogate):
    """The hyperbolic tangent, which PyTorch's cells have where ours have spikes."""

    @staticmethod
    def gradient(p, x):
        return 1 - torch.tanh(x) ** 2

    @staticmethod
    def primitive(p, x):
        return torch.tanh(x)


del core.registry["Tanh"]  # the tests of the surrogates need not know of it


def smooth(name):
    """The functions of PyTorch's cells as arguments: sigmoid gates, and a candidate of tanh."""
    if name == "VanillaRNN":
        return {"surrogate_function": Tanh(spiking=False)}
    return {
        "surrogate_function1": Sigmoid(alpha=1.0, spiking=False),
        "surrogate_function2": Tanh(spiking=False),
    }
