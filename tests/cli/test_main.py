"""The command line: exit statuses and words, with the job itself replaced where it is slow."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import spikescope
from spikescope import neuron, train
from spikescope.cli.main import NEURONS, main
from spikescope.files import OutputError
from spikescope.report import Epoch, LayerActivity
from spikescope.train import Outcome

EPOCH = Epoch(1, 0.5, 0.97, 0.6, 0.9711, 1.5, (LayerActivity("neuron1", "LIFNode", 8, 0.13, 0.25),))


@pytest.mark.parametrize("arguments", [["train", "--list-models"], ["train", "--list-data"]], ids=str)
def test_whoever_reads_may_have_enough(arguments):
    """Before it begins to print, and the buffer is full or not."""
    command = [sys.executable, "-W", "ignore", "-m", "spikescope", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        told = running.stderr.read()
    assert (told, running.returncode) == ("", 141)


@pytest.fixture
def job(monkeypatch):
    """The demo replaced by a function that keeps its arguments and returns or raises `job.result`."""

    class Job:
        result = Outcome((EPOCH,), "the summary", False)
        calls = []

        def __call__(self, folder, settings, **options):
            self.calls.append((folder, settings, options))
            if isinstance(self.result, BaseException):
                raise self.result
            return self.result

    job = Job()
    job.calls = []
    monkeypatch.setattr(train, "run_demo", job)
    return job


def test_the_options_arrive(job, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    options = "--epochs 3 --seed 7 --steps 5 --neuron IFNode --accuracy 97.1 --quiet --device cpu"
    assert main(["demo", "--out", str(out), *options.split()]) == 0
    [(folder, settings, given)] = job.calls
    assert folder.path == out
    assert (settings.epochs, settings.seed, settings.steps) == (3, 7, 5)
    assert given == {"neuron": "IFNode", "device": torch.device("cpu"), "quiet": True, "target": 97.1}
    shown = capsys.readouterr()
    assert "the summary" in shown.out
    assert str(out) in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("demo --bogus", "spikescope demo"),
        ("report a.spk b.spk c.spk", "spikescope report"),
        ("kernels list somewhere else", "spikescope kernels list"),
    ],
)
def test_an_argument_too_many_is_refused_beside_the_usage_of_its_command(words, usage, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"usage: {usage} [-h]")
    assert f"{usage}: error: unrecognized arguments: " in shown


def test_a_conversion_of_nothing_says_what_it_needs(capsys):
    assert main(["convert"]) == 2
    assert "convert needs the folder of a run, or --model, --data and --weights." in capsys.readouterr().err


def test_the_help_tells_of_scripts_of_the_other_library_too(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "demo" in shown
    assert "  python -m spikescope.compat script.py [argument ...]\n" in shown


def test_the_default_folder_has_the_time_in_its_name(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--accuracy", "0"]) == 0
    [entry] = (tmp_path / "runs").iterdir()
    assert entry.name.startswith("demo-20")


def test_threads(job, tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    main(["demo", "--out", str(tmp_path / "a"), "--threads", "3", "--accuracy", "0"])
    main(["demo", "--out", str(tmp_path / "b"), "--accuracy", "0"])
    assert chosen == [3, 1]


def test_an_accuracy_that_was_missed(job, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--accuracy", "97.2"]) == 1
    assert "The accuracy of 97.2 % was missed: 97.11 %." in capsys.readouterr().err


def test_an_interrupt(job, tmp_path, capsys):
    job.result = Outcome((EPOCH,), "the summary", True)
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert "Interrupted" in (text := capsys.readouterr().err)
    assert "1 finished epoch" in text
    job.result = KeyboardInterrupt()
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")


def test_a_file_in_the_way(job, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken" / "run")]) == 2
    assert "taken is a file" in capsys.readouterr().err
    assert job.calls == []


def test_a_disk_that_fills_up(job, tmp_path, capsys):
    job.result = OutputError("metrics.jsonl could not be written: no space left on device.")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "spikescope: metrics.jsonl could not be written: no space left on device.\n"


def test_a_missing_extra(job, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "pip install 'spikescope[train]'" in capsys.readouterr().err
    assert job.calls == []


def test_no_gpu(job, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["demo", "--out", str(tmp_path), "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "required: COMMAND"),
        (["demo", "--epochs", "0"], "a whole number of at least 1 is wanted, but got '0'"),
        (["demo", "--steps", "2.5"], "a whole number of at least 1 is wanted, but got '2.5'"),
        (["demo", "--accuracy", "101"], "a number from 0 to 100 is wanted, but got '101'"),
        (["demo", "--accuracy", "high"], "a number from 0 to 100 is wanted, but got 'high'"),
        (["demo", "--neuron", "Brain"], "LIFNode"),
    ],
)
def test_wrong_arguments(arguments, text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert text in capsys.readouterr().err


def test_the_neurons_offered_exist():
    assert set(NEURONS) <= set(neuron.registry)


@pytest.mark.parametrize("name", NEURONS)
def test_the_neurons_offered_run(name):
    net = train.digits_network(name, channels=(2, 3), hidden=4)
    assert net(torch.rand(2, 1, 1, 8, 8)).shape == (2, 1, 10)


def test_version_and_help_load_no_optional_package():
    code = (
        "import sys; from spikescope.cli.main import main\n"
        "try: main(['demo', '--help'] if sys.argv[1:] else ['--version'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(sorted({'sklearn', 'matplotlib', 'rich', 'safetensors', 'spikescope.train'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"spikescope {spikescope.__version__}\n[]\n"


def test_the_module_runs(capsys):
    done = subprocess.run([sys.executable, "-m", "spikescope", "--help"], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
