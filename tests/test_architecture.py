"""The import rules of ARCHITECTURE.md, as a test."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

import fresh

SOURCE = Path(__file__).parents[1] / "src" / "spikescope"
FILES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {  # room -> the rooms it may import; every room may import itself
    "errors": set(),
    "display": set(),
    "internals": set(),
    "background": set(),
    "files": {"errors"},
    "weights": set(),
    "fields": {"errors", "internals", "warn"},
    "surrogate": {"errors", "fields", "internals"},
    "toolchain": set(),
    "dynamics": {"errors", "fields", "form", "internals", "surrogate", "toolchain"},
    "form": set(),
    "hooks": set(),
    "sockets": {"form", "hooks", "internals"},
    "base": {"errors", "form", "internals", "sockets"},
    "neuron": {
        "base",
        "dynamics",
        "errors",
        "fields",
        "form",
        "hooks",
        "internals",
        "sockets",
        "surrogate",
        "toolchain",
    },
    "layer": {"base", "dynamics", "errors", "internals", "neuron", "sockets"},
    "functional": {
        "base",
        "display",
        "dynamics",
        "errors",
        "fields",
        "hooks",
        "internals",
        "layer",
        "neuron",
        "sockets",
        "spikes",
        "toolchain",
    },
    "encoding": {"base", "errors", "fields"},
    "datasets": {"errors", "files", "toolchain"},
    "spikes": {"dynamics", "errors", "internals", "toolchain"},
    "warn": set(),
    "recording": {"background", "display", "errors", "files", "form", "spikes", "toolchain", "warn"},
    "analysis": {"display", "errors", "functional", "recording", "spikes"},
    "monitor": {
        "analysis",
        "background",
        "base",
        "display",
        "dynamics",
        "errors",
        "files",
        "form",
        "hooks",
        "internals",
        "neuron",
        "recording",
        "report",
        "sockets",
        "spikes",
        "toolchain",
        "warn",
    },
    "learning": {"base", "errors", "layer", "monitor", "neuron"},
    "rnn": {"base", "dynamics", "errors", "fields", "internals", "layer", "neuron", "sockets", "surrogate"},
    "quantize": {"errors", "internals"},
    "report": {"analysis", "display", "errors", "files", "recording", "spikes"},
    "ann2snn": {"base", "display", "errors", "functional", "layer", "monitor", "neuron", "report", "surrogate"},
    "exchange": {"base", "errors", "files", "layer", "neuron", "surrogate"},
    "models": {"base", "display", "errors", "functional", "internals", "layer", "neuron", "surrogate", "weights"},
    "train": {
        "ann2snn",
        "base",
        "datasets",
        "errors",
        "files",
        "functional",
        "layer",
        "models",
        "monitor",
        "neuron",
        "report",
        "spikes",
        "surrogate",
        "view",
        "warn",
        "weights",
    },
    "view": {
        "analysis",
        "background",
        "display",
        "errors",
        "files",
        "monitor",
        "recording",
        "report",
        "spikes",
        "warn",
    },
    "profiling": {"analysis", "display", "errors", "functional", "internals", "models", "monitor", "neuron"},
    "neighbours": {"base", "errors", "functional", "monitor"},
    "cli": {
        "display",
        "errors",
        "files",
        "functional",
        "layer",
        "models",
        "neuron",
        "profiling",
        "recording",
        "report",
        "rnn",
        "surrogate",
        "toolchain",
        "train",
        "view",
    },
    "compat": {
        "ann2snn",
        "base",
        "datasets",
        "dynamics",
        "encoding",
        "errors",
        "exchange",
        "fields",
        "functional",
        "layer",
        "learning",
        "models",
        "monitor",
        "neuron",
        "quantize",
        "report",
        "rnn",
        "spikes",
        "surrogate",
        "weights",
    },
}
FRONT_DOORS = {"__init__", "__main__"}
ANYWHERE = {"__version__"}


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imports(path: Path):
    """The rooms of ours that a file imports, with the line of each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].relative_to(SOURCE).parts
            parts = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((room(tuple(parts) or (alias.name,)), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spikescope."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("spikescope."):
                    yield alias.name.split(".")[1], node.lineno


@pytest.mark.parametrize("here", sorted(MAY_IMPORT))
def test_imports_point_inwards(here):
    for path in (held for held in FILES if room(held.relative_to(SOURCE).parts) == here):
        for there, line in imports(path):
            allowed = there == here or there in MAY_IMPORT[here] | ANYWHERE
            assert allowed, f"{path}:{line}: {here} may not import {there}"


def for_types(tree):
    """All that stands under `if TYPE_CHECKING`."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {inner for block in blocks for held in block.body for inner in ast.walk(held)}


def needs(path):
    """The files of ours that a file imports when it runs, at its head or later."""
    tree = ast.parse(path.read_text())
    typed = for_types(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in typed:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for place in {base / alias.name for alias in node.names} | {base}:
                yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file in FILES)


def test_no_file_needs_one_that_needs_it():
    inner = [path for path in FILES if path.stem not in FRONT_DOORS]
    graph = {path: [held for held in needs(path) if held in inner] for path in inner}
    graphlib.TopologicalSorter(graph).prepare()  # names those that go round in a circle


def test_no_room_is_imported_by_a_text_that_the_rules_do_not_see():
    for path in FILES:
        assert not re.search(r"""import_module\(f?["']spikescope""", path.read_text()), path


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_the_document_states_the_same_rule(name):
    document = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text()
    (stated,) = re.findall(rf"^\| `{name}` \|[^|]*\| ([^|]*) \|$", document, flags=re.MULTILINE)
    assert (set() if stated == "nothing of ours" else set(stated.split(", "))) == MAY_IMPORT[name]


def test_what_is_private_to_pytorch_is_asked_for_in_one_room():
    for path in FILES:
        if "internals" not in path.parts:
            private = [held.attr for held in ast.walk(ast.parse(path.read_text())) if _is_private(held)]
            assert private == [], path


_MAKING = {
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones"),
    *("rand", "randint", "randn", "randperm", "scalar_tensor", "tensor", "zeros"),
}
_APART = (
    "analysis",
    "compat",
    "datasets",
    "functional",
    "learning.py",
    "monitor",
    "quantize.py",
    "recording",
    "report",
    "spikes",
    "train",
    "view",
)


@pytest.mark.parametrize("name", _APART)
def test_what_is_made_beside_a_network_is_made_where_that_is_not_a_question_of_the_users_default(name):
    """`torch.set_default_device` is for networks: with another default, numbers were lost in silence."""
    for path in FILES:
        if path.relative_to(SOURCE).parts[0] == name:
            tree = ast.parse(path.read_text())
            learned = {id(held) for node in ast.walk(tree) if _is_parameter(node) for held in node.args}
            made = [held for held in ast.walk(tree) if _is_made_by_default(held) and id(held) not in learned]
            assert [held.lineno for held in made] == [], path


def _is_parameter(node):
    """Whether it makes what a network learns, which lies where the user's default says."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "nn.Parameter"


def _is_made_by_default(node):
    """Whether it makes a tensor and names no device."""
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAKING
    of_torch = made and isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    return of_torch and not {"device", None} & {held.arg for held in node.keywords}


def _is_private(node):
    """Whether it is an attribute of `torch` itself that begins with an underscore."""
    within = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch"
    return within and node.attr.startswith("_") and not node.attr.startswith("__")


def test_every_room_has_a_rule():
    rooms = {room(path.relative_to(SOURCE).parts) for path in FILES} - FRONT_DOORS
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize(("folder", "kind"), [("neuron", "*.py"), ("dynamics", "*/"), ("monitor", "*/")])
def test_what_is_in_a_room_stands_in_its_table(folder, kind):
    document = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text()
    _, _, after = document.partition(f" of `{folder}/` | what a reader finds there |\n")
    cells = re.findall(r"^\| ([^|]*) \|", after.partition("\n\n")[0], flags=re.MULTILINE)
    stated = re.findall(r"`([\w/.]+)`", "".join(cells))
    there = [path.name + "/" * path.is_dir() for path in (SOURCE / folder).glob(kind) if not path.name.startswith("__")]
    assert sorted(stated) == sorted(there)


def test_a_file_is_read_at_a_sitting():
    lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 500} == {}


def test_no_two_files_of_tests_have_one_name():
    """Outside a checkout, as in the archive of a release, one would be taken for the other."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_importing_brings_torch_and_numpy_alone():
    """Optional packages are imported where they are used."""
    optional = {
        "matplotlib",
        "sklearn",
        "safetensors",
        "rich",
        "triton",
        "zstandard",
        "pynvml",
        "scipy",
        "tensorboard",
        "nir",
        "h5py",
        "PIL",
        "pandas",
        "pyarrow",
        "xarray",
        "dask",
        "zarr",
        "neo",
        "pynwb",
        "distributed",
        "lightning",
        "accelerate",
        "skorch",
    }
    command = (
        "import sys, torch; before = set(sys.modules); import spikescope;"
        "[getattr(spikescope, room) for room in spikescope.__all__];"
        f"print(sorted({{name.split('.')[0] for name in set(sys.modules) - before}} & {optional!r}))"
    )
    assert fresh.run("-c", command, check=True).stdout.strip() == "[]"


def test_files_that_are_no_python_are_in_the_package():
    stated = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    there = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.*") if p.suffix not in (".py", ".pyc") and p.is_file()}
    assert there == set(stated["spikescope"]) - {"kernels/*/*"}  # which are there where they were built


def test_what_kernels_have_saved_is_looked_at_before_they_read_it():
    """A hook may give back what it likes; `dynamics/saved.py` asks."""
    for path in [*(SOURCE / "dynamics").rglob("*.py"), *(SOURCE / "spikes").rglob("*.py")]:
        assert not re.search(r"\bctx\.saved_tensors|\bnode\.saved_tensors", path.read_text()), path
        if "save_for_backward" in path.read_text() and path.name != "saved.py":
            assert re.search(r"\bas_saved\(|\bsaved\(", path.read_text()), path
