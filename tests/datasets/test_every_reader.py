"""Every reader against files that are none, damaged, endless, or packed to become far more than they are."""

import io
import os
import random
import tarfile
import zipfile

import numpy as np
import pytest
from recordings import (
    aedat4,
    aedat4_packet,
    aedat31,
    atis_bin,
    cifar_aedat,
    evt2,
    evt3,
    evt21,
    npz,
    put,
    recording,
    td_dat,
)

import fresh
from spikescope import datasets
from spikescope.datasets import formats, unpacking
from spikescope.datasets.folders.resources import extract_archive
from spikescope.datasets.formats import aedat4 as aedat4_format

EVENTS = recording(12)
MATLAB = {"ts": EVENTS["t"], "x": EVENTS["x"], "y": EVENTS["y"], "pol": EVENTS["p"]}


def mat(variables=MATLAB, **options):
    held = io.BytesIO()
    pytest.importorskip("scipy.io").savemat(held, variables, **options)
    return held.getvalue()


def lz4(packets):
    return aedat4(packets, 1, pytest.importorskip("lz4.frame").compress)


def zstd(packets):
    return aedat4(packets, 3, pytest.importorskip("zstandard").ZstdCompressor().compress)


READ = {
    "aedat 2": (lambda: cifar_aedat(EVENTS), formats.load_aedat2),
    "aedat 3": (lambda: aedat31(EVENTS, each=5), formats.load_aedat_v3),
    "aedat 4": (lambda: aedat4([(0, aedat4_packet(EVENTS))]), formats.load_aedat4),
    "aedat 4, lz4": (lambda: lz4([(0, aedat4_packet(EVENTS))]), formats.load_aedat4),
    "aedat 4, zstd": (lambda: zstd([(0, aedat4_packet(EVENTS))]), formats.load_aedat4),
    "bin": (lambda: atis_bin(EVENTS), formats.load_ATIS_bin),
    "dat": (lambda: td_dat(EVENTS), formats.load_td_dat),
    "evt 2": (lambda: evt2(EVENTS), formats.load_evt),
    "evt 2.1": (lambda: evt21(EVENTS), formats.load_evt),
    "evt 3": (lambda: evt3(EVENTS), formats.load_evt),
    "mat": (mat, formats.load_mat),
    "mat, packed": (lambda: mat(do_compression=True), formats.load_mat),
    "npz": (lambda: npz(**EVENTS), formats.load_numpy),
}
HOSTILE = (0, 255, 1 << 24, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 60, (1 << 64) - 1)
"""Numbers that a head may claim."""


def unlike(whole):
    """Files that have little in common with a whole one, and those in which numbers of 1 to 8 bytes are others."""
    yield from (b"\0", bytes(len(whole)), b"\xff" * len(whole), b"only text\n" * 30, whole[::-1], b"#" * 99, b"%" * 99)
    yield from (whole + b"\0", whole + b"behind it", whole * 2)
    yield from (whole[:end] for end in range(0, len(whole), max(1, len(whole) // 100)))
    drawn = random.Random(3)
    for _ in range(200):
        held, size = bytearray(whole), drawn.choice((1, 2, 4, 8))
        at = drawn.randrange(min(len(held), drawn.choice((200, len(held)))) - size)
        held[at : at + size] = (drawn.choice(HOSTILE) % (1 << 8 * size)).to_bytes(size, "little")
        yield bytes(held)


def test_every_format_is_among_them():
    readers = {getattr(formats, name) for name in formats.__all__ if name.startswith("load_")}
    assert readers == {load for _, load in READ.values()}


@pytest.mark.filterwarnings("ignore")  # of NumPy and SciPy, on heads that make no sense
@pytest.mark.parametrize("name", READ)
def test_what_is_damaged_is_told_or_read(name, tmp_path):
    make, load = READ[name]
    path = tmp_path / "recording"
    for held in unlike(make()):
        path.write_bytes(held)
        try:
            events = load(path)
        except datasets.OptionError as error:
            assert "give stream" in str(error)  # noqa: PT017
        except datasets.EventsError as error:
            assert str(path) in str(error) or "Events have the columns" in str(error)  # noqa: PT017
            assert len(str(error)) < 600 + len(str(path))  # noqa: PT017
        else:
            assert len({len(values) for values in events.values()}) == 1


@pytest.mark.parametrize("load", sorted({load for _, load in READ.values()}, key=lambda load: load.__name__))
def test_a_pipe_a_folder_and_an_endless_device_are_refused(load, tmp_path):
    if load is formats.load_mat:
        pytest.importorskip("scipy.io")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "endless"):
        with pytest.raises(datasets.FormatError, match=f"{name} is not a file"):
            load(tmp_path / name)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_an_archive_that_is_a_pipe_is_not_waited_for(ending, tmp_path):
    os.mkfifo(tmp_path / f"a{ending}")
    with pytest.raises(datasets.FormatError, match=rf"a{ending} .* is not a file"):
        extract_archive(tmp_path / f"a{ending}", tmp_path / "out")


def test_what_a_package_repeats_of_a_file_is_cut_short(tmp_path):
    """The name of a member that is thousands of bytes long, as one changed byte makes it."""
    held = bytearray(npz(**EVENTS))
    held[27] = 4  # 1024 bytes more
    (tmp_path / "a.npz").write_bytes(held + bytes(5000))
    with pytest.raises(datasets.FormatError, match=r"a\.npz cannot be read as NumPy") as raised:
        formats.load_numpy(tmp_path / "a.npz")
    assert len(str(raised.value)) < 600 + len(str(tmp_path))


def test_a_file_larger_than_the_memory_is_told(tmp_path):
    path = tmp_path / "recording"
    with open(path, "wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(datasets.FormatError, match=r"recording has 4,398,046,511,104 bytes, for which"):
        formats.load_ATIS_bin(path)


@pytest.mark.parametrize("name", READ)
def test_a_small_file_is_read_in_little_memory(name, tmp_path):
    """No reader asks for the most that could come: a limit of the process may be less."""
    make, load = READ[name]
    path = tmp_path / f"small.{name.partition(',')[0].split()[0]}"
    path.write_bytes(make())
    program = f"""
import resource
from pathlib import Path
from spikescope.datasets import formats

formats.{load.__name__}({str(path)!r})  # what is imported on the way
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20),) * 2)
print(len(formats.{load.__name__}({str(path)!r})["t"]))
"""
    assert int(fresh.run("-c", program, check=True).stdout) == len(EVENTS["t"])


@pytest.mark.parametrize("pack", [lz4, zstd])
def test_a_packet_that_is_packed_well_is_read_in_pieces(pack, tmp_path, monkeypatch):
    path, whole = tmp_path / "same.aedat4", {key: held[:1].repeat(30_000) for key, held in EVENTS.items()}
    path.write_bytes(pack([(0, aedat4_packet(whole))]))
    read = formats.load_aedat4(path)
    assert all(np.array_equal(read[key], held) for key, held in whole.items())
    monkeypatch.setattr(aedat4_format, "MOST", 1 << 18)
    with pytest.raises(datasets.FormatError, match=r"same\.aedat4 .* it ends too early, or is larger than packets are"):
        formats.load_aedat4(path)


def test_types_of_values_that_matlab_has_not_are_told(tmp_path):
    whole, path = mat(), tmp_path / "a.mat"
    at = whole.index(b"ts\0\0") + 4
    for kind in (0, 8, 10, 11, 16, 19, 128, 1 << 15):
        path.write_bytes(whole[:at] + kind.to_bytes(4, "little") + whole[at + 4 :])
        with pytest.raises(datasets.FormatError, match=r"a\.mat is damaged, or has no events: ts is not an array"):
            formats.load_mat(path)
    for values in ("text", {"a": 1}, EVENTS["t"] * 1j, np.array([1, "a"], object)):
        path.write_bytes(mat(MATLAB | {"ts": values}))
        with pytest.raises(datasets.FormatError, match="ts is not an array of real numbers"):
            formats.load_mat(path)
    path.write_bytes(mat({"other": {"a": 1}, "long name of text": "words"} | MATLAB, do_compression=True))
    assert formats.load_mat(path)["t"].tolist() == EVENTS["t"].tolist()


ZEROS = bytes(1 << 22)


def zip_bomb():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, ZEROS)
    return held.getvalue()


def tar_bomb(sizes=(1 << 22, 1 << 22), kind=tarfile.REGTYPE):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for number, size in enumerate(sizes):
            member = tarfile.TarInfo(str(number))
            member.size, member.type = size, kind
            archive.addfile(member, io.BytesIO(ZEROS))
    return held.getvalue()


def npz_bomb():
    held = io.BytesIO()
    np.savez_compressed(held, **dict.fromkeys("txyp", np.zeros(1 << 18)))
    return held.getvalue()


def unpack(path):
    extract_archive(path, path.with_name("out"))


BOMBS = {
    "a.zip": (zip_bomb, unpack),
    "a.tar.gz": (tar_bomb, unpack),
    "a.npz": (npz_bomb, formats.load_numpy),
    "frames.npz": (npz_bomb, datasets.load_npz_frames),
    "a.mat": (lambda: mat(dict.fromkeys(MATLAB, np.zeros(1 << 18)), do_compression=True), formats.load_mat),
    "lz4.aedat4": (lambda: lz4([(0, ZEROS)] * 2), formats.load_aedat4),
    "zstd.aedat4": (lambda: zstd([(0, ZEROS)] * 2), formats.load_aedat4),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_far_more_than_it_is_is_refused(name, tmp_path, monkeypatch):
    make, load = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    monkeypatch.setattr(unpacking, "ALWAYS", 5 << 20)
    with pytest.raises(datasets.FormatError, match=rf"{name} is refused: its [\d,]+ bytes unpack to at least"):
        load(path)
    written = sum(file.stat().st_size for file in tmp_path.glob("out/*"))
    assert written <= 5 << 20


def test_what_an_archive_says_of_a_member_is_not_read_without_end(tmp_path):
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        (tmp_path / "a.tar.gz").write_bytes(tar_bomb((1 << 21, 1), kind))
        with pytest.raises(datasets.FormatError, match=r"a\.tar\.gz .* what it says of a member takes 2,097,152 bytes"):
            unpack(tmp_path / "a.tar.gz")


TABLES = {
    "extract/DvsGesture/trials_to_train.txt": datasets.DVS128Gesture,
    "extract/DvsGesture/a_labels.csv": datasets.DVS128Gesture,
    "extract/train_label.txt": datasets.HARDVS,
    "extract/ES-imagenet-0.18/vallabel.txt": datasets.ESImageNet,
    "SpeechCommands/speech_commands_v0.02/validation_list.txt": datasets.SPEECHCOMMANDS,
}


def tree_with(root, table, make):
    """What a data set needs before it comes to one of its tables, which `make` puts there."""
    path = root / table
    path.parent.mkdir(parents=True)
    (path.parent / "train").mkdir()
    if path.suffix == ".csv":
        put(path.parent, {f"trials_to_{split}.txt": b"a.aedat\n" for split in ("train", "test")})
    make(path)
    return path


def converted(kind, root):
    if kind is datasets.SPEECHCOMMANDS:
        return kind({"a": 0}, str(root), split="val")
    return kind.create_events_np_files(root / "extract", root / "events_np")


@pytest.mark.filterwarnings("ignore")  # of kernels for the threads of a conversion
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "make", [lambda path: path.write_bytes(b"head\n\xff\xfe\x80 1\n"), os.mkfifo], ids=["bytes", "pipe"]
)
def test_tables_of_names_that_are_no_text_are_told(table, make, tmp_path):
    path = tree_with(tmp_path, table, make)
    (tmp_path / "events_np").mkdir()
    with pytest.raises((datasets.FormatError, datasets.ConversionError), match=path.name):
        converted(TABLES[table], tmp_path)
