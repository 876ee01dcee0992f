"""A network to look at, its training, and a view that keeps every step."""

import http.client
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.view.live import feed as feeding
from spikescope.view.live import show as showing

T, N = 6, 3


def make(step_mode="m"):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Linear(8, 16), neuron.LIFNode(), layer.Linear(16, 16), neuron.LIFNode(), layer.Linear(16, 4)
    )
    functional.set_step_mode(net, step_mode)
    return net


def train(net, steps, view=None, until=None):
    """Some updates on noise; the losses."""
    optimizer, generator, losses = torch.optim.SGD(net.parameters(), 0.01), torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.rand(T, N, 8, generator=generator) * 4
        out = net(x) if net[1].step_mode == "m" else functional.multi_step_forward(x, net)
        loss = (out.mean(0) - 1).pow(2).mean()
        if view is not None:
            view.loss(loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        functional.reset_net(net)
        losses.append(loss.item())
        if until is not None and until():
            break
    return losses


@pytest.fixture
def every_step(monkeypatch):
    """Keep every step, and draw as often: what paces the view is tested by itself."""
    monkeypatch.setattr(feeding, "RATE", 1e9)
    monkeypatch.setattr(feeding, "UNSEEN", 0.0)
    monkeypatch.setattr(feeding, "SHARE", 1e9)
    for name, held in (("LEAST", 0.0), ("SHARE", 1e9), ("BYTES", 1e12), ("FRESH", 0.0), ("FAREWELL", 0.5)):
        monkeypatch.setattr(showing, name, held)


def ask(view, target=None, method="GET", heads=None, body=None):
    """Status, heads and content of an answer."""
    address = urlsplit(view.url)
    with closing(http.client.HTTPConnection("127.0.0.1", view.port, timeout=20)) as connection:
        connection.request(method, target or f"/?{address.query}", body, heads or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), b"" if method == "HEAD" else answer.read()
