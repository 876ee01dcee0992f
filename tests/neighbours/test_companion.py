"""Where the state begins anew, without any other library: the module that has no past, and the companion of a loop."""

from __future__ import annotations

import gc

import pytest
import torch
from loops import T, data, names, network
from torch import nn

from spikescope import monitor
from spikescope.errors import ShapeError
from spikescope.neighbours import Classifier, Companion


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_classifier_begins_every_call_from_rest(step_mode, sequences):
    x, _ = data(6)
    x_seq = x.unsqueeze(0).expand(T, *x.shape)
    plain = network()
    wanted = plain(x_seq).mean(0)
    net = Classifier(network(step_mode), T=None if sequences else T)
    given = x_seq.transpose(0, 1) if sequences else x
    outputs = [net(given), net(given[:3]), net(given)]  # the second is a batch of another size
    assert torch.equal(outputs[0], wanted)
    assert torch.equal(outputs[0], outputs[2])
    torch.testing.assert_close(outputs[1], wanted[:3])


def test_two_calls_before_a_backward_pass_are_two_samples():
    x, y = data(8)
    net, other = Classifier(network(), T), Classifier(network(), T)
    loss = nn.functional.cross_entropy
    (loss(net(x), y) + loss(net(1 - x), y)).backward()
    loss(other(x), y).backward()
    loss(other(1 - x), y).backward()
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


class Odd(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, x):
        return self.scores


@pytest.mark.parametrize(
    ("build", "x", "error", "words"),
    [
        (lambda: Classifier(network(), 0), None, ValueError, "a whole number of at least 1, or None"),
        (lambda: Classifier(network(), True), None, ValueError, "but got True"),
        (lambda: Classifier("net"), None, TypeError, "takes an nn.Module"),
        (lambda: Classifier(network(), None), torch.rand(3, 8), ShapeError, r"takes sequences \[N, T, \*\]"),
        (lambda: Classifier(network()), [1], TypeError, "must be a torch.Tensor"),
        (lambda: Classifier(Odd(torch.rand(5, 4))), torch.rand(3, 8), ShapeError, r"\[N=3, 8\], but got"),
    ],
)
def test_what_does_not_fit_is_told(build, x, error, words):
    with pytest.raises(error, match=words):
        build()(x)


def test_a_companion_begins_batches_from_rest_and_counts_an_epoch():
    x, y = data()
    net = network()
    with Companion(net) as companion, monitor.record(net, ("rate", "silent share")) as recording:
        for inputs, labels in companion.batches(zip(x.split(36), y.split(36), strict=True)):
            scores = net(inputs.unsqueeze(0).expand(T, *inputs.shape)).mean(0)
            nn.functional.cross_entropy(scores, labels).backward()
        held = companion.epoch()
        assert {f"train_{name}" for name in held} == names("train")
        assert held["rate/1"] == pytest.approx(recording["1"]["rate"].mean().item())
        assert held["silent/1"] == recording["1"]["silent share"]
        assert "findings" in companion.findings.lower() or "layer" in companion.findings
        assert companion.epoch() == {}
    assert isinstance(net[1].v, float)


def test_a_batch_that_ends_in_an_error_leaves_nothing_behind():
    net = network()
    hooks = sum(len(module._forward_hooks) for module in net.modules())
    companion = Companion(net)
    batches = companion.batches([0])
    next(batches)
    with pytest.raises(RuntimeError, match="shapes"):
        net(torch.rand(T, 2, 9))
    batches.close()
    companion.close()
    assert sum(len(module._forward_hooks) for module in net.modules()) == hooks
    net(torch.rand(T, 2, 8))


def test_a_network_without_spikes_has_nothing_to_tell():
    net = nn.Linear(8, 4)
    with Companion(net) as companion:
        for x in companion.batches(data()[0].split(24)):
            net(x).sum().backward()
        assert companion.epoch() == {}
        assert companion.findings == ""


def test_health_looks_at_the_first_batch_of_an_epoch_alone():
    net, x = network(), data()[0]
    companion = Companion(net, rates=False)
    seen = []
    for training in (False, True, True):
        companion.begin(training)
        seen.append(companion._watch is not None)
        net(x.unsqueeze(0).expand(T, *x.shape)).sum().backward()
        companion.end()
    assert seen == [False, True, False]
    assert companion.epoch() == {}
    companion.begin()
    assert companion._watch is not None
    companion.close()


def test_steps_one_by_one_count_as_sequences_do():
    x = data()[0]
    whole, steps = network(), network("s")
    runs = [(whole, lambda: whole(x.unsqueeze(0).expand(T, *x.shape))), (steps, lambda: [steps(x) for _ in range(T)])]
    counted = []
    for net, run in runs:
        with Companion(net, health=False) as companion, torch.no_grad():
            for _ in companion.batches([0, 1]):
                run()
            counted.append(companion.epoch())
    assert counted[0] == counted[1]


def test_an_epoch_is_of_all_processes(monkeypatch):
    from torch import distributed

    from spikescope.neighbours import companion as module

    net, x = network(), data()[0]
    asked = []
    monkeypatch.setattr(module, "sync", lambda held: asked.append(held) or monitor.sync(held))

    def epoch():
        with Companion(nn.parallel.DistributedDataParallel(net), health=False) as companion, torch.no_grad():
            companion.begin()
            companion.net(x.unsqueeze(0).expand(T, *x.shape))
            return companion.epoch()

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        held = epoch()
        gc.collect()  # the wrapper goes before its processes: after them it may wait for their threads for ever
    finally:
        distributed.destroy_process_group()
    assert len(asked) == 1
    assert set(held) == {"rate/1", "silent/1"}


@pytest.mark.parametrize("name", ["lightning", "accelerate", "skorch"])
def test_without_its_package_a_callback_says_which(name, monkeypatch):
    import importlib
    import sys

    from spikescope.errors import MissingExtraError

    for held in [held for held in sys.modules if held == name or held.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, held)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"spikescope.neighbours.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'spikescope\[{name}\]'"):
        importlib.import_module(f"spikescope.neighbours.{name}")
