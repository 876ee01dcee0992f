import copy
import io
import pickle

import pytest
import torch
from torch import nn

from spikescope.monitor import Budget, BudgetError, OutputMonitor
from spikescope.recording.budget import nbytes
from spikescope.spikes import PackedSpikes

STEP = 40  # bytes of one record


def recorded(budget, calls=50):
    net = nn.Identity()
    monitor = OutputMonitor(net, function_on_output=lambda x: x + 0, budget=budget)
    for i in range(calls):
        net(torch.full((10,), float(i)))
    return monitor


def test_an_error_stops_recording_and_is_raised_by_reading():
    with pytest.warns(RuntimeWarning, match=r"hold 80 bytes and 40 more would be over the budget of 100"):
        monitor = recorded(Budget(100))
    with pytest.raises(BudgetError, match="larger budget"):
        _ = monitor.records
    assert [int(held[0]) for held in monitor.incomplete_records()] == [0, 1]


def test_drop_oldest_keeps_the_last():
    monitor = recorded(Budget(3 * STEP + 7, "drop oldest"))
    assert [int(held[0]) for held in monitor.records] == [47, 48, 49]
    assert [moment.call for moment in monitor.moments] == [47, 48, 49]
    assert (monitor.records.nbytes, monitor.records.dropped) == (3 * STEP, 47)


def test_every_nth_covers_the_run_evenly():
    monitor = recorded(Budget(8 * STEP, "every n-th"))
    assert [int(held[0]) for held in monitor.records] == [0, 8, 16, 24, 32, 40, 48]
    assert monitor.records.dropped == 43


def test_every_nth_of_several_modules_of_many_calls_stays_within_the_budget():
    net = nn.Sequential(nn.Identity(), nn.Sigmoid())
    monitor = OutputMonitor(net, (nn.Identity, nn.Sigmoid), budget=Budget(3 * STEP + 1, "every n-th"))
    for i in range(600):
        net(torch.full((10,), float(i)))
        assert monitor.records.nbytes <= 3 * STEP
    calls = [(moment.name, moment.call) for moment in monitor.moments]
    assert calls[:2] == [("0", 0), ("1", 0)]
    assert monitor.records.dropped == 1200 - len(monitor)


def test_every_nth_cannot_thin_out_the_first_calls():
    net = nn.Sequential(*[nn.Identity() for _ in range(4)])
    monitor = OutputMonitor(net, nn.Identity, budget=Budget(3 * STEP + 1, "every n-th"))
    with pytest.warns(RuntimeWarning, match="output of '3' is off: BudgetError: The records hold 120 bytes"):
        net(torch.zeros(10))
    assert [moment.name for moment in monitor.moments] == ["0", "1", "2"]


def test_unlimited_is_asked_for_by_name():
    assert len(recorded("unlimited").records) == 50
    assert Budget("unlimited").bytes is None


@pytest.mark.parametrize(("text", "number"), [("64 MB", 2**26), ("1.5kB", 1536), ("2 G", 2**31), (17, 17), ("9", 9)])
def test_limits(text, number):
    assert Budget(text).bytes == number


@pytest.mark.parametrize("limit", [0, -3, "much", "5 PB", True])
def test_limits_that_are_none_are_refused(limit):
    with pytest.raises(ValueError, match="the limit must be"):
        Budget(limit)


def test_policies_that_are_none_are_refused():
    with pytest.raises(ValueError, match="policy must be one of 'error', 'drop oldest', 'every n-th', 'spill'"):
        Budget(5, "forget")
    with pytest.raises(ValueError, match="unlimited budget leaves nothing to spill"):
        Budget("unlimited", "spill")
    with pytest.raises(ValueError, match="only the policy 'spill' has a folder, but got 'error'"):
        Budget(5, folder="somewhere")


def test_a_record_larger_than_the_budget_is_an_error_in_every_policy():
    for policy in ("drop oldest", "every n-th"):
        with pytest.warns(RuntimeWarning, match="over the budget"):
            recorded(Budget(STEP - 1, policy), calls=1)


def test_sizes():
    assert nbytes([torch.zeros(3, dtype=torch.float16), None]) == 70
    assert nbytes(PackedSpikes.from_dense(torch.zeros(3, 1, 17))) == 3 * 3


def through_a_file(records):
    file = io.BytesIO()
    torch.save(records, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = [through_a_file, copy.copy, copy.deepcopy, lambda records: pickle.loads(pickle.dumps(records))]


@pytest.mark.parametrize("policy", ["error", "spill"])
@pytest.mark.parametrize("copied", COPIES, ids=["torch.save", "copy", "deepcopy", "pickle"])
def test_copies_of_records_are_plain_lists_that_hold_all_values(policy, copied):
    monitor = recorded(Budget(10 * STEP if policy == "error" else 3 * STEP, policy), calls=7)
    held = copied(monitor.records)
    monitor.records.clear()
    del monitor  # and the temporary folder with it
    assert type(held) is list
    assert [int(value[0]) for value in held] == list(range(7))
    held.append(None)


@pytest.mark.parametrize("policy", ["error", "spill"])
def test_copies_of_compressed_records_come_back_whole(policy):
    pytest.importorskip("zstandard")
    net, x = nn.Identity(), (torch.arange(462).view(6, 7, 11) % 3 == 0).float()
    budget = Budget(1 if policy == "spill" else "1 kB", policy)
    with OutputMonitor(net, function_on_output=lambda y: PackedSpikes.from_dense(y).compress(), budget=budget) as held:
        net(x), net(1 - x)
    first, second = through_a_file(held.records)
    assert torch.equal(first.decompress().dense(), x)
    assert torch.equal(second.decompress().dense(), 1 - x)
