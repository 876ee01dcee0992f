"""The files of a run: they parse, they are whole, and the checkpoint gives the network back."""

from __future__ import annotations

import errno
import json
import os
import sys

import pytest
import torch

from spikescope.errors import MissingExtraError
from spikescope.files import OutputError
from spikescope.report import Epoch, LayerActivity, learning_curves
from spikescope.train import RunFolder, digits_network, load_checkpoint, read_metrics

EPOCH = Epoch(1, 1.7, 0.31, 1.3, 0.37, 0.9, (LayerActivity("neuron1", "LIFNode", 11, 0.13, 0.27),))


def test_metrics_are_one_json_object_a_line(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.add_epoch(EPOCH)
    path = folder.path / "metrics.jsonl"
    assert path.read_text().endswith("\n")
    folder.add_epoch(Epoch(2, 1.1, 0.41, 1.2, 0.43, 0.7, EPOCH.layers))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["epoch"] == 1
    assert first["test_accuracy"] == 0.37
    assert second["layers"] == [{"name": "neuron1", "kind": "LIFNode", "neurons": 11, "rate": 0.13, "silent": 0.27}]
    assert read_metrics(path)[0] == EPOCH


def test_a_last_line_that_was_cut_is_left_out_in_words(tmp_path):
    folder = RunFolder(tmp_path)
    for number in (1, 2):
        folder.add_epoch(Epoch(number, 1.1, 0.41, 1.2, 0.43, 0.7, EPOCH.layers))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    assert len(read_metrics(path)) == 2
    path.write_bytes(whole[:-1])  # the end of the line alone
    assert len(read_metrics(path)) == 2
    for content in (whole[:-30], whole[: first + 1], whole[:-30] + bytes(30), whole[:first] + '{"ü'.encode()[:-1]):
        path.write_bytes(content)
        with pytest.warns(RuntimeWarning, match=r"metrics\.jsonl ends in the middle of line 2, which is left out"):
            assert [epoch.epoch for epoch in read_metrics(path)] == [1]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"layers": 3}',
        b'{"layers": [], "more": 1}',
        b'{"layers": [1]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_epoch_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(EPOCH.row()).encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not an epoch: "):
        read_metrics(path)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(OutputError, match="is being written to by another run"):
        RunFolder(tmp_path)
    folder.write_summary("mine")
    del folder
    with pytest.raises(OutputError, match=r"already holds summary\.txt"):
        RunFolder(tmp_path)


def test_damaged_weights_are_named_and_change_nothing(tmp_path, small_network):
    RunFolder(tmp_path).save_checkpoint(small_network)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    before = {name: held.clone() for name, held in small_network.state_dict().items()}
    for content in (whole[:-1], whole[:5], b"", b"\xff" * 8 + whole[8:], b"PK" + whole[2:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors holds no weights, or is damaged"):
            load_checkpoint(path, small_network)
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(path, small_network)
    assert all(torch.equal(held, before[name]) for name, held in small_network.state_dict().items())


def test_config_and_summary(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({"seed": 3})
    folder.write_summary("all well\n")
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 3}
    assert (tmp_path / "summary.txt").read_text() == "all well\n"


def test_a_checkpoint_gives_the_network_back(tmp_path, small_network):
    folder = RunFolder(tmp_path)
    x = torch.rand(3, 2, 1, 8, 8)
    small_network(x)  # moves the running statistics
    folder.save_checkpoint(small_network, neuron="LIFNode", epoch=7)
    other = digits_network("LIFNode", channels=(3, 5), hidden=7)
    notes = load_checkpoint(tmp_path / "model.safetensors", other)
    assert notes == {"neuron": "LIFNode", "epoch": "7"}
    assert other.state_dict().keys() == small_network.state_dict().keys()
    assert all(torch.equal(held, other.state_dict()[name]) for name, held in small_network.state_dict().items())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, small_network, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(small_network, epoch=1)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"model\.safetensors could not be written: no space left on device"):
        folder.save_checkpoint(small_network, epoch=2)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_metrics_that_cannot_be_written(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"metrics\.jsonl could not be written: "):
        folder.add_epoch(EPOCH)


@pytest.mark.usefixtures("drawn")
def test_a_figure_is_a_png(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_figure("curves", learning_curves([EPOCH]))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_safetensors(tmp_path, small_network, monkeypatch):
    folder = RunFolder(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"Checkpoints need the package safetensors.*spikescope\[train\]"):
        folder.save_checkpoint(small_network)
    with pytest.raises(MissingExtraError, match="safetensors"):
        load_checkpoint(tmp_path / "model.safetensors", small_network)


def test_a_run_takes_the_folder_of_one_that_was_killed_in_its_first_file(tmp_path):
    draft = tmp_path / ".recipe.toml.0123456789abcdef"
    draft.touch()
    with RunFolder.again(tmp_path), pytest.raises(OutputError, match="already holds"):
        RunFolder(tmp_path)
    assert draft.exists()  # somebody was at it
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(OutputError, match="already holds"):
        RunFolder(tmp_path)
    assert draft.exists()
    (tmp_path / "model.safetensors").unlink()
    with RunFolder(tmp_path):
        assert not draft.exists()


@pytest.mark.parametrize("saved", [True, False])
def test_a_failure_after_the_end_says_whether_weights_were_saved(tmp_path, small_network, saved):
    folder = RunFolder(tmp_path)
    if saved:
        folder.save_checkpoint(small_network)
    words = "is done and its weights are in" if saved else "is over before its first epoch was, but the look failed"
    with pytest.warns(RuntimeWarning, match=words), folder.afterwards("the look"):
        raise OSError("full")
