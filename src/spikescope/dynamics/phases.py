"""A body of C++ in phases: between two of them functions of PyTorch run on the whole block.

A body without such functions is one phase. Else each operation runs as late as its result allows; what a later phase
reads of it lies in an array of the block, as does what a function takes and gives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from .borrowed import Borrowed, borrowed
from .graph import Node
from .ops import LOGICAL, meaning
from .printing import Assignment, assignments
from .trace import Body

__all__ = ["Phase", "Phases", "in_the_path_of_conditions", "phases"]


class Phase(NamedTuple):
    """The lines of a loop over the neurons of a block, and the calls that follow it."""

    lines: list[str]
    calls: list[str]


class Phases(NamedTuple):
    """A printed body."""

    arrays: list[str]  # declarations of what lies in memory between two phases
    phases: list[Phase]  # after the last there are no calls
    outputs: list[str]
    functions: frozenset[Borrowed]


def in_the_path_of_conditions(body: Body) -> set[Node]:
    """The nodes that a comparison depends on: were they rounded otherwise than forwards, a spike could flip."""
    found: set[Node] = set()
    for node in reversed(body.nodes):
        if node in found or meaning(node) in LOGICAL:
            found.update(node.inputs)
    return found


def phases(
    body: Body,
    real: torch.dtype,
    settled: frozenset[str] = frozenset(),
    wanted: Sequence[int] | None = None,
    among: Collection[Node] | None = None,
) -> Phases:
    """The body for a state of the dtype `real`, with functions of PyTorch for the nodes `among` (None: for all).

    With `wanted` only what the outputs of these places need is computed.
    """
    made, outputs = assignments(body, "cpp", settled=settled)
    outputs = outputs if wanted is None else [outputs[place] for place in wanted]
    made = _needed(made, outputs)
    calls = {
        line.name: function
        for line in made
        if (among is None or line.node in among) and (function := borrowed(meaning(line.node), real)) is not None
    }
    moments = _moments(made, calls)
    last = max(moments.values(), default=0)
    reads: list[list[str]] = [[] for _ in range(last)] + [list(outputs)]  # by phase
    for line in made:
        reads[moments[line.name] - (line.name in calls)] += line.reads
    rows, arrays = [], sorted(calls)
    for at in range(last + 1):
        own = [line for line in made if moments[line.name] == at and line.name not in calls]
        given = [line for line in made if moments[line.name] == at + 1 and line.name in calls]
        before = [line for line in made if line.name in reads[at] and moments[line.name] < at + (line.name in calls)]
        later = {name for names in reads[at + 1 :] for name in names}
        kept = [line.name for line in own if line.name in later]
        arrays += kept
        lines = [
            *(f"const {_kind(line)} {line.name} = {line.name}_[i];" for line in before),
            *(f"const auto {line.name} = {line.expression};" for line in own),
            *(f"{name}_[i] = {name};" for name in kept),
            *(f"{line.name}_[i] = {line.operands[0]};" for line in given),
        ]
        rows.append(Phase(lines, [calls[line.name].call.replace("@", f"{line.name}_") for line in given]))
    return Phases([f"alignas(64) real {name}_[B];" for name in arrays], rows, outputs, frozenset(calls.values()))


def _kind(line: Assignment) -> str:
    return "bool" if line.node.dtype is torch.bool else "real"


def _needed(made: list[Assignment], outputs: Sequence[str]) -> list[Assignment]:
    names, found = set(outputs), []
    for line in reversed(made):
        if line.name in names:
            names.update(line.reads)
            found.append(line)
    return found[::-1]


def _moments(made: list[Assignment], calls: Collection[str]) -> dict[str, int]:
    """The phase of each value: the first that reads it, the last for an output. A call ends just before its phase."""
    depth: dict[str, int] = {}
    for line in made:
        depth[line.name] = (line.name in calls) + max((depth.get(name, 0) for name in line.reads), default=0)
    moments = dict.fromkeys(depth, max(depth.values(), default=0))
    for line in reversed(made):
        for name in line.reads:
            if name in moments:
                moments[name] = min(moments[name], moments[line.name] - (line.name in calls))
    return moments
