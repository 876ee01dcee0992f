"""Watching the GPUs while a network trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..errors import missing_extra

__all__ = ["GPUMonitor", "GPUSample"]


class GPUSample(NamedTuple):
    """The load of one GPU."""

    utilization: float  # per cent
    used: int  # bytes of its memory
    total: int


Sampler = Callable[[int], GPUSample]


def nvml_sampler(gpu_ids: Sequence[int]) -> Sampler:
    """A sampler that asks the NVIDIA driver, or an error in words."""
    try:
        import pynvml
    except ImportError:
        raise missing_extra("nvidia-ml-py", "gpu", "GPU readings") from None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise RuntimeError(
            f"GPUMonitor found no NVIDIA GPU that it can ask: {error}. It needs an NVIDIA GPU with its driver; "
            "`nvidia-smi` shows whether they are there."
        ) from error
    missing = [gpu for gpu in gpu_ids if gpu >= count]
    if missing:
        raise RuntimeError(f"GPUMonitor: there is no GPU {missing[0]}; this machine has {count}, numbered from 0.")
    handles = {gpu: pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpu_ids}

    def sample(gpu: int) -> GPUSample:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handles[gpu])
        return GPUSample(pynvml.nvmlDeviceGetUtilizationRates(handles[gpu]).gpu, memory.used, memory.total)

    return sample


class GPUMonitor:
    """A thread that reports utilisation and memory of each GPU every `interval` seconds.

    - `log_dir`: a folder for TensorBoard scalars; None prints lines with a time.
    - `gpu_ids`: the number of the GPU, or those of several.
    - `interval`: seconds; infinite reports once.
    - `start_now`: start at once, or with `start()`.
    - `sampler`: gives the `GPUSample` of a number; None asks the NVIDIA driver.

    `stop()` returns at once; the process can end without it. No GPU or no driver is a RuntimeError at the start.

    >>> with GPUMonitor(start_now=False, sampler=lambda gpu: GPUSample(50, 2**30, 2**32)) as monitor:
    ...     monitor.line(0)
    'gpu 0: 50 % busy, 1.0 of 4.0 GiB'
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
        self.log_dir, self.gpu_ids, self.interval = log_dir, ids, float(interval)
        self.error: BaseException | None = None  # what ended the thread
        self._sampler, self._writer = sampler, None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if start_now:
            self.start()

    def start(self) -> None:
        """Begin to report; a second time does nothing. After `stop()` it reports again."""
        if self._thread is not None and self._thread.is_alive() and not self._stop.is_set():
            return
        self._sampler = self._sampler or nvml_sampler(self.gpu_ids)
        writer = None if self.log_dir is None else _summary_writer(self.log_dir)
        self._stop, self.error = threading.Event(), None
        self._thread = threading.Thread(target=self._run, args=(self._stop, writer), name="GPUMonitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Report no more; returns at once, and a second time does nothing."""
        self._stop.set()

    def line(self, gpu: int) -> str:
        """The present load of a GPU in words."""
        if self._sampler is None:
            self._sampler = nvml_sampler(self.gpu_ids)
        busy, used, total = self._sampler(gpu)
        return f"gpu {gpu}: {busy:.0f} % busy, {used / 2**30:.1f} of {total / 2**30:.1f} GiB"

    def _run(self, stopped: threading.Event, writer: Any) -> None:
        began = time.monotonic()
        try:
            while not stopped.is_set():
                if writer is None:
                    print(time.strftime("%Y-%m-%d %H:%M:%S"), "; ".join(map(self.line, self.gpu_ids)), flush=True)
                else:
                    self._write(writer, int(time.monotonic() - began))
                stopped.wait(min(self.interval, threading.TIMEOUT_MAX))
        except Exception as error:
            self.error = error
            print(f"GPUMonitor ended: {type(error).__name__}: {error}", flush=True)
        finally:
            if writer is not None:
                writer.close()

    def _write(self, writer: Any, second: int) -> None:
        assert self._sampler is not None
        for gpu in self.gpu_ids:
            busy, used, _ = self._sampler(gpu)
            writer.add_scalar(f"gpu {gpu}/busy in per cent", busy, second)
            writer.add_scalar(f"gpu {gpu}/memory in GiB", used / 2**30, second)
        writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _summary_writer(log_dir: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard", "TensorBoard scalars") from None
    return SummaryWriter(str(log_dir))
