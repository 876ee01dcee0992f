"""The run folder of a training, its resume, its evaluation, and data and networks by their names."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ranks import in_two_ranks
from spikescope import functional, layer, models, monitor, neuron
from spikescope.cli.main import main
from spikescope.errors import UnknownNameError
from spikescope.files import OutputError
from spikescope.train import (
    SOURCES,
    Recipe,
    RunFolder,
    Split,
    direct_encoding,
    evaluate_run,
    load_data,
    load_weights,
    make_network,
    read_metrics,
    resume,
    train,
)


@pytest.fixture
def arrays(tmp_path):
    """A file of small images: 40 to train on and 20 to test on, of 4 classes."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 4
    x = generator.random((60, 1, 8, 8), dtype=np.float32) * 0.2
    x[np.arange(60), 0, y] += 0.8
    np.savez(tmp_path / "data.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return tmp_path / "data.npz"


def network(num_classes=10, channels=3):
    """What module:function names in these tests."""
    from spikescope.train import digits_network

    net = digits_network(channels=(channels, channels), hidden=8)
    net.readout = type(net.readout)(8, num_classes)
    return net


OWN = f"{__name__}:network"


@pytest.fixture
def recipe(arrays):
    return Recipe(model=OWN, data="npz", root=str(arrays), T=2, epochs=2, batch_size=8, lr=1e-2, device="cpu")


@pytest.mark.usefixtures("drawn")
def test_the_run_folder(tmp_path, recipe):
    outcome = train(recipe, tmp_path / "run", quiet=True)
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names == {
        "recipe.toml",
        "config.json",
        "insight.json",
        "report.html",
        "metrics.jsonl",
        "checkpoint-000000005.safetensors",
        "checkpoint-000000010.safetensors",
        "best.safetensors",
        "model.safetensors",
        "summary.txt",
        "learning_curves.png",
        "firing_rates.png",
        "gradient_flow.png",
    }
    assert tuple(read_metrics(tmp_path / "run" / "metrics.jsonl")) == outcome.history
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"] == recipe.as_dict()
    assert "Health" in (tmp_path / "run" / "summary.txt").read_text()
    again, epoch = evaluate_run(tmp_path / "run", device="cpu")
    best = max(outcome.history, key=lambda held: held.test_accuracy)
    assert (again, epoch.test_accuracy, epoch.test_loss) == (recipe, best.test_accuracy, best.test_loss)
    _, last = evaluate_run(
        tmp_path / "run", device="cpu", weights=tmp_path / "run" / "checkpoint-000000010.safetensors"
    )
    assert last.test_loss == outcome.history[-1].test_loss


def with_read_out(num_classes=4):
    """A network whose scores are the potential of its last layer at the end: one value for a sequence."""
    made = [layer.Flatten(), layer.Linear(64, 12), neuron.LIFNode(), layer.Linear(12, num_classes)]
    net = nn.Sequential(*made, neuron.NonSpikingLIFNode(decode="last-mem"))
    functional.set_step_mode(net, "m")
    return net


@pytest.mark.usefixtures("drawn")
def test_a_network_that_gives_one_value_for_a_sequence_is_looked_into_as_well(tmp_path, recipe):
    outcome = train(replace(recipe, model=f"{__name__}:with_read_out"), tmp_path / "run", quiet=True)
    assert "Health" in outcome.summary
    seen = json.loads((tmp_path / "run" / "insight.json").read_text())
    assert seen["judged"]
    assert seen["flow"]["layers"] == ["1", "2", "3"]
    assert {len(row) for row in seen["flow"]["norms"]} == {recipe.T}
    assert "left out: 4" in seen["flow"]["note"]
    assert [raster["layer"] for raster in seen["rasters"]] == ["2"]  # a read-out has no spikes
    assert {held["layer"] for held in seen["potentials"]} == {"2", "4"}
    assert not [held for held in seen["potentials"] if held["layer"] == "4" and held["spikes"]]
    assert (tmp_path / "run" / "gradient_flow.png").exists()


def with_norms(num_classes=4):
    """A network whose norms follow each batch."""
    net = nn.Sequential(
        layer.Conv2d(1, 3, 3), layer.BatchNorm2d(3, momentum=0.9), neuron.IFNode(), layer.Flatten(),
        layer.Linear(108, num_classes),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


@pytest.mark.parametrize("model_ema", [False, True])
def test_what_is_shown_of_the_network_in_eval_is_of_the_network_that_is_saved(tmp_path, recipe, model_ema):
    recipe = replace(recipe, model=f"{__name__}:with_norms", epochs=2, model_ema=model_ema, model_ema_steps=3)
    train(recipe, tmp_path / "run", quiet=True)
    data, net = load_data(recipe.data, recipe.root, recipe.T, {}), with_norms()
    load_weights(tmp_path / "run" / "model.safetensors", net.eval())
    x = torch.stack([data.train[index][0] for index in range(8)])
    seen = json.loads((tmp_path / "run" / "insight.json").read_text())
    with torch.no_grad():
        wanted = monitor.energy(net, direct_encoding(x, recipe.T)).total
    assert seen["energy"]["total"] == pytest.approx(wanted, rel=1e-5)  # it is written with six digits
    (row,) = [row for row in seen["layers"] if row["name"] == "2"]
    with torch.no_grad(), monitor.record(net, "rate") as recording:
        net(direct_encoding(torch.stack([data.train[index][0] for index in range(40)]), recipe.T))
    assert row["spread"][-1] == pytest.approx(recording["2"].max().item(), rel=1e-5)


def full(*given, **named):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", ["program._look", "run_folder.report", "summary"])
def test_what_fails_after_the_training_leaves_it_done(tmp_path, arrays, capsys, monkeypatch, place):
    if place == "summary":
        monkeypatch.setattr(RunFolder, "write_summary", full)
    else:
        monkeypatch.setattr(f"spikescope.train.{place}", full)
    words = ["train", "--model", OWN, "--data", "npz", "--root", str(arrays), "-T", "2", "--epochs", "1", "-b", "8"]
    with pytest.warns(RuntimeWarning, match="training is done.* failed: OSError: .*No space left.*spikescope report"):
        assert main([*words, "--device", "cpu", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert "accuracy" in capsys.readouterr().out
    held = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "best.safetensors"} <= held
    assert ("report.html" in held) == (place != "run_folder.report")
    assert ("summary.txt" in held) == (place != "summary")


def test_a_run_is_resumed_in_its_folder_alone(tmp_path, recipe):
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "nothing")
    train(recipe, tmp_path / "run", quiet=True)
    with RunFolder.again(tmp_path / "run"), pytest.raises(OutputError, match="being written to by another run"):
        resume(tmp_path / "run", quiet=True)
    for path in (tmp_path / "run").glob("checkpoint-*10.safetensors"):
        path.unlink()
    outcome = resume(tmp_path / "run", quiet=True)
    assert [epoch.epoch for epoch in outcome.history] == [1, 2]
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2
    for path in (tmp_path / "run").glob("checkpoint-*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no checkpoint yet; begin the training anew"):
        resume(tmp_path / "run")


def test_started_anew_by_torchrun_before_its_first_checkpoint_a_run_begins_anew_in_its_folder(
    tmp_path, recipe, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    path = tmp_path / "run"
    path.mkdir()
    (path / ".recipe.toml.0123456789abcdef").touch()  # killed in the middle of its first file
    train(recipe, path, quiet=True)
    for held in path.iterdir():
        if held.name != "recipe.toml":
            held.unlink()
    assert len(train(recipe, path, quiet=True).history) == recipe.epochs  # killed right behind it
    assert (path / "config.json").exists()


def test_started_anew_by_torchrun_a_run_leaves_the_folder_of_another_recipe_alone(tmp_path, recipe, monkeypatch):
    train(recipe, tmp_path / "run", quiet=True)
    before = {entry.name: entry.read_bytes() for entry in (tmp_path / "run").iterdir()}
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(OutputError, match="already holds"):
        train(replace(recipe, epochs=5), tmp_path / "run", quiet=True)
    assert {entry.name: entry.read_bytes() for entry in (tmp_path / "run").iterdir()} == before


def test_the_command_trains_resumes_and_evaluates(tmp_path, arrays, capsys):
    out = tmp_path / "run"
    options = f"--model {OWN} --model-arg channels=2 --data npz --root {arrays} -T 2 --epochs 1 -b 8 --device cpu --amp"
    assert main(["train", *options.split(), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "epoch   loss" in shown
    assert f"Run folder         {out}" in shown
    assert f"{out / 'report.html'}, in a browser" in shown
    assert 'amp = "bf16"' in (out / "recipe.toml").read_text()
    assert 'model_args = {"channels" = 2}' in (out / "recipe.toml").read_text()
    assert main(["train", "--resume", str(out), "--quiet"]) == 0
    assert main(["evaluate", str(out)]) == 0
    assert "Test accuracy" in capsys.readouterr().out
    assert (
        main(["train", "--recipe", str(out / "recipe.toml"), "--epochs", "2", "--out", str(tmp_path / "b"), "--quiet"])
        == 0
    )
    assert len(read_metrics(tmp_path / "b" / "metrics.jsonl")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--data digits", "A recipe needs --model ... here"),
        ("--model MNISTNet --data digits --loss tet --step-mode s", "take --step-mode m"),
        ("--model sew_resnet18 --data digit", "There is no data 'digit'. Did you mean digits"),
        ("--model sew_resnet_18 --data digits", "There is no model 'sew_resnet_18'. Did you mean sew_resnet18"),
        ("--model sew_resnet18 --data digits", "takes images of 3 channels, but the data has 1"),
        ("--model sew_resnet18 --data npz", "--root is missing"),
        ("--model nowhere:net --data digits", "cannot be imported"),
        ("--model spikescope.train:digits_network --model-arg colour=red --data digits", "colour='red'"),
        ("--model spikescope.train:digits_network --data digits --data-arg colour=red", "colour"),
        ("--model spikescope.train:digits_network --data digits --lr -1", "lr must be at least 0"),
        ("--resume . --epochs 3", "leave the other options out"),
    ],
)
def test_what_cannot_begin_is_told_and_leaves_the_folder_to_the_next_try(tmp_path, capsys, options, words):
    assert (
        main(["train", *options.split(), "--out", str(tmp_path / "run")][: None if "--resume" not in options else -2])
        == 2
    )
    assert words in capsys.readouterr().err
    assert not [entry.name for entry in (tmp_path / "run").glob("*")]


def test_the_lists(capsys):
    assert main(["train", "--list-models"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(models.VARIANTS)
    assert main(["train", "--list-data"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(SOURCES)


def test_a_pair_without_a_value_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--model-arg", "tau"])
    assert "NAME=VALUE is wanted, but got 'tau'" in capsys.readouterr().err


def test_a_file_that_holds_other_arrays_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz is not an \.npz file with x_train, y_train, x_test, y_test"):
        load_data("npz", str(tmp_path / "a.npz"), 4, {})
    for x, y, words in (
        (np.zeros((2, 3)), np.array([0.0, 0.5]), "classes whole ones"),
        (np.zeros((2, 3)), np.array([0.0, np.nan]), "classes whole ones"),
        (np.full((2, 3), 1j), np.array([0, 1]), "samples must be real"),
        (np.array(1.0), np.array(1), r"needs samples \[N, \*\] and classes"),
    ):
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        with pytest.raises(ValueError, match=words):
            load_data("npz", str(tmp_path / "a.npz"), 4, {})
    for kind in (bool, np.uint16, np.uint64, np.float64):
        np.savez(
            tmp_path / "a.npz",
            x_train=np.zeros((2, 3)),
            y_train=np.arange(2).astype(kind),
            x_test=np.zeros((2, 3)),
            y_test=np.arange(2).astype(kind),
        )
        assert load_data("npz", str(tmp_path / "a.npz"), 4, {}).classes == 2


def test_sequences_need_their_own_number_of_steps(tmp_path):
    x, y = np.zeros((4, 3, 2, 8, 8), dtype=np.float32), np.arange(4)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert load_data("npz", str(tmp_path / "a.npz"), 3, {}).sequences
    with pytest.raises(ValueError, match="train with -T 3"):
        load_data("npz", str(tmp_path / "a.npz"), 4, {})


def sequences(root, T):
    """Three steps a sample, whatever the recipe asks for."""
    held = TensorDataset(torch.rand(8, 3, 64), torch.arange(8) % 4)
    return Split(held, held, classes=4, sequences=True)


def test_a_first_batch_that_does_not_fit_is_told_and_leaves_the_folder_to_the_next_try(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "--model", f"{__name__}:of_rows", "--data", f"{__name__}:sequences", "--epochs", "1", "--quiet"]
    assert main([*words, "--out", str(out), "-T", "4"]) == 2
    assert "the recipe has -T 4, but a batch has the shape [8, 3, 64]. Say -T 3, or" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert main([*words, "--out", str(out), "-T", "3"]) == 0


def of_rows(num_classes):
    net = nn.Sequential(layer.Linear(64, 6), neuron.LIFNode(), layer.Linear(6, num_classes))
    functional.set_step_mode(net, "m")
    return net


def test_event_data_by_name_is_trained_on(tmp_path):
    """A cache of frames as the reference makes it, of two digits, is N-MNIST as far as the trainer sees."""
    from spikescope import datasets

    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in "01":
            folder = tmp_path / "events_np" / part / label
            folder.mkdir(parents=True)
            for k in range(3):
                t = np.sort(generator.integers(0, 1000, 50))
                x, y, p = (generator.integers(0, size, 50) for size in (34, 34, 2))
                datasets.np_savez(folder / f"{k}.npz", t=t, x=x, y=y, p=p)
    split = load_data("nmnist", str(tmp_path), 2, {})
    assert split.sequences
    assert split.train[0][0].shape == (2, 2, 34, 34)
    recipe = Recipe(model="spiking_vgg11", data="nmnist", T=2)
    with pytest.raises(ValueError, match="takes images of 3 channels, but the data has 2"):
        make_network(recipe, split)
    assert (
        make_network(Recipe(model="NMNISTNet", data="nmnist", model_args={"channels": 2}), split)(
            split.train[0][0][:, None]
        ).shape[-1]
        == 10
    )


def test_neurons_and_surrogates_by_name():
    split = Split([(torch.zeros(3, 32, 32), 0)], [(torch.zeros(3, 32, 32), 0)], 7)
    args = {"neuron": "ParametricLIFNode", "surrogate_function": "ATan"}
    net = make_network(Recipe(model="sew_resnet18", data="own", model_args=args), split)
    assert type(net.sn1).__name__ == "ParametricLIFNode"
    assert type(net.sn1.surrogate_function).__name__ == "ATan"
    assert net.fc.out_features == 7
    with pytest.raises(UnknownNameError, match=r"no neuron 'LIF'.*Did you mean"):
        make_network(Recipe(model="sew_resnet18", data="own", model_args={"neuron": "LIF"}), split)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_other_programs_begin_a_training(tmp_path, prefix):
    from spikescope.train import digits_network, load_weights

    net, other = digits_network(channels=(2, 2), hidden=4), digits_network(channels=(2, 2), hidden=4)
    torch.save(
        {"model": {prefix + name: held for name, held in other.state_dict().items()}, "epoch": 3}, tmp_path / "a.pth"
    )
    load_weights(tmp_path / "a.pth", net)
    assert all(torch.equal(held, other.state_dict()[name]) for name, held in net.state_dict().items())
    with pytest.raises(ValueError, match=r"a\.pth"):
        load_weights(tmp_path / "a.pth", digits_network(channels=(2, 3), hidden=4))


def _in_a_rank(recipe, place, rank):
    outcome = train(recipe, place, quiet=True)
    return outcome.accuracy, len(outcome.history)


def test_two_processes_fill_one_folder(tmp_path, recipe):
    both = replace(recipe, sync_bn=True, batch_size=4)
    results = in_two_ranks(partial(_in_a_rank, both, tmp_path / "run"), tmp_path / "meeting")
    assert results[0] == results[1]
    assert results[0][1] == 2
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2
    assert (tmp_path / "run" / "summary.txt").read_text()


@pytest.mark.parametrize("number", ["0", "-3", "two", "100000"])
def test_a_number_of_threads_that_is_none_is_refused(number, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", "sew_resnet18", "--data", "digits", f"--threads={number}"])
    assert ended.value.code == 2
    assert "argument --threads: a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--device=gpu", "There is no device 'gpu'; choose 'auto', 'cpu'"),
        ("--device=meta", "On the device 'meta' there are no numbers to train; choose"),
        ("--weights=.", "is not a file"),
        ("--model-arg=hidden=-1", "cannot be made with "),
    ],
)
def test_what_cannot_be_is_refused_in_words(option, text, capsys, tmp_path):
    network = ["--model", "spikescope.train:digits_network", "--data", "digits", option]
    assert main(["train", *network, "--out", str(tmp_path / "run")]) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*.safetensors"))


@pytest.mark.parametrize("command", [["evaluate"], ["convert"], ["train", "--resume"]], ids=" ".join)
def test_a_folder_that_is_no_run_is_refused_in_words(command, tmp_path, capsys):
    for folder, why in ((tmp_path, "it holds no recipe.toml"), (tmp_path / "none", "there is no such folder")):
        assert main([*command, str(folder)]) == 2
        assert f"{folder} is not the folder of a run of `spikescope train`: {why}." in capsys.readouterr().err
