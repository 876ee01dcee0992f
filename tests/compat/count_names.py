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
from spikescope.compat.absent import absent
from spikescope.compat.catalogue import catalogue

CORPUS = json.loads(Path(__file__).with_name("corpus.json").read_text())
MARKS = ("<!-- names of published code -->", "<!-- end of names of published code -->")
_ABSENT = type(absent("name", "why"))


def status(name: str) -> str:
    """'here', 'refused' or 'unknown', for a dotted name that begins with the package. The aliases must be installed."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
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

    imported = held["names here"] + held["names refused"]
    starts = held["repositories here"] + held["repositories refused"]
    return (
        f"Of the names that {held['repositories']} public repositories use of SpikingJelly, "
        f"{share(held['names here'], 'names')} are here, {share(imported, 'names')} can be imported; the others of "
        f"these are refused in words when they are used. All names of a repository can be imported in "
        f"{share(starts, 'repositories')}, and all are here in {share(held['repositories here'], 'repositories')}."
    )


if __name__ == "__main__":
    print("\n".join((MARKS[0], text(), MARKS[1])))
