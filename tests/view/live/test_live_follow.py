"""A recording that another process writes, followed as it grows, and the command that shows one."""

import pytest
from live_cases import ask, make, train

import spikescope
from spikescope.cli.main import main
from spikescope.view.document import read_data
from spikescope.view.live.follow import Follower
from spikescope.view.live.front import View


def test_a_recording_is_followed_as_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.view.live.follow.PATIENCE", 0.0)
    monkeypatch.setattr("spikescope.view.live.follow.SHARE", 1e9)
    net = make()
    with spikescope.monitor.record(net, "spike", to=tmp_path / "run.spk") as recording:
        train(net, 2)
        recording.flush()
        source = Follower(tmp_path / "run.spk")
        first = source.document()
        source.look()
        assert source.numbers() == [0]  # nothing has changed
        train(net, 3)
        recording.flush()
        source.look()
        assert source.numbers() == [0, 1]
    assert first["facts"][0] == ["runs", "2"]
    assert source.document()["facts"][0] == ["runs", "5"]
    assert source.document(0) == first
    assert source.document(7) is None
    assert source.pulse()["words"].startswith("runs 5 · steps of a run 6")
    view = View(source, None, "127.0.0.1", False, True)
    try:
        assert b"EventSource" in ask(view)[2]
    finally:
        view.end()


def test_the_command_shows_a_recording_until_ctrl_c_and_writes_the_report(tmp_path, monkeypatch, capsys):
    def ctrl_c(seconds):
        raise KeyboardInterrupt

    net = make()
    with spikescope.monitor.record(net, "spike", to=tmp_path / "run.spk"):
        train(net, 2)
    monkeypatch.setattr("spikescope.view.live.watch.time.sleep", ctrl_c)
    assert main(["watch", str(tmp_path / "run.spk"), "-o", str(tmp_path / "end.html")]) == 0
    assert "Live view: http://127.0.0.1:" in capsys.readouterr().err
    assert read_data(tmp_path / "end.html")[0]["facts"][0] == ["runs", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["none"], "there is no"), ([".", "--port", "70000"], ""), ([".", "--host", "0.0.0.0"], "")],
)
def test_the_command_refuses_in_words(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *words]) == 2
    assert said in capsys.readouterr().err
