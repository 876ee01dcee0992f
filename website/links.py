"""Checks a built site: every link leads to a file and an anchor that are there, and nothing comes from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("script", "src"), ("img", "src"), ("source", "src"), ("video", "src"), ("iframe", "src"), ("use", "href")}


class Reader(HTMLParser):
    """Gathers what a page links to, what it has fetched, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attributes}
        self.anchors.update(held[name] for name in ("id", "name") if name in held and tag != "meta")
        for name in ("href", "src"):
            if name in held:
                fetches = (tag, name) in FETCHED or (tag == "link" and held.get("rel") in ("stylesheet", "icon"))
                (self.fetched if fetches else self.links).append(held[name])


def broken(site: Path) -> list[str]:
    """What is wrong, in a line each."""
    read = {path: Reader(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in read.items():
        here = path.relative_to(site)
        found += [f"{here}: fetches {url}" for url in page.fetched if urlsplit(url).scheme not in ("", "data")]
        for url in {*page.links, *page.fetched}:
            parts = urlsplit(url)
            rooted = path.name == "404.html" and url.startswith("/")  # from the root of the site, wherever that is
            if parts.scheme or parts.netloc or rooted:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                found.append(f"{here}: {url} leads nowhere")
            elif parts.fragment and there in read and unquote(parts.fragment) not in read[there].anchors:
                found.append(f"{here}: {url} names an anchor that is not there")
    return found


def check(site: Path) -> None:
    """Refuse a site with a broken link, naming all of them."""
    if found := broken(site):
        raise SystemExit("The site has broken links:\n" + "\n".join(f"  {line}" for line in found))
