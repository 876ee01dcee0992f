"""Damaged and hostile files of records: told with file and record, never given out, and the others stay readable."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from spikescope.monitor import Budget, Moment, OutputMonitor, open_records
from spikescope.recording.disk.forms import blobs, build, describe, measure
from spikescope.recording.disk.segment import write_chunk
from spikescope.spikes import CompressedSpikes, PackedSpikes

sys.path.insert(0, str(Path(__file__).parents[1] / "sweeps"))
import record_damage

sys.path.pop(0)

NAME = "00000000-1.records"
MOMENT = Moment("conv", 0, 0, 0, 1, 2)


@pytest.fixture
def folder(tmp_path):
    """Three files of two records each."""
    net = nn.Identity()
    with OutputMonitor(net, budget=Budget(80, "spill", tmp_path)) as monitor:
        for i in range(6):
            net(torch.full((10,), float(i)))
    assert len(list(monitor.records.folder.iterdir())) == 3
    return monitor.records.folder


def numbers(records):
    return [int(held[0]) for held in records]


def flip(path, place, bit=0):
    held = bytearray(path.read_bytes())
    held[place] ^= 1 << bit
    path.write_bytes(held)


def test_every_flipped_bit_is_told(tmp_path):
    path = tmp_path / NAME
    write_chunk(path, [torch.tensor([1.0, 2.0]), {"a": (b"xy", 3)}], [MOMENT, MOMENT._replace(call=1)])
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            held = bytearray(whole)
            held[place] ^= 1 << bit
            path.write_bytes(held)
            with pytest.raises(ValueError, match=NAME):
                open_records(tmp_path)[:]
    path.write_bytes(whole)
    assert torch.equal(open_records(tmp_path)[0], torch.tensor([1.0, 2.0]))


def test_random_damage_and_forgery():
    ends = record_damage.sweep(150, seed=1)
    assert sum(ends.values()) == 150
    assert ends["damaged", "refused"] > 20


def test_a_damaged_record_is_named_and_the_others_are_read(folder):
    paths = sorted(folder.iterdir())
    flip(paths[1], -50)  # in the first of the two records
    records = open_records(folder)
    with pytest.raises(ValueError, match=rf"{paths[1].name} is damaged: record 0 \(''\) is not as it was written"):
        _ = records[2]
    assert numbers(records[i] for i in (0, 1, 3, 4, 5)) == [0, 1, 3, 4, 5]
    with pytest.warns(RuntimeWarning, match=rf"left out .*{paths[1].name}: of 2 records those with the numbers 0\."):
        records = open_records(folder, damaged="skip")
    assert numbers(records) == numbers(records.of("")) == [0, 1, 3, 4, 5]
    assert [moment.call for moment in records.moments] == [0, 1, 3, 4, 5]


def test_a_damaged_file_is_named_and_the_others_are_read(folder):
    paths = sorted(folder.iterdir())
    flip(paths[0], 40)
    (folder / "notes.records").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.records is not named as a recorder names its files"):
        open_records(folder)
    with pytest.warns(RuntimeWarning, match=rf"{paths[0].name} is damaged: its head is .*notes\.records is not a file"):
        assert numbers(open_records(folder, damaged="skip")) == [2, 3, 4, 5]
    (folder / "notes.records").unlink()
    with pytest.raises(ValueError, match=rf"{paths[0].name} is damaged: its head is not as it was written"):
        open_records(folder)
    paths[0].unlink()
    assert numbers(open_records(folder, damaged="skip")) == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="damaged must be one of 'error', 'skip'"):
        open_records(folder, damaged="ignore")


def test_records_of_another_file_do_not_fit(folder):
    first, second, _ = sorted(folder.iterdir())
    one, two = first.read_bytes(), second.read_bytes()
    assert len(one) == len(two)
    first.write_bytes(one[:-88] + one[-44:] + one[-88:-44])  # the two records of 40 bytes and their sums change places
    second.write_bytes(two[:-44] + one[-44:])
    records = open_records(folder)
    for i in (0, 1, 3):
        with pytest.raises(ValueError, match="is not as it was written"):
            _ = records[i]
    assert numbers([records[2]]) == [2]


def test_files_without_checksums_are_read_and_said_to_be(tmp_path):
    record_damage.write(tmp_path, version=1)
    with pytest.warns(RuntimeWarning, match=f"{NAME} was written by an older version, without checksums"):
        records = open_records(tmp_path)
    assert all(record_damage.same(a, b) for a, b in zip(records[:], record_damage.VALUES, strict=True))
    assert records.moments == record_damage.MOMENTS[: len(record_damage.VALUES)]


@pytest.mark.filterwarnings("ignore:.*older version, without checksums")
@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b'{"size": 0}',
        b'{"size": 0, "records": [[["", 0, 0, null, null, null, 1.0]]]}',
        b'{"size": 0, "records": [[["", 0, 0], 1]]}',
        b'{"size": 0, "records": [[["", 0, 0, null, null, null, 1.0], {"tensor": ["float32", [1], "cpu", 4]}]]}',
        b'{"size": 0, "records": [[["", 0, 0, null, null, null, 1.0], {"bytes": [4, -20]}]]}',
        b'{"size": 0, "records": [[["", 0, 0, null, null, null, 1.0], {"tensor": ["floaty", [0], "cpu", 0]}]]}',
        b'{"size": 0, "records": ' + b"[" * 5000,
    ],
)
def test_heads_that_describe_nothing_are_refused(tmp_path, head):
    (tmp_path / NAME).write_bytes(b"SPKREC01" + len(head).to_bytes(8, "little") + head)
    with pytest.raises(ValueError, match=rf"{NAME} is damaged: "):
        open_records(tmp_path)


def test_a_file_of_a_later_version_says_so(folder):
    path = min(folder.iterdir())
    path.write_bytes(path.read_bytes()[:7] + b"7" + path.read_bytes()[8:])
    with pytest.raises(
        ValueError, match="is a file of records of the version b'7', which this spikescope does not know"
    ):
        open_records(folder)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        make(tmp_path / NAME)
        with pytest.raises(ValueError, match=rf"{NAME} is not a file"):
            open_records(tmp_path)
        remove = os.rmdir if make is os.mkdir else os.unlink
        remove(tmp_path / NAME)


def test_bits_past_the_end_of_packed_spikes_are_refused(tmp_path):
    spikes = PackedSpikes(torch.tensor([[255]], dtype=torch.uint8), torch.Size([1, 1, 5]))
    write_chunk(tmp_path / NAME, [spikes], [MOMENT])
    with pytest.raises(
        ValueError, match=rf"{NAME} is damaged: record 0 \('conv'\) cannot be: .* last 3 bits of each row"
    ):
        _ = open_records(tmp_path)[0]


@pytest.mark.parametrize("value", record_damage.VALUES, ids=lambda value: type(value).__name__)
def test_a_description_says_how_many_bytes_it_takes(value):
    parts = []
    form = describe(value, parts)
    taken = []
    size = measure(form)
    held = b"".join(map(bytes, blobs(parts)))
    assert len(held) == size

    def take(count):
        start = sum(taken)
        taken.append(count)
        return bytearray(held[start : start + count])

    assert record_damage.same(build(form, take), value)
    assert sum(taken) == size


def test_a_frame_that_holds_more_than_its_shape_is_not_unpacked():
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor(write_content_size=False)
    frames = [zstandard.ZstdCompressor().compress(bytes(1 << 26)), packer.compress(bytes(1 << 26))]
    frames += [packer.compress(bytes(1)) + b"more", zstandard.ZstdCompressor().compress(bytes(1)) * 2, b"", b"no frame"]
    for frame in frames:
        with pytest.raises(ValueError, match=r"CompressedSpikes: "):
            CompressedSpikes(frame, torch.Size([8, 1, 1]), torch.float32).decompress()
    assert CompressedSpikes(packer.compress(b"\x05"), (8, 1, 1), torch.float32).decompress().count() == 2
    with pytest.raises(ValueError, match="last 5 bits of each row"):
        CompressedSpikes(packer.compress(b"\xff"), (3, 1, 1), torch.float32).decompress()
    with pytest.raises(ValueError, match=r"CompressedSpikes takes spikes \[T, N, \*\]"):
        CompressedSpikes(b"", (-8, 1, 1), torch.float32)


def test_every_flipped_bit_of_a_frame_is_told():
    pytest.importorskip("zstandard")
    small = PackedSpikes.from_dense((torch.arange(600) % 7 == 0).float().view(30, 2, 10)).compress()
    for place in range(8 * len(small.frame)):
        held = bytearray(small.frame)
        held[place // 8] ^= 1 << place % 8
        try:
            spikes = CompressedSpikes(bytes(held), small.shape, small.dtype).decompress()
        except ValueError:
            continue
        assert spikes == small.decompress(), place  # a bit without a meaning, as of what is reserved
