"""The suite on every supported version of PyTorch and Python: `make matrix`, and the page of its results.

Each version gets an environment of its own, which is deleted before the next is made: a CUDA build takes up to 6 GB.

    make matrix                          # all rows; an hour or more
    make matrix ARGS="--only 2.11"       # the rows whose PyTorch begins so
    make matrix ARGS="--page"            # write the page again from the last results, run nothing
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from release.pythons import interpreter  # noqa: E402  # of the repository, which is no package

RESULTS = Path(__file__).with_suffix(".json")
PAGES = ROOT / "docs" / "versions.md", ROOT / "docs" / "versions.zh.md"
MARKS = "<!-- results: written by make matrix -->", "<!-- end of results -->"


class Row(NamedTuple):
    """One line of the table."""

    python: str
    torch: str  # a build for GPUs brings the Triton that belongs to it
    numpy: str | None = None  # where the one of constraints.txt does not fit

    @property
    def name(self) -> str:
        return f"torch {self.torch}, Python {self.python}"


ROWS = (
    Row("3.12", "2.11.0", "2.3.5"),  # what many machines with a GPU have; its Triton wants an older NumPy
    Row("3.11", "2.13.0"),
    Row("3.13", "2.13.0"),
    Row("3.11", "2.14.1"),
    Row("3.12", "2.15.0"),
)


def pins(row: Row) -> str:
    """constraints.txt for another PyTorch: what belongs to one version of it is left to that version."""
    own = {"torch", "triton", *(["numpy"] if row.numpy else [])}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if re.split("==", line)[0].strip().lower() not in own]
    return "\n".join([*kept, f"torch=={row.torch}", *([f"numpy=={row.numpy}"] if row.numpy else [])]) + "\n"


def prepare(row: Row, folder: Path) -> Path:
    """An environment with this row's versions; the path of its Python."""
    base = interpreter(row.python)
    if base is None:
        raise FileNotFoundError(f"no Python {row.python}: neither on the path nor kept by pyenv")
    constraints = folder / "constraints.txt"
    constraints.write_text(pins(row))
    subprocess.run([base, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    # the environment's own constraint, so that a cap set for the machine does not hide a newer release
    settings = {**os.environ, "PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, f"torch=={row.torch}"], check=True, env=settings)
    with constraints.open("a") as out:
        out.write(f"triton{_pin(python, 'triton')}\n")
    subprocess.run([*install, "--editable", f"{ROOT}[dev]"], check=True, env=settings)
    return python


def _pin(python: Path, package: str) -> str:
    """`==` the version that is there, or the one of constraints.txt."""
    ask = f"import importlib.metadata as m; print(m.version('{package}'))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    stated = re.search(rf"^{package}(==\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return f"=={found.stdout.strip()}" if found.returncode == 0 else stated[1] if stated else ""


def measure(row: Row, python: Path, arguments: list[str], log: Path) -> dict[str, Any]:
    """Run the suite; how it ended."""
    workers = os.environ.get("WORKERS", "2")
    command = [str(python), "-m", "pytest", "-q", "--sample", "--numprocesses", workers, *arguments]
    begun = time.monotonic()
    paths = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    with log.open("w") as out:
        ended = subprocess.run(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False, env={**os.environ, "PATH": paths}
        )
    text = log.read_text()
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", text.splitlines()[-1])}
    seen = "import torch, numpy, triton; print(torch.__version__, numpy.__version__, triton.__version__)"
    versions = subprocess.run([python, "-c", seen], capture_output=True, text=True, check=True).stdout.split()
    return {
        "python": row.python,
        "torch": versions[0],
        "numpy": versions[1],
        "triton": versions[2],
        "passed": counts.get("passed", 0),
        "failed": counts.get("failed", 0) + counts.get("error", 0),
        "skipped": counts.get("skipped", 0),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "status": ended.returncode,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "date": date.today().isoformat(),
    }


def keep(found: dict[str, Any]) -> None:
    """Put a result in the place of the older one of the same versions. A `note` in it comes below the table."""
    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    same = found["python"], found["torch"].split("+")[0]
    held = [row for row in held if (row["python"], row["torch"].split("+")[0]) != same] + [found]
    held.sort(key=lambda row: ([int(n) for n in re.findall(r"\d+", row["torch"])[:3]], row["python"]))
    RESULTS.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(language: str = "en") -> str:
    """The results as a table of the page; what was said of a line comes below, as it was written."""
    head = {
        "en": "| PyTorch | Triton | NumPy | Python | passed | failed | skipped | minutes | date, commit |",
        "zh": "| PyTorch | Triton | NumPy | Python | 通过 | 失败 | 跳过 | 分钟 | 日期, 提交 |",
    }
    lines = [head[language], "|---|---|---|---|---|---|---|---|---|"]
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    for row in rows:
        cells = [row[name] for name in ("torch", "triton", "numpy", "python", "passed", "failed", "skipped", "minutes")]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['date']}, {row['commit']} |")
    for row in rows:
        if "note" in row:
            said = row["note"] if language == "en" else row.get("note_zh", row["note"])
            lines += ["", f"PyTorch {row['torch']}, Python {row['python']}: {said}"]
    return "\n".join(lines)


def write_page() -> None:
    """The table into the pages of both languages, between their marks."""
    for page, language in zip(PAGES, ("en", "zh"), strict=True):
        before, _, rest = page.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        page.write_text(f"{before}{MARKS[0]}\n\n{table(language)}\n\n{MARKS[1]}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the rows whose version of PyTorch begins with this")
    parser.add_argument("--python", default="", help="the rows of this version of Python alone")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the environment and the log, which are then not deleted"
    )
    parser.add_argument("--page", action="store_true", help="write the page from the last results, run nothing")
    parser.add_argument("pytest", nargs="*", help="what to hand on to pytest; results are then not kept")
    given = parser.parse_args()
    rows = [row for row in ROWS if row.torch.startswith(given.only) and given.python in ("", row.python)]
    worst = 0
    for row in [] if given.page else rows:
        folder = given.keep or Path(tempfile.mkdtemp(prefix="matrix-"))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"== {row.name}, in {folder}", flush=True)
        try:
            python = folder / "venv" / "bin" / "python"
            found = measure(row, python if python.exists() else prepare(row, folder), given.pytest, folder / "log.txt")
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(f"   not measured: {error}", flush=True)
            worst = 1
            continue
        finally:
            if given.keep is None and not given.pytest:
                shutil.rmtree(folder / "venv", ignore_errors=True)
        print(f"   {found['passed']} passed, {found['failed']} failed; log: {folder / 'log.txt'}", flush=True)
        worst = max(worst, found["status"])
        if not given.pytest:
            keep(found)
    if RESULTS.exists():
        write_page()
        print(table())
    return worst


if __name__ == "__main__":
    sys.exit(main())
