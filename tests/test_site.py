"""The pages of the site: each has its twin in Chinese with the same code, and its place in the navigation."""

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from website import assemble, links, source
from website.build import SEPARATORS, address
from website.made.text import cell

import spikescope
from spikescope.errors import _ELSEWHERE

ROOT = Path(__file__).parents[1]
WRITTEN = [page for page in assemble.pages() if page.source.startswith("docs/")]
TRANSLATED = [page for page in WRITTEN if page.translated]
SHEETS = {f"reference/{name}.md" for name in ("index", "neurons", "surrogates", "reducers", "findings", "measures")}
SHEETS |= {f"reference/{name}.md" for name in ("exports", "backends", "benchmarks")}
WAITING = (ROOT / "website" / "untranslated.txt").read_text().split("\n\n")[1].split()


def test_every_page_has_its_twin_save_those_that_wait():
    """The list may only become shorter: a new page comes with its twin, `NAME.zh.md` beside `NAME.md`."""
    without = sorted(page.source for page in WRITTEN if not page.translated)
    assert without == WAITING, "write the twin NAME.zh.md, and take translated pages from website/untranslated.txt"


def test_no_twin_is_alone():
    for twin in (ROOT / "docs").rglob("*.zh.md"):
        assert twin.with_name(f"{twin.name.removesuffix('.zh.md')}.md").exists(), f"{twin} translates no page"


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.source)
@pytest.mark.parametrize("of", [assemble.code_blocks, assemble.links], ids=["code", "links"])
def test_twins_have_the_same(of, page):
    assert of(page.texts["zh"]) == of(page.texts["en"])


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.source)
def test_twins_have_the_same_headings_by_level(page):
    levels = [[level for level, _ in assemble.headings(page.texts[language])] for language in assemble.LANGUAGES]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("language", assemble.LANGUAGES)
def test_every_page_has_a_place_in_the_navigation(language):
    there = {page.target for page in assemble.pages()} | SHEETS
    nav = assemble.navigation(language, there)
    named = [name for entry in nav[1:] for names in entry.values() for name in names]
    assert nav[0] == "index.md"
    assert sorted([nav[0], *named]) == sorted(there)


def test_a_page_without_a_place_is_refused_by_name():
    there = {page.target for page in assemble.pages()} | SHEETS
    with pytest.raises(ValueError, match=r"No section of website/nav.toml has a place for attic/old.md"):
        assemble.navigation("en", {*there, "attic/old.md"})
    with pytest.raises(ValueError, match=r"names guide/neurons.md, which there is not"):
        assemble.navigation("en", there - {"guide/neurons.md"})


@pytest.mark.parametrize("page", list(assemble.pages()), ids=lambda page: page.source)
def test_every_link_leads_to_a_file(page):
    """The fast half of what `make docs` checks, which knows anchors and made pages too."""
    for text in page.texts.values():
        for link in assemble.links(text):
            there = (ROOT / page.source).parent / link.partition("#")[0]
            assert there.exists() or "/reference/" in str(there), f"{page.source} links to {link}"


def test_every_page_is_reached_by_links_from_the_index_or_the_readme():
    docs = ROOT / "docs"
    reached, waiting = set(), [docs / "index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            there = [(page.parent / link.partition("#")[0]).resolve() for link in assemble.links(page.read_text())]
            waiting += [path for path in there if path.suffix == ".md" and docs in path.parents and path.exists()]
    assert sorted(page.source for page in WRITTEN if ROOT / page.source not in reached) == []


def test_links_lead_to_where_files_stand_on_the_site():
    page = assemble.Page("docs/guide/a.md", "guide/a.md", {})
    text = "[a](../versions.md#onnx) [b](../../ARCHITECTURE.md) ![c](../images/d.png) [e](https://f.g/h) [i](#j)\n"
    assert assemble.with_links(page, text + "```\n[k](../versions.md)\n```\n") == (
        "[a](../explanation/versions.md#onnx) [b](../project/architecture.md) ![c](../images/d.png) "
        "[e](https://f.g/h) [i](#j)\n```\n[k](../versions.md)\n```\n"
    )


def test_headings_of_a_translation_have_the_anchors_of_their_twins():
    pytest.importorskip("pymdownx")
    english = "# One `code`\n\n```\n# no heading\n```\n\n## Two\n\n## Two\n"
    chinese = "# 一\n\n```\n# no heading\n```\n\n## 二\n\n## 二\n"
    assert assemble.with_anchors(chinese, english) == (
        "# 一 {#one-code}\n\n```\n# no heading\n```\n\n## 二 {#two}\n\n## 二 {#two_1}\n"
    )


def test_a_page_that_waits_is_shown_in_english_under_a_note():
    page = assemble.Page("docs/a.md", "a.md", {"en": "# Title\n\nWords.\n"})
    assert assemble.text_of(page, "zh") == f"# Title\n\n{assemble.WAITING}Words.\n"
    assert assemble.text_of(page, "en") == "# Title\n\nWords.\n"


def test_what_is_broken_in_a_built_site_is_named(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">1</a><a href="#no">2</a><a href="a.html#yes">3</a><p id="yes"><a href="https://x.y">4</a>'
        '<script src="https://unpkg.com/x"></script><img src="gone.png"><a href="%E4%B8%80.html">5</a>'
    )
    (tmp_path / "一.html").write_text("")
    (tmp_path / "404.html").write_text('<a href="/docs/a.html">1</a><a href="./b.html">2</a>')
    assert sorted(links.broken(tmp_path)) == [
        "404.html: ./b.html leads nowhere",
        "a.html: #no names an anchor that is not there",
        "a.html: b.html leads nowhere",
        "a.html: fetches https://unpkg.com/x",
        "a.html: gone.png leads nowhere",
    ]
    with pytest.raises(SystemExit, match="broken links"):
        links.check(tmp_path)


def test_a_page_of_source_fits_a_small_screen_and_leads_back(tmp_path, monkeypatch):
    (tmp_path / "package" / "room").mkdir(parents=True)
    (tmp_path / "package" / "room" / "a.py").write_text("x < y\n")
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "package")
    source.write_sources(tmp_path)
    (tmp_path / "index.html").write_text("the start")
    page = tmp_path / "source" / "room" / "a.py.html"
    text = page.read_text()
    assert 'name="viewport"' in text
    assert '<span id="L-1"><a href="#L-1">1</a>  x &lt; y</span>' in text
    (back,) = re.findall(r'<a href="([^"#]+)"', text)
    assert (page.parent / back).read_text() == "the start"


def test_formulas_become_mathml_or_are_refused_by_name():
    pytest.importorskip("latex2mathml")
    from website.hooks import mathml

    assert re.search(r"<math.*<mi>&#x003C4;</mi>.*</math>|<math.*τ.*</math>", mathml(r"\tau", "inline"))
    with pytest.raises(ValueError, match=r"\\nosuch"):
        mathml(r"\nosuch{x}", "block")


def test_a_formula_goes_to_the_next_line_where_wide_spaces_and_rows_are():
    pytest.importorskip("latex2mathml")
    from website.hooks import block, mathml, rows

    assert rows(r"\begin{aligned} a &= 1 \qquad b = 2 \\ c &= {3 \qquad 4} \end{aligned}") == [
        ["a = 1", "b = 2"],
        [r"c = {3 \qquad 4}"],
    ]
    assert rows(r"x \leftarrow \left\{ y \qquad z \right\} \quad\text{or} \quad u") == [
        [r"x \leftarrow \left\{ y \qquad z \right\}", r"\text{or} \quad u"]
    ]
    assert block(r"a \\ b").count('<div class="formula"><math') == 2
    with pytest.raises(ValueError, match="& in the formula"):
        mathml("a &= b", "block")


def test_lines_of_chinese_are_joined_without_a_space():
    text = "一行、\n二行\n三行`a`\n四行。\n`b`\n\n- 一。\n  二\n- 三。\n\n```\n一\n二\n```\n\n一。\n```\n二\n```\n"
    assert assemble.joined(text) == (
        "一行、二行三行`a`\n四行。`b`\n\n- 一。二\n- 三。\n\n```\n一\n二\n```\n\n一。\n```\n二\n```\n"
    )


def test_a_stroke_ends_no_cell_of_a_table():
    assert cell(r"$|a|$, `b | c`, $\|d\|$, e | f") == r"$\vert a\vert $, `b | c`, $\Vert d\Vert $, e \| f"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.source)
def test_formulas_in_tables_have_no_stroke(page):
    r"""GitHub and the site read it otherwise there; `\lvert x\rvert` is the same in both."""
    rows = [line for text in page.texts.values() for line in text.splitlines() if line.startswith("|")]
    assert [row for row in rows if re.search(r"\$[^$`|]*\\\\?\|", row)] == []


def test_the_page_of_what_is_not_there_links_from_its_folder_where_no_address_is_known():
    pytest.importorskip("latex2mathml")
    from website.hooks import on_post_template

    theme = '<link href="/a.css"><a href="//zh/b.html"></a><script>new URL("/",location); {"base": "/"}</script>'
    said = '<link href="./a.css"><a href="./zh/b.html"></a><script>new URL("./",location); {"base": "./"}</script>'
    for known, shown in ((None, said), ("https://x.y/", theme)):
        config = SimpleNamespace(site_url=known)
        assert on_post_template(theme, template_name="404.html", config=config) == shown
    assert on_post_template(theme, template_name="sitemap.xml", config=SimpleNamespace(site_url=None)) == theme


def test_the_page_of_installing_tells_every_extra_and_what_all_has():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    parts = set(extras["all"][0].partition("[")[2].rstrip("]").split(","))
    for language in assemble.LANGUAGES:
        (page,) = (page.texts[language] for page in WRITTEN if page.source == "docs/start/install.md")
        rows = [line for line in page.splitlines() if line.startswith("| `")]
        told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert set(extras) - {"dev", "docs"} <= told
        (of_all,) = (row for row in rows if row.startswith("| `all` |"))
        assert set(re.findall(r"`(\w+)`", of_all)) - {"all"} == parts
        lean = re.search(r"pip install '\.\[((?!all)[\w,]+)\]'\n    ```", page)
        assert set(lean[1].split(",")) == parts - {"triton"}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.source)
def test_no_formula_at_the_margin_ends_a_list(page):
    for text in page.texts.values():
        parts = [part for code, part in assemble.outside_code(text) if not code]
        assert not [part for part in parts if re.search(r"^\d+\. .*\n(?: +\S.*\n)*\n\$\$", part, re.MULTILINE)]


ROOMS = "|".join({*spikescope.__all__} - {"recording"})  # which is the name of a variable, too


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.source)
def test_the_names_that_a_page_says_exist(page):
    """Names of ours in backticks, `room.name`, outside of blocks of code and of the columns of other libraries."""
    for text in page.texts.values():
        for code, part in assemble.outside_code(text):
            for line in part.splitlines() if not code else ():
                told = line.rpartition(" | ")[2] if page.source == "docs/moving/others.md" else line
                for room, name in re.findall(rf"`({ROOMS})\.([A-Za-z]\w*)(?:\([^`]*)?`", told):
                    assert hasattr(getattr(spikescope, room), name), f"{page.source}: spikescope.{room} has no {name}"


def test_names_of_other_libraries_lead_to_what_is_here():
    with pytest.raises(AttributeError, match=r"What snnTorch calls Leaky is neuron.LIFNode\(tau=1 / \(1 - beta\)"):
        spikescope.neuron.Leaky  # noqa: B018  # the access is what is tested
    told = (ROOT / "docs" / "moving" / "others.md").read_text()
    for name, (library, here) in _ELSEWHERE.items():
        room, _, found = re.match(r"[\w.]+", here)[0].partition(".")
        assert room == "nn" or hasattr(getattr(spikescope, room), found), here
        assert f"`{name}" in told or f".{name}" in told or f" `{name}" in told, f"{library}'s {name} is not on the page"


@pytest.mark.parametrize("language", assemble.LANGUAGES)
def test_the_search_parts_names_from_quotes_and_brackets(language):
    found = re.split(SEPARATORS[language], "`backend='cupy'`; layer.Linear(4, 2) {'v': h} reset_net? a|b")
    assert {"backend", "cupy", "layer", "Linear", "v", "h", "reset_net", "a", "b"} <= set(found)


@pytest.mark.parametrize("language", assemble.LANGUAGES)
def test_the_search_finds_the_changelog_last(language):
    (page,) = (page for page in assemble.pages() if page.source == "CHANGELOG.md")
    assert assemble.text_of(page, language).startswith("---\nsearch:\n  boost: 0.1\n---\n\n# Changelog\n")


def test_a_placeholder_is_no_address():
    held = address()
    assert held is None or (held.startswith("https://") and held.endswith("/"))
