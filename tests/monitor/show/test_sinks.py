"""Sinks: what is in the files, also after a process was killed in the middle of a line."""

import csv
import errno
import json
import logging
import os
import sys
import threading

import pytest
import torch
from torch import nn

from spikescope import functional, neuron
from spikescope.errors import MissingExtraError
from spikescope.files import OutputError
from spikescope.monitor import Console, Csv, GPUMonitor, GPUSample, JsonLines, TensorBoard, record
from spikescope.monitor.reduce import Bins, Extent, Histogram, LogHistogram
from spikescope.monitor.results import Results
from spikescope.monitor.show.plain import scalars

VALUES = {
    "a": {"rate": torch.tensor([0.0, 0.25, 0.5]), "extent": Extent(-1.5, float("inf"))},
    "b,c": {"silent share": 0.125},
}


def test_json_lines(tmp_path):
    with JsonLines(tmp_path / "run.jsonl") as sink:
        sink.write(3, VALUES)
        assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 1, "written at once, not at the end"
    with JsonLines(tmp_path / "run.jsonl") as sink:
        sink.write(4, {})
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    row = {"rate": [0.0, 0.25, 0.5], "extent": {"min": -1.5, "max": None}}
    assert lines == [
        {"step": 3, "values": {"a": row, "b,c": {"silent share": 0.125}}},
        {"step": 4, "values": {}},
    ]


def test_csv(tmp_path):
    for step in (3, 4):
        with Csv(tmp_path / "run.csv") as sink:
            sink.write(step, VALUES)
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "layer", "quantity", "value"]
    assert rows[1:7] == [
        ["3", "a", "rate.mean", "0.25"],
        ["3", "a", "rate.min", "0.0"],
        ["3", "a", "rate.max", "0.5"],
        ["3", "a", "extent.min", "-1.5"],
        ["3", "a", "extent.max", "inf"],
        ["3", "b,c", "silent share", "0.125"],
    ]
    assert [row[0] for row in rows[7:]] == ["4"] * 6


@pytest.mark.parametrize("half", [b'{"step": 4, "val', b"x" * 9001])
def test_half_a_line_of_a_killed_process_is_cut_off_and_told(tmp_path, caplog, half):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"step": 3}\n' + half)
    with caplog.at_level(logging.WARNING), JsonLines(path) as sink:
        sink.write(5, {})
    assert path.read_text() == '{"step": 3}\n{"step": 5, "values": {}}\n'
    assert "half a line" in caplog.text


@pytest.mark.parametrize(
    ("make", "held", "then"),
    [
        (JsonLines, b'{"step": 3, "values": {}}', b'{"step": 3, "values": {}}\n{"step": 5, "values": {}}\n'),
        (JsonLines, b'{"st', b'{"step": 5, "values": {}}\n'),
        (Csv, b"step,lay", b"step,layer,quantity,value\n"),
        (Csv, b"step,layer,quantity,value\n3,a,rate,0.2", b"step,layer,quantity,value\n"),
    ],
)
def test_a_last_line_without_its_end(tmp_path, make, held, then):
    path = tmp_path / "run"
    path.write_bytes(held)
    with make(path) as sink:
        sink.write(5, {})
    assert path.read_bytes() == then


@pytest.mark.parametrize("make", [JsonLines, Csv])
@pytest.mark.parametrize("held", [b"\x00\x01weights", b"x" * 9001, b'{\n "step": 1}', b"a,b\n1,2", b"step,layer\n3,a"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path, make, held):
    path = tmp_path / "weights.bin"
    path.write_bytes(held)
    with pytest.raises(
        ValueError, match=r"weights\.bin is another file, whose last line has no end\. Choose a new file"
    ):
        make(path)
    assert path.read_bytes() == held


@pytest.mark.parametrize("make", [JsonLines, Csv])
def test_links_pipes_and_folders_are_refused(tmp_path, make):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("link", "symbolic link"), ("folder", "is a directory"), ("pipe", "is not a file")):
        with pytest.raises(OutputError, match=f"{name} could not be written: .*{why}"):
            make(tmp_path / name)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    write, left = os.write, [9]

    def full(file, content):
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content[: left.pop()])

    with JsonLines(tmp_path / "run.jsonl") as sink:
        sink.write(1, {})
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(OutputError, match=r"run\.jsonl could not be written: no space left on device"):
                sink.write(2, VALUES)
        sink.write(3, {})
    assert (tmp_path / "run.jsonl").read_text() == '{"step": 1, "values": {}}\n{"step": 3, "values": {}}\n'


def test_a_csv_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("name,age\n")
    with pytest.raises(ValueError, match="header 'name,age'"):
        Csv(path)
    assert path.read_text() == "name,age\n"


def test_a_closed_sink_says_so(tmp_path):
    sink = JsonLines(tmp_path / "run.jsonl")
    sink.close()
    with pytest.raises(ValueError, match=r"run\.jsonl is closed"):
        sink.write(0, {})


def test_console(capsys):
    Console().write(7, {"a": {"silent share": 0.125}})
    assert capsys.readouterr().out == "step 7\nlayer  silent share\na             0.125\n"


class Writer:
    """In place of a SummaryWriter: notes its calls."""

    def __init__(self):
        self.scalars, self.histograms, self.flushed = [], [], 0

    def add_scalar(self, *args):
        self.scalars.append(args)

    def add_histogram_raw(self, *args):
        self.histograms.append(args)

    def flush(self):
        self.flushed += 1


def test_tensorboard_gets_scalars_and_raw_histograms():
    writer = Writer()
    bins = Bins(torch.tensor([1, 3]), torch.tensor([0.0, 1.0, 3.0]), 0, 0, 0)
    TensorBoard(writer=writer, bins=2).write(9, {**VALUES, "d": {"h": bins}})
    assert writer.scalars == [
        ("rate.mean/a", 0.25, 9),
        ("rate.min/a", 0.0, 9),
        ("rate.max/a", 0.5, 9),
        ("extent.min/a", -1.5, 9),
        ("extent.max/a", float("inf"), 9),
        ("silent share/b,c", 0.125, 9),
        ("h.median/d", pytest.approx(5 / 3), 9),
    ]
    assert writer.histograms == [
        ("rate/a", 0.0, 0.5, 3, 0.75, 0.3125, [0.25, 0.5], [1.0, 2.0], 9),
        ("h/d", 0.0, 3.0, 4, 6.5, 12.25, [1.0, 3.0], [1.0, 3.0], 9),
    ]
    assert writer.flushed == 1


def test_logarithmic_bins_are_a_histogram_too():
    writer, logs = Writer(), LogHistogram(low=-1, high=1, per_decade=1)
    found = logs.result(logs.measure(torch.tensor([[[0.25, 2.0, -3.0, 0.0]]])))
    TensorBoard(writer=writer).write(9, {"a": {"log histogram": found}})
    ((median, middle, when),) = writer.scalars
    assert (median, middle, when) == ("log histogram.median/a", pytest.approx(scalars(found)[".median"]), 9)
    ((tag, low, high, number, total, _, limits, counts, step),) = writer.histograms
    assert (tag, low, high, number, limits, counts, step) == ("log histogram/a", 0.1, 10.0, 3, [1.0, 10.0], [1, 2], 9)
    assert total == pytest.approx(0.55 + 2 * 5.5)


def test_of_histograms_tables_tell_the_median_and_what_lies_elsewhere(tmp_path):
    bins = Bins(torch.tensor([1, 0, 6, 1]), torch.tensor([0.0, 1.0, 2.0, 5.0, 7.0]), 2, 3, 4)
    logs = LogHistogram(low=-1, high=1, per_decade=1)
    none = logs.result(logs.measure(torch.tensor([[[0.0, 20.0, 1e-3]]])))
    with Csv(tmp_path / "run.csv") as sink:
        sink.write(1, {"a": {"histogram": bins, "log": none}})
    rows = [line.split(",")[2:] for line in (tmp_path / "run.csv").read_text().splitlines()[1:]]
    assert rows == [
        ["histogram.inside", "8.0"],
        ["histogram.median", "3.5"],  # the fourth of eight is the third of six from 2 to 5
        ["histogram.below", "2.0"],
        ["histogram.above", "3.0"],
        ["histogram.nan", "4.0"],
        ["log.inside", "0.0"],
        ["log.median", "nan"],
        ["log.zeros", "1.0"],
        ["log.below", "1.0"],
        ["log.above", "1.0"],
        ["log.nan", "0.0"],
    ]
    assert Results({"a": {"h": bins}}, single=False).table().split()[:3] == ["layer", "h.inside", "h.median"]


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"spikescope\[tensorboard\]"):
        TensorBoard(tmp_path)
    with pytest.raises(ValueError, match="either"):
        TensorBoard()


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    reducers = ["rate", "silent share", Histogram(edges=(-0.5, 0.5, 1.5))]
    with TensorBoard(tmp_path, bins=4) as sink:
        for step in range(3):
            with record(net, reducers) as recording:
                net(torch.tensor([[[0.5, 0.25]], [[0.5, 0.25]]]) * step)
            functional.reset_net(net)
            sink.write(step, recording.rows())
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    tags = events.Tags()
    curves = ["histogram.median/0", "rate.max/0", "rate.mean/0", "rate.min/0", "silent share/0"]
    assert (sorted(tags["scalars"]), sorted(tags["histograms"])) == (curves, ["histogram/0", "rate/0"])
    assert [event.value for event in events.Scalars("rate.mean/0")] == [0.0, 0.25, 0.75]  # a course, not only its shape
    assert [(event.step, event.value) for event in events.Scalars("silent share/0")] == [(0, 1.0), (1, 0.5), (2, 0.0)]
    rate = events.Histograms("rate/0")[2].histogram_value  # the rates are 1 and 1/2
    assert (rate.min, rate.max, rate.num, rate.sum, rate.sum_squares) == (0.5, 1.0, 2, 1.5, 1.25)
    assert (list(rate.bucket_limit), list(rate.bucket)) == ([0.625, 0.75, 0.875, 1.0], [1, 0, 0, 1])
    spikes = events.Histograms("histogram/0")[2].histogram_value  # three spikes of four
    assert (list(spikes.bucket_limit), list(spikes.bucket)) == ([0.5, 1.5], [1, 3])


def test_the_load_of_a_gpu_is_read_back_by_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked = threading.Event()

    def sampler(gpu):
        asked.set()
        return GPUSample(40.0 + gpu, 2**30, 2**32)

    monitor = GPUMonitor(tmp_path, (0, 1), interval=60, sampler=sampler)
    assert asked.wait(20)
    monitor.stop()
    monitor.join(20)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [events.Scalars(f"gpu {gpu}/utilization in %")[0].value for gpu in (0, 1)] == [40.0, 41.0]
    assert events.Scalars("gpu 1/memory in MiB")[0].value == 1024.0


def test_numbers_without_a_row_and_a_missing_folder_are_refused_in_words(tmp_path):
    sinks = [Console(), Csv(tmp_path / "a.csv"), JsonLines(tmp_path / "a.jsonl"), TensorBoard(writer=object())]
    for sink in sinks:
        with pytest.raises(TypeError, match=r"write takes rows, .* as recording\.rows\(\) gives them"):
            sink.write(0, {"loss": 1.0})
    sinks[1].close(), sinks[2].close()
    with pytest.raises(FileNotFoundError, match=r"Csv: there is no folder .*nowhere\. Make it first"):
        Csv(tmp_path / "nowhere" / "a.csv")
    with Console() as console:
        console.write(0, {})


def test_a_table_leaves_out_what_is_not_a_number():
    held = {"layer1": {"interval": torch.tensor([2.0, float("nan"), 4.0])}}
    assert "3" in Results(held, single=False).table().split()
    assert "nan" in Results({"layer1": {"interval": torch.full((2,), float("nan"))}}, single=False).table()
