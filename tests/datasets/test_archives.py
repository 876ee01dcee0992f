"""From the files that a data set is published as to its samples: checksums, archives, downloads."""

import io
import tarfile

import pytest
from recordings import (
    OFFLINE,
    cifar_aedat,
    fetched,
    gesture_files,
    npz,
    put,
    recording,
    tarred,
    td_dat,
    zipped,
)

from spikescope import datasets
from spikescope.datasets.folders.resources import extract_archive


def test_es_imagenet_says_how_to_unpack_it(tmp_path):
    files = {"ES-imagenet-0.18.part01.rar": b"Rar!"}
    put(tmp_path / "download", files)
    with pytest.raises(datasets.MissingFilesError, match=r"unrar x .*part01\.rar .*extract/"):
        fetched(datasets.ESImageNet, files)(tmp_path, True)


def test_from_published_archives_to_frames(tmp_path):
    events = recording(200)
    tree = gesture_files(
        {split: {f"{split}01": (events, [(n, 0, 90_000) for n in range(1, 12)])} for split in ("train", "test")}
    )
    files = {"DvsGesture.tar.gz": tarred(tree), "README.txt": b"read me"}
    kind = fetched(datasets.DVS128Gesture, files)
    put(tmp_path / "download", {"README.txt": b"read me"})
    with pytest.raises(datasets.MissingFilesError, match=r"DvsGesture\.tar\.gz is missing"):
        kind(tmp_path, True)
    put(tmp_path / "download", {"DvsGesture.tar.gz": files["DvsGesture.tar.gz"][:-5]})
    with pytest.raises(datasets.MissingFilesError, match=r"is there with [0-9,]+ bytes, but is another or was cut"):
        kind(tmp_path, True)
    assert (tmp_path / "download/DvsGesture.tar.gz").exists()  # nothing of the user's is deleted
    put(tmp_path / "download", files)
    held = kind(tmp_path, True, "frame", 2, "number")
    assert len(held) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "download",
        "events_np",
        "extract",
        "frames_number_2_split_by_number",
    ]


@pytest.mark.parametrize(
    ("kind", "name", "inner", "options"),
    [
        (datasets.NAVGestureWalk, "navgesture-walk.zip", {"a/a_le_1.dat": td_dat(recording(9, 240, 304))}, {}),
        (datasets.NAVGestureSit, "navgesture-sit.zip", {"a/a_le_1.dat": td_dat(recording(9, 240, 304))}, {}),
        (
            datasets.HARDVS,
            "MINI_HARDVS_files.zip",
            {"one.npz": npz(**recording(9, 260, 346))},
            {"train_test_val": "val"},
        ),
    ],
)
def test_archives_of_archives(kind, name, inner, options, tmp_path):
    packed = {"MINI_HARDVS_files/action_004.zip" if options else "people/a.zip": zipped(inner)}
    tables = {f"{split}_label.txt": b"action_004/one 3\n" for split in ("train", "val", "test")} if options else {}
    files = {name: zipped(packed), **tables}
    put(tmp_path / "download", files)
    with pytest.warns(UserWarning, match="has no samples of the classes"):
        assert len(fetched(kind, files)(tmp_path, **options)) == 1
    assert not list(tmp_path.glob("*.inside"))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_that_write_elsewhere_or_are_cut_are_refused(pack, tmp_path):
    ending = ".zip" if pack is zipped else ".tar.gz"
    whole = pack({"airplane/a.aedat": cifar_aedat(recording(5000))})
    for name, content in {"out": pack({"../escaped": b"x"}), "cut": whole[: len(whole) // 2]}.items():
        files = {name + ending: content}
        put(tmp_path / name / "download", files)
        with pytest.raises(datasets.FormatError, match=rf"{name}{ending}"):
            fetched(datasets.CIFAR10DVS, files)(tmp_path / name)
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "out/escaped").exists()


def test_a_download_is_kept_only_if_it_is_whole(tmp_path, monkeypatch):
    content = zipped({"airplane/a.aedat": cifar_aedat(recording(50))})
    kind = fetched(datasets.CIFAR10DVS, {"airplane.zip": content})
    monkeypatch.setattr(OFFLINE, lambda *_, **__: io.BytesIO(content[:-9]))
    with pytest.raises(datasets.MissingFilesError, match=r"tried and failed .what came from .* has the MD5"):
        kind(tmp_path)
    assert not list((tmp_path / "download").iterdir())
    monkeypatch.setattr(OFFLINE, lambda *_, **__: io.BytesIO(content))
    assert len(kind(tmp_path)) == 1


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (tarfile.REGTYPE, "../escaped", "would be written outside"),
        (tarfile.REGTYPE, "/escaped", "would be written outside"),
        (tarfile.SYMTYPE, "link", "Python 3.11.4 or later unpacks links"),
        (tarfile.LNKTYPE, "link", "Python 3.11.4 or later unpacks links"),
        (tarfile.FIFOTYPE, "pipe", "is no file and no folder"),
    ],
)
def test_a_python_without_the_filters_of_archives_unpacks_files_alone(kind, name, words, tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    for odd in (False, True):
        source, target = tmp_path / f"{odd}.tar.gz", tmp_path / f"{odd}"
        with tarfile.open(source, "w:gz") as tar:
            member = tarfile.TarInfo("inside/file")
            member.size, member.mode = 3, 0o4777
            tar.addfile(member, io.BytesIO(b"abc"))
            if odd:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, "inside/file"
                tar.addfile(member)
        if odd:
            with pytest.raises(datasets.FormatError, match=words):
                extract_archive(source, target)
        else:
            extract_archive(source, target)
        assert (target / "inside/file").read_bytes() == b"abc"
        assert (target / "inside/file").stat().st_mode & 0o7777 & ~0o755 == 0
        assert not (target / name).exists()
