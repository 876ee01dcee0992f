"""The source of the package as pages of the site, a file each, with an anchor for every line."""

from __future__ import annotations

from html import escape
from pathlib import Path

from .assemble import ROOT

PACKAGE = ROOT / "src" / "spikescope"
STYLE = """:root { color-scheme: light dark }
body { font: 14px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; margin: 1em auto; max-width: 130ch }
body { padding: 0 1em }
h1 { font-size: 1.3em; overflow-wrap: anywhere } pre { overflow-x: auto; tab-size: 4 } :target { background: #f2a65a55 }
pre a { color: light-dark(#666, #999); text-decoration: none; user-select: none }"""


def write_sources(out: Path) -> None:
    """Write a page for each file of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        width = len(str(len(lines)))
        body = "\n".join(
            f'<span id="L-{number}"><a href="#L-{number}">{number:>{width}}</a>  {escape(line)}</span>'
            for number, line in enumerate(lines, 1)
        )
        page = out / "source" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<link rel="icon" href="data:,"><title>{escape(name)}</title><style>{STYLE}</style>'
            f'<a href="{"../" * (name.count("/") + 1)}index.html">Spikescope</a>'
            f"<h1>spikescope/{escape(name)}</h1><pre>{body}</pre></html>\n",
            encoding="utf-8",
        )
