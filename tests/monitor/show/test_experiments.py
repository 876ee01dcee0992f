"""Numbers on their way to trackers of experiments: what each is given, and the real ones where they are installed."""

import logging
import time
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from spikescope import monitor

ROWS = {"conv1": {"rate": torch.tensor([0.0, 1.0]), "silent share": 0.5}, "": {"loss": 1.5}}
NUMBERS = {
    "rate.mean/conv1": 0.5,
    "rate.min/conv1": 0.0,
    "rate.max/conv1": 1.0,
    "silent share/conv1": 0.5,
    "loss/network": 1.5,
}


class Calls(list):
    def __call__(self, *args, **kwargs):
        self.append((args, kwargs))


@pytest.mark.parametrize("method", ["log", "log_metrics"])
def test_all_numbers_of_a_step_at_once(method):
    calls = Calls()
    monitor.Log(SimpleNamespace(**{method: calls})).write(7, ROWS)
    assert calls == [((NUMBERS,), {"step": 7})]


def test_a_number_at_a_time():
    tracked, curves = Calls(), Calls()
    monitor.Log(SimpleNamespace(track=tracked), prefix="val/").write(7, ROWS)
    monitor.Log(SimpleNamespace(add_scalar=curves)).write(7, ROWS)
    assert tracked == [((number,), {"name": f"val/{name}", "step": 7}) for name, number in NUMBERS.items()]
    assert curves == [((name, number, 7), {}) for name, number in NUMBERS.items()]


def test_a_function():
    calls = Calls()
    with monitor.Log(calls) as log:
        log.write(7, ROWS)
    assert calls == [((NUMBERS, 7), {})]


@pytest.mark.parametrize("target", [3, None, logging.getLogger("x"), logging.LoggerAdapter(logging.getLogger("x"))])
def test_what_takes_no_numbers_is_refused(target):
    with pytest.raises(TypeError, match="Log takes what has one of the methods log_metrics, log, track, add_scalar"):
        monitor.Log(target)


def test_what_is_no_rows_is_refused():
    with pytest.raises(TypeError, match=r"Log\.write takes rows"):
        monitor.Log(print).write(0, {"loss": 1.0})


def installed(name):
    return pytest.importorskip(name, reason=f"{name} is not installed; install the extra of its name")


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No network, and a home of its own."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": tmp_path,
        "TRACKIO_DIR": tmp_path / "trackio",
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_wandb(alone):
    wandb = installed("wandb")
    run = wandb.init(project="p", mode="offline", dir=str(alone), settings=wandb.Settings(console="off"))
    monitor.Log(run).write(3, ROWS)
    run.finish()
    (file,) = alone.glob("wandb/offline-run-*/*.wandb")
    missing, began = set(NUMBERS), time.monotonic()
    while missing and time.monotonic() < began + 10:  # its own process writes
        missing = {name for name in NUMBERS if name.encode() not in file.read_bytes()}
        time.sleep(0.1)
    assert not missing


@pytest.mark.filterwarnings("ignore")
def test_the_module_mlflow(alone):
    mlflow = installed("mlflow")
    mlflow.set_tracking_uri(alone.as_uri() + "/mlruns")
    with mlflow.start_run() as run:
        monitor.Log(mlflow).write(3, ROWS)
    assert mlflow.get_run(run.info.run_id).data.metrics == NUMBERS


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_aim(alone):
    aim = installed("aim")
    run = aim.Run(repo=str(alone), system_tracking_interval=None, capture_terminal_logs=False)
    monitor.Log(run).write(3, ROWS)
    found = {metric.name: metric.values.sparse_numpy()[1].tolist() for metric in run.metrics()}
    assert {name: values[-1] for name, values in found.items() if name in NUMBERS} == NUMBERS
    run.close()


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_trackio(alone):
    trackio = installed("trackio")
    run = trackio.init(project="p", name="r", embed=False)
    monitor.Log(run).write(3, ROWS)
    trackio.finish()
    (row,) = import_module("trackio.sqlite_storage").SQLiteStorage.get_logs("p", "r")
    assert {name: row[name] for name in NUMBERS} == NUMBERS
