"""Graphs of other programs whose layers feed back, against Euler's method written out in NumPy."""

import numpy as np
import pytest
import torch

nir = pytest.importorskip("nir")

from spikescope import functional  # noqa: E402
from spikescope.errors import ShapeError  # noqa: E402
from spikescope.exchange import from_nir  # noqa: E402

DT = 1e-3


def ends(size):
    return {"input": nir.Input({"input": np.array([size])}), "output": nir.Output({"output": np.array([size])})}


def recurrent(size, generator):
    """A subgraph of neurons, all different, that see their own last spikes."""
    tau, v_reset = generator.uniform(0.005, 0.02, size), generator.uniform(-0.2, 0.0, size)
    nodes = {
        "lif": nir.LIF(tau, np.full(size, 8.0), np.zeros(size), np.ones(size), v_reset),
        "w": nir.Affine(generator.normal(size=(size, size)), generator.uniform(0, 1, size)),
    }
    edges = [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
    return nir.NIRGraph(ends(size) | nodes, edges)


def two_layers():
    """Two recurrent layers, and a way back from the second to the first."""
    generator = np.random.default_rng(0)
    nodes = {
        "in": nir.Linear(generator.normal(size=(4, 3))),
        "first": recurrent(4, generator),
        "up": nir.Linear(generator.normal(size=(5, 4))),
        "second": recurrent(5, generator),
        "down": nir.Linear(generator.normal(size=(4, 5))),
    }
    edges = [("input", "in"), ("in", "first"), ("first", "up"), ("up", "second"), ("second", "output")]
    edges += [("second", "down"), ("down", "first")]
    whole = {"input": ends(3)["input"], "output": ends(5)["output"]}
    return nir.NIRGraph(whole | nodes, edges, metadata={"dt": DT})


class Euler:
    """One recurrent layer by its differential equation."""

    def __init__(self, graph, samples):
        self.lif, self.w = graph.nodes["lif"], graph.nodes["w"]
        # the network holds the parameters of its neurons as float32
        self.tau = (self.lif.tau / DT).astype(np.float32).astype(float)
        self.v_reset = self.lif.v_reset.astype(np.float32).astype(float)
        self.v = np.tile(self.v_reset, (samples, 1))
        self.spikes = np.zeros_like(self.v)

    def step(self, x):
        current = x + self.spikes @ self.w.weight.T + self.w.bias
        self.v = self.v + (self.lif.r * current - self.v) / self.tau
        self.spikes = (self.v >= 1).astype(float)
        self.v = np.where(self.spikes > 0, self.v_reset, self.v)
        return self.spikes


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_two_recurrent_layers_with_a_way_back(step_mode):
    graph = two_layers()
    net = from_nir(graph, step_mode=step_mode).double()
    x_seq = np.random.default_rng(1).uniform(0, 2, (40, 2, 3))
    given = torch.from_numpy(x_seq)
    with torch.no_grad():
        got = net(given) if step_mode == "m" else torch.stack([net(x) for x in given])
    first, second = Euler(graph.nodes["first"], 2), Euler(graph.nodes["second"], 2)
    up, down, into = (graph.nodes[name].weight.T for name in ("up", "down", "in"))
    want = np.stack([second.step(first.step(x @ into + second.spikes @ down) @ up) for x in x_seq])
    assert 0.2 < want.mean() < 0.8
    assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_a_batch_of_another_size_is_refused(before, after):
    net = from_nir(two_layers(), step_mode="m").double()
    net(torch.rand(3, before, 3, dtype=torch.float64))
    with pytest.raises(ShapeError, match=rf"NIRNetwork cannot go on .*\n.*N={after}.*\n.*N={before}.*\n.*reset_net"):
        net(torch.rand(3, after, 3, dtype=torch.float64))
    functional.reset_net(net)
    assert net(torch.rand(3, after, 3, dtype=torch.float64)).shape == (3, after, 5)
