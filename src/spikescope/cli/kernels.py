"""The commands on compiled kernels: `kernels build` and `kernels list`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from ..display import Overview, size_of
from ..files import OutputError, write_whole
from .shared import refuse

__all__ = ["add_kernels"]

INDEX = "kernels.json"
"""Which kernels of a level are of what, for who reads it; nothing is run by it."""

CAPABILITIES = {"x86-64-v4": "AVX512", "x86-64-v3": "AVX2"}
"""What PyTorch calls the code that it has for a level: what a kernel borrows of it depends on that."""

PARTS = ("events", "flight", "gain", "normalisation", "packing", "parallel", "reducers", "tiles")
"""What else has kernels: the names under which modules declare them."""

DTYPES = ("float32", "float64", "float16", "bfloat16")

_BUILT = """exit status:
  0  done
  2  the work could not begin or its results could not be written

Where the kernels are to be used, SPIKESCOPE_KERNELS names their folder. In an image:
  RUN spikescope kernels build --all -o /opt/kernels
  ENV SPIKESCOPE_KERNELS=/opt/kernels"""


def add_kernels(commands: Any, argv: Sequence[str]) -> None:
    """Add the commands `kernels build` and `kernels list`, given all words of the command."""
    what = "compile kernels for machines without a compiler, and list them"
    inner = commands.add_parser("kernels", help=what, description=what[0].upper() + what[1:] + ".")
    parts = inner.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = parts.add_parser(
        "build",
        help="compile the kernels of neurons and of all else into a folder",
        description="Compile kernels for processors of a level. Of each neuron: forwards and backwards, hard and soft "
        "reset, the reset in the graph and not, plain and with what monitors ask for most. Of recurrent cells, "
        "which layers have as well, and of pools: forwards and backwards. The other parts are batch normalisation, the "
        "gains of gated neurons, the sums of parallel neurons, the reducers of monitors, the flight recorder, the "
        "packing of spikes, the tiles of recordings, and event data.",
        epilog=_BUILT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.set_defaults(run=_build, words=argv)
    build.add_argument(
        "--all", action="store_true", help="all neurons, cells and parts, and the pools of usual networks"
    )
    build.add_argument("--neurons", nargs="+", default=[], metavar="NAME", help="such as LIFNode")
    build.add_argument("--cells", nargs="+", default=[], metavar="NAME", help="such as SpikingLSTMCell")
    pools = "size, stride and padding, such as 2 or 3,2,1"
    build.add_argument("--pools", nargs="+", default=[], metavar="POOL", help=pools)
    build.add_argument("--parts", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(PARTS)}")
    build.add_argument("-o", "--out", type=Path, default=Path("kernels"), metavar="FOLDER", help="(kernels)")
    build.add_argument("--level", metavar="LEVEL", help="x86-64-v3 or x86-64-v4 (the highest of this processor)")
    build.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32"],
        choices=DTYPES,
        help="(float32)",
    )
    build.add_argument("--surrogates", nargs="+", default=[], metavar="NAME", help="such as ATan (those by default)")
    shown = parts.add_parser(
        "list",
        help="show which kernels are in a folder",
        description="Show the compiled kernels in a folder, or in those that this machine would use.",
    )
    shown.set_defaults(run=_list)
    shown.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="(those that are used here)")


def _build(arguments: argparse.Namespace) -> int:
    import torch

    from .. import train, view  # noqa: F401  # with all that they import, which declares its kernels
    from ..errors import did_you_mean
    from ..layer.prebuilt import POOLS, of_pools, windows_of
    from ..neuron.prebuilt import fused_neurons, of_neurons, of_parts, prebuild
    from ..rnn.prebuilt import CELLS, of_cells
    from ..surrogate import registry as surrogates
    from ..toolchain.carried import levels
    from ..toolchain.compiler import CompileError, trouble

    every = fused_neurons(), sorted(CELLS), POOLS, PARTS
    named = arguments.neurons, arguments.cells, arguments.pools, arguments.parts
    if arguments.all == any(named):
        return refuse("Say what to build: --all, or some of --neurons, --cells, --pools and --parts.")
    neurons, cells, told_pools, parts = every if arguments.all else named
    known_names = (neurons, every[0]), (cells, every[1]), (parts, PARTS), (arguments.surrogates, sorted(surrogates))
    for names, known in known_names:
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f" They are made of {', '.join(known)}."
                return refuse(f"No kernels are made of {name!r}.{hint}")
    try:
        pools = [windows_of(told) for told in told_pools]
    except ValueError as error:
        return refuse(str(error))
    level = arguments.level or next(iter(levels()), None)
    if level not in levels():
        reached = ", ".join(levels()) or "none of those for which kernels are built"
        return refuse(f"A kernel is tried when it is built, and this processor reaches {reached}; not {level}.")
    if told := trouble():
        return refuse(told)
    wanted = CAPABILITIES[level]
    if torch.backends.cpu.get_cpu_capability() != wanted:
        if os.environ.get("ATEN_CPU_CAPABILITY") == wanted.lower():
            return refuse(f"This PyTorch has no code for {wanted}, which the kernels for {level} are tried with.")
        return _again(arguments.words, {"ATEN_CPU_CAPABILITY": wanted.lower()})
    dtypes = [getattr(torch, name) for name in arguments.dtypes]
    out = arguments.out / level
    options = dtypes, arguments.surrogates
    equations = of_neurons(neurons, *options), of_cells(cells, *options)
    every_kernel = chain(*equations, of_pools(pools, dtypes), of_parts(parts, *options))
    try:
        for made in prebuild(arguments.out, level, every_kernel):
            _enter(out, made.of, made.kernels)
            print(f"{made.of}: {len(made.kernels)} kernels", flush=True)
    except (CompileError, OSError) as error:
        raise OutputError(str(error)) from error
    print(f"{_told(out)}\nWhere they are to be used: SPIKESCOPE_KERNELS={arguments.out.absolute()}")
    return 0


def _again(words: Sequence[str], variables: dict[str, str]) -> int:
    """The same command in a process in which PyTorch takes its code for another processor."""
    command = [sys.executable, "-m", "spikescope", *words]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


def _list(arguments: argparse.Namespace) -> int:
    from ..toolchain.cache import distrust
    from ..toolchain.carried import LEVELS, carried_folders, levels

    given = [arguments.folder] if arguments.folder else carried_folders()
    places = [folder / level for folder in given for level in LEVELS if os.path.isdir(folder / level)]
    if not places:
        where = f"in {arguments.folder}" if arguments.folder else "that this machine would use (SPIKESCOPE_KERNELS)"
        return refuse(f"There are no kernels {where}. Make some: spikescope kernels build --neurons LIFNode")
    for place in places:
        rows = [[of, str(len(names)), _size(place, names)] for of, names in _index(place).items()]
        remarks = (
            [] if place.name in levels() else ["This processor does not reach that level, and takes none of them."]
        )
        if reason := distrust(place, make=False):
            remarks.append(f"They are not used: {reason}.")
        print(Overview(_told(place), [["of", "kernels", "size"], *rows], remarks).text(None))
    return 0


def _told(place: Path) -> str:
    held = [path.stem for path in place.glob("*.so")]
    return f"{place}: {len(held)} kernels, {_size(place, held)}"


def _size(place: Path, names: Iterable[str]) -> str:
    files = [place / f"{name}.so" for name in names]
    return size_of(sum(file.stat().st_size for file in files if file.exists()))


def _enter(place: Path, of: str, names: Iterable[str]) -> None:
    """Write down of what kernels are, beside what others that build into the same folder write meanwhile."""
    opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        index = _index(place)
        index[of] = sorted({*index.get(of, ()), *names})
        write_whole(place / INDEX, json.dumps(index, indent=1, sort_keys=True))
    finally:
        os.close(opened)


def _index(place: Path) -> dict[str, list[str]]:
    """Which kernels are of what, as far as it was written down."""
    try:
        held = json.loads((place / INDEX).read_text())
        return {str(name): [str(kernel) for kernel in kernels] for name, kernels in held.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
