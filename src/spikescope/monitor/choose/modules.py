"""Which modules to look at, and which neurons, samples and time steps of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from ...errors import check_choice
from .kinds import is_neuron

__all__ = [
    "Selector",
    "by_glob",
    "by_name",
    "by_regex",
    "by_role",
    "by_type",
    "named",
    "select",
    "select_as_named",
    "unwrapped",
    "where",
]

_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
"""Those that hold their module under a name that anybody may use: `module`."""

_SYNAPSES = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Selector:
    """A question about a module and its name; selectors combine with `&`, `|` and `~`.

    >>> early = by_type(nn.Linear) & ~by_name("head")
    >>> early
    type Linear and not (name 'head')
    >>> early.matches("head", nn.Linear(1, 1)), early.matches("body", nn.Linear(1, 1))
    (False, True)
    """

    text: str
    matches: Callable[[str, nn.Module], bool]

    def __and__(self, other: Any) -> Selector:
        right = selector(other)
        return Selector(f"{self.text} and {right.text}", lambda n, m: self.matches(n, m) and right.matches(n, m))

    def __or__(self, other: Any) -> Selector:
        right = selector(other)
        return Selector(f"({self.text} or {right.text})", lambda n, m: self.matches(n, m) or right.matches(n, m))

    def __invert__(self) -> Selector:
        return Selector(f"not ({self.text})", lambda n, m: not self.matches(n, m))

    def __repr__(self) -> str:
        return self.text


def by_type(*types: type[Any]) -> Selector:
    """Modules of any of these classes, or of classes derived from them.

    >>> list(select(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), by_type(nn.Linear)))
    ['0']
    """
    for given in types:
        if not isinstance(given, type):
            raise TypeError(f"by_type takes classes, but got {given!r}.")
    return Selector(f"type {' or '.join(t.__name__ for t in types)}", lambda n, m: isinstance(m, types))


def by_name(*names: str) -> Selector:
    """Modules with exactly these names.

    >>> list(select(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), by_name("1")))
    ['1']
    """
    return Selector(f"name {' or '.join(map(repr, names))}", lambda n, m: n in names)


def by_glob(pattern: str) -> Selector:
    """Modules whose name fits a pattern, as paths do in a shell, with dots in place of slashes.

    `*` stands for any text and `?` for any character, both within one part of the name; `[ab]` and `[!ab]` for a
    character that is one of these, or is not. `**` crosses dots: `**.conv1` fits at any depth, `conv1` too.

    >>> net = nn.Sequential(spikescope.neuron.IFNode())
    >>> list(select(net, by_glob("*"))), list(select(net, by_glob("**")))
    (['0'], ['0', '0.surrogate_function'])
    """
    fits = re.compile(_glob(pattern)).fullmatch
    return Selector(f"glob {pattern!r}", lambda n, m: n != "" and fits(n) is not None)


_GLOB = re.compile(r"(?P<deep>(?:^|(?<=\.))\*\*\.)|(?P<any>\*\*)|(?P<text>\*)|(?P<one>\?)|\[(?P<set>!?[^!\]][^\]]*)\]")


def _glob(pattern: str) -> str:
    """The regular expression of a pattern."""
    parts, end = [], 0
    for found in _GLOB.finditer(pattern):
        parts.append(re.escape(pattern[end : found.start()]))
        end = found.end()
        if (held := found["set"]) is not None:
            inside = held.removeprefix("!").replace("\\", "\\\\").replace("^", r"\^").replace("[", r"\[")
            parts.append(f"(?!\\.)[{'^' if held[0] == '!' else ''}{inside}]")
        else:
            parts.append({"deep": r"(?:.*\.)?", "any": ".*", "text": "[^.]*", "one": "[^.]"}[str(found.lastgroup)])
    return "".join([*parts, re.escape(pattern[end:])])


def by_regex(pattern: str | re.Pattern[str]) -> Selector:
    r"""Modules in whose name the regular expression is found.

    >>> net = nn.ModuleDict({"conv1": nn.Conv2d(1, 2, 3), "conv2": nn.Conv2d(2, 2, 3), "head": nn.Linear(2, 2)})
    >>> list(select(net, by_regex(r"conv\d")))
    ['conv1', 'conv2']
    """
    compiled = re.compile(pattern)
    return Selector(f"regex {compiled.pattern!r}", lambda n, m: compiled.search(n) is not None)


def by_role(role: str) -> Selector:
    """Modules by what they do: `'neuron'`, ours or another's, `'synapse'` (weights between them) or `'norm'`.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), spikescope.neuron.IFNode(), nn.Linear(2, 2))
    >>> list(select(net, by_role("synapse"))), list(select(net, by_role("synapse") & ~by_name("3")))
    (['0', '3'], ['0'])
    """
    roles: dict[str, Callable[[str, nn.Module], bool]] = {
        "neuron": lambda n, m: is_neuron(m),
        "synapse": lambda n, m: isinstance(m, _SYNAPSES),
        "norm": lambda n, m: any("Norm" in base.__name__ for base in type(m).__mro__),  # they have no common base
    }
    check_choice("by_role", "role", role, roles)
    return Selector(f"role {role!r}", roles[role])


def where(predicate: Callable[[str, nn.Module], bool]) -> Selector:
    """Modules for which `predicate(name, module)` holds.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    >>> list(select(net, where(lambda name, module: isinstance(module, nn.Linear) and module.out_features > 3)))
    ['1']
    """
    return Selector(f"where {getattr(predicate, '__name__', predicate)}", lambda n, m: bool(predicate(n, m)))


def selector(given: Any) -> Selector:
    """A selector from a class, a tuple of classes, a name or glob, or a compiled regular expression."""
    if isinstance(given, Selector):
        return given
    if isinstance(given, type):
        return by_type(given)
    if isinstance(given, tuple) and given and all(isinstance(item, type) for item in given):
        return by_type(*given)
    if isinstance(given, str):
        return by_glob(given) if set(given) & set("*?[") else by_name(given)
    if isinstance(given, re.Pattern):
        return by_regex(given)
    if isinstance(given, (list, tuple, set)) and given and all(isinstance(item, str) for item in given):
        names = ", ".join(repr(item) for item in given)
        raise TypeError(f"Several names go into by_name({names}), several globs are joined by |, but got {given!r}.")
    raise TypeError(
        "Modules are chosen by a class, a tuple of classes, a name, a glob, a compiled regular expression, or a "
        f"selector such as by_role('neuron') & ~by_name('head'), but got {given!r}. A predicate goes into where(...)."
    )


def unwrapped(net: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile, data parallelism, averaging and checkpointing."""
    while (inside := _wrapped_child(net)) is not None:
        net = net._modules[inside]  # type: ignore[assignment]  # found there
    return net


def _wrapped_child(module: nn.Module) -> str | None:
    """The name under which a wrapper holds its module."""
    for name in _WRAPPED:
        if name in module._modules:
            return name
    return "module" if isinstance(module, _WRAPPERS) else None


def named(net: nn.Module) -> dict[str, nn.Module]:
    """All modules by name, each once, without the wrappers of torch.compile, parallelism, averaging and checkpointing.

    >>> list(named(nn.DataParallel(nn.Sequential(nn.ReLU()))))
    ['', '0']
    """
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()

    def visit(module: nn.Module, path: str) -> None:
        module = unwrapped(module)
        if module in seen:
            return
        seen.add(module)
        found[path] = module
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name)

    visit(net, "")
    return found


def select(net: nn.Module, which: Any, owner: str = "select") -> dict[str, nn.Module]:
    """The chosen modules by name, in the order of their definition; LookupError in words if there is none."""
    everything = named(net)
    chosen = selector(which)
    found = {name: module for name, module in everything.items() if chosen.matches(name, module)}
    if not found:
        deeper = " In a glob * stays within one part of a name; ** crosses dots." if "glob '" in chosen.text else ""
        meant = f" A further reducer or signal goes in a tuple with the first: record(net, (..., {which!r}))."
        meant = meant if owner == "record" and isinstance(which, str) else ""
        raise LookupError(
            f"{owner} found no module with {chosen.text}.{deeper}{meant} The network has {_held(everything)}."
        )
    return found


def select_as_named(net: nn.Module, which: Any, owner: str) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The chosen modules by the names of `named_modules()`, and these names by those without wrappers.

    A name may be chosen by either. A wrapper is a module of its own.

    >>> select_as_named(nn.DataParallel(nn.Sequential(nn.ReLU())), nn.ReLU, "here")
    ({'module.0': ReLU()}, {'0': 'module.0'})
    """
    everything: dict[str, nn.Module] = dict(net.named_modules())
    chosen = selector(which)
    plain: dict[nn.Module, str] = {module: name for name, module in named(net).items()}
    short = {name: plain.get(module, name) for name, module in everything.items()}
    found = {
        name: module
        for name, module in everything.items()
        if chosen.matches(name, module) or (module in plain and chosen.matches(short[name], module))
    }
    if not found:
        select(net, which, owner)  # tells what there is
    return found, {short[name]: name for name in found}


def _held(modules: dict[str, nn.Module]) -> str:
    """The classes of a network with the names of their modules."""
    by_class: dict[str, list[str]] = {}
    for name, module in modules.items():
        by_class.setdefault(type(module).__name__, []).append(repr(name))
    return "; ".join(
        f"{kind}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for kind, names in by_class.items()
    )
