"""Records without a limit: one warning before they have used up the memory."""

import warnings

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import neuron
from spikescope.monitor import Monitor, OutputMonitor
from spikescope.recording import free_memory


def test_there_is_no_limit_unless_one_is_given():
    net = nn.Identity()
    with OutputMonitor(net) as monitor:
        assert monitor.records.budget.bytes is None
    assert Monitor(spiking_net())._records["s"].budget.bytes is None


def test_one_warning_when_records_pass_a_quarter_of_the_memory_that_was_free(monkeypatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda device: 4 * 1000 if device.type == "cpu" else None)
    net = nn.Identity()
    with OutputMonitor(net) as monitor:
        net(torch.zeros(250))  # 1000 bytes: not yet
        with pytest.warns(
            RuntimeWarning, match=r"over a quarter of the .* free on cpu .*PackedSpikes.*budget="
        ) as told:
            net(torch.zeros(250)), net(torch.zeros(250))
        assert len(told) == 1
        assert len(monitor.records) == 3
        monitor.clear_recorded_data()
        net(torch.zeros(1000))  # told already: a warning would be an error here


@pytest.mark.parametrize("budget", ["1 kB", None])
def test_a_budget_is_its_own_warning(monkeypatch, budget):
    monkeypatch.setattr(free_memory, "free_memory", lambda device: 40)
    net = spiking_net()
    clock = Monitor(net, budget=budget)
    clock.enable()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        net(sequence(T=2, N=1))
    assert bool(told) == (budget is None)


def test_where_warnings_are_errors_the_network_runs_on(monkeypatch, caplog):
    monkeypatch.setattr(free_memory, "free_memory", lambda device: 40)
    net = spiking_net()
    with OutputMonitor(net, neuron.IFNode) as monitor:
        net(sequence())
        assert len(monitor.records) == 1
    assert "over a quarter" in caplog.text


def test_what_is_free_is_a_number_or_not_known(monkeypatch, tmp_path):
    assert free_memory.free_memory(torch.device("cpu")) > 2**20
    assert free_memory.free_memory(torch.device("meta")) is None
    monkeypatch.setattr(free_memory, "_available", lambda: None)
    monkeypatch.setattr(free_memory, "_within_group", lambda: None)
    assert free_memory.free_memory(torch.device("cpu")) is None
    with OutputMonitor(nn.Identity()) as monitor:
        assert monitor.records == []
    monkeypatch.setattr(free_memory, "_within_group", lambda: 17)
    assert free_memory.free_memory(torch.device("cpu")) == 17
