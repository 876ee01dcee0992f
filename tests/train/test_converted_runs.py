"""A trained network of ReLUs becomes a folder with one of spikes, which is loaded again as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import ann2snn, functional
from spikescope.cli.main import main
from spikescope.train import Conversion, Recipe, convert, evaluate_run, load_converted, load_data, train

HOW = Conversion(T=4, samples=40, batch_size=16, device="cpu")


def own(num_classes=4, width=6):
    """What module:function names in these tests: normalisations behind a convolution and behind a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has trained a twin without spikes on bars at four heights."""
    place = tmp_path_factory.mktemp("twin")
    generator = np.random.default_rng(0)
    y = np.arange(120) % 4
    x = generator.random((120, 1, 28, 28), dtype=np.float32) * 0.2
    for sample, label in enumerate(y):
        x[sample, 0, 7 * label : 7 * label + 4] += 0.8
    np.savez(place / "data.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    recipe = Recipe(
        model="MNISTNet",
        model_args={"channels": 2, "hidden": 8, "neuron": "ReLU"},
        data="npz",
        root=str(place / "data.npz"),
        T=1,
        epochs=3,
        batch_size=16,
        lr=2e-2,
        device="cpu",
    )
    with torch.random.fork_rng():
        train(recipe, place / "run", quiet=True)
    return place / "run", recipe


def test_a_run_without_spikes_says_so(run):
    assert "There are no neurons to look at." in (run[0] / "summary.txt").read_text()
    assert evaluate_run(run[0], device="cpu")[1].layers == ()


@pytest.mark.usefixtures("drawn")
def test_the_folder_of_a_conversion(run, tmp_path):
    folder, recipe = run
    made = convert(recipe, folder / "best.safetensors", tmp_path / "snn", HOW)
    names = {entry.name for entry in (tmp_path / "snn").iterdir()}
    assert names == {"snn.safetensors", "config.json", "results.json", "summary.txt", "accuracy.png", "layers.png"}
    results = json.loads((tmp_path / "snn" / "results.json").read_text())
    assert results["ann_accuracy"] == evaluate_run(folder, device="cpu")[1].test_accuracy
    assert [row["name"] for row in results["layers"]] == list(made.layers)
    assert made.lost == pytest.approx(100 * (results["ann_accuracy"] - results["accuracy"][-1]))
    assert (tmp_path / "snn" / "summary.txt").read_text() == made.summary + "\n"
    worst = max(results["layers"], key=lambda row: row["error"])
    assert f"{100 * worst['error']:.2f} % in {worst['name']}" in made.summary


def test_a_conversion_is_loaded_as_it_was(run, tmp_path):
    folder, recipe = run
    made = convert(recipe, folder / "best.safetensors", tmp_path / "snn", HOW)
    before = torch.get_rng_state()
    snn = load_converted(tmp_path / "snn")
    assert torch.equal(torch.get_rng_state(), before)
    assert not snn.training
    test = load_data("npz", recipe.root, 1, {}).test.tensors
    again = ann2snn.accuracy_over_time(snn, test, HOW.T)
    assert again.accuracy == made.course.accuracy
    assert again.spikes == pytest.approx(made.course.spikes)
    functional.set_step_mode(snn, "m")
    assert ann2snn.accuracy_over_time(snn, test, HOW.T).accuracy == made.course.accuracy


@pytest.mark.parametrize("fuse", [True, False])
def test_a_network_of_ones_own_is_loaded_with_what_made_it(run, tmp_path, fuse):
    recipe = replace(run[1], model=f"{__name__}:own", model_args={"width": 5})
    convert(recipe, None, tmp_path / "snn", replace(HOW, fuse=fuse))
    with pytest.raises(
        ValueError, match=r"made by test_converted_runs:own.*load_converted\(path, own\(\.\.\.\)\).*'width': 5"
    ):
        load_converted(tmp_path / "snn")
    snn = load_converted(tmp_path / "snn", own(width=5))
    assert any(isinstance(module, nn.BatchNorm1d) for module in snn.modules()) is not fuse
    with pytest.raises(ValueError, match=r"snn\.safetensors does not fit this network: other shapes: 0\.weight, \[5, "):
        load_converted(tmp_path / "snn", own(width=7))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nothing", "is not of a conversion"),
        ('{"job": "train"}', "is not of a conversion"),
        (
            '{"job": "convert", "model": "MNISTNet", "arguments": {}, "input": [99999999, 99999], "how": {"fuse": 1}}',
            "kind",
        ),
        ('{"job": "convert", "model": "MNISTNet", "arguments": {}, "input": [1, "8"], "how": {"fuse": 1}}', "kind"),
        (
            '{"job": "convert", "model": "os:system", "arguments": {}, "input": [1], "how": {"fuse": 1}}',
            "function of your",
        ),
    ],
)
def test_a_folder_of_something_else_is_told(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        load_converted(tmp_path)


def sequences(root, T):
    """Data of frames of events."""
    from spikescope.train import Split

    one = (torch.zeros(T, 1, 28, 28), 0)
    return Split([one], [one], 4, sequences=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"model_args": {"channels": 2, "hidden": 8}},
            "spiking neurons already, the first is 'conv_fc.2'.*neuron=ReLU",
        ),
        ({"data": f"{__name__}:sequences"}, "one image, held for all steps"),
        ({"data": "digits"}, r"cannot run on the samples of data 'digits', \[1, 8, 8\]"),
    ],
)
def test_what_cannot_be_converted_is_told(run, tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        convert(replace(run[1], **change), run[0] / "best.safetensors", tmp_path / "snn", HOW)
    assert not (tmp_path / "snn").exists()


def test_as_many_samples_are_tested_and_measured_on_as_were_asked_for(run, tmp_path, monkeypatch):
    folder, recipe = run
    taken, measure = [], ann2snn.VoltageHook.forward

    def noted(hook, x):
        taken.append(len(x))
        return measure(hook, x)

    monkeypatch.setattr(ann2snn.VoltageHook, "forward", noted)
    made = convert(recipe, folder / "best.safetensors", tmp_path / "snn", replace(HOW, samples=40, tested=21))
    layers = len(made.layers)
    assert made.course.samples == 21
    assert taken[:layers] == [16] * layers
    assert sum(taken) == 40 * layers  # the last batch has eight


def test_the_command(run, tmp_path, capsys):
    folder, recipe = run
    options = ["-T2", "--samples=32", "-b16", "--tested=16", "--device=cpu"]
    assert main(["convert", str(folder), *options, "--out", str(tmp_path / "a"), "--max-drop", "100"]) == 0
    assert "16 samples of its test part" in capsys.readouterr().out
    weights = ["--weights", str(folder / "best.safetensors"), "--data", "npz", "--root", recipe.root]
    named = ["--model", "MNISTNet", *(f"--model-arg={name}={held}" for name, held in recipe.model_args.items())]
    assert main(["convert", *named, *weights, *options, "--out", str(tmp_path / "b"), "--max-drop", "-101"]) == 1
    assert "points of accuracy are lost, and -101 may be" in capsys.readouterr().err
    one, other = ((tmp_path / name / "snn.safetensors").read_bytes() for name in "ab")
    assert one == other
    assert main(["convert", *named, "--data", "npz", "--root", recipe.root, "--out", str(tmp_path / "c")]) == 2
    assert "MNISTNet comes with random weights" in capsys.readouterr().err
    assert main(["convert", str(folder), "--mode", "120%", "--out", str(tmp_path / "d")]) == 2
    assert "got '120%'" in capsys.readouterr().err
