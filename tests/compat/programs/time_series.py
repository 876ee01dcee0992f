"""The next value of a wave from tensors of a few numbers: recurrent spikes, a delay, attention over time, cells."""

import torch
from data import signals
from spikingjelly.activation_based import functional, layer, neuron, rnn, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
CLOSE = {"grad": (1e-6, "the terms of the gradient of a cell are summed up in another order")}
STEPS = 8


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = layer.Linear(2, 8)
        self.recurrent = layer.LinearRecurrentContainer(
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            in_features=8,
            out_features=8,
        )
        self.delay = layer.Delay(2)
        self.synapse = layer.SynapseFilter(tau=3.0, learnable=True)
        self.out = layer.Linear(8, 2)
        self.readout = neuron.LIFNode(tau=4.0, v_threshold=1e6, v_reset=None, store_v_seq=True)

    def forward(self, x_seq):
        spikes = self.recurrent(self.embed(x_seq))
        self.readout(self.out(self.synapse(spikes + self.delay(spikes))))
        return self.readout.v_seq


def cells(x):
    torch.manual_seed(25)
    plain, lstm = rnn.SpikingVanillaRNN(2, 6, 1), rnn.SpikingLSTM(2, 6, 1)
    out, _ = plain(x)
    other, (h, c) = lstm(x)
    (out.sum() + other.sum() + c.sum()).backward()
    return {
        "plain": out.detach(),
        "lstm": other.detach(),
        "h": h.detach().reshape(12, 6),
        "grad": lstm.cells[0].linear_ih.bias.grad,
    }


def main():
    torch.manual_seed(24)
    net = Forecast()
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.RMSprop(net.parameters(), lr=5e-3)
    x, _ = signals(12, STEPS + 1, 2)
    x_seq, wanted = 2 * x[:, :-1].transpose(0, 1), x[:, 1:].transpose(0, 1)
    first, losses = None, []
    for _ in range(4):
        out = net(x_seq)
        first = out.detach() if first is None else first
        loss = nn.functional.mse_loss(out, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    return {"first": first, "losses": losses, **cells(x_seq)}
