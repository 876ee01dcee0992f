"""The import paths of SpikingJelly as aliases of ours. Torch is imported when an alias is, not before."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .absent import AREAS, UNRELEASED, absent, area_of, reason
from .catalogue import catalogue
from .sources import ROOT, SOURCES, home

__all__ = ["install", "uninstall"]

OTHER_PACKAGES = {"cupy", "slayer", "triton", "lynpy"}
"""What that package tries to import, and has as None where it is not here."""


def _known(name: str) -> bool:
    """Whether an alias has this name relative to the root: ours, in a catalogue, or in a part that is not here."""
    inside = any(other.startswith(f"{name}.") for other in (*SOURCES, *AREAS)) if name else True
    return inside or name in SOURCES or name in AREAS or name in catalogue() or area_of(name) is not None


def _is_alias(fullname: str) -> bool:
    return _known(_relative(fullname))


def _relative(fullname: str) -> str:
    return fullname.removeprefix(ROOT).removeprefix(".")


def _path(name: str) -> str:
    return f"{ROOT}.{name}" if name else ROOT


def _beside(name: str) -> list[str]:
    """The aliases of ours right below the package `name`."""
    depth = name.count(".") + 2 if name else 1
    below = {".".join(other.split(".")[:depth]) for other in SOURCES if not name or other.startswith(f"{name}.")}
    return sorted(_path(other) for other in below)


def _missing(fullname: str) -> str:
    """What to say of a module or name that no alias has."""
    parent, _, last = _relative(fullname).rpartition(".")
    source = home(parent) if parent in SOURCES or parent in catalogue() else None
    if source is not None:
        from ..errors import did_you_mean  # only now: it brings torch

        names = _names_of(source)
        if last in names:
            return f"{fullname} is not a module: write `from {_path(source)} import {last}`."
        ours, hint = SOURCES[source][0], did_you_mean(last, names)
        return f"{_path(parent)} is an alias of {ours}, which has no {last}.{hint} See dir({ours}) for what is there."
    while parent and not _known(parent):
        parent = parent.rpartition(".")[0]
    return (
        f"There is no {fullname} among the aliases of spikescope; there is {', '.join(_beside(parent))}. "
        "What has no alias may be in spikescope under another name: see docs/guide/moving.md."
    )


def _names_of(name: str) -> dict[str, Any]:
    """The names of ours that the alias `name` holds."""
    held: dict[str, Any] = {}
    for source in SOURCES[name]:
        where, _, wanted = source.partition(":")
        module = import_module(where)
        if wanted:
            ours, _, theirs = wanted.partition("=")
            held[theirs or ours] = getattr(module, ours)
            continue
        names = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        held |= {key: getattr(module, key) for key in names}
    return {key: value for key, value in held.items() if not isinstance(value, ModuleType)}


def _ours(name: str) -> dict[str, Any]:
    """The names of ours in the module `name`: all of its own, or those that its catalogue lists."""
    if name in SOURCES:
        return _names_of(name)
    source = home(name)
    entry = catalogue().get(name)
    if source is None or entry is None:
        return {}
    return {key: value for key, value in _names_of(source).items() if key in entry.names}


def _parts(name: str) -> set[str]:
    """The modules inside `name` that `import *` hands on: those that a package brings all its names from.

    To import the package imported them, up to 0.0.0.0.14; the packages of 2.0.0 list what they hand on.
    """
    known = catalogue()
    names = _of_old(known[name].names) if name in known else set()
    inside = {
        module.rpartition(".")[2]: _of_old(entry.names)
        for module, entry in known.items()
        if module.rpartition(".")[0] == name and _of_old({module: entry.ages}) and area_of(module) is None
    }
    return set(inside) if names and names <= set().union(*inside.values()) else set()


def _of_old(ages: Mapping[str, str]) -> set[str]:
    """The names that 0.0.0.0.12 or 0.0.0.0.14 had."""
    return {name for name, told in ages.items() if {"12", "14"} & set(told.split())}


def _imported(link: str) -> Any:
    """What `module` or `module:name` stands for; an ImportError if that package is not here."""
    module, _, name = link.partition(":")
    found = import_module(module)
    if name and not hasattr(found, name):  # a module inside, as matplotlib:pyplot, that nobody has imported yet
        return import_module(f"{module}.{name}")
    return getattr(found, name) if name else found


def _there(link: str) -> bool:
    """Whether what a module imports is here, without importing it."""
    module, _, name = link.partition(":")
    top = module.partition(".")[0]
    if top == ROOT:  # what that module imports in its turn
        entry = catalogue().get(_relative(module))
        return entry is None or name not in entry.imports or _there(entry.imports[name])
    return top in sys.modules or importlib.util.find_spec(top) is not None


class _Alias(ModuleType):
    """A module whose names are ours; what it has not is refused in words, now or when it is used."""

    def __getattr__(self, name: str) -> Any:
        own = _relative(self.__name__)
        fullname = f"{self.__name__}.{name}"
        if name.startswith("__"):  # asked for by tools, not by a script
            raise AttributeError(f"There is no {fullname}.")
        entry, area = catalogue().get(own), area_of(own)
        if name in OTHER_PACKAGES:
            return None
        if f"{own}.{name}" in SOURCES:  # also one that lies in a part that is not here
            return import_module(fullname)
        if entry is not None and name in entry.names:
            return absent(name, reason(fullname, area, SOURCES[own][0] if own in SOURCES else ""))
        if entry is not None and name in entry.imports and _there(entry.imports[name]):
            return _imported(entry.imports[name])
        if _is_alias(fullname) and (area is None or f"{own}.{name}" in catalogue() or f"{own}.{name}" in AREAS):
            return import_module(fullname)
        if area is not None or own in UNRELEASED:
            return absent(name, reason(fullname, area, SOURCES[own][0] if own in SOURCES else ""))
        raise AttributeError(_missing(fullname))

    def __setattr__(self, name: str, given: Any) -> None:
        super().__setattr__(name, given)
        if _relative(self.__name__) == "configure":  # the one module that is written to
            from .configure import assigned

            assigned(name, given)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *vars(self).get("__all__", ())})


class _AliasLoader(Loader):
    """Fills an alias with the names that are ours."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name, f"Alias made by spikescope.compat for code that imports {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        name = _relative(module.__name__)
        held = _ours(name)
        vars(module).update(held)
        entry = catalogue().get(name)
        if held or entry is not None:  # `import *` hands on what a module imports, too
            known = {} if entry is None else {key: link for key, link in entry.imports.items() if _there(link)}
            vars(module)["__all__"] = sorted({*held, *known, *_parts(name), *(() if entry is None else entry.names)})
        if held:
            _lenient(True)


def _lenient(allowed: bool) -> None:
    """Whether neurons take what code that comes by the aliases may rely on: integers, and backends of that library."""
    from ..neuron.leniency import be_lenient

    be_lenient(allowed)


class _AliasFinder(MetaPathFinder):
    """Finds the aliases, and says what there is when another module of that package is wanted."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != ROOT and not fullname.startswith(f"{ROOT}."):
            return None
        if _is_alias(fullname):
            # every alias is a package, so that `from alias import name` comes here for a name that it has not
            return ModuleSpec(fullname, _AliasLoader(), is_package=True, origin="spikescope.compat")
        # without `name`, the import system would pass over the error and give one without advice
        raise ModuleNotFoundError(_missing(fullname))


_finder = _AliasFinder()
_set_aside: dict[str, ModuleType] = {}


def _loaded() -> Iterator[str]:
    """The names in `sys.modules` that belong to the package, real or alias."""
    yield from [name for name in sys.modules if name == ROOT or name.startswith(f"{ROOT}.")]


def installed_at() -> str | None:
    """Where the real package is, or None if it cannot be imported."""
    loaded = sys.modules.get(ROOT)
    if loaded is not None and not isinstance(loaded, _Alias):
        return str(getattr(loaded, "__file__", None) or "memory")
    finders = [finder for finder in sys.meta_path if finder is not _finder]
    specs = (finder.find_spec(ROOT, None) for finder in finders if hasattr(finder, "find_spec"))
    found = next((spec for spec in specs if spec is not None), None)
    return None if found is None else str(found.origin or next(iter(found.submodule_search_locations or ()), "?"))


def install(force: bool = False) -> bool:
    """Make `import spikingjelly...` give this library; returns whether it does.

    The real package is never shadowed unless `force` says so: if it can be imported, the aliases are not installed, and
    a warning says where it is. With `force`, modules of it that are loaded already are set aside until `uninstall()`.

    >>> here = install(force=True)
    >>> from spikingjelly.activation_based.neuron import LIFNode
    >>> LIFNode is spikescope.neuron.LIFNode
    True
    >>> uninstall()
    """
    if _finder in sys.meta_path:
        return True
    real = installed_at()
    if real is not None and not force:
        warnings.warn(
            f"The package {ROOT} is installed ({real}), and is what `import {ROOT}` gives. Call "
            "spikescope.compat.install(force=True), or run the script with `python -m spikescope.compat --force`, to "
            "use spikescope in its place.",
            stacklevel=2,
        )
        return False
    for name in _loaded():
        _set_aside[name] = sys.modules.pop(name)
    sys.meta_path.insert(0, _finder)
    return True


def uninstall() -> None:
    """Take the aliases away and put back what they replaced. `install()` brings them back."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(_set_aside)
        _set_aside.clear()
        if "spikescope.neuron" in sys.modules:
            _lenient(False)
        importlib.invalidate_caches()
