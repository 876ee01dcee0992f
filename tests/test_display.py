"""What values say of themselves in a terminal and in a notebook: all of them by one mechanism."""

import copy
import html.parser

import pytest
import torch
from torch import nn

from spikescope import monitor, neuron
from spikescope.display import ROWS, Displayed, Overview
from spikescope.recording import in_memory

HOSTILE = "<script>alert(1)</script>&'\""


class Tags(html.parser.HTMLParser):
    """The tags and the attributes of a text, and what is between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


class Named(nn.Module):
    """Neurons under names that would do harm in a page, which `setattr` does not forbid."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.add_module(name, neuron.IFNode(step_mode="m"))

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def run(net):
    return net(torch.tensor([[[0.5, 0.25]], [[0.5, 0.25]]], requires_grad=True)).sum().backward()


def recording(net):
    with monitor.record(net) as held:
        run(net)
    return held


def health(net):
    with monitor.health(net) as held:
        run(net)
    return held


def outputs(net):
    with monitor.OutputMonitor(net, neuron.IFNode) as held:
        run(net)
    return held


def clock(net):
    held = monitor.Monitor(net)
    held.enable()
    run(net)
    held.close()
    return held


def spilled(net):
    with monitor.OutputMonitor(net, neuron.IFNode, budget=monitor.Budget(8, "spill")) as held:
        run(net)
    return held


def stored(net):
    spikes = torch.ones(2, 1, 3)
    return in_memory({name: {"spike": [spikes]} for name, _ in net.named_children()}, notes=[{"run": 0, HOSTILE: 1}])


SHOWN = [recording, health, outputs, clock, spilled, stored]


@pytest.mark.parametrize("make", SHOWN)
def test_a_value_is_shown_as_text_and_as_html_with_nothing_that_runs(make):
    held = make(Named(["a", HOSTILE]))
    assert isinstance(held, Displayed)
    text, page = repr(held), held._repr_html_()
    assert "\x00" not in text
    found = Tags(page)
    assert set(found.tags) <= {"div", "table", "tr", "td", "th"}
    assert found.attributes <= {"style"}
    assert len(page) < 5000
    said = [cell for cell in found.text if cell]
    for line in text.splitlines():
        for cell in line.split("  "):
            assert not cell.strip() or any(cell.strip() in whole for whole in said), cell


def test_a_recording_shows_its_numbers():
    assert repr(recording(Named(["a", "b"]))).splitlines() == [
        "Recording of 2 modules",
        "layer  rate  silent share",
        "a      0.25           0.5",
        "b      0.25           0.5",
    ]


def test_a_recording_of_nothing_says_what_to_do():
    assert repr(monitor.record(Named(["a"]))) == (
        "Recording of 0 modules\nNothing was seen: run the network inside the block."
    )


def test_a_recording_whose_probes_have_failed_is_shown_all_the_same():
    net = Named(["a", "b"])
    with monitor.record(net, "norm", budget=1) as held, pytest.warns(RuntimeWarning):
        run(net)
    with pytest.raises(MemoryError):
        held.table()
    first, *remarks = repr(held).splitlines()
    assert first == "Recording of 2 modules"
    assert [text.split(":")[0] for text in remarks] == ["a", "b"]
    assert all("budget" in text for text in remarks)
    assert repr(copy.copy(held)).splitlines()[1:] != []


def test_findings_are_shown_with_their_advice():
    lines = repr(health(Named(["a", "b"]))).splitlines()
    assert lines[0].startswith("Health: ")
    assert lines[1].split() == ["layer", "finding", "number", "threshold"]
    assert any(line.startswith("Raise the bias or the gain of the weights") for line in lines)


def test_monitors_show_their_records():
    assert repr(outputs(Named(["a", "b"]))).splitlines() == [
        "OutputMonitor: 2 records, 32 B in memory, not listening",
        "layer  records",
        "a            1",
        "b            1",
    ]
    assert repr(clock(Named(["a"]))).splitlines() == [
        "Monitor: 32 B in memory, not listening",
        "layer  steps of s  steps of v",
        "a               2           2",
    ]


def test_records_on_disk_are_not_read_to_be_shown(monkeypatch):
    held = spilled(Named(["a", "b"]))
    monkeypatch.setattr(type(held._records), "moments", property(lambda self: 1 / 0))
    assert repr(held).splitlines()[2].split() == ["a", "?"]


def test_a_long_table_is_cut_and_says_so():
    cells = [["layer", "rate"], *([f"l{i}", "0.5"] for i in range(ROWS + 7))]
    for shown in (Overview("Many", cells).text(), Overview("Many", cells).html()):
        assert f"l{ROWS - 1}" in shown
        assert f"l{ROWS}" not in shown
        assert "... and 7 more" in shown
    assert f"l{ROWS + 6}" in Overview("Many", cells).text(rows=None)


def test_a_name_cannot_break_a_line():
    assert "a?b" in Overview("T", [["layer"], ["a\nb"]]).text()


def test_no_text_speaks_to_the_terminal():
    shown = Overview("T\x1b[2J", [["layer"], ["a\x1b[31m"]], ["one\ntwo\x1b]0;title\x07"])
    for text in (shown.text(), shown.html()):
        assert not {"\x1b", "\x07"} & set(text)
        assert "one\ntwo?]0;title?" in text
