"""Summaries of all processes of a distributed run, merged in a handful of collectives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from .record import Recording
from .reduce import Reducer, rules
from .reduce.core import Span

__all__ = ["Entry", "entries_of", "merged", "probe_error"]


class Entry(NamedTuple):
    """The summary of one reducer of one module on this rank."""

    title: str
    name: str
    label: str
    reducer: Reducer
    summary: Any  # None without data


def entries_of(recording: Recording, what: str = "") -> list[Entry]:
    """What this rank has of a recording, which is called `what` where there are several."""
    return [
        Entry(f"{what}{label} of {name!r} by {total.reducer!r}", name, label, total.reducer, track.summary(label))
        for name, track in recording._tracks.items()
        for label, total in track.totals.items()
    ]


def probe_error(recording: Recording) -> str:
    """The error that a probe met, in words."""
    try:
        recording.raise_error(recording._tracks)
    except Exception as met:
        return f"{type(met).__name__}: {met}"
    return ""


def merged(entries: list[Entry], terms: Sequence[str], error: str, group: Any) -> dict[int, Any]:
    """The summaries of all ranks, by the index of the entry; of what nobody has seen there is none.

    `terms`: what all ranks must have alike beside the entries. `error`: the one that this rank has met.
    """
    shapes = _agreed(entries, terms, error, group)
    flat = [i for i, entry in enumerate(entries) if shapes[i] is not None and _is_flat(entry.reducer)]
    own = [i for i, entry in enumerate(entries) if shapes[i] is not None and not _is_flat(entry.reducer)]
    fields = {i: _fields(entries[i], shapes[i]) for i in flat}
    _reduce(fields, [entries[i].reducer for i in flat], _device(group), group)
    made = {i: entries[i].reducer.Summary(**held) for i, held in fields.items()}
    made.update(_gathered(entries, own, group))
    return dict(sorted(made.items()))


def _is_flat(reducer: Reducer) -> bool:
    """Whether closed summaries merge entry by entry."""
    batch = {rule.batch for rule in rules(reducer.Summary).values()}
    return type(reducer).beside is Reducer.beside and batch <= {"sum", "min", "max", "cat", "span"}


def _shape(entry: Entry) -> dict[str, Any] | None:
    """What a rank without data has to know to take part: shapes and dtypes, and the entries that all have alike."""
    if entry.summary is None:
        return None
    if not _is_flat(entry.reducer):
        return {}
    found: dict[str, Any] = {}
    for name, rule in rules(entry.reducer.Summary).items():
        held = getattr(entry.summary, name)
        if isinstance(held, Tensor):
            found[name] = (tuple(held.shape), held.dtype)
        else:
            found[name] = tuple(held) if rule.batch == "span" else type(held).__name__
    return found


def _agreed(entries: list[Entry], terms: Sequence[str], error: str, group: Any) -> list[dict[str, Any] | None]:
    """The shapes of each entry, None where no rank has data; a RuntimeError on all ranks where they differ."""
    titles = [*terms, *(entry.title for entry in entries)]
    schema = hashlib.sha256("\n".join(titles).encode()).hexdigest()
    ranks: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(ranks, (schema, titles, [_shape(entry) for entry in entries], error), group=group)
    failed = [f"rank {rank}: {held[3]}" for rank, held in enumerate(ranks) if held[3]]
    if failed:
        raise RuntimeError(f"sync: a probe has met an error on {'; '.join(failed)}")
    for rank, (other, theirs, _, _) in enumerate(ranks):
        if other != ranks[0][0]:
            first = [title for title in ranks[0][1] if title not in theirs]
            more = [title for title in theirs if title not in ranks[0][1]]
            raise RuntimeError(
                f"sync: the ranks record different things. Only rank 0 has: {', '.join(first) or 'nothing'}; only rank "
                f"{rank} has: {', '.join(more) or 'nothing'}{'' if first or more else ', but in another order'}. "
                "Watch the same network with the same arguments on all ranks."
            )
    return [_common(title, [held[2][i] for held in ranks]) for i, title in enumerate(titles[len(terms) :])]


def _common(title: str, shapes: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The shape that all ranks with data have."""
    found = {rank: held for rank, held in enumerate(shapes) if held is not None}
    for rank, held in found.items():
        first = next(iter(found))
        if held != found[first]:
            raise RuntimeError(
                f"sync: {title} has summaries of other shapes on rank {first}, {found[first]}, and on rank {rank}, "
                f"{held}. Only the number of samples may differ between ranks."
            )
    return next(iter(found.values()), None)


_IDENTITY = {"sum": 0, "min": float("inf"), "max": float("-inf")}


def _fields(entry: Entry, shape: Any) -> dict[str, Any]:
    """The fields of a summary; those of the identity where this rank has no data."""
    if entry.summary is not None:
        return dict(entry.summary._asdict())
    made: dict[str, Any] = {}
    for name, rule in rules(entry.reducer.Summary).items():
        held = shape[name]
        if rule.batch == "span":
            made[name] = Span(*held)
        elif rule.batch == "cat":
            made[name] = torch.zeros(held[0], dtype=held[1], device="cpu")
        elif isinstance(held, str):
            made[name] = 0
        else:
            made[name] = _identity(rule.batch, held)
    return made


def _identity(rule: str, held: tuple[tuple[int, ...], torch.dtype]) -> Tensor:
    shape, dtype = held
    if dtype.is_floating_point or rule == "sum":
        return torch.full(shape, _IDENTITY[rule], dtype=dtype, device="cpu")
    limits = torch.iinfo(dtype)
    return torch.full(shape, limits.max if rule == "min" else limits.min, dtype=dtype, device="cpu")


def _reduce(fields: dict[int, dict[str, Any]], reducers: list[Reducer], device: torch.device, group: Any) -> None:
    """All-reduce the fields in place: whole sums, real sums, and minima together with negated maxima."""
    buckets: dict[tuple[str, torch.dtype], list[tuple[dict[str, Any], str, bool]]] = {}
    for held, reducer in zip(fields.values(), reducers, strict=True):
        for name, rule in rules(reducer.Summary).items():
            if rule.batch in ("sum", "min", "max"):
                value = held[name]
                real = isinstance(value, float) or (isinstance(value, Tensor) and value.dtype.is_floating_point)
                dtype = torch.int64 if rule.batch == "sum" and not real else torch.float64
                kind = "sum" if rule.batch == "sum" else "min"
                buckets.setdefault((kind, dtype), []).append((held, name, rule.batch == "max"))
    for (kind, dtype), places in sorted(buckets.items(), key=str):
        parts = [torch.as_tensor(held[name], dtype=dtype, device=device).flatten() for held, name, _ in places]
        flat = torch.cat([-part if negated else part for part, (_, _, negated) in zip(parts, places, strict=True)])
        operation = distributed.ReduceOp.SUM if kind == "sum" else distributed.ReduceOp.MIN
        distributed.all_reduce(flat, operation, group=group)
        for part, (held, name, negated) in zip(flat.split([len(part) for part in parts]), places, strict=True):
            old = held[name]
            new = -part if negated else part
            held[name] = new.to(old.device, old.dtype).view(old.shape) if isinstance(old, Tensor) else new.item()


def _gathered(entries: list[Entry], own: list[int], group: Any) -> dict[int, Any]:
    """Summaries with a merge rule of their own: sent whole, merged in the order of the ranks."""
    if not own:
        return {}
    here = {i: _on_cpu(entries[i].summary) for i in own if entries[i].summary is not None}
    ranks: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(ranks, here, group=group)
    merged: dict[int, Any] = {}
    for i in own:
        for held in ranks:
            if i in held:
                merged[i] = entries[i].reducer.merge(merged[i], held[i], "batch") if i in merged else held[i]
    return merged


def _on_cpu(value: Any) -> Any:
    """A summary with its tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, torch.Size) or not isinstance(value, tuple):
        return value
    parts = [_on_cpu(item) for item in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _device(group: Any) -> torch.device:
    """Where the backend of the group takes its tensors."""
    nccl = distributed.get_backend(group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
