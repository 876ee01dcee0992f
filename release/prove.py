"""Tries what was built as a user would: in a clean environment, away from the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .pythons import ROOT

TESTS = ("test_fields.py", "test_contributing.py", "test_readme.py", "test_site.py", "test_release.py", "surrogate")
"""Tests of the sdist that are run from it, of code, pages and this; whoever packages the library runs them all."""


def prove(files: list[Path], name: str, python: str) -> None:
    """Install the wheel, run the program of the README and the demo, and the tests that the sdist brings."""
    wheel, sdist = (next(path for path in files if path.name.endswith(end)) for end in (".whl", ".tar.gz"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = Runner(folder)
        run(python, "-m", "venv", folder / "venv")
        own = folder / "venv" / "bin"
        pip = (
            own / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--constraint",
            ROOT / "constraints.txt",
        )
        run(*pip, "torch")  # the one of the constraints
        run(*pip, f"{wheel}[train,report]", "pytest", "hypothesis")
        (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        (folder / "first.py").write_text(code)
        print(f"Python {name}: the program of the README says", run(own / "python", "first.py").strip())
        run(own / "spikescope", "demo", "--epochs", "1", "--accuracy", "0", "--quiet", "--out", folder / "demo")
        print(f"Python {name}: the demo left", ", ".join(sorted(path.name for path in (folder / "demo").iterdir())))
        shutil.unpack_archive(sdist, folder)
        (unpacked,) = folder.glob("spikescope-*")
        tests = own / "python", "-m", "pytest", "--quiet"
        there = run(*tests, "--collect-only", "tests", at=unpacked)  # reads every file of them
        print(f"Python {name}: of the tests of the sdist, of which there are", there.strip().splitlines()[-1])
        done = run(*tests, "--sample", *(f"tests/{test}" for test in TESTS), at=unpacked)
        print(f"Python {name}: ran", done.strip().splitlines()[-1], flush=True)


class Runner:
    """Runs programs in a folder, with nothing of this repository on their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def __call__(self, *command: object, at: Path | None = None) -> str:
        words = [str(word) for word in command]
        place = at or self.folder
        done = subprocess.run(words, check=False, cwd=place, env=self.settings, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout
