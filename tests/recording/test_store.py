"""A recording on disk: what was kept is there, in whatever cut, while it grows, and whatever happens to its writer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import spikescope
from spikescope.files import OutputError
from spikescope.monitor import Budget, OutputMonitor, open_records
from spikescope.recording import Moment, Writer, open_recording
from spikescope.spikes import PackedSpikes

HEAD = {
    "dt": 1e-3,
    "seed": 7,
    "layers": {"conv": {"type": "LIFNode", "signals": ["spike", "v"], "fields": {"tau": 2.0}}},
}


def spikes(run, steps=6, samples=3, neurons=(4, 5)):
    return (torch.rand(steps, samples, *neurons, generator=torch.Generator().manual_seed(run)) < 0.3).float()


def keep(writer, run, name="conv", steps=6, parts=1, **shape):
    """Spikes and potentials of a run, in so many parts."""
    held = spikes(run, steps, **shape)
    start = 0
    for part in held.split(-(-steps // parts)):
        moment = Moment(name, 0, run, start, start + len(part), part.shape[1])
        writer.keep("spike", PackedSpikes.from_dense(part), moment)
        writer.keep("v", part * 0.5, moment)
        start += len(part)


def keep_on(writer, runs, **options):
    for run in runs:
        keep(writer, run, **options)


@pytest.mark.parametrize("parts", [1, 6])
@pytest.mark.parametrize("fill", [1, 300, 1 << 20])
def test_what_was_kept_is_there_however_it_was_cut(tmp_path, parts, fill):
    writer = Writer(tmp_path / "run.spk", HEAD, fill=fill)
    for run in range(5):
        keep(writer, run, parts=parts, steps=6 + run)
        writer.note(run, {"label": [run, 1, 2]})
    writer.close()
    assert writer.given == writer.on_disk >= 10 * min(parts, 4)
    assert not list(tmp_path.glob("run.spk/.*"))
    rec = spikescope.open_recording(tmp_path / "run.spk")
    assert (rec.dt, rec.head["seed"], rec.damage, rec.writer) == (1e-3, 7, [], None)
    assert rec.notes == [{"run": run, "label": [run, 1, 2]} for run in range(5)]
    assert (list(rec), list(rec["conv"]), rec["conv"].kind, rec["conv"].fields) == (
        ["conv"],
        ["spike", "v"],
        "LIFNode",
        {"tau": 2.0},
    )
    fired, potential = rec["conv"]["spike"], rec["conv"]["v"]
    assert (fired.packed, potential.packed, fired.neuron_shape) == (True, False, (4, 5))
    assert [tuple(run) for run in fired.runs] == [(run, 6 + run, 3) for run in range(5)]
    for run in range(5):
        wanted = spikes(run, 6 + run)
        assert torch.equal(fired.read(run), wanted)
        assert torch.equal(potential.read(run, slice(1, 5, 2), 2), wanted[1:5:2, [2]] * 0.5)
        assert torch.equal(fired.read(run, neuron=[19, 3]), wanted.flatten(2)[:, :, [19, 3]])
    assert sum(block.values.count() for block in fired.blocks()) == sum(spikes(r, 6 + r).sum() for r in range(5))
    assert len(fired.events().step) == sum(int(spikes(r, 6 + r).sum()) for r in range(5))


@pytest.fixture
def counted(monkeypatch):
    """The bytes that are read."""
    read = []
    pread = os.pread

    def counting(*args):
        held = pread(*args)
        read.append(len(held))
        return held

    monkeypatch.setattr(os, "pread", counting)
    return read


def test_a_cut_reads_little_else(tmp_path, counted):
    writer = Writer(tmp_path / "run.spk", HEAD)
    for run in range(100):
        keep(writer, run, steps=20, samples=4, neurons=(2000,), name=f"layer{run % 2}")
    writer.close()
    total = sum(path.stat().st_size for path in (tmp_path / "run.spk").iterdir())
    rec = open_recording(tmp_path / "run.spk")
    heads = sum(path.stat().st_size - sum(r.size for r in _records(path)) for path in rec.path.glob("*.records"))
    assert not counted
    assert heads < 0.01 * total
    for read in (
        lambda: rec["layer1"]["v"].read(run=7),
        lambda: [rec["layer0"]["v"].read(run, neuron=slice(700, 720)) for run in range(0, 100, 2)],
        lambda: list(rec["layer0"]["spike"].blocks(run=slice(0, 30))),
        lambda: [rec["layer1"]["v"].read(run, step=3, sample=1, neuron=5) for run in range(1, 100, 2)],
    ):
        counted.clear()
        read()
        assert 0 < sum(counted) < 0.02 * total, sum(counted) / total


def _records(path):
    from spikescope.recording.disk.segment import Chunk

    return Chunk(path)._records


def test_a_reader_follows_a_recording_that_grows(tmp_path):
    writer = Writer(tmp_path / "run.spk", HEAD)
    rec = open_recording(tmp_path / "run.spk")
    assert (list(rec["conv"]), len(rec["conv"]["spike"]), rec.refresh()) == (["spike", "v"], 0, False)
    assert (rec.writer.process, rec.writer.alive) == (os.getpid(), True)
    with pytest.raises(ValueError, match="Nothing of 'spike' of 'conv' was recorded"):
        rec["conv"]["spike"].dtype  # noqa: B018  # the access is what is tested
    for run in range(3):
        keep(writer, run)
        assert not rec.refresh()
        writer.flush()
        assert rec.refresh()
        assert len(rec["conv"]["spike"]) == run + 1
        assert torch.equal(rec["conv"]["spike"].read(run), spikes(run))
    writer.close()
    assert rec.writer is None


def test_what_came_goes_out_by_seconds_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: -1e9)  # a clock that jumps is nobody's business
    writer = Writer(tmp_path / "seconds.spk", HEAD, sync_every=0.05)
    keep(writer, 0)
    deadline = time.monotonic() + 20
    while writer.on_disk < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert writer.on_disk == 2
    writer.close()
    writer = Writer(tmp_path / "bytes.spk", HEAD, sync_every="1 kB")
    assert writer.fill == 1024
    writer.close()
    for wrong in (0, -1.0, True, "many"):
        with pytest.raises(ValueError, match=r"sync_every is a number of seconds|the limit must be"):
            Writer(tmp_path / "wrong.spk", HEAD, sync_every=wrong)
    assert not (tmp_path / "wrong.spk").exists()


def test_a_value_larger_than_what_gathers_goes_out_alone(tmp_path):
    writer = Writer(tmp_path / "run.spk", HEAD, fill=100)
    keep(writer, 0, steps=200, samples=8, neurons=(3000,))
    assert writer._open.nbytes == 0
    writer.close()
    rec = open_recording(tmp_path / "run.spk")
    assert torch.equal(rec["conv"]["v"].read(0), spikes(0, 200, 8, (3000,)) * 0.5)


def test_two_writers_are_refused(tmp_path):
    writer = Writer(tmp_path / "run.spk", HEAD)
    with pytest.raises(OutputError, match=rf"is a recording of process {os.getpid()} of .*, which is going on"):
        Writer(tmp_path / "run.spk", HEAD)
    writer.close()
    with pytest.raises(OutputError, match=r"already holds 00000000|already holds recording\.json"):
        Writer(tmp_path / "run.spk", HEAD)
    with pytest.raises(ValueError, match=r"run\.spk is closed"):
        keep(writer, 1)
    writer.close()


CHILD = """
import os, sys, torch
from spikescope.recording import Moment, Writer
writer = Writer(sys.argv[1], {"layers": {}})
writer.keep("v", torch.ones(2, 1, 3), Moment("fc", 0, 0, 0, 2, 1))
writer.flush()
writer.keep("v", torch.ones(2, 1, 3), Moment("fc", 0, 1, 0, 2, 1))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_writer_that_was_killed_leaves_what_was_flushed_and_is_told(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "run.spk")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    assert open_recording(tmp_path / "run.spk").writer.alive
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    rec = open_recording(tmp_path / "run.spk")
    assert (rec.writer.process, rec.writer.alive) == (child.pid, False)
    assert torch.equal(rec["fc"]["v"].read(0), torch.ones(2, 1, 3))
    assert len(rec["fc"]["v"]) == 1
    with pytest.raises(OutputError, match=rf"process {child.pid} of .*, which is gone"):
        Writer(tmp_path / "run.spk", HEAD)
    lock = tmp_path / "run.spk" / "writer.lock"
    lock.write_text(json.dumps({"process": 5, "host": "elsewhere"}))
    assert "process 5 of elsewhere, which may be going on" in str(open_recording(tmp_path / "run.spk").writer)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_write(tmp_path):
    writer = Writer(tmp_path / "run.spk", HEAD)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            keep(writer, 0)
        except RuntimeError as error:
            code = 0 if "was forked from it" in str(error) else 2
        finally:
            writer.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    keep(writer, 0)
    writer.close()
    assert len(open_recording(tmp_path / "run.spk")["conv"]["spike"]) == 1


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, monkeypatch):
    writer = Writer(tmp_path / "run.spk", HEAD, fill=1)
    keep(writer, 0)
    writer.flush()
    replace = Path.replace

    def full(path, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"no space left on device\. 2 of \d values are on disk in .* flush\(\)"):
        keep_on(writer, range(1, 5))
    kept = writer.given
    with pytest.raises(OutputError, match="no space left on device"):
        writer.flush()
    with pytest.raises(OutputError, match="no space left on device"):
        writer.close()
    monkeypatch.setattr(Path, "replace", replace)
    writer.flush()
    assert writer.on_disk == kept
    writer.close()
    rec = open_recording(tmp_path / "run.spk")
    assert sum(len(signal) for signal in rec["conv"].values()) == kept
    for run in range(len(rec["conv"]["spike"])):
        assert torch.equal(rec["conv"]["spike"].read(run), spikes(run))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root may")
def test_a_disk_that_is_really_full(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        writer = Writer(place / "run.spk", HEAD, fill=4000)
        with pytest.raises(OutputError, match="no space left on device"):
            keep_on(writer, range(200), steps=10)
        kept, done = writer.given, writer.on_disk
        assert done >= 2
        rec = open_recording(place / "run.spk")
        assert sum(len(signal) for signal in rec["conv"].values()) == done
        assert all(
            torch.equal(rec["conv"]["v"].read(run), spikes(run, 10) * 0.5) for run in range(len(rec["conv"]["v"]))
        )
        subprocess.run(["mount", "-o", "remount,size=10m", place], check=True)
        writer.close()
        rec.refresh()
        assert sum(len(signal) for signal in rec["conv"].values()) == kept
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_folder_that_cannot_be_written_is_refused_at_the_door(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        Writer(tmp_path / "file" / "run.spk", HEAD)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")
    with pytest.raises(OutputError, match="already holds thing"):
        Writer(tmp_path / "full", HEAD)
    with pytest.raises(OutputError, match="cannot be"):
        Writer("/proc/run.spk", HEAD)


def test_what_is_no_recording_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="open_recording: there is no folder"):
        open_recording(tmp_path / "none")
    (tmp_path / "net.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"net\.pt is a file, and a recording is a folder"):
        open_recording(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"is no recording: there is no recording\.json in it"):
        open_recording(tmp_path)
    (tmp_path / "run.spk").mkdir()
    with pytest.raises(ValueError, match=r"It has folders; open one of them: run\.spk"):
        open_recording(tmp_path)


def test_records_of_a_recorder_are_read_as_a_recording(tmp_path):
    net = spikescope.neuron.IFNode(step_mode="m")
    x = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0)) * 2
    with OutputMonitor(net, budget=Budget(50, "spill", tmp_path)) as monitor:
        for _ in range(3):
            net(x)
            net.reset()
    rec = open_recording(monitor.records.folder)
    assert (list(rec), list(rec[""]), rec[""]["record"].runs) == ([""], ["record"], [(i, 4, 2) for i in range(3)])
    for run, record in enumerate(monitor.records):
        assert torch.equal(rec[""]["record"].read(run), record)
        assert torch.equal(rec[""]["record"].read(run, slice(1, 3), 1, [2, 0]), record[1:3, 1:2][:, :, [2, 0]])


def test_a_recording_is_read_as_records(tmp_path):
    writer = Writer(tmp_path / "run.spk", HEAD)
    keep(writer, 0)
    writer.close()
    records = open_records(tmp_path / "run.spk")
    assert [type(held) for held in records] == [PackedSpikes, torch.Tensor]
    assert torch.equal(records[0].dense(), spikes(0))
    assert torch.equal(records[1], spikes(0) * 0.5)


def test_many_small_values_are_few_records(tmp_path):
    writer = Writer(tmp_path / "run.spk", {"layers": {}})
    steps = 20_000
    for step in range(steps):
        writer.keep("v", torch.full((1, 1, 1), float(step)), Moment("fc", step, 0, step, step + 1, 1))
    writer.close()
    assert len(list((tmp_path / "run.spk").glob("*.records"))) == 2
    rec = open_recording(tmp_path / "run.spk")
    assert torch.equal(rec["fc"]["v"].read(0).flatten(), torch.arange(float(steps)))
    assert np.array_equal(rec["fc"]["v"].read(0, slice(15_000, 15_003)).flatten(), [15_000, 15_001, 15_002])
