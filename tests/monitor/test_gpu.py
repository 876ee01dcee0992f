import math
import sys
import threading
import time
import types

import pytest

from spikescope.errors import MissingExtraError
from spikescope.monitor import GPUMonitor, GPUSample
from spikescope.monitor.gpu import nvml_sampler


def test_lines_with_a_time_every_interval(capfd):
    seen, enough = [], threading.Event()

    def sampler(gpu):
        seen.append(gpu)
        if len(seen) >= 6:
            enough.set()
        return GPUSample(37, 3 * 2**30, 8 * 2**30)

    with GPUMonitor(gpu_ids=(0, 2), interval=0.001, sampler=sampler) as monitor:
        assert enough.wait(10)
    monitor._thread.join(5)
    assert seen[:4] == [0, 2, 0, 2]
    out = capfd.readouterr().out
    assert "gpu 0: 37 % busy, 3.0 of 8.0 GiB; gpu 2: 37 %" in out
    assert out[:2] == "20"
    monitor.stop()


def test_stop_returns_at_once_and_the_thread_ends():
    monitor = GPUMonitor(interval=600.0, sampler=lambda gpu: GPUSample(0, 0, 1))
    assert monitor._thread.daemon
    began = time.perf_counter()
    monitor.stop()
    assert time.perf_counter() - began < 1
    monitor._thread.join(5)
    assert not monitor._thread.is_alive()


def test_starting_later():
    monitor = GPUMonitor(start_now=False, sampler=lambda gpu: GPUSample(0, 0, 1))
    assert monitor._thread is None
    monitor.start()
    thread = monitor._thread
    monitor.start()
    assert monitor._thread is thread
    monitor.stop()
    thread.join(5)


def test_starting_again_at_once_goes_on():
    calls, first, second, leave = [], threading.Event(), threading.Event(), threading.Event()

    def sampler(gpu):
        calls.append(gpu)
        (first if len(calls) == 1 else second).set()
        assert len(calls) > 1 or leave.wait(20)
        return GPUSample(0, 0, 1)

    with GPUMonitor(interval=600.0, sampler=sampler) as monitor:
        assert first.wait(10)
        monitor.stop(), monitor.start()  # while the thread is still at its first sample
        assert second.wait(5)
        leave.set()


@pytest.mark.parametrize("interval", [math.inf, 1e10])
def test_an_interval_longer_than_a_thread_can_wait_reports_once(interval):
    waits = []
    stopped = types.SimpleNamespace(is_set=lambda: bool(waits), wait=waits.append)
    GPUMonitor(interval=interval, start_now=False, sampler=lambda gpu: GPUSample(0, 0, 1))._run(stopped, None)
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


def test_an_error_of_the_sampler_ends_the_thread_and_is_kept(capfd):
    monitor = GPUMonitor(interval=0.001, sampler=lambda gpu: 1 / 0)
    monitor._thread.join(5)
    assert isinstance(monitor.error, ZeroDivisionError)
    assert "GPUMonitor ended: ZeroDivisionError" in capfd.readouterr().out


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
    with GPUMonitor(tmp_path, interval=600.0, sampler=lambda gpu: GPUSample(50, 2**30, 2**31)):
        deadline = time.monotonic() + 10
        while len(written) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert written[:2] == [("gpu 0/busy in per cent", 50, 0), ("gpu 0/memory in GiB", 1.0, 0)]
    assert closed.wait(10)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"nvidia-ml-py.*pip install 'spikescope\[gpu\]'"):
        GPUMonitor()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spikescope\[tensorboard\]'"):
        GPUMonitor("logs", sampler=lambda gpu: GPUSample(0, 0, 1))


class _NVML(types.SimpleNamespace):
    class NVMLError(Exception):
        pass


def test_no_driver_and_no_such_gpu_are_errors_in_words(monkeypatch):
    def fail():
        raise _NVML.NVMLError("Driver Not Loaded")

    nvml = _NVML(nvmlInit=fail, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda gpu: gpu)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(RuntimeError, match=r"found no NVIDIA GPU that it can ask: Driver Not Loaded"):
        GPUMonitor()
    nvml.nvmlInit = lambda: None
    with pytest.raises(RuntimeError, match="there is no GPU 3; this machine has 1"):
        GPUMonitor(gpu_ids=(0, 3))
    nvml.nvmlDeviceGetMemoryInfo = lambda gpu: types.SimpleNamespace(used=5, total=9)
    nvml.nvmlDeviceGetUtilizationRates = lambda gpu: types.SimpleNamespace(gpu=71)
    assert nvml_sampler((0,))(0) == (71, 5, 9)
