"""Files that are no NIR graphs, damaged ones, and those that mean harm: a ValueError that names the file."""

import os
import random

import pytest
from torch import nn

h5py = pytest.importorskip("h5py")
pytest.importorskip("nir")

from spikescope.exchange import read_nir, to_nir, write_nir  # noqa: E402


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "net.nir"
    write_nir(place, to_nir(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), (2,)))
    assert len(read_nir(place).nodes) == 4
    return place


def in_itself(nodes, folder):
    nodes["loop"] = nodes


def elsewhere(nodes, folder):
    nodes["elsewhere"] = h5py.ExternalLink("other.h5", "/")


def external(nodes, folder):
    (folder / "secret").write_bytes(bytes(64))
    nodes.create_dataset("w", (16,), "f4", external=[(str(folder / "secret"), 0, 64)])


def virtual(nodes, folder):
    held = h5py.VirtualLayout((16,), "f4")
    held[:] = h5py.VirtualSource(str(folder / "other.h5"), "w", (16,))
    nodes.create_virtual_dataset("w", held)


def huge(nodes, folder):
    nodes.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize("change", [in_itself, elsewhere, external, virtual, huge])
def test_a_file_that_means_harm_is_refused_before_it_is_read(path, change):
    with h5py.File(path, "a") as file:
        change(file["node"]["nodes"], path.parent)
    with pytest.raises(ValueError, match=r"net\.nir is not a NIR file, or is damaged: .*(itself|other file|unpack to)"):
        read_nir(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.nir")
    with pytest.raises(ValueError, match=r"pipe\.nir"):
        read_nir(tmp_path / "pipe.nir")
    with pytest.raises(FileNotFoundError):
        read_nir(tmp_path / "none.nir")


def test_random_damage_is_a_value_error_or_a_graph(path):
    whole, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        held = bytearray(whole)
        for _ in range(rng.choice((1, 4))):
            held[rng.randrange(len(held))] = rng.randrange(256)
        path.write_bytes(held[: rng.choice((len(held), rng.randrange(len(held))))])
        try:
            read_nir(path)
        except ValueError as error:
            refused += "net.nir" in str(error)
    assert refused > 50
