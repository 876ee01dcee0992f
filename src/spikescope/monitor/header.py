"""What the head of a recording says: of the modules, the programs and the time."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base import StepModule
from .choose.kinds import is_foreign, most_spikes
from .choose.modules import named
from .choose.signals import threshold_of
from .choose.subset import Subset

__all__ = ["header"]


def header(
    net: nn.Module,
    modules: Mapping[str, Mapping[str, nn.Module]],
    *,
    dt: float | None,
    seed: int | None = None,
    every: int = 1,
    subset: Subset | None = None,
) -> dict[str, Any]:
    """The head of a recording of these signals of these modules, both by name."""
    everything = named(net)
    order = [path for path in everything if any(path in held for held in modules.values())]
    return {
        "dt": dt,
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "every": every,
        "subset": _told(subset),
        "versions": {
            "spikescope": _version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git": _git(),
        "layers": {
            path: _about(everything[path], [name for name, held in modules.items() if path in held]) for path in order
        },
    }


def _about(module: nn.Module, signals: list[str]) -> dict[str, Any]:
    """What the head says of a module."""
    fields = {name: _field(getattr(module, name, None)) for name in getattr(type(module), "fields", ())}
    told: dict[str, Any] = {"type": type(module).__name__, "signals": signals, "fields": fields}
    if is_foreign(module):
        told["library"] = type(module).__module__.partition(".")[0]
        told["fields"] = {} if (threshold := threshold_of(module)) is None else {"v_threshold": threshold}
    if (most := most_spikes(module)) > 1:
        told["most_spikes"] = most
    if isinstance(module, StepModule):
        told["step_mode"] = module.step_mode
    return told


def _field(held: Any) -> Any:
    """The value of a field at the start: numbers as they are, what is large by its shape."""
    if isinstance(held, Tensor):
        return held.detach().cpu().tolist() if held.numel() <= 1 << 12 else f"{held.dtype} {tuple(held.shape)}"
    return held if held is None or isinstance(held, (bool, int, float, str)) else repr(held)


def _told(subset: Subset | None) -> Any:
    """The subset in words."""
    return (
        None
        if subset is None or subset.everything
        else {
            name: re.sub(r" at 0x\w+", "", repr(held))  # where a function lies says nothing to a reader
            for name in ("neurons", "samples", "time")
            if (held := getattr(subset, name)) is not None
        }
    )


def _version() -> str:
    from .. import __version__

    return __version__


def _git() -> dict[str, Any] | None:
    """The commit that the working folder is at, and whether it has changes; None where there is none."""

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
