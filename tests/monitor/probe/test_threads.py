"""A network that is run by threads at once, as the replicas of `nn.DataParallel` are."""

import threading
import time

import pytest
import torch

from monitor_cases import spiking_net
from spikescope import monitor, neuron
from spikescope.monitor.probe import single


def at_once(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Slow(dict):
    """Between a read and a write, another thread has the time to get in."""

    def __getitem__(self, name):
        held = super().__getitem__(name)
        time.sleep(0.01)
        return held


def test_no_count_is_lost():
    net = spiking_net()
    with monitor.SpikeCounter(net) as counter:
        counter._spikes, counter._steps = Slow(counter._spikes), Slow(counter._steps)
        at_once(*3 * [lambda: net[1](torch.ones(4, 2, 7))])
    assert counter["1"] == (3 * 4 * 2 * 7, 3 * 4 * 2 * 7)


class Hesitant(list):
    """What is told of the first layer comes late, when the second has told of itself if it can."""

    def append(self, moment):
        if moment.name == "1":
            time.sleep(0.05)
        super().append(moment)


def test_what_two_layers_give_at_once_is_not_mixed_up():
    net = spiking_net()
    with monitor.OutputMonitor(net, neuron.Neuron) as outputs:
        outputs._records.moments = Hesitant()
        at_once(lambda: net[1](torch.ones(4, 2, 7)), lambda: (time.sleep(0.01), net[3](torch.ones(4, 2, 3))))
        assert [y.shape for name in ("1", "3") for y in outputs[name]] == [(4, 2, 7), (4, 2, 3)]
        told = [moment.name for moment in outputs.records.moments]
    assert told == [{7: "1", 3: "3"}[y.shape[-1]] for y in outputs.records]


def test_what_listens_may_call_the_network_again():
    net, seen = spiking_net(), []
    with monitor.OutputMonitor(net, "1", lambda y: seen.append(len(y)) or (len(seen) < 2 and net[1](y[:1]))):
        worker = threading.Thread(target=net[1], args=(torch.ones(4, 2, 7),), daemon=True)
        worker.start()
        worker.join(20)
    assert not worker.is_alive()
    assert seen == [4, 1]


def test_a_function_that_waits_for_another_thread_in_the_network_is_told_in_words(monkeypatch):
    """As a backward pass on a GPU, whose hooks run on a thread of autograd."""
    monkeypatch.setattr(single, "_PATIENCE", 0.2)
    net, ends = spiking_net(), []

    def waits(y):
        inner = threading.Thread(target=net[3], args=(torch.ones(4, 2, 3),), daemon=True)
        inner.start()
        inner.join(20)
        ends.append(not inner.is_alive())
        return y

    with (
        pytest.warns(RuntimeWarning, match="seems to wait for this thread"),
        monitor.OutputMonitor(net, "1", waits),
        monitor.OutputMonitor(net, "3") as other,
    ):
        net[1](torch.ones(4, 2, 7))
    assert ends == [True]
    with pytest.raises(RuntimeError, match="Detach what the function works on"):
        other["3"]
