"""Builds wheel and sdist from the tracked files, with a README whose links lead to the documentation site."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath

from website.assemble import place_of

from .pythons import ROOT

OUT = ROOT / "build" / "dist"
LEFT_OUT = (".git", ".github/")
"""What begins so belongs to the repository, and not to the sdist."""

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


def tracked() -> list[str]:
    """The tracked files that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def export(folder: Path, names: Iterable[str]) -> None:
    """Copy the tracked files as they are now, and make a README with absolute links beside, for registries."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    shown, stated = folder / "README.absolute.md", folder / "pyproject.toml"
    shown.write_text(absolute((folder / "README.md").read_text(encoding="utf-8"), address()), encoding="utf-8")
    told = stated.read_text(encoding="utf-8")
    if 'readme = "README.md"' not in told:
        raise SystemExit(
            'pyproject.toml does not say readme = "README.md", in whose place the one for the registry goes.'
        )
    stated.write_text(told.replace('readme = "README.md"', f'readme = "{shown.name}"'), encoding="utf-8")


def missing(sdist: Path, tracked: Iterable[str]) -> list[str]:
    """The tracked files that an sdist does not bring."""
    with tarfile.open(sdist) as held:
        brought = {name.partition("/")[2] for name in held.getnames()}
    return sorted(name for name in tracked if not name.startswith(LEFT_OUT) and name not in brought)


def build() -> list[Path]:
    """Build wheel and sdist, and have twine read what they say of themselves."""
    shutil.rmtree(OUT, ignore_errors=True)
    source, names = OUT / "source", tracked()
    export(source, names)
    subprocess.run([sys.executable, "-m", "build", "--outdir", OUT, source], check=True, stdout=subprocess.DEVNULL)
    files = sorted([*OUT.glob("*.whl"), *OUT.glob("*.tar.gz")])
    if lost := missing(next(OUT.glob("*.tar.gz")), names):
        raise SystemExit("The sdist lacks tracked files; MANIFEST.in has to name them:\n  " + "\n  ".join(lost))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    return files
