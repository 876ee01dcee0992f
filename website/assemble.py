"""Gathers the Markdown of one language of the site in a folder: pages of docs, of the root, and made ones."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
LANGUAGES = {"en": "English", "zh": "简体中文"}
PLACES = {  # documents that stand elsewhere on the site than in the repository
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "docs/versions.md": "explanation/versions.md",
    "docs/dependencies.md": "explanation/dependencies.md",
}
WAITING = '!!! note "尚未翻译"\n\n    本页暂无中文版。以下为英文原文。\n\n'
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#{1,6}) +(.+?)[ \t]*$", re.MULTILINE)
MARKS = "\u3000-\u303f\uff00-\uffef"  # the punctuation of Chinese, which has its space within
SEAM = re.compile(
    rf"(?<=[\u4e00-\u9fff{MARKS}])\n *(?=[\u4e00-\u9fff{MARKS}])"
    rf"|(?<=[{MARKS}])\n *(?=[*`(\[$\w])(?!```|\* |\$\$|\d+\. )"
)
LINK = re.compile(r"`[^`\n]+`|(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?![a-z]+:|#|//)([^)#\s]+)(#[^)\s]*)?\)")  # or code


@dataclass(frozen=True)
class Page:
    """A page: where its text stands in the repository, where it goes on the site, and its text by language."""

    source: str
    target: str
    texts: Mapping[str, str]

    @property
    def translated(self) -> bool:
        return "zh" in self.texts


def pages() -> Iterator[Page]:
    """The pages that people wrote."""
    for path in sorted(DOCS.rglob("*.md")):
        if path.name.endswith(".zh.md"):
            continue
        source = path.relative_to(ROOT).as_posix()
        twin = path.with_name(f"{path.stem}.zh.md")
        texts = {"en": path.read_text(encoding="utf-8")}
        if twin.exists():
            texts["zh"] = twin.read_text(encoding="utf-8")
        yield Page(source, place_of(source), texts)
    for name in PLACES:
        if "/" not in name and name != "README.md" and (ROOT / name).exists():
            yield Page(name, PLACES[name], {"en": (ROOT / name).read_text(encoding="utf-8")})


def place_of(source: str) -> str:
    """Where a file of the repository stands on the site; pages in Chinese in a folder of their own."""
    if source.endswith(".zh.md"):
        return f"zh/{place_of(source.removesuffix('.zh.md') + '.md')}"
    return PLACES.get(source, source.removeprefix("docs/"))


def outside_code(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a text, each with whether it is code."""
    last = 0
    for fence in FENCE.finditer(text):
        yield False, text[last : fence.start()]
        yield True, fence[0]
        last = fence.end()
    yield False, text[last:]


def headings(text: str) -> list[tuple[int, str]]:
    """The level and the words of every heading."""
    return [
        (len(found[1]), found[2]) for code, part in outside_code(text) if not code for found in HEADING.finditer(part)
    ]


def code_blocks(text: str) -> list[str]:
    return [part for code, part in outside_code(text) if code]


def links(text: str) -> list[str]:
    """What a text links to and shows, in order."""
    return [
        f"{found[2]}{found[3] or ''}"
        for code, part in outside_code(text)
        if not code
        for found in LINK.finditer(part)
        if found[1]
    ]


def joined(text: str) -> str:
    """A text without the ends of lines between characters of Chinese, where a browser would show a space."""
    return "".join(part if code else SEAM.sub("", part) for code, part in outside_code(text))


def with_anchors(text: str, twin: str) -> str:
    """The text, each heading with the anchor of its twin: a link leads to the same place in both languages."""
    from pymdownx.slugs import slugify

    slug = slugify(case="lower")
    names: list[str] = []
    for _, words in headings(twin):
        name = base = slug(re.sub(r"[`*$]|\]\([^)]*\)", "", words), "-")
        count = 0
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    left = iter(names)

    def put(found: re.Match[str]) -> str:
        return f"{found[0].rstrip()} {{#{name}}}" if (name := next(left, None)) else found[0]

    return "".join(part if code else HEADING.sub(put, part) for code, part in outside_code(text))


def with_links(page: Page, text: str) -> str:
    """The text, its links to files of the repository led to where these are on the site."""
    folder, here = page.source.rpartition("/")[0], page.target.rpartition("/")[0]

    def put(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        there = place_of(normpath(f"{folder}/{found[2]}" if folder else found[2]))
        return f"{found[1]}{relpath(there, here or '.')}{found[3] or ''})"

    return "".join(part if code else LINK.sub(put, part) for code, part in outside_code(text))


def text_of(page: Page, language: str) -> str:
    """What the page says in a language, or in English under a note."""
    head = "---\nsearch:\n  boost: 0.1\n---\n\n" if page.source == "CHANGELOG.md" else ""  # every word is in it
    if language in page.texts:
        text = page.texts[language]
        return head + with_links(page, text if language == "en" else joined(with_anchors(text, page.texts["en"])))
    text = with_links(page, page.texts["en"])
    title, _, rest = text.partition("\n\n")
    return f"{head}{title}\n\n{WAITING}{rest}"


def navigation(language: str, there: set[str]) -> list[Any]:
    """The navigation: the sections of nav.toml, each with its pages."""
    stated = tomllib.loads((HERE / "nav.toml").read_text(encoding="utf-8"))["section"]
    sections, left = [], there - {"index.md"}
    for section in stated:
        named = [name if "/" in name else f"{section['folder']}/{name}" for name in section["pages"]]
        if absent := [name for name in named if name not in there]:
            raise ValueError(f"website/nav.toml names {', '.join(absent)}, which there is not.")
        sections.append((section, named))
        left -= set(named)
    made: list[Any] = ["index.md"]
    for section, named in sections:
        rest = sorted(name for name in left if name.startswith(f"{section['folder']}/"))
        left -= set(rest)
        if named or rest:
            made.append({section[language]: nested(named + rest, section["folder"])})
    if left:
        raise ValueError(f"No section of website/nav.toml has a place for {', '.join(sorted(left))}.")
    return made


def nested(names: list[str], folder: str) -> list[Any]:
    """The pages of a section: index first, and those of `FOLDER/api` together at the end."""
    inner = [name for name in names if name.startswith(f"{folder}/api/")]
    outer = [name for name in names if name not in inner]
    return [*outer, {"API": inner}] if inner else outer


def assemble(language: str, folder: Path, made: Mapping[str, str]) -> list[Any]:
    """Fill a folder with the pages of a language and give their navigation; `made` are pages that were generated."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = {page.target: text_of(page, language) for page in pages()}
    texts.update(made)
    for target, text in texts.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(text, encoding="utf-8")
    for name in ("images", "notebooks"):
        shutil.copytree(DOCS / name, folder / name)
    shutil.copytree(HERE / "assets", folder / "assets")
    return navigation(language, set(texts))
