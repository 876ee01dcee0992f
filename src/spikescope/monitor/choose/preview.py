"""What a selection would record, before it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...display import laid_out
from ...errors import check_module
from ...recording.budget import nbytes
from ...recording.records import Moment
from ..foreign.copies import copied
from ..probe.single import Probe
from ..probe.start import Root
from .modules import select, unwrapped
from .signals import signal_of
from .subset import Subset

__all__ = ["DryRun", "Match", "dry_run"]


class Match(NamedTuple):
    """One chosen module and what it gives in one run."""

    name: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]  # of each call
    steps: int
    bytes_per_step: float


class DryRun(tuple[Match, ...]):
    """The matches of a selection; as text a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [("name", "kind", "calls", "shape", "bytes/step")]
        for match in self:
            shape = "x".join(map(str, match.shapes[0])) if match.shapes else "never fired"
            rows.append((match.name, match.kind, str(len(match.shapes)), shape, f"{match.bytes_per_step:,.0f}"))
        return laid_out(rows, left=len(rows[0]))


def dry_run(
    net: nn.Module,
    x: Any,
    where: Any,
    signal: str = "output",
    subset: Subset | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> DryRun:
    """Run a copy of `net` on `x` and tell what would be recorded; `net` itself is left as it is.

    - `x`: what `net` takes; a tuple for several arguments, and `keywords` for those with a name.

    No backward pass is run: a gradient is a ValueError.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), spikescope.neuron.IFNode())
    >>> print(dry_run(net, torch.zeros(3, 2, 2), spikescope.neuron.Neuron))
    name  kind    calls  shape  bytes/step
    2     IFNode  1      3x2    24
    """
    check_module("dry_run", net)
    if signal in ("grad_input", "grad_output"):
        raise ValueError(
            f"dry_run runs no backward pass and cannot tell of {signal!r}. A gradient has the shape of what it is of: "
            f"ask for {signal.removeprefix('grad_')!r}."
        )
    twin = copied(unwrapped(net))
    modules = select(twin, where, "dry_run")
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}
    steps = dict.fromkeys(modules, 0)

    def take(value: Any, moment: Moment) -> None:
        seen[moment.name].append(value)
        steps[moment.name] += 1 if moment.start is None or moment.stop is None else moment.stop - moment.start

    root = Root(twin)
    probes = [
        Probe(name, module, signal_of(signal, module), take, root=root, subset=subset)
        for name, module in modules.items()
    ]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        twin(*(x if type(x) is tuple else (x,)), **(keywords or {}))
    for probe in probes:
        if probe.error is not None:
            raise probe.error
    return DryRun(
        Match(
            name,
            type(module).__name__,
            tuple(tuple(value.shape) for value in seen[name] if isinstance(value, Tensor)),
            steps[name],
            nbytes(seen[name]) / max(1, steps[name]),
        )
        for name, module in modules.items()
    )
