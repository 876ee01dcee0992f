"""`spikescope report`: of runs and recordings, of two, and its data back."""

import json
import re

import pytest
import torch

from spikescope import monitor, neuron
from spikescope.cli.main import main
from spikescope.report.views import Epoch, LayerActivity
from spikescope.train.run_folder import RunFolder


@pytest.fixture
def recorded(tmp_path):
    net = neuron.LIFNode(step_mode="m")
    with monitor.record(net, to=tmp_path / "run.spk"):
        net(3 * torch.ones(4, 2, 5))
    return tmp_path / "run.spk"


@pytest.fixture
def run(tmp_path):
    layers = (LayerActivity("1", "LIFNode", 8, 0.25, 0.5),)
    with RunFolder(tmp_path / "run") as folder:
        folder.write_config({"job": "train", "recipe": {"model": "net", "data": "digits", "root": "/home/ada"}})
        folder.add_epoch(Epoch(1, 0.5, 0.75, 0.625, 0.5, 1.5, layers))
    return tmp_path / "run"


def test_of_a_recording_and_its_data(recorded, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(recorded), "-o", str(out), "--title", "Mine"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert "<h1>Mine</h1>" in out.read_text()
    assert main(["report", "--data", str(out)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["layers"][0]["neurons"] == 5
    assert main(["report", "--data", str(out), "-o", str(tmp_path / "data.json")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data.json'}\n"
    assert (tmp_path / "data.json").read_text() == printed


def test_of_a_run_and_a_recording_side_by_side(run, recorded, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run), str(recorded), "-o", str(out)]) == 0
    assert "What differs first" in out.read_text()
    assert main(["report", "--data", str(out)]) == 0
    assert [held["source"] for held in json.loads(capsys.readouterr().out.splitlines()[-1])] == ["run", "recording"]


def test_places_are_told_when_asked_for(run, tmp_path):
    out = tmp_path / "page.html"
    assert main(["report", str(run), "-o", str(out)]) == 0
    assert "ada" not in re.sub(r"<script>.*?</script>|<style>.*?</style>", "", out.read_text(), flags=re.DOTALL)
    assert main(["report", str(run), "-o", str(out), "--places"]) == 0
    assert "/home/ada" in out.read_text()


def test_what_is_damaged_is_told_and_is_a_status(recorded, tmp_path, capsys):
    for part in recorded.glob("*.records"):
        part.write_bytes(part.read_bytes()[:-5])
    assert main(["report", str(recorded), "-o", str(tmp_path / "page.html")]) == 1
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "there is no nothing"),
        ([], "needs the folder of a run"),
        (["--data", "nothing.html"], "nothing.html"),
        (["somewhere", "--data", "page.html"], "leave the other folder out"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "watch"])
def test_a_page_that_cannot_be_written_is_refused_in_words(command, recorded, tmp_path, capsys):
    """At once: who has watched for an hour would have no page."""
    assert main([command, str(recorded), "-o", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_refused_or_told(recorded, tmp_path, capsys):
    assert main(["report", str(recorded), "-o", str(tmp_path / "page.html"), "--run", "7"]) == 1
    assert "has no run 7" in capsys.readouterr().err


@pytest.mark.parametrize("of", ["run", "recorded"])
def test_a_report_takes_the_place_of_none_of_the_files_that_it_is_made_from(of, request, tmp_path, capsys):
    source, page, data = request.getfixturevalue(of), str(tmp_path / "page.html"), str(tmp_path / "data.json")
    held = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert len(held) > 1
    for _ in range(2):  # what it wrote itself it may write again
        assert main(["report", str(source), "-o", page]) == 0
        assert main(["report", "--data", page, "-o", data]) == 0
    for path in (*held, tmp_path / "thesis.txt"):
        path.write_bytes(held.setdefault(path, b"by hand"))
        for command in (["report", str(source)], ["report", "--data", page], ["watch", str(source)]):
            capsys.readouterr()
            assert main([*command, "-o", str(path)]) == 2
            assert f"{path.name} is there, and is nothing that" in capsys.readouterr().err
        assert path.read_bytes() == held[path]
    (tmp_path / "empty").touch()
    assert main(["report", str(source), "-o", str(tmp_path / "empty")]) == 0
