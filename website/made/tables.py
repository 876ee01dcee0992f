"""Pages that are tables of a registry: reducers, findings, measures, exports, and what `auto` does for every neuron."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module

import torch

from spikescope import analysis, monitor, neuron
from spikescope.dynamics.graphs.program import program, refusal
from spikescope.monitor.health.registry import causes
from spikescope.recording.export.base import registry as formats

from .gallery import make
from .text import cell, doc_of, first_sentence
from .words import say


def _table(what: str, language: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"# {say(what, language)}", "", say(f"{what} intro", language), ""]
    shown = [say(head, language) if head else "" for head in heads]
    lines += [f"| {' | '.join(shown)} |", "|" + "---|" * len(shown)]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def spoken(name: str) -> str:
    """The name of a reducer as `record` takes it: `SilentShare` is 'silent share'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def reducers(language: str) -> str:
    """The page of all reducers."""
    rows = (
        (f"`{spoken(name)}`", f"[`{name}`](api/monitor.reduce.md#{name})", first_sentence(doc_of(cls)))
        for name, cls in monitor.reduce.registry.items()
    )
    return _table("reducers", language, ("", "", ""), rows)


def findings(language: str) -> str:
    """The page of all findings."""
    rows = ((f"**{cause.kind}**", cause.means, cause.advice, ", ".join(cause.explains)) for cause in causes().values())
    return _table("findings", language, ("finding", "means", "advice", "explains"), rows)


def measures(language: str) -> str:
    """The page of all analyses."""
    rows = (
        (f"[`{name}`](api/analysis.md#{name})", first_sentence(held.says), f"{held.gives}, {held.unit}", held.source)
        for name, held in analysis.registry.items()
    )
    return _table("measures", language, ("", "means", "gives", "definition"), rows)


def exports(language: str) -> str:
    """The page of all formats that a recording goes to."""
    rows = (
        (
            f"`to_{name}`",
            ", ".join(f"`{suffix}`" for suffix in held.suffixes),
            held.keeps,
            held.loses,
            f"`{held.extra}`",
        )
        for name, held in sorted(formats.items())
    )
    return _table("exports", language, ("", "file", "keeps", "loses", "extra"), rows)


def planned(cls: type, language: str) -> tuple[str, str]:
    """What `auto` takes for a neuron on a CPU with a compiler and on a GPU, and why where it is the eager loop."""
    node = make(cls)
    if issubclass(cls, neuron.ParallelNeuron):
        return (say("over time", language),) * 2
    key = node._definition(node.params()).key
    found = []
    for backend, kernel in (("cpp", "kernel"), ("triton", "triton kernel")):
        why = "its step is no graph" if key is None else refusal(key, True, torch.float32)
        if why is None:
            why = program(key).inexact(torch.float32, backend)
        found.append(say(kernel, language) if why is None else f"{say('loop', language)}: {why}")
    return found[0], found[1]


def backends(language: str) -> str:
    """The page of what `auto` does."""
    rows = ((f"[`{name}`](neurons.md#{name})", *planned(cls, language)) for name, cls in neuron.registry.items())
    return _table("backends", language, ("neuron", "on a CPU", "on a GPU"), rows)


def load() -> None:
    """Register what registers itself when it is imported."""
    import_module("spikescope.recording.export")
