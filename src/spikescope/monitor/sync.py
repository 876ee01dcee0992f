"""Results and findings over all processes of a distributed run, however many modules there are."""

from __future__ import annotations

from typing import Any, overload

from torch import distributed

from .health.health import Health
from .health.registry import judged, open_questions
from .health.watch.gathered import Told
from .health.watch.seen import Seen
from .merging import entries_of, merged, probe_error
from .record import Recording
from .results import Results

__all__ = ["sync"]


@overload
def sync(watched: Recording, group: Any = None) -> Results: ...
@overload
def sync(watched: Health, group: Any = None) -> Health: ...
def sync(watched: Recording | Health, group: Any = None) -> Results | Health:
    """What all ranks of `group` have seen, the same on each: results, or findings. What watches stays as it is.

    Every rank has to call it, at the same point of its program. First the ranks compare a hash of what they watch: a
    difference, or the error of a recording on one of them, is a RuntimeError on all that says what differs. Then the
    sums, the minima with the maxima, and what has a merge rule of its own go in one collective each, whole numbers
    apart from real ones: four at most. A rank that has seen nothing adds nothing.

    Of `health` two more send what else was seen, and the findings of the first rank that has seen anything, which
    judges for all: shares and counts are exactly those of one process with all samples, sums of real numbers up to
    rounding. A place names the rank on which it is, and its sample there; neighbours on two ranks are not compared.

    For example `results = monitor.sync(recording)` after an epoch of DistributedDataParallel, then
    `if rank == 0: print(results.table())`.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "sync needs torch.distributed: call init_process_group first. In one process, read the recording itself."
        )
    if isinstance(watched, Health):
        return _health(watched, group)
    if not isinstance(watched, Recording):
        raise TypeError(f"sync takes what monitor.record or monitor.health gives, but got {type(watched).__name__}.")
    entries = entries_of(watched)
    rows: dict[str, dict[str, Any]] = {}
    for i, summary in merged(entries, (), probe_error(watched), group).items():
        rows.setdefault(entries[i].name, {})[entries[i].label] = entries[i].reducer.result(summary)
    return Results(rows, watched.single)


def _health(watched: Health, group: Any) -> Health:
    seen = watched._seen
    if seen is None:
        raise TypeError("sync: a copy of what monitor.health gives holds findings alone; give the one that watches.")
    if not seen.closed:
        seen.settle()
    held = [(name, entry) for name, one in seen.recordings.items() for entry in entries_of(one, f"{name}: ")]
    made = merged([entry for _, entry in held], seen.terms, "", group)
    told = _all((seen.told(), seen.ran), group)
    summaries: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in seen.recordings}
    for i, summary in made.items():
        name, entry = held[i]
        summaries[name].setdefault(entry.name, {})[entry.label] = summary
    judge = next((rank for rank, (_, ran) in enumerate(told) if ran), 0)
    here = distributed.get_rank(group) == judge
    found = _all(_judged(seen, [one for one, _ in told], summaries) if here else None, group)[judge]
    if isinstance(found, str):
        raise RuntimeError(f"sync: rank {judge}, which judges for all, could not: {found}")
    return watched.joined(*found)


def _judged(seen: Seen, told: list[Told], summaries: dict[str, Any]) -> tuple[Any, ...] | str:
    """Findings, what could not be judged, whether anything ran; an error in words, since the other ranks wait."""
    try:
        whole = seen.joined(told, summaries)
        return judged(whole), open_questions(whole), whole.ran
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _all(value: Any, group: Any) -> list[Any]:
    """The values of all ranks."""
    values: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(values, value, group=group)
    return values
