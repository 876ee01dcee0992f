"""The arguments of what releases of SpikingJelly have under the names of the catalogue, read from their sources.

    python tests/sweeps/signatures.py 4=FOLDER 12=FOLDER 14=FOLDER 2=FOLDER

The folders are those of `catalogue.py`. Names, orders and defaults of arguments are facts about an interface; nothing
else is taken, and nothing is run. The result is `tests/compat/signatures.json`: to each module its functions, classes
and methods, each with its arguments by the ages that have them so. A method stands at the class that writes it.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from catalogue import ROOT, Package, statements

from spikescope.compat.absent import area_of

OUT = Path(__file__).resolve().parents[1] / "compat" / "signatures.json"
PROPERTY = "a property"


class Defined(NamedTuple):
    """A function or class, and the module that has it."""

    module: str
    node: ast.FunctionDef | ast.ClassDef


def called(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator).rpartition(".")[2]


def arguments(node: ast.FunctionDef, bound: bool) -> str:
    """Those that a call gives, without annotations."""
    made = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(made, ast.FunctionDef)
    held = made.args
    for argument in [*held.posonlyargs, *held.args, *held.kwonlyargs, *filter(None, (held.vararg, held.kwarg))]:
        argument.annotation = None
    if bound and held.args:
        del held.args[0]
    return ast.unparse(held)


class Signatures(Package):
    """The arguments of one release."""

    def found(self, module: str, name: str, seen: frozenset[str] = frozenset()) -> Defined | None:
        """Where a name of a module is defined in this package."""
        if module not in self.modules or module in seen:
            return None
        for node in statements(self.modules[module][0].body):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return Defined(module, node)
            if isinstance(node, ast.ImportFrom) and (target := self._target(module, node)) in self.modules:
                for alias in node.names:
                    if alias.name == "*" or (alias.asname or alias.name) == name:
                        wanted = name if alias.name == "*" else alias.name
                        if held := self.found(target, wanted, seen | {module}):
                            return held
        return None

    def base(self, module: str, text: str) -> Defined | None:
        """The class of this package that a class derives from by this text."""
        head, _, last = text.rpartition(".")
        link = self.imports(module).get(head, "").replace(":", ".") if head else ""
        if link == ROOT or link.startswith(f"{ROOT}."):
            return self.found(link.removeprefix(ROOT).removeprefix("."), last)
        return None if head else self.found(module, last)

    def members(self, held: Defined, outermost: bool = True) -> Iterator[tuple[str, str]]:
        """The constructor and the methods of a class: its own, and those of bases that have no public name."""
        node = held.node
        for base in reversed(node.bases if isinstance(node, ast.ClassDef) else []):
            above = self.base(held.module, ast.unparse(base))
            if above is not None:
                known = not above.node.name.startswith("_")
                yield from ((n, text) for n, text in self.members(above, False) if n == "__init__" or not known)
        if any(called(held) == "dataclass" for held in node.decorator_list):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            yield (
                "__init__",
                ", ".join(
                    ast.unparse(part.target) + (f"={ast.unparse(part.value)}" if part.value else "") for part in fields
                ),
            )
        for part in statements(node.body):
            if isinstance(part, ast.FunctionDef) and (part.name == "__init__" or not part.name.startswith("_")):
                marks = {called(decorator) for decorator in part.decorator_list}
                if marks & {"property", "setter"}:
                    yield part.name, PROPERTY
                elif "overload" not in marks:
                    yield part.name, arguments(part, not marks & {"staticmethod", "script"})


def main(argv: list[str]) -> None:
    told: dict[str, dict[str, dict[str, str]]] = {}
    for age, folder in (given.split("=", 1) for given in argv):
        package = Signatures(Path(folder))
        seen = set()
        for module in sorted(package.modules, key=lambda name: (any(p.startswith("_") for p in name.split(".")), name)):
            if any(part.startswith("_") for part in module.split(".")) or area_of(module) is not None:
                continue
            for name in sorted(package.names(module)):
                held = package.found(module, name)
                if held is None or (held.module != module and (held.module, held.node.name) in seen):
                    continue
                public = held.module in package.modules and not any(p.startswith("_") for p in held.module.split("."))
                if held.module != module and public and area_of(held.module) is None:
                    continue  # it stands there
                seen.add((held.module, held.node.name))
                made = (
                    dict(package.members(held))
                    if isinstance(held.node, ast.ClassDef)
                    else {"": arguments(held.node, False)}
                )
                for member, text in made.items():
                    key = f"{name}.{member}".removesuffix(".__init__").removesuffix(".")
                    ages = told.setdefault(module, {}).setdefault(key, {})
                    ages[text] = f"{ages.get(text, '')} {age}".strip()
    OUT.write_text(json.dumps(told, indent=0, sort_keys=True) + "\n")
    print(f"{len(told)} modules, {sum(map(len, told.values()))} signatures")


if __name__ == "__main__":
    main(sys.argv[1:])
