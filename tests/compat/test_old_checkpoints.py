"""Files of networks: what is renamed, what is refused, and that nothing in them is run."""

import argparse
import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from spikescope.compat import install, load_checkpoint, uninstall
from spikescope.layer import BatchNorm2d, Conv2d, SeqToANNContainer
from spikescope.neuron import IFNode, MaskedPSN, ParametricLIFNode
from spikescope.weights import read_weights


def network():
    return nn.Sequential(
        SeqToANNContainer(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        IFNode(step_mode="m"),
        Conv2d(2, 2, 1, step_mode="m"),
        BatchNorm2d(2, step_mode="m"),
        ParametricLIFNode(step_mode="m"),
    )


def trained():
    torch.manual_seed(1)
    net = network()
    for p in net.parameters():
        p.data.copy_(torch.rand_like(p))
    return net


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


WAYS = {
    "as it is": lambda state: state,
    "distributed": lambda state: {f"module.{name}": held for name, held in state.items()},
    "compiled and distributed": lambda state: {f"module._orig_mod.{name}": held for name, held in state.items()},
    "first age": lambda state: {
        (f"0.module.{name[2:]}" if name.startswith("0.") else name): held for name, held in state.items()
    },
    "distributed first age": lambda state: {
        f"module.0.module.{name[2:]}" if name.startswith("0.") else f"module.{name}": held
        for name, held in state.items()
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("legacy", [False, True])
def test_names_of_all_ages_load(way, legacy, tmp_path):
    there, here = trained(), network()
    state = WAYS[way](dict(there.state_dict()))
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    told = load_checkpoint(here, tmp_path / "net.pth")
    assert same(there, here)
    assert told.count == len(state)
    assert set(told.renamed) == set(state) - set(there.state_dict())
    for theirs, ours in told.renamed.items():
        assert torch.equal(state[theirs], here.state_dict()[ours])
        assert f"renamed {theirs} to {ours}" in str(told)


def test_the_network_is_found_among_what_a_script_saves(tmp_path):
    there, path = trained(), tmp_path / "last.pth"
    optimizer = torch.optim.Adam(there.parameters())
    sum(p.sum() for p in there.parameters()).backward()
    optimizer.step()
    beside = {"optimizer": optimizer.state_dict(), "epoch": 3, "best": np.float64(0.5), "args": argparse.Namespace(T=4)}
    torch.save({"net": there.state_dict(), **beside}, path)
    here = network()
    told = load_checkpoint(here, path)
    assert (told.key, same(there, here)) == ("net", True)
    torch.save({"model": there.state_dict(), "ema": trained().state_dict(), **beside}, path)
    with pytest.raises(ValueError, match=r"several that may be the network: model, ema. Say which by key='...'"):
        load_checkpoint(here, path)
    assert load_checkpoint(here, path, key="model").key == "model"
    with pytest.raises(ValueError, match=r"has no state_dict named 'epoch'; its entries are model, ema, optimizer"):
        load_checkpoint(here, path, key="epoch")
    torch.save(beside, path)
    with pytest.raises(ValueError, match="none that is a state_dict"):
        load_checkpoint(here, path)


def test_forms_that_a_neuron_converts_are_told(tmp_path):
    net = nn.Sequential(MaskedPSN(k=2, T=4, step_mode="m"), IFNode(step_mode="m"))
    mask = torch.ones(4, 4).tril() - torch.ones(4, 4).tril(-2)
    state = {"0.weight": torch.rand(4, 4), "0.bias": -torch.ones(4, 1), "0._lambda_": torch.tensor(0.5)}
    state |= {"0.mask0": mask, "0.mask1": torch.ones(4, 4), "1.surrogate_function.alpha": torch.tensor(3.0)}
    torch.save(state, tmp_path / "net.pth")
    told = load_checkpoint(net, tmp_path / "net.pth")
    assert "1.surrogate_function.alpha" in told.converted
    assert (net[0].lambda_, net[1].surrogate_function.alpha) == (0.5, 3.0)
    assert "read 1.surrogate_function.alpha, which has another form here" in str(told)


def test_counters_that_a_file_lacks_stay(tmp_path):
    there, here = trained(), network()
    state = {name: held for name, held in there.state_dict().items() if "tracked" not in name}
    torch.save(state, tmp_path / "net.pth")
    told = load_checkpoint(here, tmp_path / "net.pth")
    assert told.filled == ("0.1.num_batches_tracked", "3.num_batches_tracked")
    assert torch.equal(here[2].weight, there[2].weight)


def test_what_does_not_fit_is_refused_and_nothing_is_loaded(tmp_path):
    here, path = network(), tmp_path / "net.pth"
    before = copy.deepcopy(here.state_dict())
    state = trained().state_dict()
    state["head.weight"] = state.pop("2.bias")
    state["2.weight"] = torch.zeros(3, 2, 1, 1)
    torch.save(state, path)
    with pytest.raises(ValueError, match="does not fit this network") as refused:
        load_checkpoint(here, path)
    text = str(refused.value)
    assert "it lacks 2.bias; it has what the network has not: head.weight;" in text
    assert "2.weight, [3, 2, 1, 1] in the file and [2, 2, 1, 1] here" in text
    assert all(torch.equal(held, before[name]) for name, held in here.state_dict().items())
    torch.save({"0.0.weight": torch.zeros(2, 1, 3, 3), "module.0.0.weight": torch.zeros(2, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"two tensors each for 0.0.weight"):
        load_checkpoint(here, path)


class Planted:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it was run')",))


def test_objects_saved_as_a_whole_are_refused_at_once_and_not_run(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(trained(), path)
    with pytest.raises(ValueError, match=r"net.pth holds more than numbers, among it .*save its numbers alone"):
        load_checkpoint(network(), path)
    torch.save({"net": Planted()}, path)
    with pytest.raises(ValueError, match="holds more than numbers"):
        load_checkpoint(network(), path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(ValueError, match="holds a Tensor, not the numbers of a network by name"):
        load_checkpoint(network(), path)
    path.write_bytes(b"no such file")
    with pytest.raises(ValueError, match=r"net.pth (cannot be read|holds more)"):
        load_checkpoint(network(), path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"net.pth cannot be read as a file of torch.save"):
        load_checkpoint(network(), path)


def test_classes_of_the_aliases_load_too(tmp_path):
    uninstall()
    install(force=True)
    try:
        from spikingjelly.clock_driven import neuron

        net = nn.Sequential(nn.Linear(2, 2), neuron.MultiStepParametricLIFNode(3.0))
        torch.save({f"module.{name}": held + 1 for name, held in net.state_dict().items()}, tmp_path / "net.pth")
        wanted = {name: held + 1 for name, held in net.state_dict().items()}
        load_checkpoint(net, tmp_path / "net.pth")
        assert all(torch.equal(held, wanted[name]) for name, held in net.state_dict().items())
    finally:
        uninstall()


@pytest.mark.parametrize("legacy", [False, True])
def test_damage_is_told_with_the_name_of_the_file(legacy, tmp_path):
    path, drawn, told = tmp_path / "net.pth", random.Random(1), 0
    torch.save({"weight": torch.arange(3.0)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for _ in range(400):
        held = bytearray(whole)
        held[drawn.randrange(len(whole))] = drawn.choice((0, 255, drawn.randrange(256)))
        path.write_bytes(held)
        try:
            read_weights(path)
        except ValueError as error:
            told += str(path) in str(error)
            continue
        told += 1
    assert told == 400
