"""A training by a recipe that is looked at: the same numbers, and what is written when it goes wrong."""

import pytest
import torch

from spikescope import open_recording
from spikescope.train import Recipe, Trainer, digits_network, load_data

pytest.importorskip("sklearn")


def trained(place, spoil=False, **more):
    place.mkdir(exist_ok=True)
    torch.manual_seed(0)
    data = load_data("digits", None, 2, {})
    net = digits_network(channels=(2, 2), hidden=8)
    recipe = Recipe(model="m:f", data="digits", T=2, epochs=1, batch_size=256, **more)
    seen = []

    def batch():
        seen.append(None)
        if spoil and len(seen) == 3:
            next(net.parameters()).data[0] = float("nan")

    return Trainer(net, data, recipe, folder=place).run(on_batch=batch)


def test_looking_changes_no_number(tmp_path, capsys):
    plain, watched = (trained(tmp_path / str(more), flight=more, live=more) for more in (False, True))
    assert [(held.train_loss, held.test_loss) for held in plain] == [
        (held.train_loss, held.test_loss) for held in watched
    ]
    assert "Live view: http://127.0.0.1:" in capsys.readouterr().err
    assert not (tmp_path / "True" / "flight").exists()


def test_a_training_that_goes_wrong_leaves_its_last_steps(tmp_path):
    with pytest.raises(FloatingPointError):
        trained(tmp_path, spoil=True, flight=True)
    (found,) = (tmp_path / "flight").glob("*.spk")
    assert found.name == "000-nonfinite.spk"
    told = open_recording(found).head["flight"]["trigger"]
    assert (told["step"], told["layer"]) == (2, "conv1")
    assert found.with_suffix(".html").exists()
