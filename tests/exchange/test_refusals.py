"""What NIR cannot say, and what cannot be run here, is refused with the name of the node and advice."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

nir = pytest.importorskip("nir")

from spikescope import layer, neuron  # noqa: E402
from spikescope.errors import MissingExtraError, ShapeError  # noqa: E402
from spikescope.exchange import NIRNetwork, Scale, Threshold, from_nir, read_nir, to_nir, write_nir  # noqa: E402
from spikescope.files import OutputError  # noqa: E402


class Twice(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.node = neuron.IFNode()
        self.way = forward

    def forward(self, x):
        return self.way(self, x)


def row(*modules):
    return nn.Sequential(*modules)


@pytest.mark.parametrize(
    ("net", "shape", "text"),
    [
        (row(nn.Linear(3, 2), neuron.LIFNode(v_reset=None)), (3,), r"1 \(LIFNode\) .* reset is soft .*'metadata'"),
        (
            row(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
            (1, 5, 5),
            r"1 \(BatchNorm2d\). Fuse it first, with functional.fuse",
        ),
        (row(layer.Conv2d(1, 2, 3), layer.BatchNorm2d(2)), (1, 5, 5), r"1 \(BatchNorm2d\). Fuse it first"),
        (row(layer.MaxPool2d(2)), (1, 4, 4), r"0 \(MaxPool2d\). Train with an average pooling"),
        (
            row(layer.WSConv2d(1, 2, 3)),
            (1, 4, 4),
            r"0 \(WSConv2d\). There are nodes for AvgPool2d, CUBALIFNode, Conv1d",
        ),
        (row(neuron.KLIFNode()), (3,), r"0 \(KLIFNode\)"),
        (row(layer.Linear(3, 2)), (4, 3), r"0 \(Linear\) .*NIR takes vectors .* \[N, 4, 3\]"),
        (row(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), (1, 4, 4), "padding_mode='reflect'"),
        (row(nn.AvgPool2d(2, ceil_mode=True)), (1, 5, 5), "without ceil_mode"),
        (row(nn.AvgPool2d(2, divisor_override=3)), (1, 5, 5), "another divisor"),
        (row(nn.AvgPool2d(2, padding=1, count_include_pad=False)), (1, 5, 5), "Set count_include_pad=True"),
        (row(nn.Flatten(0)), (1, 5), r"flatten\(0, -1\) reaches the axis of the batch"),
        (row(nn.Flatten(-3)), (1, 5), r"flatten\(-3, -1\) reaches the axis of the batch"),
        (
            Twice(lambda self, x: x.flatten(-3, 1)),
            (4, 5),
            r"flatten\(-3, 1\) reaches the axis of the batch. Begin at 1",
        ),
        (row(neuron.CUBALIFNode(c_decay=1.0)), (3,), "c_decay of 1 is not a finite time constant"),
        (row(neuron.NonSpikingLIFNode(decode="max-mem")), (3,), "decode='max-mem'. Set it to 'last-mem'"),
        (row(layer.ElementWiseRecurrentContainer(neuron.IFNode(), torch.mul)), (3,), "NIR has sums alone: torch.add"),
        (Twice(lambda self, x: self.node(self.linear(self.node(x)))), (3,), "the name node is taken"),
        (Twice(lambda self, x: self.node(x) * 2), (3,), r"no node for .*mul.* can be a sum of two"),
        (Twice(lambda self, x: x + x), (3,), "two different outputs"),
        (Twice(lambda self, x: (x, self.node(x))), (3,), "one output, but Twice gives several"),
        (Twice(lambda self, x: x if x.sum() > 0 else -x), (3,), "cannot follow the forward of Twice: .* nn.Sequential"),
        (Twice(lambda self, x: torch.flatten(self.node(x))), (3,), r"reaches the axis of the batch. Begin at 1"),
    ],
)
def test_what_nir_cannot_say(net, shape, text):
    with pytest.raises(ValueError, match=text):
        to_nir(net, shape)


def test_a_shift_where_nir_has_no_constant_input():
    node = neuron.IFNode()
    node.x_scale, node.x_shift = torch.ones(3), torch.full((3,), 0.1)
    with pytest.raises(ValueError, match=r"no constant input to a IFNode. Fuse .* functional.fuse_convbn2d"):
        to_nir(node, (3,))
    node.x_shift = torch.zeros(3)
    to_nir(node, (3,))


@pytest.mark.parametrize("shape", [(), 5, (0,), (-1, 3), (2.5,), "ab"])
def test_shapes_that_are_none(shape):
    with pytest.raises(ShapeError, match="must be the sizes of one sample of one step"):
        to_nir(nn.Linear(3, 2), shape)


def test_a_shape_that_does_not_fit_names_the_module():
    with pytest.raises(ShapeError, match=r"2 \(Linear\) cannot take a sample of \[8\], to which input_shape leads"):
        to_nir(row(nn.Conv2d(1, 2, 2), layer.Flatten(), layer.Linear(7, 2)), (1, 3, 3))


def test_arguments_are_refused_in_words():
    net = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"to_nir takes an nn.Module, but got int"):
        to_nir(3, (3,))
    with pytest.raises(ValueError, match="soft_reset must be one of 'refuse', 'metadata'"):
        to_nir(net, (3,), soft_reset="subtract")
    for dt in (0, -1e-3, float("inf"), float("nan"), "1 ms", True, None):
        with pytest.raises(ValueError, match="dt, the seconds that one step stands for, must be above 0"):
            to_nir(net, (3,), dt=dt)
    graph = to_nir(net, (3,))
    with pytest.raises(ValueError, match="dt, the seconds"):
        from_nir(graph, dt=0)
    with pytest.raises(ValueError, match="reset must be one of 'hard', 'soft'"):
        from_nir(graph, reset="none")
    with pytest.raises(TypeError, match=r"from_nir takes a nir.NIRGraph or the path of a .nir file, but got Linear"):
        from_nir(net)
    with pytest.raises(TypeError, match=r"write_nir takes a nir.NIRGraph, but got Linear. Make one with to_nir"):
        write_nir("x.nir", net)


def lif(**changed):
    arrays = {"tau": 0.02, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | changed
    return nir.LIF(**{name: np.full(3, value) for name, value in arrays.items()})


def cuba(**changed):
    values = {"tau_syn": 0.02, "tau_mem": 0.02, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | changed
    return nir.CubaLIF(**{name: np.full(3, value) for name, value in values.items()})


def conv(**changed):
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.ones(2)} | changed
    return nir.Conv1d(None, np.ones((2, 3, 1)), **settings)


CUBA = nir.CubaLIF(*(np.full(3, value) for value in (0.02, 0.02, 1.0, 0.5, 1.0)))
LI = nir.LI(*(np.full(3, value) for value in (0.02, 1.0, 0.0)))


@pytest.mark.parametrize(
    ("node", "options", "text"),
    [
        (lif(tau=0.001), {}, r"node lif \(LIF\) cannot be run with dt=0.001: LIFNode: tau must be above 1.0"),
        (lif(v_reset=-0.1), {"reset": "soft"}, r"v_reset other than 0, which the soft reset has no use for"),
        (lif(tau=0.0), {}, r"node lif \(LIF\) .* its tau must be above 0 s, but is 0"),
        (lif(tau=[0.01, 0.0, 0.02]), {}, "its tau must be above 0 s, but is 0"),
        (lif(tau=math.nan), {}, "its tau must be above 0 s, but is nan"),
        (nir.LI(*(np.full(3, value) for value in (-0.01, 1.0, 0.0))), {}, "its tau must be above 0 s, but is -0.01"),
        (cuba(tau_syn=0.0), {}, "its tau_syn must be above 0 s"),
        (cuba(tau_mem=0.0), {}, "its tau_mem must be above 0 s"),
        (CUBA, {}, r"node cubalif \(CubaLIF\) .*v_leak is not 0"),
        (nir.CubaLI(*(np.full(3, 0.5) for _ in range(4))), {}, r"no module for the node cubali \(CubaLI\)"),
        (nir.Delay(np.array([0.001, 0.002, 0.001])), {}, "not a whole number of steps"),
        (nir.Delay(np.full(3, 0.0015)), {}, "not a whole number of steps"),
        (nir.Delay(np.full(3, math.inf)), {}, r"node delay \(Delay\) cannot be run"),
        (nir.Threshold(np.array([0.5, math.nan])), {}, "threshold must be a number or infinity"),
        (nir.Linear(np.ones((2, 3, 3))), {}, "its weight has 3 axes"),
        (nir.Affine(np.ones((2, 3)), np.ones(3)), {}, r"its bias is \[3\], and its weight \[2, 3\]"),
        (conv(bias=np.ones(1)), {}, r"its bias is \[1\], and its weight \[2, 3, 1\]"),
        (conv(stride=1.5), {}, "1.5 is not a whole number"),
        (conv(groups=0), {}, r"node conv1d \(Conv1d\) cannot be run .* groups must be"),
    ],
)
def test_nodes_that_cannot_be_run_here(node, options, text):
    with pytest.raises(ValueError, match=text):
        from_nir(nir.NIRGraph.from_list(node, type_check=False), dt=1e-3, **options)


def graph_of(nodes, edges, **metadata):
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    return nir.NIRGraph(ends | nodes, edges, metadata={"dt": 1e-3} | metadata, type_check=False)


def square():
    return nir.Linear(np.ones((3, 3), np.float32))


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (graph_of({}, [("input", "output")], dt=None), "does not say how long a step is; give dt in seconds"),
        (
            graph_of({"li": LI, "a": square()}, [("input", "li"), ("li", "a"), ("a", "output")]),
            "potential to a; here only",
        ),
        (
            graph_of({"a": square(), "b": square()}, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]),
            "the cycle that b -> a closes has no neuron",
        ),
        (
            graph_of({"a": nir.IF(np.full(3, 1e3), np.ones(3))}, [("input", "a"), ("a", "input"), ("a", "output")]),
            "the edge a -> input leads to the input, which is an end",
        ),
        (graph_of({"a": square()}, [("input", "a"), ("a", "output"), ("output", "a")]), "leads from the output"),
        (graph_of({"a": square()}, [("input", "output"), ("a", "a")]), "nothing leads from the input to a"),
        (graph_of({"a.b": square(), "a_b": square()}, [("input", "a.b"), ("a.b", "a_b")]), "same name up to dots"),
        (
            graph_of({"second": nir.Input({"input": np.array([3])})}, [("input", "output")]),
            "takes a graph with one input, but this one has 2",
        ),
        (
            nir.NIRGraph(
                {
                    "a": nir.Input({"input": np.array([3])}),
                    "input": square(),
                    "b": nir.Output({"output": np.array([3])}),
                },
                [("a", "input"), ("input", "b")],
                metadata={"dt": 1e-3},
            ),
            "the node input is not the input of this graph, which is a; rename it",
        ),
    ],
)
def test_graphs_that_cannot_be_run_here(graph, text):
    with pytest.raises(ValueError, match=text):
        from_nir(graph)


def test_a_cycle_needs_the_shape_of_what_waits():
    edges = [("input", "node"), ("node", "node"), ("node", "output")]
    with pytest.raises(ValueError, match="the shape of node, whose output waits for node, is not given"):
        NIRNetwork({"node": neuron.IFNode()}, edges)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_nir(tmp_path / "absent.nir")
    (tmp_path / "text.nir").write_text("no graph")
    with pytest.raises(ValueError, match=r"text.nir is not a NIR file, or is damaged"):
        read_nir(tmp_path / "text.nir")
    with pytest.raises(OutputError, match="could not be written: no such file or directory"):
        write_nir(tmp_path / "absent" / "net.nir", to_nir(nn.Linear(3, 2), (3,)))


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: to_nir(nn.Linear(3, 2), (3,)), lambda: from_nir("net.nir"), lambda: read_nir("net.nir")):
        with pytest.raises(MissingExtraError, match=r"NIR graphs and files need the package nir.*'spikescope\[nir\]'"):
            call()


def test_an_edge_to_a_node_that_is_not_there_is_refused_in_words():
    graph = to_nir(row(nn.Linear(3, 2)), (3,))
    graph.edges.append((graph.edges[0][0], "ghost"))
    with pytest.raises(ValueError, match="names the node 'ghost', which is not there; there is"):
        from_nir(graph)


def test_a_sum_of_what_has_not_one_shape_is_refused_and_not_spread():
    one, four = (nir.Linear(np.ones((size, 3), np.float32)) for size in (1, 4))
    nodes = {"one": one, "four": four, "if": nir.IF(np.full(4, 1e3), np.ones(4))}
    edges = [("input", "one"), ("input", "four"), ("one", "if"), ("four", "if"), ("if", "output")]
    with pytest.raises(ShapeError, match=r"if takes the sum .* but one gives \[2, 1\] and four \[2, 4\]"):
        from_nir(graph_of(nodes, edges))(torch.ones(2, 3))


@pytest.mark.parametrize("module", [Scale(torch.ones(4)), Threshold(torch.ones(4))])
def test_what_is_pointwise_does_not_spread_its_input(module):
    assert module(torch.ones(2, 4)).shape == (2, 4)
    with pytest.raises(ShapeError, match=r"from \[2, 1\] it would make \[2, 4\]"):
        module(torch.ones(2, 1))
