"""Networks of snnTorch's real package: what the page on moving over says of them."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope import exchange, functional, layer

PAGE = (Path(__file__).parents[2] / "docs" / "moving" / "others.md").read_text()
T, N = 40, 32


@pytest.fixture
def scope():
    """What the code of the page makes: for snnTorch, and with its package."""
    pytest.importorskip("snntorch", reason="a network of snnTorch's needs snntorch, nir and nirtorch")
    pytest.importorskip("nirtorch", reason="a network of snnTorch's needs snntorch, nir and nirtorch")
    torch.manual_seed(0)
    held = {}
    for code in re.findall(r"```(?:python)?\n((?:import|class|def leak).*?)```", PAGE, flags=re.DOTALL)[:3]:
        exec(code, held)
    return held


def spikes_there(scope, reset, x):
    """The network of the page with a reset, and what it gives."""
    for neuron in scope["theirs"][1::2]:
        neuron.reset_mechanism = reset
    scope["utils"].reset(scope["theirs"])
    with torch.no_grad():
        return torch.stack([scope["theirs"](step) for step in x])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_with_the_reset_to_zero_goes_over_by_nir(scope):
    x = 3 * torch.rand(T, N, 64)
    there = spikes_there(scope, "zero", x)
    assert there.sum() > 100
    assert torch.equal(scope["ours"](x), there)


def test_a_network_that_subtracts_needs_the_neuron_of_the_page(scope):
    x = 3 * torch.rand(T, N, 64)
    there = spikes_there(scope, "subtract", x)
    tau = scope["leak_of"](0.9)
    nodes = [scope["LeakyOfSnnTorch"](tau=tau, decay_input=False, v_reset=None) for _ in range(2)]
    ours = nn.Sequential(layer.Linear(64, 50), nodes[0], layer.Linear(50, 10), nodes[1])
    ours.load_state_dict(scope["theirs"].state_dict(), strict=False)
    functional.set_step_mode(ours, "m")
    assert torch.equal(ours(x), there)
    for reset in ("hard", "soft"):
        read = exchange.from_nir(scope["graph"], dt=1e-4, reset=reset, step_mode="m")
        assert 300 < (read(x) != there).sum() < 1500  # of 12,800
