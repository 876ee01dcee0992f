"""Files of a run that were damaged: told, passed over, and never the only ones that are kept."""

import os
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope.train import (
    Recipe,
    RunFolder,
    Trainer,
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    resume,
    train,
)
from spikescope.train.checkpoint import checkpoint_path, drop_old, read_checkpoint, write_checkpoint

RECIPE = Recipe(
    model="spikescope.train:digits_network",
    model_args={"channels": [2, 3], "hidden": 4},
    data="digits",
    T=2,
    epochs=2,
    batch_size=512,
    keep=1,
)


def network():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, dtype=torch.bfloat16))
    net.register_buffer("mask", torch.tensor([True, False]))
    net.register_buffer("none", torch.zeros(0))
    return net


def checkpoint(folder, net, update=7):
    optimizer = torch.optim.Adam(net[0].parameters())
    net[0](torch.ones(2, 3)).sum().backward()
    optimizer.step()
    write_checkpoint(checkpoint_path(folder, update), {"net": net}, optimizer, [{}], {"note": "é"})
    return checkpoint_path(folder, update)


def weights(folder, net):
    RunFolder(folder / "run").save_checkpoint(net, epoch=1)
    return folder / "run" / "model.safetensors"


def held_in(path):
    if path.name == "model.safetensors":
        net = network()
        return load_checkpoint(path, net), dict(net.state_dict())
    found = read_checkpoint(path)
    return dict(found.head), {f"{part}/{name}": x for part, held in found.tensors.items() for name, x in held.items()}


@pytest.mark.parametrize("write", [checkpoint, weights])
def test_a_bit_that_was_changed_anywhere_is_told_or_changes_nothing(write, tmp_path):
    path = write(tmp_path, network())
    whole, drawn, told = path.read_bytes(), random.Random(0), 0
    notes, tensors = held_in(path)
    for at in drawn.sample(range(len(whole)), 300):
        changed = bytearray(whole)
        changed[at] ^= 1 << drawn.randrange(8)
        path.write_bytes(changed)
        try:
            found, seen = held_in(path)
        except ValueError as error:
            told += str(path) in str(error)
            continue
        assert found.items() >= notes.items()  # and at most the name of the checksum is another
        assert seen.keys() == tensors.keys()
        assert all(torch.equal(seen[name], x) for name, x in tensors.items())
    assert told > 250


def test_files_without_a_checksum_are_taken(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    net, other = network(), network()
    save_file(net.state_dict(), tmp_path / "a.safetensors", metadata={"of": "another program"})
    assert load_checkpoint(tmp_path / "a.safetensors", other) == {"of": "another program"}
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in net.state_dict().items())


@pytest.mark.parametrize("write", [checkpoint, weights])
def test_weights_of_another_network_are_told_and_change_nothing(write, tmp_path):
    path, other = write(tmp_path, network()), network()
    other[2] = nn.Linear(4, 5)
    before = {name: x.clone() for name, x in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not fit this network: other shapes: 2\.weight"):
        load_weights(path, other)
    assert all(torch.equal(x, before[name]) for name, x in other.state_dict().items())


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "checkpoint-1.safetensors"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_weights_that_are_no_file_are_told_and_not_waited_for(make, name, tmp_path):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a file"):
        load_weights(tmp_path / name, network())


@pytest.mark.parametrize("kind", ["damaged", "folder", "link"])
def test_what_cannot_be_read_is_passed_over_for_the_one_before(kind, tmp_path):
    checkpoint(tmp_path, network())
    spoil(checkpoint_path(tmp_path, 8), kind)
    with pytest.warns(RuntimeWarning, match="The one before it is taken"):
        path, _ = newest_checkpoint(tmp_path)
    assert path == checkpoint_path(tmp_path, 7)


def spoil(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(Path("nowhere"))
    else:
        path.write_bytes(b"damaged")


def test_a_later_one_that_is_damaged_takes_the_place_of_none_that_is_whole(tmp_path):
    for update in (6, 7):
        checkpoint(tmp_path, network(), update)
    spoil(checkpoint_path(tmp_path, 9), "damaged")
    drop_old(tmp_path, 7, keep=1)
    assert sorted(os.listdir(tmp_path)) == [checkpoint_path(tmp_path, n).name for n in (7, 9)]
    checkpoint(tmp_path, network(), 9)
    drop_old(tmp_path, 9, keep=1)
    assert os.listdir(tmp_path) == [checkpoint_path(tmp_path, 9).name]


def test_a_run_that_cannot_be_taken_up_keeps_its_epochs(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(RECIPE, folder, quiet=True)
    told = (folder / "metrics.jsonl").read_bytes()
    newest = newest_checkpoint(folder)[0]
    first = Recipe.of({**RECIPE.as_dict(), "epochs": 1})
    newest.unlink()
    Trainer(*_parts(first), first, folder=folder).run()  # the checkpoint after the first epoch

    def gone(*_):
        raise ValueError("the data is gone")

    monkeypatch.setattr("spikescope.train.program.load_data", gone)
    with pytest.raises(ValueError, match="the data is gone"):
        resume(folder, quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == told


def _parts(recipe):
    from spikescope.train import load_data, make_network

    data = load_data(recipe.data, None, recipe.T, {})
    return make_network(recipe, data), data


def test_the_same_weights_and_notes_are_the_same_bytes(tmp_path):
    net, notes = nn.Linear(3, 2), {f"note {number}": "text \N{GREEK SMALL LETTER TAU}" * number for number in range(8)}
    held = set()
    for number in range(6):
        with RunFolder(tmp_path / str(number)) as folder:
            folder.save_checkpoint(net, **notes)
        path = tmp_path / str(number) / "model.safetensors"
        held.add(path.read_bytes())
        twin = nn.Linear(3, 2)
        assert load_checkpoint(path, twin) == notes
        assert torch.equal(twin.weight, net.weight)
    assert len(held) == 1
