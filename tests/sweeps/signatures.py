"""Compare the arguments of a release of SpikingJelly with those under the aliases, name by name.

    PYTHONPATH=<package> python tests/sweeps/signatures.py dump 14.json     in an environment with that package
    python tests/sweeps/signatures.py compare 14.json

What is listed differs in the order, the names or the defaults of its arguments; numbers are compared by
`tests/compat/ages`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

NAMES = Path(__file__).resolve().parents[2] / "src" / "spikescope" / "compat" / "names.json"
ROOMS = [
    "base",
    "neuron",
    "surrogate",
    "layer",
    "functional",
    "monitor",
    "encoding",
    "learning",
    "rnn",
    "ann2snn",
    "quantize",
]
MODULES = [*(f"{package}.{room}" for package in ("activation_based", "clock_driven") for room in ROOMS), "cext.neuron"]


def arguments(held: Any) -> list[list[str]] | None:
    """The kind, name and default of each argument; None where nothing tells them."""
    own = inspect.isclass(held) and "__signature__" not in vars(held)
    try:
        found = inspect.signature(held.__init__ if own else held).parameters.values()
    except (TypeError, ValueError):
        return None
    shown = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        [shown.get(p.kind, ""), p.name, "" if p.default is p.empty else repr(p.default).splitlines()[0]]
        for p in found
        if p.name != "self"
    ]


def gathered() -> dict[str, Any]:
    """The arguments of all public names that can be called, of the package that is imported."""
    told = {}
    for name, entry in json.loads(NAMES.read_text()).items():
        if name not in MODULES:
            continue
        try:
            module = importlib.import_module(f"spikingjelly.{name}")
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        held = {key: getattr(module, key, None) for key in entry["names"]}
        told |= {f"{name}.{key}": arguments(value) for key, value in held.items() if callable(value)}
    return told


def fits(theirs: list[list[str]], ours: list[list[str]]) -> bool:
    """Whether a call of theirs is one of ours: the same arguments first, those after them with defaults."""
    same = all(a[:2] == b[:2] and default(a) == default(b) for a, b in zip(theirs, ours, strict=False))
    return same and len(ours) >= len(theirs)


def default(argument: list[str]) -> str:
    """A default as it is compared: a surrogate that None stands for here, and backends, are not."""
    name, held = argument[1], argument[2]
    if name.startswith("surrogate_function") or name == "backend":
        return ""
    try:
        return str(float(held))
    except ValueError:
        return held


def main(argv: list[str]) -> None:
    what, path = argv
    if what == "dump":
        Path(path).write_text(json.dumps(gathered()))
        return
    from spikescope.compat import install

    install(force=True)
    theirs, ours = json.loads(Path(path).read_text()), gathered()
    absent = [["*", "args", ""], ["**", "kwargs", ""]]
    for name, wanted in theirs.items():
        here = ours.get(name)
        if wanted is None or here is None or here == absent or fits(wanted, here):
            continue
        for whose, held in (("there", wanted), ("here", here)):
            print(
                f"{name} {whose}: {', '.join(kind + key + (f'={value}' if value else '') for kind, key, value in held)}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
