"""What the parts share: telling a row at once, timing on host and device, and the rival if it is there."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["Part", "rival"]


class Part:
    """One part of the report: where its rows go, and whether it is a rehearsal on a CPU."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("told", type=Path)
        parser.add_argument("--rehearse", action="store_true")
        given = parser.parse_args()
        self.told: Path = given.told
        self.rehearse: bool = given.rehearse
        if not self.rehearse and not torch.cuda.is_available():
            sys.exit("There is no GPU here that PyTorch can use. `--rehearse` runs the command small, on the CPU.")
        self.device = torch.device("cpu" if self.rehearse else "cuda")
        self.row(kind="info", **_info())

    def size(self, full: int, small: int) -> int:
        """`full`, or `small` in a rehearsal."""
        return small if self.rehearse else full

    def row(self, **entries: Any) -> None:
        """Tell a row, and let it be on disk before anything else happens."""
        with self.told.open("a") as file:
            file.write(json.dumps(entries) + "\n")

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        """Some rows; what goes wrong is a row as well."""
        try:
            work()
        except Exception as error:
            traceback.print_exc(limit=8)
            self.row(case=what, error=f"{type(error).__name__}: {str(error)[:300]}")
        if not self.rehearse:
            torch.cuda.empty_cache()

    def times(self, work: Callable[[], Any], rounds: int = 15) -> dict[str, float]:
        """Milliseconds of a call, medians: between two events on the device, and of the host until the call returns."""
        return self.times_in_turn([work], rounds)[0]

    def times_in_turn(self, works: Sequence[Callable[[], Any]], rounds: int = 15) -> list[dict[str, float]]:
        """The same of several works, one call of each in a round: what the machine does besides comes to all alike."""
        for work in works:
            for _ in range(self.size(5, 1)):
                work()
        self.wait()
        found = [[self._once(work) for work in works] for _ in range(self.size(rounds, 1))]
        medians = [map(statistics.median, zip(*taken, strict=True)) for taken in zip(*found, strict=True)]
        return [dict(zip(("event_ms", "host_ms"), both, strict=True)) for both in medians]

    def _once(self, work: Callable[[], Any]) -> tuple[float, float]:
        if self.rehearse:
            begin = time.perf_counter()
            work()
            taken = (time.perf_counter() - begin) * 1e3
            return taken, taken
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        begin = time.perf_counter()
        work()
        host = (time.perf_counter() - begin) * 1e3
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last), host

    def kernels(self, work: Callable[[], Any], rounds: int = 5) -> dict[str, float]:
        """Milliseconds a call of each kernel on the device, by the name of the kernel itself; empty in a rehearsal."""
        if self.rehearse:
            return {}
        from torch.profiler import ProfilerActivity, profile

        work()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            for _ in range(rounds):
                work()
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for event in profiled.events():
            if str(event.device_type).endswith("CUDA"):
                found[event.name] = found.get(event.name, 0.0) + event.device_time_total / 1e3 / rounds
        return found

    def wait(self) -> None:
        """Until the device has done its work."""
        if not self.rehearse:
            torch.cuda.synchronize()


def rival() -> Any:
    """The neurons, layers and functions of SpikingJelly, or the words that stand in the table without them."""
    try:
        from spikingjelly.activation_based import functional, layer, neuron
    except Exception as error:  # a rival that is absent or broken is a word in the table
        print(f"SpikingJelly cannot be imported: {type(error).__name__}: {error}", flush=True)
        return "rival absent"
    return neuron, layer, functional


def _info() -> dict[str, Any]:
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "absent"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "torch": torch.__version__, "triton": version, "python": platform.python_version()}
