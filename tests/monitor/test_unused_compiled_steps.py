"""Compiled code where the loss does not see every step: each gradient is of its own step, as in eager code."""

import pytest
import torch
from test_unused_steps import SIGNALS, T, given, loss, network

from spikescope import functional, monitor, neuron, open_recording
from spikescope.internals import hooks_read_their_call
from spikescope.monitor import record

pytestmark = [
    pytest.mark.skipif(not hooks_read_their_call(), reason="this PyTorch's compiler moves the hooks of tensors"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture(autouse=True)
def compiled_anew():
    torch.compiler.reset()


def each(net):
    return lambda x: [net(step) for step in x]


def compiled(function):
    return torch.compile(function, backend="aot_eager", fullgraph=True)


WAYS = {
    "each step": lambda net, step, steps, x: [step(one) for one in x],
    "all steps": lambda net, step, steps, x: steps(x),
    "two and two": lambda net, step, steps, x: [*steps(x[:2]), *steps(x[2:])],
    "one eager, three compiled": lambda net, step, steps, x: [net(x[0]), *map(step, x[1:])],
    "by turns": lambda net, step, steps, x: [step(x[0]), net(x[1]), step(x[2]), net(x[3])],
    "inductor": None,
}


def runner(way, net):
    """How the steps of a network are run."""
    if way == "eager":
        return each(net)
    if way == "inductor":
        return each(torch.compile(net, fullgraph=True))
    step, steps = compiled(net), compiled(each(net))
    return lambda x: WAYS[way](net, step, steps, x)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("way", WAYS)
def test_compiled_steps_have_their_gradients_whatever_the_loss_sees(way, signal, tmp_path):
    kept = {}
    for name in ("eager", way):
        net = network("s")
        with (
            record(net, ["raw", "gradient norm"], neuron.Neuron, signal=signal) as held,
            record(net, signal, neuron.Neuron, to=tmp_path / str(len(kept))),
        ):
            run = runner(name, net)
            for seen in ([T - 1], [0], [1, 2], [0, 3]):
                loss(run(given()), seen).backward()
                functional.reset_net(net)
        disk = open_recording(tmp_path / str(len(kept)))
        kept[name] = held, [[row[signal].read(of.index) for of in row[signal].runs] for row in disk.values()]
    (eager, wanted), (found, there) = kept.values()
    for layer in ("1", "3"):
        torch.testing.assert_close(found[layer]["raw"], eager[layer]["raw"])
        torch.testing.assert_close(found[layer]["gradient norm"], eager[layer]["gradient norm"])
    torch.testing.assert_close(there, wanted)
    assert all(len(runs) == 4 for runs in there)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("warm", [1, 2])
def test_compiled_steps_without_a_graph_have_no_gradient_and_keep_their_place(warm):
    shown = []
    for compiling in (False, True):
        net = network("s")
        run = compiled(net) if compiling else net
        with record(net, "raw", "3", signal="grad_output") as held:
            for seen in (0, -1):
                x = given()
                with torch.no_grad():
                    for step in x[:warm]:
                        run(step)
                [run(step) for step in x[warm:]][seen].sum().backward()
                functional.reset_net(net)
        shown.append(held["3"])
    torch.testing.assert_close(*shown)


def test_a_recorder_that_is_switched_off_in_between_goes_on_counting():
    net = network("s")
    run = compiled(net)
    with monitor.GradOutputMonitor(net, neuron.Neuron) as watch:
        for on in (True, False, True):
            watch.enable() if on else watch.disable()
            (run(given()[0]).sum() * 0 + run(given()[1]).sum() * 3).backward()
            functional.reset_net(net)
        assert len(watch.records) == 2 * 2 * 2  # layers, steps, runs
