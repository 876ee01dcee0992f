"""The public names of releases of SpikingJelly, read from their sources without running them.

    python tests/sweeps/catalogue.py 4=FOLDER 12=FOLDER 14=FOLDER 2=FOLDER

Each folder is that of an unpacked package, `.../spikingjelly`. Names and where they stand are facts about an interface;
nothing else is taken. The result is `src/spikescope/compat/names.json`: to each module its names with their ages, and
what it imports, since `from module import *` hands that on too.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = "spikingjelly"
OUT = Path(__file__).resolve().parents[2] / "src" / "spikescope" / "compat" / "names.json"


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run when a module is imported, also in branches and attempts."""
    for node in body:
        yield node
        inner = [node.body, node.orelse] if isinstance(node, ast.If) else []
        if isinstance(node, ast.Try):
            inner = [node.body, node.orelse, *(handler.body for handler in node.handlers)]
        for held in inner:
            yield from statements(held)


def assigned(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    return [name for item in node.elts for name in assigned(item)] if isinstance(node, ast.Tuple | ast.List) else []


class Package:
    """The modules of one release."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, tuple[ast.Module, bool]] = {}
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            self.modules[".".join(parts[:-1] if is_package else parts)] = (ast.parse(path.read_bytes()), is_package)
        self._names: dict[str, set[str]] = {}

    def _target(self, module: str, node: ast.ImportFrom) -> str | None:
        """The module of this package that a statement imports from."""
        if node.level:
            parts = module.split(".") if module else []
            parts = parts[: len(parts) - node.level + self.modules[module][1]]
            return ".".join([*parts, *([node.module] if node.module else [])])
        inside = node.module == ROOT or (node.module or "").startswith(f"{ROOT}.")
        return (node.module or "").removeprefix(ROOT).removeprefix(".") if inside else None

    def names(self, module: str) -> set[str]:
        """What a module defines, or as a package gathers from its modules."""
        if module in self._names:
            return self._names[module]
        self._names[module] = set()  # for modules that import each other
        tree, is_package = self.modules[module]
        found: set[str] = set()
        for node in statements(tree.body):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {name for target in node.targets for name in assigned(target)}
            elif isinstance(node, ast.AnnAssign):
                found |= set(assigned(node.target))
            elif isinstance(node, ast.ImportFrom) and (target := self._target(module, node)) in self.modules:
                for alias in node.names:
                    if alias.name == "*":
                        found |= self.handed_on(target)
                    elif is_package and alias.name in self.names(target):
                        found.add(alias.asname or alias.name)
        self._names[module] = {name for name in found if not name.startswith("_")}
        return self._names[module]

    def handed_on(self, module: str) -> set[str]:
        """What `from module import *` gives of its names: those in `__all__` where the module has a list of them."""
        names = self.names(module)
        for node in statements(self.modules[module][0].body):
            if isinstance(node, ast.Assign) and "__all__" in [name for to in node.targets for name in assigned(to)]:
                with suppress(ValueError):  # a list that is computed
                    names = names & set(ast.literal_eval(node.value))
        return names

    def imports(self, module: str) -> dict[str, str]:
        """Names that a module imports, to `module` or `module:name`."""
        found: dict[str, str] = {}
        for node in statements(self.modules[module][0].body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                target = self._target(module, node)
                where = node.module or "" if target is None else f"{ROOT}.{target}".rstrip(".")
                inside = None if target is None else f"{target}.".lstrip(".")
                for alias in node.names:
                    is_module = inside is not None and f"{inside}{alias.name}" in self.modules
                    if alias.name != "*":
                        link = "." if is_module or (where == "torch" and alias.name == "nn") else ":"
                        found[alias.asname or alias.name] = f"{where}{link}{alias.name}"
        return {name: held for name, held in found.items() if not name.startswith(("_", "annotations"))}


def main(argv: list[str]) -> None:
    catalogue: dict[str, Any] = {}
    for age, folder in (given.split("=", 1) for given in argv):
        package = Package(Path(folder))
        for module in package.modules:
            if any(part.startswith("_") for part in module.split(".")):
                continue
            entry = catalogue.setdefault(module, {"ages": "", "names": {}, "imports": {}})
            entry["ages"] = f"{entry['ages']} {age}".strip()
            for name in sorted(package.names(module)):
                entry["names"][name] = f"{entry['names'].get(name, '')} {age}".strip()
            entry["imports"] |= package.imports(module)
    for entry in catalogue.values():
        entry["imports"] = {n: held for n, held in sorted(entry["imports"].items()) if n not in entry["names"]}
    OUT.write_text(json.dumps(dict(sorted(catalogue.items())), separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{len(catalogue)} modules, {sum(len(entry['names']) for entry in catalogue.values())} names")


if __name__ == "__main__":
    main(sys.argv[1:])
