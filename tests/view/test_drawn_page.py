"""The page as text: one file, the same bytes, everything escaped, allowed by its own policy, whole without script."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
import torch
from documents import HOSTILE, broken, hostile, large

import spikescope
from spikescope.view import document_of, report
from spikescope.view.document import empty, read_data
from spikescope.view.page import page, sections

VOID = {"meta", "input", "br"}


class Tree(HTMLParser):
    """The elements of a page with their attributes, and its text; an end without a beginning is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [held for name, held in self.found if name == tag]


@pytest.fixture(scope="module")
def whole():
    return page([large(6, 5)])


def test_the_policy_allows_its_own_script_and_style_and_nothing_else(whole):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', whole)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#x27;", "'").split("; "))
    assert rules["default-src"] == "'none'"
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", whole, flags=re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert set(rules) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}


def test_it_asks_for_nothing_from_elsewhere(whole):
    tree = Tree(whole)
    for tag, attributes in tree.found:
        assert not {"src", "srcset", "action", "background", "poster", "style"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://", whole.replace("http://www.w3.org", ""))


def test_ids_are_unique_and_links_lead_somewhere(whole):
    tree = Tree(whole)
    ids = [held["id"] for _, held in tree.found if "id" in held]
    assert len(ids) == len(set(ids))
    assert {held["href"][1:] for held in tree.all("a")} <= set(ids)


def test_every_figure_has_words_for_those_who_do_not_see_it(whole):
    figures = re.findall(r'<svg class="plot"[^>]*role="img"[^>]*><title>([^<]+)</title>', whole)
    assert len(figures) == whole.count('class="plot"') > 10
    for _, held in (pair for pair in Tree(whole).found if pair[0] == "svg"):
        assert held.get("role") == "img" or held.get("aria-hidden") == "true"


def test_all_that_is_there_stands_in_it_without_script(whole):
    text = "".join(Tree(re.sub(r"<script>.*?</script>", "", whole, flags=re.DOTALL)).text)
    for words in ("silent layer", "net[0].v_threshold = 0.5", "stage0.5.neuron", "threshold 1", "the weather",
                  "Something was left out.", "not a number", "91.2 %", "evenly chosen"):  # fmt: skip
        assert words in text


def test_the_same_document_gives_the_same_bytes():
    assert page([large(6, 5)]) == page([large(6, 5)])


def test_words_that_attack_are_words():
    for documents in ([hostile(large(6, 5))], [hostile(large(6, 5)), hostile(large(6, 4, seed=1))]):
        text = page(documents)
        tree = Tree(text)
        assert len(tree.all("script")) == 2
        assert not tree.all("img")
        assert not [name for _, held in tree.found for name in held if name.startswith("on")]
        assert "\x00" not in text
        assert "\u202e" not in re.sub(r"<script type=.*?</script>", "", text, flags=re.DOTALL)
        assert "alert(1)" in "".join(tree.text)


def test_words_that_attack_come_back_from_the_data(tmp_path):
    report(hostile(large(3, 2)), to=tmp_path / "report.html", places=False)
    assert read_data(tmp_path / "report.html")[0]["layers"][0]["kind"] == HOSTILE


@pytest.mark.parametrize("odd", ["nan", "inf", "-inf", None])
def test_numbers_that_are_not_finite_are_drawn_as_such(odd):
    held = broken(large(6, 5), odd)
    for one in held["potentials"]:
        one["neuron"] = 3
    text = page([held])
    Tree(text)
    drawn = " ".join(re.findall(r' (?:d|x|y|width|height|viewBox|points)="([^"]*)"', text))
    assert not re.search(r"nan|inf|None", drawn)


def test_an_empty_document_says_what_is_missing():
    text = "".join(Tree(page([empty("run", "Nothing yet")])).text)
    assert "Nothing was judged" in text
    assert "No findings" not in text


def test_a_document_of_nothing_but_names_is_a_page():
    held = empty("recording", "x")
    held["layers"] = [{"name": "", "kind": "", "role": "neurons"}, {"name": "b", "kind": "Linear", "role": "weights"}]
    held["courses"] = [{"title": "t", "axis": "epoch", "unit": "", "form": "number", "x": [], "series": [], "note": ""}]
    held["rasters"] = [{"layer": "", "sample": "", "steps": 0, "first": 0, "bin": 1, "neurons": 0, "rows": [],
                        "marks": [], "note": ""}]  # fmt: skip
    held["potentials"] = [{"layer": "", "neuron": 0, "sample": "", "x": [], "values": [], "spikes": [],
                           "threshold": None, "reset": None, "note": ""}]  # fmt: skip
    held["flow"] = {"layers": ["a"], "norms": [[]], "note": ""}
    Tree(page([held, held]))


def test_the_fixed_part_and_a_deep_network_keep_to_their_sizes():
    assert len(page([empty("run", "x")]).encode()) <= 150_000
    assert len(page([large(50, 20)]).encode()) <= 3_000_000


def test_the_map_is_as_wide_as_the_roots_of_the_neurons():
    held = empty("run", "x")
    held["layers"] = [
        {"name": name, "kind": "LIFNode", "role": "neurons", "neurons": neurons, "rate": 0.5}
        for name, neurons in (("a", 400), ("b", 100), ("c", 1))
    ]
    widths = re.findall(r'<rect x="[^"]*" width="([^"]*)" class="bar"', sections([held])["map"])
    assert widths == ["1000", "500", "50"]


def test_two_documents_say_first_what_differs_first():
    a, b = large(6, 5), large(6, 5)
    b["courses"][1]["series"][2]["values"][3] = 0.9
    b["configuration"] = [["lr", "0.2"]]
    b["layers"][3]["rate"] = 0.9
    text = page([a, b])
    first = text.index("What differs first")
    assert first < text.index('id="findings"')
    said = text[first : text.index("<main>")]
    assert "Firing rate of stage0.2.neuron differs from epoch 4 on" in said
    assert re.search(r"lr</th><td>0\.1</td><td>0\.2", said)
    assert "stage0.1.neuron, firing rate" in said
    assert text.count('class="plot"') == 2 * page([a]).count('class="plot"')
    Tree(text)


def test_two_that_are_the_same_say_so():
    assert "Nothing that both hold differs." in page([large(3, 3), large(3, 3)])


def test_two_recordings_are_held_against_each_other_value_by_value(tmp_path):
    spikes = torch.zeros(4, 1, 5)
    other = spikes.clone()
    other[2, 0, 3] = 1
    a, b = (spikescope.recording.in_memory({"lif": {"spike": [held]}}) for held in (spikes, other))
    path = a.report(tmp_path / "report.html", b)
    assert "run 0, step 2, sample 0, neuron 3" in path.read_text()
    assert len(read_data(path)) == 2


def test_a_report_is_read_as_a_document_again(tmp_path):
    rec = spikescope.recording.in_memory({"lif": {"spike": [torch.eye(4).view(4, 1, 4)]}})
    path = rec.report(tmp_path / "report.html")
    again = report(path, to=tmp_path / "again.html")
    assert again.read_bytes() == path.read_bytes()
    assert document_of(path) == document_of(rec)
