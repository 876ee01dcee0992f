"""A network that went to NIR and came back gives the same, step by step; and NIR's own equations give it too."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

nir = pytest.importorskip("nir")

from nir_cases import CASES, made  # noqa: E402

from spikescope import functional, neuron  # noqa: E402
from spikescope.base import StepModule  # noqa: E402
from spikescope.exchange import NIRNetwork, Threshold, from_nir, read_nir, to_nir, write_nir  # noqa: E402
from spikescope.surrogate import ATan  # noqa: E402


def in_mode(net, step_mode):
    for module in net.modules():
        if isinstance(module, StepModule) and step_mode in module.supported_step_mode():
            module.step_mode = step_mode


def stepped(net, x_seq, step_mode):
    """The outputs `[T, N, *]`, or the last alone where the network reads out a sequence."""
    functional.reset_net(net)
    if isinstance(net, NIRNetwork):
        net.step_mode = step_mode
    with torch.no_grad():
        out = net(x_seq) if step_mode == "m" else torch.stack([net(x) for x in x_seq])
    functional.reset_net(net)
    return out


def check_same(net, back, shape):
    """Spikes must be equal; numbers to rounding: PyTorch multiplies a whole sequence in other blocks than a step."""
    torch.manual_seed(0)
    x_seq = torch.randn(12, 4, *shape) * 2
    reference = copy.deepcopy(net)
    in_time = "m" if any("Container" in type(module).__name__ for module in net.modules()) else "s"
    (functional.set_step_mode if in_time == "m" else in_mode)(reference, in_time)
    wanted = stepped(reference, x_seq, in_time)
    assert wanted.unique().numel() > 1  # something spikes, and not all
    closeness = {"rtol": 0, "atol": 0} if set(wanted.unique().tolist()) <= {0.0, 1.0} else {"rtol": 1e-5, "atol": 1e-5}
    reads_out = any(isinstance(module, neuron.ReadOut) for module in net.modules())  # a sequence: its last step alone
    for step_mode in ("s", "m"):
        got = stepped(back, x_seq, step_mode)
        if reads_out and step_mode != in_time:
            got, wanted = (held[-1] if mode == "s" else held for held, mode in ((got, step_mode), (wanted, in_time)))
        torch.testing.assert_close(got, wanted, **closeness)


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.37])
@pytest.mark.parametrize("name", CASES)
def test_the_same_spikes_after_a_round_trip(name, dt, tmp_path):
    net, shape = made(name)
    graph = to_nir(net, shape, dt=dt, soft_reset="metadata")
    check_same(net, from_nir(graph), shape)
    if dt == 1e-4:
        write_nir(tmp_path / "net.nir", graph)
        check_same(net, from_nir(tmp_path / "net.nir"), shape)


@pytest.mark.parametrize("name", CASES)
def test_a_second_round_trip_changes_nothing(name):
    net, shape = made(name)
    once = from_nir(to_nir(net, shape, soft_reset="metadata"))
    if once.waiting:
        with pytest.raises(ValueError, match="a NIRNetwork with a cycle was read from a graph"):
            to_nir(once, shape)
        return
    twice = from_nir(to_nir(once, shape, soft_reset="metadata"))
    check_same(once, twice, shape)


def test_the_network_that_is_exported_stays_as_it_is():
    net, shape = made("lif")
    net.train()
    functional.set_step_mode(net, "m")
    net(torch.randn(3, 2, *shape))
    v, weight = net[1].v, net[0].weight
    to_nir(net, shape)
    assert net[1].v is v
    assert net[0].weight is weight
    assert net.training
    assert net[1].step_mode == "m"


def euler(node, current, dt):
    """NIR's differential equations by the formulas of its documentation, one neuron per column, in float64."""
    held = {
        key: np.asarray(getattr(node, key), np.float64)
        for key in vars(node)
        if key != "metadata" and isinstance(getattr(node, key), np.ndarray)
    }
    v = np.broadcast_to(held.get("v_reset", 0.0), current.shape[1:]).copy()
    synaptic = np.zeros_like(v)
    out = []
    for x in current.astype(np.float64):
        kind = type(node).__name__
        if kind == "IF":
            v = v + dt * held["r"] * x
        elif kind == "LIF":
            v = v + dt / held["tau"] * (held["v_leak"] - v + held["r"] * x)
        else:
            synaptic = synaptic + dt / held["tau_syn"] * (held["w_in"] * x - synaptic)
            v = v + dt / held["tau_mem"] * (held["v_leak"] - v + held["r"] * synaptic)
        spike = v > held["v_threshold"]
        v = np.where(spike, held["v_reset"], v)
        out.append(spike)
    return np.stack(out).astype(np.float32)


def fed(node):
    """A neuron with a normalisation fused into it."""
    node.x_scale, node.x_shift = torch.linspace(0.5, 1.5, 7), torch.linspace(-0.2, 0.3, 7)
    return node


NODES = {
    "fused": fed(neuron.LIFNode(tau=2.7, v_threshold=0.31, v_reset=-0.2)),
    "fused without decay": fed(neuron.LIFNode(tau=2.7, decay_input=False, v_threshold=0.91, v_reset=0.07)),
    "if": neuron.IFNode(v_threshold=0.73, v_reset=0.11),
    "lif": neuron.LIFNode(tau=2.7, v_threshold=0.31, v_reset=-0.2),
    "lif without decay": neuron.LIFNode(tau=2.7, decay_input=False, v_threshold=0.91, v_reset=0.07),
    "parametric": neuron.ParametricLIFNode(init_tau=1.9, v_threshold=0.3, v_reset=-0.1),
    "current based": neuron.CUBALIFNode(0.37, 0.81, v_threshold=0.93, v_reset=0.05),
}


@pytest.mark.parametrize("dt", [1e-4, 0.23])
@pytest.mark.parametrize("name", NODES)
def test_the_node_of_nir_integrated_by_euler_gives_our_spikes(name, dt):
    torch.manual_seed(1)
    x_seq = torch.randn(40, 3, 7)
    node = copy.deepcopy(NODES[name])
    node.step_mode = "m"
    graph = to_nir(node, (7,), dt=dt)
    spikes = euler(graph.nodes["net"], x_seq.numpy(), dt)
    assert 20 < spikes.sum() < 800
    assert np.array_equal(node(x_seq).detach().numpy(), spikes)
    for written in graph.nodes.values():
        written.metadata = {}
    assert np.array_equal(from_nir(graph, step_mode="m")(x_seq).detach().numpy(), spikes)


rng = np.random.default_rng(0)


def array(low, high, shape=(7,)):
    return rng.uniform(low, high, shape).astype(np.float32)


FOREIGN = {
    "if": nir.IF(r=array(3, 30), v_threshold=array(0.5, 1)),
    "one r for all": nir.IF(r=np.full(7, 20.0), v_threshold=np.full(7, 0.9)),
    "lif": nir.LIF(tau=array(0.2, 0.9), r=array(0.5, 2), v_leak=array(-0.2, 0.2), v_threshold=array(0.3, 0.5)),
    "lif with a reset": nir.LIF(
        tau=np.full(7, 0.4),
        r=np.full(7, 1.0),
        v_leak=np.full(7, 0.1),
        v_threshold=np.full(7, 0.4),
        v_reset=np.full(7, -0.3),
    ),
    "input not divided by tau": nir.LIF(
        tau=np.full(7, 0.4, np.float32), r=np.full(7, 4, np.float32), v_leak=np.zeros(7), v_threshold=np.full(7, 1.3)
    ),
    "current based": nir.CubaLIF(
        tau_syn=array(0.2, 0.5),
        tau_mem=array(0.2, 0.5),
        r=array(1, 3),
        v_leak=np.zeros(7),
        v_threshold=array(0.4, 0.6),
        w_in=array(1, 2),
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_nodes_that_other_programs_wrote_are_taken_by_their_equations(name):
    node, dt = FOREIGN[name], 0.1
    graph = nir.NIRGraph.from_list(node)
    back = from_nir(graph, dt=dt, step_mode="m")
    torch.manual_seed(1)
    x_seq = torch.randn(40, 3, 7)
    spikes = euler(node, x_seq.numpy(), dt)
    assert 20 < spikes.sum() < 800
    assert np.array_equal(back(x_seq).numpy(), spikes)


def test_uniform_arrays_become_numbers_in_steps():
    graph = nir.NIRGraph.from_list(
        nir.LIF(
            tau=np.full(3, 3e-4, np.float32), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.full(3, 0.1, np.float32)
        )
    )
    (node,) = from_nir(graph, dt=1e-4).nodes.values()
    assert (node.tau, node.v_threshold, node.v_reset, node.decay_input) == (3.0, 0.1, 0.0, True)
    assert node.x_scale is None
    (node,) = from_nir(graph, dt=1e-4, reset="soft", surrogate_function=ATan).nodes.values()
    assert node.v_reset is None
    assert isinstance(node.surrogate_function, ATan)


def test_a_threshold_gets_the_surrogate_and_its_number():
    (module,) = from_nir(to_nir(Threshold(0.3), (2,)), surrogate_function=ATan).nodes.values()
    assert isinstance(module.surrogate_function, ATan)
    assert module.threshold == 0.3


def test_arrays_that_were_changed_outweigh_the_metadata():
    graph = to_nir(neuron.LIFNode(tau=2.7, v_threshold=0.31), (2,))
    graph.nodes["net"].v_threshold[:] = 0.5
    (node,) = from_nir(graph).nodes.values()
    assert (node.tau, node.v_threshold) == (2.7, 0.5)


@pytest.mark.parametrize("name", CASES)
def test_neurons_reset_as_they_were_written_whatever_is_changed_and_read_at(name):
    net, shape = made(name)
    for module in net.modules():
        if hasattr(module, "detach_reset"):
            module.detach_reset = True
    graph = to_nir(net, shape, soft_reset="metadata")
    kept = resets(net)
    assert resets(from_nir(graph, dt=0.5e-4)) == kept
    for node in graph.nodes.values():
        if hasattr(node, "v_threshold"):
            node.v_threshold = node.v_threshold * 2
    for reset in ("hard", "soft"):
        assert resets(from_nir(graph, reset=reset)) == kept


def resets(net):
    return sorted(
        (module.v_reset is None, module.detach_reset) for module in net.modules() if hasattr(module, "v_reset")
    )


def test_whole_numbers_as_weights_are_taken_as_they_are():
    graph = nir.NIRGraph.from_list(nir.Affine(np.array([[1, -2, 3]]), np.array([4])))
    assert from_nir(graph, dt=1.0)(torch.tensor([[1.0, 1.0, 0.5]])).tolist() == [[4.5]]


def test_what_a_graph_holds():
    net, shape = made("convolutions")
    graph = to_nir(net, shape, dt=1e-3)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert " ".join(kinds) == "Input Conv2d IF Conv2d AvgPool2d LIF SumPool2d Flatten Affine LIF Output"
    assert graph.edges == list(zip(list(graph.nodes)[:-1], list(graph.nodes)[1:], strict=True))
    assert graph.nodes["1"].output_type["output"].tolist() == [4, 7, 6]
    assert graph.nodes["1"].r.shape == (4, 7, 6)
    assert graph.metadata["dt"] == 1e-3
    np.testing.assert_allclose(graph.nodes["4"].tau, 0.002)
    recurrent, shape = made("recurrent")
    graph = to_nir(recurrent, shape)
    assert ("1.sub_module", "1.feedback") in graph.edges
    assert ("1.feedback", "1.sub_module") in graph.edges


def test_a_subgraph_is_run_in_its_place():
    net, shape = made("lif")
    inner = to_nir(net, shape)
    graph = nir.NIRGraph(
        {"input": nir.Input({"input": np.array([5])}), "block": inner, "output": nir.Output({"output": np.array([3])})},
        [("input", "block"), ("block", "output")],
        metadata={"dt": 1e-4},
    )
    check_same(net, from_nir(graph), shape)


def test_what_was_read_learns_and_is_copied_in_the_middle_of_a_sequence():
    net, shape = made("recurrent")
    back = from_nir(to_nir(net, shape), surrogate_function=ATan, step_mode="m")
    back(torch.randn(6, 4, *shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in back.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in back.parameters())
    x = torch.randn(1, 4, *shape)
    for copied in (copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))):
        twin = copied(back)
        assert torch.equal(twin(x), back(x))
    assert back.fed_back is not None
    functional.reset_net(back)
    assert back.fed_back is None
    functional.set_step_mode(back, "s")
    assert back.nodes["1_sub_module"].step_mode == "s"
    keys = set(back.state_dict())
    assert {"nodes.0.weight", "nodes.1_feedback.weight", "nodes.2.bias"} <= keys


def test_the_step_mode_reaches_the_modules_inside_only_without_a_cycle():
    straight, cyclic = (from_nir(to_nir(*made(name))) for name in ("lif", "recurrent"))
    for net, inside in ((straight, "m"), (cyclic, "s")):
        functional.set_step_mode(net, "m")
        assert {module.step_mode for module in net.nodes.values()} == {inside}
        assert net.step_mode == "m"
    assert "one step later: 1.sub_module -> 1.feedback" in repr(cyclic)
    with pytest.raises(ValueError, match="step_mode must be one of 's', 'm'"):
        straight.step_mode = "x"


def test_the_file_is_one_that_the_package_reads(tmp_path):
    net, shape = made("lif")
    write_nir(tmp_path / "net.nir", to_nir(net, shape))
    graph = nir.read(tmp_path / "net.nir")
    assert type(graph.nodes["1"]) is nir.LIF
    assert list(tmp_path.iterdir()) == [tmp_path / "net.nir"]
    assert sorted(read_nir(tmp_path / "net.nir").nodes) == ["0", "1", "input", "output"]


@pytest.mark.parametrize("name", ["a/b", "/", "日本", " ", "x" * 300, "..", "<b>", "a\nb", "%s"])
def test_what_is_written_under_any_name_is_read_again_or_refused(name, tmp_path):
    inner = nir.NIRGraph.from_list(nir.Scale(np.ones(3)))
    for kind in (nir.Scale(np.ones(3)), inner):
        graph = nir.NIRGraph(
            {"input": nir.Input(np.array([3])), name: kind, "output": nir.Output(np.array([3]))},
            [("input", name), (name, "output")],
        )
        for whole in (graph, nir.NIRGraph({"inside": graph}, [], type_check=False)):
            if "/" in name:
                with pytest.raises(ValueError, match=f"the node '{name}' has a slash in its name"):
                    write_nir(tmp_path / "net.nir", whole)
                continue
            write_nir(tmp_path / "net.nir", whole)
            found = read_nir(tmp_path / "net.nir").nodes
            assert name in (found["inside"].nodes if "inside" in found else found)


def test_half_precision_and_double_weights_keep_their_precision():
    for dtype in (torch.float16, torch.float64):
        graph = to_nir(nn.Sequential(nn.Linear(3, 2), neuron.IFNode()).to(dtype), (3,))
        assert from_nir(graph).nodes["0"].weight.dtype == dtype
    graph = to_nir(nn.Linear(3, 2).bfloat16(), (3,))
    assert from_nir(graph).nodes["net"].weight.dtype == torch.float32


@pytest.mark.slow(keep=2)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("name", ["own forward", "recurrent"])
def test_what_was_read_compiles_as_one_graph(name):
    net, shape = made(name)
    back = from_nir(to_nir(net, shape), step_mode="m")
    torch.manual_seed(0)
    x_seq = torch.randn(3, 2, *shape)
    wanted = stepped(back, x_seq, "m")
    compiled = torch.compile(back, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x_seq), wanted)
    functional.reset_net(back)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x_seq), wanted)


def written_in_steps(kind, r, **more):
    """A graph of a program that counts time in steps, without metadata of ours."""
    given = (
        {"r": np.full(2, r), "v_threshold": np.ones(2), "v_reset": np.zeros(2)}
        if kind == "IF"
        else {"r": np.full(2, r)}
    )
    return nir.NIRGraph.from_list(getattr(nir, kind)(**given | more))


@pytest.mark.parametrize("kind", ["IF", "I"])
def test_an_integrator_that_hardly_sees_its_input_is_said(kind):
    graph = written_in_steps(kind, 1.0)
    (name,) = (name for name, node in graph.nodes.items() if type(node).__name__ == kind)
    with pytest.warns(
        UserWarning, match=rf"node {name} \({kind}\).* at most 0.001, .* takes 1000 steps .*\.r /= 0.001"
    ):
        net = from_nir(graph, dt=1e-3, step_mode="m")
    assert net(torch.ones(5, 1, 2)).max() < 0.1
    graph.nodes[name].r = graph.nodes[name].r / 1e-3  # what the warning says
    assert from_nir(graph, dt=1e-3, step_mode="m")(torch.ones(5, 1, 2)).min() >= 1.0
    from_nir(written_in_steps(kind, 0.0), dt=1e-3)  # nothing to say: it is meant to see nothing
    from_nir(written_in_steps(kind, 1.0), dt=1.0)
    from_nir(to_nir(neuron.IFNode(v_threshold=500.0), (2,)))  # what we wrote is meant as it is
