"""The main job on a hundred samples: its folder, its checkpoint, and the ways it ends early."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from spikescope.errors import MissingExtraError
from spikescope.report import Epoch, LayerActivity
from spikescope.train import (
    RunFolder,
    Settings,
    TrainingProgress,
    check_extras,
    choose_device,
    digits_network,
    evaluate,
    load_checkpoint,
    load_digits,
    read_metrics,
    run_demo,
    view_sample,
)

QUICK = Settings(epochs=2, steps=2, batch_size=32)
PICTURES = ("learning_curves", "firing_rates", "spike_raster", "membrane_traces", "gradient_flow", "overview")


@pytest.mark.usefixtures("drawn")
def test_the_run_folder(tmp_path, small_dataset, capsys):
    state = torch.get_rng_state()
    outcome = run_demo(RunFolder(tmp_path), QUICK, dataset=small_dataset, target=98.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not outcome.interrupted
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "config.json",
        "insight.json",
        "report.html",
        "metrics.jsonl",
        "model.safetensors",
        "summary.txt",
        *(f"{name}.png" for name in PICTURES),
    }
    assert tuple(read_metrics(tmp_path / "metrics.jsonl")) == outcome.history
    assert outcome.accuracy == 100 * outcome.history[-1].test_accuracy
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"]["epochs"] == 2
    assert config["network"]["neuron"] == "LIFNode"
    assert (tmp_path / "summary.txt").read_text() == outcome.summary + "\n"
    for name in PICTURES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "neuron1" in shown
    assert shown.count("%") > 4

    net = digits_network("LIFNode")
    assert load_checkpoint(tmp_path / "model.safetensors", net)["epoch"] == "2"
    measured = evaluate(net, small_dataset.x_test, small_dataset.y_test, QUICK)
    assert measured == (outcome.history[-1].test_loss, outcome.history[-1].test_accuracy)


def test_a_report_that_fails_leaves_the_training_done(tmp_path, small_dataset, monkeypatch):
    monkeypatch.setattr("spikescope.train.run_folder.report", lambda *given: 1 / 0)
    with pytest.warns(RuntimeWarning, match=r"training is done.*report\.html failed: ZeroDivisionError"):
        outcome = run_demo(RunFolder(tmp_path), QUICK, dataset=small_dataset, quiet=True)
    assert (tmp_path / "summary.txt").read_text() == outcome.summary + "\n"
    assert (tmp_path / "insight.json").exists()


def test_looking_into_the_network_leaves_it_as_it_was_trained(tmp_path, small_dataset):
    seen = {}

    def keep(epoch):
        seen.update(load_file(tmp_path / "model.safetensors"))

    def view(net, *args, **kwargs):
        viewed.append({name: held.clone() for name, held in net.state_dict().items()})
        return view_sample(net, *args, **kwargs)

    viewed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikescope.train.demo.job.view_sample", view)
        run_demo(RunFolder(tmp_path), QUICK, dataset=small_dataset, quiet=True, on_epoch=keep)
    assert seen.keys() == viewed[0].keys()
    assert all(torch.equal(held, viewed[0][name]) for name, held in seen.items())


def test_an_interrupt_leaves_the_finished_epochs(tmp_path, small_dataset):
    def stop(epoch):
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    outcome = run_demo(RunFolder(tmp_path), QUICK, dataset=small_dataset, quiet=True, on_epoch=stop)
    assert outcome.interrupted
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == len(outcome.history) == 1
    assert "Interrupted before the end." in (tmp_path / "summary.txt").read_text()
    assert (tmp_path / "overview.png").exists()
    net = digits_network("LIFNode")
    load_checkpoint(tmp_path / "model.safetensors", net)
    measured = evaluate(net, small_dataset.x_test, small_dataset.y_test, QUICK)
    assert measured[0] == outcome.history[0].test_loss


def test_an_interrupt_in_the_first_epoch(tmp_path, small_dataset, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikescope.train.demo.job.fit", interrupted)
    outcome = run_demo(RunFolder(tmp_path), QUICK, dataset=small_dataset, quiet=True)
    assert outcome.interrupted
    assert outcome.accuracy == 0.0
    assert {entry.name for entry in tmp_path.iterdir()} == {"config.json", "summary.txt"}
    assert (tmp_path / "summary.txt").read_text().startswith("No epoch was finished.")


def test_quiet_is_quiet(tmp_path, small_dataset, capsys):
    run_demo(RunFolder(tmp_path), Settings(epochs=1, steps=1), dataset=small_dataset, quiet=True)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_an_unknown_neuron():
    with pytest.raises(ValueError, match=r"the neuron must be one of 'IFNode'.*but got 'Brain'"):
        digits_network("Brain")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("sklearn", r"The digits need the package scikit-learn.*spikescope\[train\]"),
        ("safetensors", r"Checkpoints need the package safetensors.*spikescope\[train\]"),
        ("rich", r"Progress bars need the package rich.*spikescope\[train\]"),
        ("matplotlib", r"Pictures need the package matplotlib.*spikescope\[report\]"),
    ],
)
def test_missing_extras_are_named_at_once(module, text, monkeypatch):
    check_extras()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=text):
        check_extras()


def test_missing_extras_are_named_where_they_are_used(monkeypatch):
    for module in ("sklearn.datasets", "rich.console"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        load_digits()
    with pytest.raises(MissingExtraError, match="rich"):
        TrainingProgress(3)


def test_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="no CUDA device that PyTorch can use; choose the device 'cpu' or 'auto'"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_the_lines_of_the_progress():
    stream = io.StringIO()
    epoch = Epoch(3, 0.512, 0.9731, 0.4, 0.9822, 1.0, (LayerActivity("neuron1", "LIFNode", 8, 0.137, 0.254),))
    with TrainingProgress(2, stream) as progress:
        progress.batch()
        progress.epoch(epoch)
        progress.epoch(epoch)
    header, *rows = [line.split() for line in stream.getvalue().splitlines() if line.strip() and "training" not in line]
    assert header[:6] == ["epoch", "loss", "train", "%", "test", "%"]
    assert rows == [["3", "0.512", "97.31", "98.22", "13.7", "25.4", "%"]] * 2
