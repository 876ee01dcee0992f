"""Watching the GPUs while a network trains."""

from __future__ import annotations

import math
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ...errors import check_switches, missing_extra
from ...warn import warn

__all__ = ["GPUMonitor", "GPUSample"]

HEADER = "utilization.gpu [%], memory.used [MiB]"
PATIENCE = 30.0
"""Seconds that the program nvidia-smi may take."""


class GPUSample(NamedTuple):
    """The load of one GPU. What the driver does not tell is NaN."""

    utilization: float  # per cent
    used: float  # bytes of its memory
    total: float = math.nan

    def line(self) -> str:
        """In the words of nvidia-smi.

        >>> GPUSample(7, 376 * 2**20).line(), GPUSample(math.nan, 2**30).line()
        ('7 %, 376 MiB', '[N/A] %, 1024 MiB')
        """
        busy, used = ("[N/A]" if math.isnan(held) else f"{held:.0f}" for held in (self.utilization, self.used / 2**20))
        return f"{busy} %, {used} MiB"


Sampler = Callable[[int], GPUSample]


class NoGPUError(RuntimeError):
    """There is no GPU to ask."""


def nvml_sampler(gpu_ids: Sequence[int]) -> Sampler:
    """A sampler that asks the NVIDIA driver by the package nvidia-ml-py; NoGPUError in words."""
    try:
        import pynvml
    except ImportError:
        raise NoGPUError("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        missing = [gpu for gpu in gpu_ids if gpu >= count]
        if missing:
            raise NoGPUError(f"there is no GPU {missing[0]}; this machine has {count}, numbered from 0")
        handles = {gpu: pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpu_ids}
    except pynvml.NVMLError as error:
        raise NoGPUError(f"the driver does not answer: {error}") from error

    def sample(gpu: int) -> GPUSample:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handles[gpu])
        try:
            busy = float(pynvml.nvmlDeviceGetUtilizationRates(handles[gpu]).gpu)
        except pynvml.NVMLError:  # a part of a GPU (MIG) does not know
            busy = math.nan
        return GPUSample(busy, memory.used, memory.total)

    return sample


def smi_sampler(gpu_ids: Sequence[int]) -> Sampler:
    """A sampler that asks the program nvidia-smi, which comes with the driver; NoGPUError in words."""

    def sample(gpu: int) -> GPUSample:
        query = ["--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader", f"--id={gpu}"]
        try:
            done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoGPUError(f"nvidia-smi does not run: {error}") from error
        told = (done.stdout or done.stderr).strip()
        columns = (told.splitlines() or [""])[-1].split(",")
        if done.returncode or len(columns) < 2:
            raise NoGPUError(f"nvidia-smi says: {told or f'nothing (status {done.returncode})'}")
        busy, used, total = ([*map(_number, columns), math.nan])[:3]
        return GPUSample(busy, used * 2**20, total * 2**20)

    for gpu in gpu_ids:
        sample(gpu)
    return sample


def _number(column: str) -> float:
    found = re.search(r"\d+(?:\.\d+)?", column)
    return float(found[0]) if found else math.nan


class GPUMonitor(threading.Thread):
    """A thread that reports utilisation and memory of each GPU every `interval` seconds.

    - `log_dir`: a folder for TensorBoard scalars, whose steps count the readings; None prints the time, a header, and
      a line for each GPU.
    - `gpu_ids`: the number of the GPU, or those of several.
    - `interval`: seconds; infinite reports once.
    - `start_now`: start at once, or with `start()`.
    - `sampler`: gives the `GPUSample` of a number; None asks the NVIDIA driver, by nvidia-ml-py or by nvidia-smi.

    `stop()` returns at once; the process can end without it. Where there is no GPU, or nothing that tells of it, a
    warning says so, and the thread is over.

    >>> monitor = GPUMonitor(start_now=False, sampler=lambda gpu: GPUSample(50, 376 * 2**20))
    >>> monitor.lines()
    ['utilization.gpu [%], memory.used [MiB]', '50 %, 376 MiB']
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        gpu_ids: int | Sequence[int] = (0,),
        interval: float = 600.0,
        start_now: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        ids = tuple(gpu_ids) if isinstance(gpu_ids, Iterable) else (gpu_ids,)
        if not ids or any(not isinstance(gpu, int) or isinstance(gpu, bool) or gpu < 0 for gpu in ids):
            raise ValueError(f"GPUMonitor: gpu_ids must be numbers of GPUs, such as (0, 1), but got {gpu_ids!r}.")
        if not interval > 0:
            raise ValueError(f"GPUMonitor: interval must be above 0 seconds, but got {interval!r}.")
        check_switches("GPUMonitor", start_now=start_now)
        super().__init__(name="GPUMonitor", daemon=True)
        self.log_dir, self.gpu_ids, self.interval = log_dir, ids, float(interval)
        self.error: BaseException | None = None  # what ended the thread
        self._sampler = sampler
        self._writer: Any = None
        self._over = threading.Event()
        if start_now:
            self.start()

    def start(self) -> None:
        """Begin to report; while it runs, a second time does nothing. What was stopped does not begin again."""
        if self.is_alive():
            return
        if self._over.is_set():
            raise RuntimeError("This GPUMonitor was stopped, and a thread runs once: make another one.")
        self._sampler = self._sampler or _found(self.gpu_ids)
        if self._sampler is not None and self.log_dir is not None:
            self._writer = _summary_writer(self.log_dir)
        super().start()

    def stop(self) -> None:
        """Report no more; returns at once, and a second time does nothing."""
        self._over.set()

    def lines(self) -> list[str]:
        """The present load: a header, and a line for each GPU."""
        return [HEADER, *(sample.line() for sample in self._samples().values())]

    def _samples(self) -> dict[int, GPUSample]:
        sampler = self._sampler or smi_sampler(self.gpu_ids)
        return {gpu: sampler(gpu) for gpu in self.gpu_ids}

    def run(self) -> None:
        """The work of the thread; `start()` begins it."""
        reading = 0
        try:
            while self._sampler is not None and not self._over.is_set():
                self._report(reading)
                reading += 1
                self._over.wait(min(self.interval, threading.TIMEOUT_MAX))
        except Exception as error:
            self.error = error
            warn(f"GPUMonitor ended: {type(error).__name__}: {error}")
        finally:
            if self._writer is not None:
                self._writer.close()

    def _report(self, reading: int) -> None:
        if self._writer is None:
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            print("\n".join([when, *self.lines()]), flush=True)
            return
        for gpu, sample in self._samples().items():
            self._writer.add_scalar(f"gpu {gpu}/utilization in %", sample.utilization, reading)
            self._writer.add_scalar(f"gpu {gpu}/memory in MiB", sample.used / 2**20, reading)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _found(gpu_ids: Sequence[int]) -> Sampler | None:
    """Who can be asked; if nobody, a warning tells why."""
    reasons = []
    for find in (nvml_sampler, smi_sampler):
        try:
            return find(gpu_ids)
        except NoGPUError as error:
            reasons.append(str(error).rstrip("."))
    numbers = ", ".join(map(str, gpu_ids))
    warn(
        f"GPUMonitor reports nothing: no NVIDIA GPU {numbers} can be read ({'; '.join(reasons)}). It needs a GPU with "
        "its driver, and pip install 'spikescope[gpu]' or the program nvidia-smi on the PATH.",
        stacklevel=4,
    )
    return None


def _summary_writer(log_dir: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard", "TensorBoard scalars") from None
    return SummaryWriter(str(log_dir))
