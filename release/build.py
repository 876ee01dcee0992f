"""Builds wheel and sdist from the tracked files, with a README whose links lead to the documentation site."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from posixpath import normpath

from website.assemble import place_of

from .agree import ROOT, objections

__all__ = ["absolute", "build", "objections"]

OUT = ROOT / "build" / "dist"
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")


def absolute(text: str, address: str) -> str:
    """A text whose links to files of the repository lead to where these are on the site."""

    def put(found: re.Match[str]) -> str:
        place = place_of(normpath(found[2]))
        return f"{found[1]}{address.rstrip('/')}/{re.sub(r'[.]md$', '.html', place)}"

    return LINK.sub(put, text)


def address() -> str:
    """The address of the documentation, also while it is a placeholder."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"])


def export(folder: Path) -> None:
    """Copy the tracked files as they are now, the README with absolute links."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    readme = folder / "README.md"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), address()), encoding="utf-8")


def build() -> list[Path]:
    """Build wheel and sdist, and have twine read what they say of themselves."""
    shutil.rmtree(OUT, ignore_errors=True)
    source = OUT / "source"
    export(source)
    subprocess.run([sys.executable, "-m", "build", "--outdir", OUT, source], check=True, stdout=subprocess.DEVNULL)
    files = sorted([*OUT.glob("*.whl"), *OUT.glob("*.tar.gz")])
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    return files
