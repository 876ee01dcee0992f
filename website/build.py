"""Builds both languages of the site with mkdocs, where every warning is an error."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

from .assemble import HERE, LANGUAGES, ROOT, assemble
from .links import check
from .source import write_sources

MARKS = r"""\s\-,:;!?=\[\](){}<>|*+"'`/."""
SEPARATORS = {"en": f"[{MARKS}]+", "zh": f"[{MARKS}\u200b\uff0c\u3002\u3001\uff1a\uff1b\uff1f\uff08\uff09]+"}
"""What parts words for the search: a name is found in `backend='cupy'` too."""

PALETTES = {
    "en": ("Colours of the system, switch to light", "Light, switch to dark", "Dark, switch to those of the system"),
    "zh": ("跟随系统配色, 切换到浅色", "浅色, 切换到深色", "深色, 切换到跟随系统"),
}
"""What the button of each palette of mkdocs.yml says."""


def address() -> str | None:
    """The public address of the site, the one of pyproject.toml; None while that is a placeholder."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {}).get("Documentation", "")
    return None if not stated or ".invalid" in stated else stated.rstrip("/") + "/"


def configuration(language: str, pages: Path, site: Path, nav: list[Any]) -> Any:
    """The configuration of one language."""
    from mkdocs.config import load_config
    from mkdocs.utils import yaml_load

    path = HERE / "mkdocs.yml"
    with path.open("rb") as file:
        common = yaml_load(file)
    (other,) = set(LANGUAGES) - {language}
    palettes = [
        {**palette, "toggle": {**palette["toggle"], "name": name}}
        for palette, name in zip(common["theme"]["palette"], PALETTES[language], strict=True)
    ]
    public = address()
    return load_config(
        str(path),
        docs_dir=str(pages),
        site_dir=str(site),
        site_url=public and (public if language == "en" else f"{public}{language}/"),
        nav=nav,
        theme={**common["theme"], "language": language, "palette": palettes},
        hooks=[str(HERE / "hooks.py")],
        plugins=[{"search": {"lang": language, "separator": SEPARATORS[language]}}, "offline"],
        extra={
            **common["extra"],
            "alternate": True,  # the button; for links in the head the theme's script asks for a map of the site
            "other_lang": other,
            "other_name": LANGUAGES[other],
            "other_path": "../" if other == "en" else f"{other}/",
        },
    )


def build(out: Path, languages: tuple[str, ...] = tuple(LANGUAGES)) -> None:
    """Build the site into a folder, and check what it links to."""
    from mkdocs.commands.build import build as build_site

    from .made import pages as made

    shutil.rmtree(out, ignore_errors=True)
    work = ROOT / "build" / "pages"
    for language in languages:
        pages = work / language
        nav = assemble(language, pages, made(language))
        build_site(configuration(language, pages, out if language == "en" else out / language, nav))
    write_sources(out)
    check(out)
