"""The import paths of SpikingJelly as aliases of ours. Torch is imported when an alias is, not before."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install", "uninstall"]

ROOT = "spikingjelly"
_ROOMS = ("base", "neuron", "surrogate", "layer", "functional", "monitor", "encoding", "rnn", "ann2snn")
_ONLINE = ("fptt_online_training", "fptt_online_training_init_w_ra", "ottt_online_training")

SOURCES: dict[str, tuple[str, ...]] = {
    **{f"activation_based.{room}": (f"spikescope.{room}",) for room in _ROOMS},
    "activation_based.learning": ("spikescope.learning", *(f"spikescope.functional:{name}" for name in _ONLINE)),
    "activation_based.cuda_kernel.tensor_cache": ("spikescope.spikes",),
    **{f"clock_driven.{room}": (f"spikescope.{room}",) for room in ("functional", "surrogate", "monitor", "encoding")},
    "clock_driven.neuron": ("spikescope.neuron", "spikescope.compat.multi_step"),
    "clock_driven.layer": (
        "spikescope.layer",
        "spikescope.layer:SynapseFilter=LowPassSynapse",
        "spikescope.layer:TemporalWiseAttention=MultiStepTemporalWiseAttention",
        "spikescope.layer:MultiDimensionalAttention=MultiStepMultiDimensionalAttention",
        "spikescope.compat.multi_step_layer",
    ),
    "cext.neuron": ("spikescope.compat.extension",),
}
"""Where the names of each alias come from, what stands later taking precedence.

A source is a module, or `module:name`, or `module:name=alias`.
"""


def _packages() -> set[str]:
    """The aliases that hold nothing but other aliases, relative to the root, which is ''."""
    parts = [name.split(".") for name in SOURCES]
    return {".".join(part[:depth]) for part in parts for depth in range(len(part))}


def _is_alias(fullname: str) -> bool:
    name = fullname.removeprefix(ROOT).removeprefix(".")
    return name in SOURCES or name in _packages()


def _path(name: str) -> str:
    return f"{ROOT}.{name}" if name else ROOT


def _beside(name: str) -> list[str]:
    """The aliases right below the package `name`."""
    known = {*SOURCES, *_packages()} - {""}
    return sorted(_path(other) for other in known if other.rpartition(".")[0] == name)


def _missing(fullname: str) -> str:
    """What to say of a module or name that no alias has."""
    parent, _, last = fullname.removeprefix(f"{ROOT}.").rpartition(".")
    if parent in SOURCES:
        from ..errors import did_you_mean  # only now: it brings torch

        names = _names_of(parent)
        if last in names:
            return f"{fullname} is no module: write `from {_path(parent)} import {last}`."
        home, hint = SOURCES[parent][0], did_you_mean(last, names)
        return f"{_path(parent)} is an alias of {home}, which has no {last}.{hint} See dir({home}) for what is there."
    while parent and parent not in _packages():
        parent = parent.rpartition(".")[0]
    return (
        f"There is no {fullname} among the aliases of spikescope; there is {', '.join(_beside(parent))}. "
        "What has no alias may be in spikescope under another name: see docs/guide/moving.md."
    )


def _names_of(name: str) -> dict[str, Any]:
    """The names that the alias `name` holds."""
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


class _Alias(ModuleType):
    """A module whose names are ours; what it has not is refused in words."""

    def __getattr__(self, name: str) -> Any:
        fullname = f"{self.__name__}.{name}"
        if name.startswith("__"):  # asked for by tools, not by a script
            raise AttributeError(f"There is no {fullname}.")
        if _is_alias(fullname):
            return import_module(fullname)
        raise AttributeError(_missing(fullname))


class _AliasLoader(Loader):
    """Fills an alias with the names that are ours."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name, f"Alias made by spikescope.compat for code that imports {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.removeprefix(ROOT).removeprefix(".")
        if name in SOURCES:
            held = _names_of(name)
            vars(module).update(held)
            vars(module)["__all__"] = sorted(held)
            _lenient(True)


def _lenient(allowed: bool) -> None:
    """Whether neurons take what code that comes by the aliases may rely on: integers, as float32."""
    import_module("spikescope.neuron.leniency").allow_integers(allowed)


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
