import math
import re
import sys
import threading
import time
import types

import pytest

from spikescope.errors import MissingExtraError
from spikescope.monitor import GPUMonitor, GPUSample
from spikescope.monitor.classic.gpu import nvml_sampler


def test_lines_with_a_time_every_interval(capfd):
    seen, enough = [], threading.Event()

    def sampler(gpu):
        seen.append(gpu)
        if len(seen) >= 6:
            enough.set()
        return GPUSample(37, 3 * 2**30, 8 * 2**30)

    with GPUMonitor(gpu_ids=(0, 2), interval=0.001, sampler=sampler) as monitor:
        assert enough.wait(10)
    monitor.join(5)
    assert seen[:4] == [0, 2, 0, 2]
    when, *lines = capfd.readouterr().out.splitlines()[:4]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", when)
    assert lines == ["utilization.gpu [%], memory.used [MiB]", "37 %, 3072 MiB", "37 %, 3072 MiB"]
    monitor.stop()


def test_stop_returns_at_once_and_the_thread_ends():
    monitor = GPUMonitor(interval=600.0, sampler=lambda gpu: GPUSample(0, 0, 1))
    assert isinstance(monitor, threading.Thread)
    assert monitor.daemon
    began = time.perf_counter()
    monitor.stop()
    assert time.perf_counter() - began < 1
    monitor.join(5)
    assert not monitor.is_alive()


def test_starting_later():
    monitor = GPUMonitor(start_now=False, sampler=lambda gpu: GPUSample(0, 0, 1))
    assert not monitor.is_alive()
    monitor.start()
    monitor.start()  # a second time does nothing
    assert monitor.is_alive()
    monitor.stop()
    monitor.join(5)
    with pytest.raises(RuntimeError, match="was stopped, and a thread runs once: make another"):
        monitor.start()


@pytest.mark.parametrize("interval", [math.inf, 1e10])
def test_an_interval_longer_than_a_thread_can_wait_reports_once(interval):
    waits = []
    monitor = GPUMonitor(interval=interval, start_now=False, sampler=lambda gpu: GPUSample(0, 0, 1))
    monitor._over = types.SimpleNamespace(is_set=lambda: bool(waits), wait=waits.append)
    monitor.run()
    assert waits == [threading.TIMEOUT_MAX]


def test_the_number_of_one_gpu():
    assert GPUMonitor(gpu_ids=3, start_now=False).gpu_ids == (3,)


@pytest.mark.parametrize("ids", [(), (-1,), ("0",), (True,), True, -1, None])
def test_ids_that_are_none_are_refused(ids):
    with pytest.raises(ValueError, match="gpu_ids must be numbers of GPUs"):
        GPUMonitor(gpu_ids=ids, start_now=False)


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
def test_intervals_that_are_none_are_refused(interval):
    with pytest.raises(ValueError, match="interval must be above 0"):
        GPUMonitor(interval=interval, start_now=False)


def test_an_error_of_the_sampler_ends_the_thread_and_is_kept():
    monitor = GPUMonitor(start_now=False, sampler=lambda gpu: 1 / 0)
    with pytest.warns(RuntimeWarning, match="GPUMonitor ended: ZeroDivisionError"):
        monitor.run()
    assert isinstance(monitor.error, ZeroDivisionError)


def test_scalars_for_tensorboard(monkeypatch, tmp_path):
    written, closed = [], threading.Event()

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, *row):
            written.append(row)

        def flush(self):
            pass

        def close(self):
            closed.set()

    module = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with GPUMonitor(tmp_path, interval=0.001, sampler=lambda gpu: GPUSample(50, 2**30, 2**31)):
        deadline = time.monotonic() + 10
        while len(written) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert written[:2] == [("gpu 0/utilization in %", 50, 0), ("gpu 0/memory in MiB", 1024.0, 0)]
    assert [row[2] for row in written[2:4]] == [1, 1]  # the steps count the readings
    assert closed.wait(10)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spikescope\[tensorboard\]'"):
        GPUMonitor("logs", sampler=lambda gpu: GPUSample(0, 0, 1))


class _NVML(types.SimpleNamespace):
    class NVMLError(Exception):
        pass


def test_without_a_gpu_a_warning_says_so_and_the_program_goes_on(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for folder in (None, tmp_path):
        with pytest.warns(
            RuntimeWarning, match=r"no NVIDIA GPU 0 .*nvidia-ml-py is not installed; nvidia-smi does not"
        ):
            monitor = GPUMonitor(folder)
        monitor.join(5)
        assert (monitor.is_alive(), monitor.error) == (False, None)
        monitor.stop()


def test_no_driver_and_no_such_gpu_are_told_in_words(monkeypatch, tmp_path):
    def fail():
        raise _NVML.NVMLError("Driver Not Loaded")

    monkeypatch.setenv("PATH", str(tmp_path))
    nvml = _NVML(nvmlInit=fail, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda gpu: gpu)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.warns(RuntimeWarning, match="the driver does not answer: Driver Not Loaded"):
        GPUMonitor()
    nvml.nvmlInit = lambda: None
    with pytest.warns(RuntimeWarning, match="there is no GPU 3; this machine has 1"):
        GPUMonitor(gpu_ids=(0, 3))
    nvml.nvmlDeviceGetMemoryInfo = lambda gpu: types.SimpleNamespace(used=5, total=9)
    nvml.nvmlDeviceGetUtilizationRates = lambda gpu: types.SimpleNamespace(gpu=71)
    assert nvml_sampler((0,))(0) == (71, 5, 9)


def test_the_program_of_the_driver_is_enough(monkeypatch, tmp_path, capfd):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("""#!/bin/sh
case "$*" in *noheader*--id=1*) echo "[N/A], 376 MiB, 8192 MiB";; *) echo "no such GPU, says the driver"; exit 6;; esac
""")
    tool.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monitor = GPUMonitor(gpu_ids=1, interval=math.inf)
    deadline = time.monotonic() + 20
    while "MiB" not in (said := capfd.readouterr().out) and time.monotonic() < deadline:
        time.sleep(0.01)
    monitor.stop()
    assert said.splitlines()[1:] == ["utilization.gpu [%], memory.used [MiB]", "[N/A] %, 376 MiB"]
    with pytest.warns(RuntimeWarning, match="nvidia-smi says: no such GPU"):
        GPUMonitor(gpu_ids=2)
