"""Records over the budget go to disk and come back as they were, whatever happens to process and disk."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import neuron
from spikescope.files import OutputError
from spikescope.monitor import (
    AttributeMonitor,
    Budget,
    Moment,
    Monitor,
    OutputMonitor,
    SpikeCounter,
    open_records,
    record,
)
from spikescope.recording.disk import spill as spill_module
from spikescope.recording.disk.segment import Chunk, check_record, write_chunk
from spikescope.spikes import PackedSpikes

STEP = 40  # bytes of one record


def recorded(budget, calls=50, function=lambda x: x + 0):
    net = nn.Identity()
    monitor = OutputMonitor(net, function_on_output=function, budget=budget)
    for i in range(calls):
        net(torch.full((10,), float(i)))
        assert monitor.incomplete_records().nbytes <= budget.bytes
    return monitor


def numbers(records):
    return [int(held[0]) for held in records]


def test_records_read_as_if_they_were_in_memory():
    monitor = recorded(Budget(3 * STEP + 7, "spill"))
    records = monitor.records
    assert (len(monitor), len(records), records.on_disk, records.nbytes) == (50, 50, 48, 2 * STEP)
    assert numbers(records) == numbers(monitor[:]) == numbers(monitor[""]) == list(range(50))
    assert numbers(monitor[-3::-20]) == [47, 27, 7]
    assert (int(monitor[0][0]), int(monitor[-1][0]), int(monitor[-50][0])) == (0, 49, 0)
    assert [moment.call for moment in monitor.moments] == list(range(50))
    assert torch.equal(records[4], torch.full((10,), 4.0))
    assert numbers(reversed(records)) == list(range(49, -1, -1))
    for outside in (50, -51):
        with pytest.raises(IndexError):
            _ = records[outside]


def test_several_modules_and_time():
    def run(budget):
        torch.manual_seed(0)
        net = nn.Sequential(neuron.IFNode(), neuron.LIFNode())
        with (
            OutputMonitor(net, neuron.IFNode, budget=budget) as one,
            AttributeMonitor("v", False, net, neuron.LIFNode, budget=budget) as two,
        ):
            for _ in range(3):
                for node in net:
                    node.reset()
                for _ in range(5):
                    net(torch.rand(2, 3))
        return one, two

    for spilled, kept in zip(run(Budget(60, "spill")), run("unlimited"), strict=True):
        assert spilled.records.on_disk > 10
        assert spilled.moments == kept.moments
        for name in kept.monitored_layers:
            assert all(torch.equal(a, b) for a, b in zip(spilled[name], kept[name], strict=True))


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


SPIKES = PackedSpikes.from_dense((torch.arange(66) % 3 == 0).float().view(3, 2, 11), order="time")
VALUES = [
    torch.tensor(3.5),
    torch.zeros(0, 4),
    torch.arange(12.0).view(3, 4).T[1:],
    torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last),
    torch.tensor([1.0, float("nan"), -float("inf")], dtype=torch.bfloat16),
    torch.rand(5, dtype=torch.float64).half(),
    torch.tensor([True, False, True]),
    torch.tensor([1 + 2j, 3 - 4j]).conj(),
    torch.ones(1).expand(5, 3),
    np.arange(6, dtype=">i4").reshape(2, 3)[:, ::2],
    np.zeros((0, 2)),
    SPIKES,
    {"a": [1, 2.5, None], (3, "b"): ("text", True, b"\x00\xff")},
    torch.float16,
    [],
    float("inf"),
    "ü",
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_kind_of_value_comes_back(value):
    monitor = recorded(Budget(1, "spill"), calls=2, function=lambda x: value)
    monitor.records.flush()
    assert monitor.records.on_disk == 2
    assert same(monitor.records[0], value)
    assert same(monitor.records[1], value)


def test_compressed_spikes_come_back():
    pytest.importorskip("zstandard")
    monitor = recorded(Budget(1, "spill"), calls=2, function=lambda x: SPIKES.compress())
    assert monitor.records[1].decompress() == SPIKES


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([None]), 1j, np.zeros(2, dtype=[("a", "i4")])],
    ids=["object", "set", "array of objects", "complex", "array of fields"],
)
def test_what_only_pickle_could_hold_is_refused_at_once(value):
    with pytest.warns(RuntimeWarning, match="Records that spill to disk are tensors, arrays"):
        monitor = recorded(Budget("1 GB", "spill"), calls=1, function=lambda x: value)
    with pytest.raises(TypeError, match="Give a function that makes such a value"):
        _ = monitor.records


def test_conjugate_and_negative_views_are_written_out(tmp_path):
    held = torch.tensor([1 + 2j, 3 - 4j]).conj()
    values = [held, held.imag]  # the second is a view with the sign bit
    write_chunk(tmp_path / "a.records", values, [Moment("", i, 0, None, None, None) for i in range(2)])
    chunk = Chunk(tmp_path / "a.records")
    assert [chunk.read(i).tolist() for i in range(2)] == [[1 - 2j, 3 + 4j], [-2.0, 4.0]]


def test_sparse_tensors_are_refused():
    with pytest.raises(TypeError, match="Records that spill to disk are tensors"):
        check_record({"a": torch.eye(2).to_sparse()})


def test_a_value_that_was_read_is_the_readers_own():
    monitor = recorded(Budget(STEP, "spill"), calls=3)
    monitor.records[0].zero_().sub_(1)
    assert numbers(monitor.records) == [0, 1, 2]


def test_a_folder_that_the_user_names_holds_everything_after_close(tmp_path):
    with recorded(Budget(10 * STEP, "spill", tmp_path / "deep" / "er")) as monitor:
        assert monitor.records.on_disk == 40
    assert monitor.records.on_disk == 50
    assert monitor.records.folder.parent == tmp_path / "deep" / "er"
    found = open_records(monitor.records.folder)
    assert numbers(found) == numbers(monitor.records) == list(range(50))
    assert found.moments == monitor.moments
    for change in (found.clear, lambda: found.keep(1, found.moments[0])):
        with pytest.raises(TypeError, match="read only"):
            change()


def test_a_temporary_folder_goes_with_its_records():
    monitor = recorded(Budget(STEP, "spill"))
    folder = monitor.records.folder
    monitor.close()
    assert numbers(monitor.records) == list(range(50))
    assert folder.exists()
    del monitor
    assert not folder.exists()


def test_nothing_is_written_within_the_budget():
    monitor = recorded(Budget("1 MB", "spill"))
    assert (monitor.records.folder, monitor.records.on_disk) == (None, 0)


def test_clearing_deletes_the_files_and_starts_anew(tmp_path):
    monitor = recorded(Budget(STEP, "spill", tmp_path))
    monitor.clear_recorded_data()
    assert (len(monitor), list(monitor.records.folder.iterdir())) == (0, [])
    net = nn.Identity()
    with OutputMonitor(net, budget=Budget(STEP, "spill", tmp_path)) as monitor:
        for i in range(3):
            net(torch.full((10,), float(i)))
        monitor.records.clear()
        assert monitor[""] == []
        net(torch.full((10,), 9.0))
        net(torch.full((10,), 8.0))
        assert numbers(monitor[""]) == [9, 8]


def test_small_records_do_not_pile_up_in_one_file(monkeypatch):
    monkeypatch.setattr(spill_module, "AT_MOST", 8)
    monitor = recorded(Budget("1 GB", "spill"))
    assert monitor.records.on_disk == 48
    assert numbers(monitor.records) == list(range(50))


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, monkeypatch):
    net = nn.Identity()
    monitor = OutputMonitor(net, budget=Budget(3 * STEP, "spill", tmp_path))

    def run(calls):
        for i in calls:
            net(torch.full((10,), float(i)))

    run(range(8))  # 6 on disk, 2 in memory
    written = Path.replace

    def full(path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(
        RuntimeWarning,
        match=r"no space left on device\. 6 records are on disk in .*\. Those from number 6 on are in memory",
    ):
        run(range(8, 12))
    with pytest.raises(OutputError, match="no space left on device"):
        _ = monitor.records
    assert numbers(monitor.incomplete_records()) == list(range(10))  # the one that found the disk full, too
    with pytest.raises(OutputError, match="no space left on device"):
        monitor.close()
    monkeypatch.setattr(Path, "replace", written)
    monitor.incomplete_records().flush()
    folder = monitor.incomplete_records().folder
    assert numbers(open_records(folder)) == list(range(10))
    assert all(path.suffix == ".records" for path in folder.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_at_the_door(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    with pytest.raises(OutputError, match=r"Records cannot spill into .*not a directory\. Choose another folder"):
        OutputMonitor(nn.Identity(), budget=Budget(STEP, "spill", blocker / "in"))


def test_a_graph_cannot_spill():
    with pytest.raises(ValueError, match="A graph cannot go to disk"):
        OutputMonitor(nn.Identity(), keep_graph=True, budget=Budget(STEP, "spill"))


def test_summaries_do_not_spill():
    with pytest.raises(ValueError, match="leave out the policy 'spill'"):
        record(nn.Sequential(neuron.IFNode()), budget=Budget(STEP, "spill"))


def test_damaged_and_foreign_files_are_refused_in_words(tmp_path):
    monitor = recorded(Budget(10 * STEP, "spill", tmp_path))
    folder = monitor.records.folder
    with pytest.raises(ValueError, match=f"holds no records, but folders; open one of them: {folder.name}"):
        open_records(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_records(tmp_path / "none")
    first, *_, last = sorted(folder.iterdir())
    whole = last.read_bytes()
    for part in (len(whole) - 1, 100, 16):
        last.write_bytes(whole[:part])
        with pytest.raises(ValueError, match="damaged: its end is missing"):
            open_records(folder)
    last.write_bytes(b"PK" + whole[2:])
    with pytest.raises(ValueError, match="is not a file of records"):
        open_records(folder)
    first.unlink()
    with pytest.raises(ValueError, match=r"numbered from 0 without a gap, but are \[1, 2, 3\]"):
        open_records(folder)


def test_the_clock_driven_monitor_and_the_counter_spill(tmp_path):
    torch.manual_seed(0)
    net, x = nn.Sequential(neuron.LIFNode(step_mode="m")), torch.rand(6, 2, 5) * 3
    budget = Budget(100, "spill", tmp_path)
    with Monitor(net, budget=budget) as spilled, Monitor(net) as kept, SpikeCounter(net, True, budget) as counter:
        spilled.enable()
        kept.enable()
        y = net(x)
    assert all(np.array_equal(a, b) for a, b in zip(spilled.s["0"], kept.s["0"], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(spilled.v["0"], kept.v["0"], strict=True))
    assert spilled.get_avg_firing_rate() == kept.get_avg_firing_rate()
    assert torch.equal(counter.train("0"), y)
    assert len(list(tmp_path.glob("*/*.records"))) == 7


CHILD = """
import sys, torch
from torch import nn
from spikescope.monitor import Budget, OutputMonitor
net = nn.Identity()
monitor = OutputMonitor(net, budget=Budget(200, "spill", sys.argv[1]))
for i in range(10**9):
    net(torch.full((10,), float(i)))
    print(i + 1, monitor.records.on_disk, monitor.records.folder, flush=True)
"""


def child(folder):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_was_on_disk_survives_a_kill_and_processes_do_not_clash(tmp_path):
    running = [child(tmp_path), child(tmp_path)]
    seen = []
    for process, lines in zip(running, (123, 160), strict=True):
        for _ in range(lines):
            last = process.stdout.readline()
        seen.append(last.split())
    for process in running:
        process.kill()
        process.stdout.close()
        process.wait()
    assert seen[0][2] != seen[1][2]
    for taken, acknowledged, folder in seen:
        found = open_records(folder)
        assert int(taken) - 5 <= int(acknowledged) <= len(found)
        assert numbers(found) == list(range(len(found)))
        assert [moment.call for moment in found.moments] == list(range(len(found)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_neither_overwrites_nor_removes():
    monitor = recorded(Budget(2 * STEP, "spill"), calls=4)
    records = monitor.records
    process = os.fork()
    if not process:  # the child writes on and drops the records
        code = 1
        try:
            records.keep(torch.ones(10), records.moments[0])
            records.keep(torch.ones(10), records.moments[0])
            records._finalizer()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0
    records.flush()
    assert numbers(records) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="a process that forked after the recorder was made wrote here too"):
        open_records(records.folder)
