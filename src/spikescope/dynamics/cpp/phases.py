"""A body of C++ in phases, each a loop over the neurons of a block.

Two things end a phase. A function of PyTorch runs on the whole block: what it takes and gives lies in an array. And
after an approximate function in a long chain of operations a new loop begins: a processor works on as many neurons at a
time as its window of instructions holds, and of shorter loops it holds more.

Each operation runs as late as its result allows; what a later phase reads of it lies in an array of the block too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch

from ..graphs.ops import LOGICAL, OPS, meaning
from ..graphs.printing import Assignment
from .borrowed import Borrowed, borrowed

__all__ = ["Phase", "Phases", "arranged", "ends", "functions_of", "needed", "path_of_spikes"]


class Phase(NamedTuple):
    """The lines of a loop over the neurons of a block, and the calls that follow it."""

    lines: list[str]
    calls: list[str]


class Phases(NamedTuple):
    """A printed body."""

    arrays: list[str]  # declarations of what lies in memory between two phases, and of what the functions need
    phases: list[Phase]  # after the last there are no calls
    outputs: list[str]
    functions: frozenset[Borrowed]


def path_of_spikes(made: Sequence[Assignment], states: Sequence[str]) -> set[str]:
    """The values that a comparison or a next state depends on: rounded otherwise than forwards, a spike could flip."""
    found = set(states)
    for line in reversed(made):
        if line.name in found or meaning(line.node) in LOGICAL:
            found.update({line.name, *line.reads})
    return found


def functions_of(
    made: Sequence[Assignment], real: torch.dtype, among: Collection[str] | None = None
) -> dict[str, Borrowed]:
    """The functions of PyTorch for a state of the dtype `real`, by the values `among` (None: all) that they give."""
    return {
        line.name: function
        for line in made
        if (among is None or line.name in among) and (function := borrowed(meaning(line.node), real)) is not None
    }


def ends(made: Sequence[Assignment]) -> set[str]:
    """The values after which a new loop begins: those of approximate functions."""
    return {line.name for line in made if meaning(line.node) in OPS and not OPS[meaning(line.node)].exact}


def needed(made: Sequence[Assignment], outputs: Sequence[str], given: Collection[str] = ()) -> list[Assignment]:
    """The lines that the outputs depend on, where the values `given` need no line."""
    names, found = set(outputs), []
    for line in reversed(made):
        if line.name in names and line.name not in given:
            names.update(line.reads)
            found.append(line)
    return found[::-1]


def arranged(
    made: Sequence[Assignment],
    outputs: Sequence[str],
    calls: Mapping[str, Borrowed],
    breaks: Collection[str] = (),
    given: Collection[str] = (),
) -> Phases:
    """The lines for the outputs in phases, with the functions `calls` of PyTorch, a new loop after each of `breaks`.

    The values `given` are known in every phase.
    """
    made = needed(made, outputs, given)
    apart = {line.name for line in made if line.name in calls or line.name in breaks} - set(outputs)
    apart |= {line.name for line in made if line.name in calls}
    moments = _moments(made, apart)
    last = max(moments.values(), default=0)
    reads: list[list[str]] = [[] for _ in range(last)] + [list(outputs)]  # by phase
    for line in made:
        reads[moments[line.name] - (line.name in apart)] += line.reads
    rows, arrays = [], [line.name for line in made if line.name in calls]
    for at in range(last + 1):
        computed = [line for line in made if line.name not in calls and _place(line, moments, apart) == at]
        given_away = [line for line in made if line.name in calls and moments[line.name] == at + 1]
        before = [line for line in made if line.name in reads[at] and moments[line.name] < at + (line.name in apart)]
        later = {name for names in reads[at + 1 :] for name in names}
        kept = [line.name for line in computed if line.name in later]
        arrays += kept
        lines = [
            *(f"const {_kind(line)} {line.name} = {line.name}_[i];" for line in before),
            *(f"const auto {line.name} = {line.expression};" for line in computed),
            *(f"{name}_[i] = {name};" for name in kept),
            *(f"{line.name}_[i] = {line.operands[0]};" for line in given_away),
        ]
        rows.append(Phase(lines, [calls[line.name].call.replace("@", f"{line.name}_") for line in given_away]))
    functions = frozenset(calls[line.name] for line in made if line.name in calls)
    meanwhile = sorted({function.meanwhile for function in functions} - {""})
    return Phases([*(f"alignas(64) real {name}_[B];" for name in arrays), *meanwhile], rows, list(outputs), functions)


def _kind(line: Assignment) -> str:
    return "bool" if line.node.dtype is torch.bool else "real"


def _place(line: Assignment, moments: Mapping[str, int], apart: Collection[str]) -> int:
    """The phase in which a value is computed; one that stands apart is there from the next on."""
    return moments[line.name] - (line.name in apart)


def _moments(made: Sequence[Assignment], apart: Collection[str]) -> dict[str, int]:
    """The phase of each value: the first that reads it, the last for an output."""
    depth: dict[str, int] = {}
    for line in made:
        depth[line.name] = (line.name in apart) + max((depth.get(name, 0) for name in line.reads), default=0)
    moments = dict.fromkeys(depth, max(depth.values(), default=0))
    for line in reversed(made):
        for name in line.reads:
            if name in moments:
                moments[name] = min(moments[name], _place(line, moments, apart))
    return moments
