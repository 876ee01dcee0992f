"""Training on the device: the trainer with its mixed precisions and its resume, streams, rules, recurrent layers."""

import copy

import pytest
import torch
from device_cases import SMALL
from torch import nn
from torch.utils.data import TensorDataset

from spikescope import functional, layer, learning, neuron, rnn
from spikescope.train import Ranks, Recipe, Split, Trainer, newest_checkpoint

VARIANTS = {
    "plain": {},
    "bf16": {"amp": "bf16"},
    "fp16": {"amp": "fp16"},
    "lean": {"lean": True},
    "averaged": {"model_ema": True, "model_ema_steps": 2, "clip_grad_norm": 1.0},
    "mixed": {"mixup_alpha": 0.5, "loss": "tet"},
}


def split():
    y = torch.arange(44) % 4
    x = torch.rand(44, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    x[torch.arange(44), 0, y] += 1
    return Split(TensorDataset(x[:36], y[:36]), TensorDataset(x[36:], y[36:]), 4)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            *(layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8), neuron.LIFNode(), layer.MaxPool2d(2)),
            *(layer.Flatten(), layer.Dropout(0.3), layer.Linear(72, 4), neuron.ParametricLIFNode()),
        )
    functional.set_step_mode(net, "m")
    return net


class Enough(Exception):
    pass


@pytest.mark.parametrize("variant", list(VARIANTS)[:2] if SMALL else VARIANTS)
def test_a_training_taken_up_ends_bit_for_bit_as_without_a_stop(variant, device, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    recipe = Recipe(
        model="m:f", data="d:f", T=3, epochs=2, batch_size=8, lr=1e-2, save_every=1, keep=99, **VARIANTS[variant]
    )
    ranks = Ranks(0, 1, device)
    whole = Trainer(network(), split(), recipe, ranks=ranks)
    history = whole.run()
    assert all(torch.isfinite(torch.tensor(epoch.train_loss)) for epoch in history)
    calls = 0

    def die():
        nonlocal calls
        calls += 1
        if calls == 7:
            raise Enough

    with pytest.raises(Enough):
        Trainer(network(), split(), recipe, folder=tmp_path, ranks=ranks).run(on_batch=die)
    again = Trainer(network(), split(), recipe, ranks=ranks, checkpoint=newest_checkpoint(tmp_path)[1])
    assert again.progress.update > 0
    again.run()
    for name, held in whole.tested.state_dict().items():
        assert torch.equal(held, again.tested.state_dict()[name]), name


def test_a_stream_is_the_network_step_by_step(device):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(20, 32), neuron.LIFNode(), layer.Linear(32, 8), neuron.IFNode()).to(device)
    x_seq = torch.rand(6, 1, 20, device=device) * 2
    stream = functional.stream(copy.deepcopy(net).eval())
    got = torch.stack([stream.step(x_t).clone() for x_t in x_seq])
    with torch.no_grad():
        want = torch.stack([net.eval()(x_t) for x_t in x_seq])
    assert torch.equal(got, want)


def test_spike_timing_changes_the_weights_as_on_a_cpu(device):
    found = []
    for place in (device, torch.device("cpu")):
        net = nn.Sequential(layer.Linear(6, 4, bias=False), neuron.IFNode())
        with torch.no_grad():
            net[0].weight.copy_(torch.arange(24).view(4, 6) % 5 / 8)
        functional.set_step_mode(net, "s")
        net.to(place)
        learner = learning.STDPLearner("s", net[0], net[1], 2.0, 2.0)
        for step in range(5):
            net((torch.arange(18).view(3, 6) + step).remainder(3).gt(0).float().to(place))
            learner.step(on_grad=True)
        found.append(net[0].weight.grad.cpu())
    torch.testing.assert_close(*found)
    assert found[0].any()


@pytest.mark.parametrize("cls", [rnn.SpikingLSTM, rnn.SpikingGRU, rnn.SpikingVanillaRNN], ids=lambda cls: cls.__name__)
def test_recurrent_layers(cls, device):
    torch.manual_seed(0)
    net = cls(5, 7, 2)
    twin, x_seq = copy.deepcopy(net).to(device), torch.randn(6, 3, 5)
    found = []
    for held, given in ((net, x_seq), (twin, x_seq.to(device))):
        y = held(given)
        y = y[0] if isinstance(y, tuple) else y
        y.square().sum().backward()
        found.append([y.detach().cpu(), *(parameter.grad.cpu() for parameter in held.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
