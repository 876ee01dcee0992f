"""What a recording gives: mappings that say what there is."""

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from spikescope import monitor
from spikescope.monitor.results import Results
from spikescope.neuron import IFNode, LIAFNode


def recording(reducers):
    net = nn.Sequential(nn.Linear(3, 4), IFNode(step_mode="m"))
    with monitor.record(net, reducers) as held:
        net(torch.rand(5, 2, 3))
    return held


@pytest.mark.parametrize("of", [recording, lambda labels: Results({"1": dict.fromkeys(labels, 0.5)}, single=False)])
def test_a_result_that_is_not_there_is_refused_with_those_that_are(of):
    row = of(["silent share"])["1"]
    with pytest.raises(KeyError, match=r"no result 'silent'; there is 'silent share'. Did you mean silent share\?"):
        row["silent"]
    with pytest.raises(KeyError, match="no result 0; there is 'rate', 'silent share'"):
        of(["rate", "silent share"])["1"][0]
    assert row.get("silent") is None
    assert "silent" not in row


def test_a_module_that_gives_no_spikes_is_named_and_the_others_are_there():
    net = nn.Sequential(IFNode(step_mode="m"), LIAFNode(torch.tanh, True, step_mode="m"))
    with monitor.record(net, ["rate"]) as seen:
        net(torch.rand(5, 2, 3))
    with pytest.raises(ValueError, match=r"^'1': Rate counts spikes.* where= takes the modules"):
        seen.table()
    assert seen["0"]["rate"].shape == (3,)


def test_the_results_of_a_module_are_an_ordinary_dict():
    row = Results({"1": {"rate": 0.25}}, single=False)["1"]
    assert row == {"rate": 0.25}
    assert json.loads(json.dumps(row)) == {"rate": 0.25}
    for twin in (copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert twin == row
        assert type(twin) is type(row)


def test_results_of_nothing_say_what_to_do():
    held = Results({}, single=False)
    assert held.table() == "Nothing was seen: run the network inside the block."
    with pytest.raises(ValueError, match=r"^Nothing was seen: run the network inside the block\.$"):
        held.plot()


def test_changing_a_row_changes_no_result():
    held = Results({"1": {"rate": 0.25}}, single=False)
    held["1"]["rate"] = 1.0
    assert held["1"] == {"rate": 0.25}
