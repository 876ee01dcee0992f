"""The Pythons that a release is tried with: those that pyproject.toml names, as far as this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def supported(root: Path = ROOT) -> list[str]:
    """The versions of Python that the classifiers name, the oldest first."""
    stated = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return re.findall(r"Python :: (\d+\.\d+)", "\n".join(stated["classifiers"]))


def interpreter(wanted: str) -> str | None:
    """A Python that runs: of a version (3.12), on the path or kept by pyenv, or a command; None where there is none."""
    version = wanted.removeprefix("python")
    numbered = re.fullmatch(r"\d+\.\d+", version)
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = (
        shutil.which(f"python{version}" if numbered else wanted),
        *(kept.glob(f"{version}.*/bin/python") if numbered else ()),
    )
    return next((str(path) for path in found if path and _runs(path)), None)


def _runs(path: str | Path) -> bool:
    """Whether it does; the commands that pyenv puts on the path for all versions refuse those that are not chosen."""
    return subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0
