"""How much of what published code imports is here: `python tests/compat/count_names.py` prints it for the README.

`corpus.json` has the dotted names that public repositories use of SpikingJelly, how many use each, and for each
repository the numbers of its names. A name is here, or is imported and refused in words on use, or is unknown: most of
these are of packages that somebody changed.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path

from spikescope.compat import install
from spikescope.compat.absent import AREAS, absent, area_of
from spikescope.compat.catalogue import catalogue

CORPUS = json.loads(Path(__file__).with_name("corpus.json").read_text())
MARKS = ("<!-- names of published code -->", "<!-- end of names of published code -->")
_ABSENT = type(absent("name", "why"))


def status(name: str) -> str:
    """'here', 'refused' or 'unknown', for a dotted name that begins with the package. The aliases must be installed."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[1:length])
        if area_of(module) is not None and module not in catalogue() and module not in AREAS:
            continue  # in a part that is not here any name can be imported as a module
        try:
            held = importlib.import_module(".".join(parts[:length]))
            break
        except ImportError:
            continue
    else:
        return "unknown"
    for part in parts[length:]:
        try:
            held = getattr(held, part)
        except (AttributeError, ImportError):
            return "unknown"
        if isinstance(held, _ABSENT):
            return "refused"
    return "here"


def in_a_release(name: str) -> bool:
    """Whether one of the releases of the catalogue has a name."""
    module, _, last = name.removeprefix("spikingjelly").removeprefix(".").rpartition(".")
    entry = catalogue().get(module)
    known = entry is not None and (last in entry.names or last in entry.imports)
    return known or name.removeprefix("spikingjelly").removeprefix(".") in catalogue()


def counts() -> dict[str, int]:
    """Names by status, and repositories by the worst of their names."""
    install(force=True)
    names = list(CORPUS["names"])
    told = {name: status(name) for name in names}
    by_name = Counter(told.values())
    worst = Counter()
    for held in CORPUS["repositories"]:
        found = {told[names[index]] for index in held}
        worst["unknown" if "unknown" in found else "refused" if "refused" in found else "here"] += 1
    foreign = sum(told[name] == "unknown" and not in_a_release(name) for name in names)
    return {
        "uses": sum(CORPUS["names"].values()),
        "uses here": sum(number for name, number in CORPUS["names"].items() if told[name] == "here"),
        "names": len(names),
        "names here": by_name["here"],
        "names refused": by_name["refused"],
        "names unknown": by_name["unknown"],
        "names unknown to every release": foreign,
        "repositories": len(CORPUS["repositories"]),
        "repositories here": worst["here"],
        "repositories refused": worst["refused"],
        "repositories unknown": worst["unknown"],
    }


def text() -> str:
    """The lines between the marks."""
    held = counts()

    def share(part: int, whole: str) -> str:
        return f"{part} of {held[whole]} ({100 * part / held[whole]:.0f} %)"

    starts = held["repositories here"] + held["repositories refused"]
    return (
        f"Of {held['repositories']} public repositories that import SpikingJelly, all names are here in "
        f"{share(held['repositories here'], 'repositories')}, and can be imported in "
        f"{share(starts, 'repositories')}. They use {held['names']} names, of which {held['names here']} are here, "
        f"with {share(held['uses here'], 'uses')} of the uses; {held['names refused']} others, most of kernels, "
        "programs and launchers inside that package, can be imported and are refused in words when they are used."
    )


if __name__ == "__main__":
    print("\n".join((MARKS[0], text(), MARKS[1])))
