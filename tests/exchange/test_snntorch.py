"""Networks of snnTorch's real package: what the page on moving over says of them."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope import exchange, functional, layer

PAGE = (Path(__file__).parents[2] / "docs" / "moving" / "others.md").read_text()
T, N = 40, 32

pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph:DeprecationWarning")  # snnTorch calls it


def made(reset):
    """What the code of the page makes, with a reset of snnTorch's, an input, and what their network gives of it."""
    pytest.importorskip("snntorch", reason="a network of snnTorch's needs snntorch, nir and nirtorch")
    pytest.importorskip("nirtorch", reason="a network of snnTorch's needs snntorch, nir and nirtorch")
    torch.manual_seed(0)
    held = {}
    for code in re.findall(r"```(?:python)?\n((?:import|class|def leak).*?)```", PAGE, flags=re.DOTALL)[:3]:
        exec(code.replace('reset_mechanism="zero", init', f'reset_mechanism="{reset}", init'), held)
    x = 3 * torch.rand(T, N, 64)
    held["utils"].reset(held["theirs"])
    with torch.no_grad():
        there = torch.stack([held["theirs"](step) for step in x])
    assert there.sum() > 100
    return held, x, there


def test_a_network_with_the_reset_to_zero_goes_over_by_nir():
    held, x, there = made("zero")
    assert torch.equal(held["ours"](x), there)


def test_a_network_that_subtracts_needs_the_neuron_of_the_page():
    held, x, there = made("subtract")
    tau = held["leak_of"](0.9)
    nodes = [held["LeakyOfSnnTorch"](tau=tau, decay_input=False, v_reset=None) for _ in range(2)]
    ours = nn.Sequential(layer.Linear(64, 50), nodes[0], layer.Linear(50, 10), nodes[1])
    ours.load_state_dict(held["theirs"].state_dict(), strict=False)
    functional.set_step_mode(ours, "m")
    assert torch.equal(ours(x), there)
    for reset in ("hard", "soft"):
        read = exchange.from_nir(held["graph"], dt=1e-4, reset=reset, step_mode="m")
        assert 300 < (read(x) != there).sum() < 1500  # of 12,800
