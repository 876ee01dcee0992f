"""Where a training sends its curves: what goes out, and that nothing there ends it."""

import sys
from types import SimpleNamespace

import pytest

from spikescope.errors import MissingExtraError
from spikescope.train import LOGS, Recipe, train

RECIPE = Recipe(model="spikescope.train:digits_network", data="digits", T=2, epochs=2, batch_size=512)


class Kept:
    def __init__(self):
        self.rows = []

    def write(self, step, values):
        self.rows.append((step, values))


class Failing:
    def write(self, step, values):
        raise ConnectionError("the service is down")


def test_each_epoch_goes_out_and_a_sink_that_fails_ends_nothing(tmp_path):
    kept = Kept()
    with pytest.warns(
        RuntimeWarning, match="The log Failing is off: .*the service is down The training goes on"
    ) as said:
        outcome = train(RECIPE, tmp_path / "run", quiet=True, logs=[Failing(), kept])
    assert len([one for one in said if "Failing" in str(one.message)]) == 1
    assert [step for step, _ in kept.rows] == [1, 2]
    for epoch, (_, rows) in zip(outcome.history, kept.rows, strict=True):
        assert rows["training"]["test accuracy"] == epoch.test_accuracy
        for layer in epoch.layers:
            assert rows[layer.name] == {"rate": layer.rate, "silent share": layer.silent}
        assert any("weight norm" in row for row in rows.values())


def test_the_trackers_are_opened_with_the_recipe_and_closed(tmp_path, monkeypatch):
    calls = []

    def note(name):
        return lambda *args, **kwargs: calls.append((name, args, kwargs))

    run = SimpleNamespace(log=note("log"), finish=note("finish"))
    module = SimpleNamespace(init=lambda **options: calls.append(("init", (), options)) or run)
    monkeypatch.setitem(sys.modules, "wandb", module)
    train(RECIPE, tmp_path / "run", quiet=True, logs=["wandb:mine"])
    assert [name for name, _, _ in calls] == ["init", "log", "log", "finish"]
    assert calls[0][2]["project"] == "mine"
    assert calls[0][2]["config"]["T"] == 2
    assert calls[1][1][0]["test loss/training"] > 0
    assert calls[1][2] == {"step": 1}


def test_curves_of_tensorboard_lie_in_the_run_folder(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    train(RECIPE, tmp_path / "run", quiet=True, logs=["tensorboard"])
    held = loader(str(tmp_path / "run" / "tensorboard"))
    held.Reload()
    assert [one.step for one in held.Scalars("test accuracy/training")] == [1, 2]


def test_a_name_that_nobody_knows_and_a_package_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"no log 'wand'; there is {', '.join(LOGS)}"):
        train(RECIPE, tmp_path / "a", quiet=True, logs=["wand"])
    monkeypatch.setitem(sys.modules, "aim", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spikescope\[aim\]'"):
        train(RECIPE, tmp_path / "b", quiet=True, logs=["aim"])
