"""Part (d): all GPUs of the machine, a process each: gradients in DDP and in shards, counts, efficiency, bytes."""

from __future__ import annotations

import torch

from ..cases.scaling import CLOSE, together
from .tell import Part


def main() -> None:
    """A row of what is compared and one of what is measured, for two processes and for as many as there are GPUs."""
    part = Part()
    most = 2 if part.rehearse else torch.cuda.device_count()
    if most < 2:
        part.row(case="several GPUs", outcome="needs two GPUs in this machine")
    for ranks in sorted({min(2, most), most} - {0, 1}):
        part.attempt(f"{ranks} processes", lambda ranks=ranks: _ranks(part, ranks))


def _ranks(part: Part, ranks: int) -> None:
    found = together(ranks, part.device.type, part.size(128, 4), part.size(32, 2), part.size(25, 1))
    off = {name: held for name, held in found.items() if name.startswith("gradients")}
    right = found["counts"] and all(each <= CLOSE for each in off.values())
    part.row(case=f"{ranks} processes", outcome="as one" if right else "OTHERWISE", counts=found["counts"], **off)
    times = {f"{name}_ms": found[name] for name in ("together", "apart", "alone")}
    part.row(case=f"{ranks} processes", **times, ratio=found["apart"] / found["together"], sent_bytes=found["sent"])


if __name__ == "__main__":
    main()
