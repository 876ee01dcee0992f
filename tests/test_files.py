"""Output folders are claimed in words, files are written whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spikescope.files import FolderLock, OutputError, append_line, claim_folder, open_regular, write_whole


def test_claim_makes_the_parents_and_may_be_repeated(tmp_path):
    target = tmp_path / "some" / "where" / "run"
    assert claim_folder(target) == target
    assert claim_folder(str(target)) == target
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("inside", ["", "run", "deep/run"])
def test_a_file_in_the_way_is_named(tmp_path, inside):
    blocker = tmp_path / "taken"
    blocker.write_text("mine")
    with pytest.raises(OutputError, match=r"taken is a file\. Choose another folder"):
        claim_folder(blocker / inside)
    assert blocker.read_text() == "mine"


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old")
    with pytest.raises(OutputError, match=r"already holds metrics\.jsonl\. Choose a new folder"):
        claim_folder(tmp_path)
    (tmp_path / "zebra").write_text("old")
    with pytest.raises(OutputError, match=r"already holds metrics\.jsonl and more"):
        claim_folder(tmp_path)


def test_a_parent_that_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"run cannot be written: permission denied\. Choose a folder"):
        claim_folder(tmp_path / "run")


def test_a_read_only_folder(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="cannot be written: read-only file system"):
        claim_folder(tmp_path / "run")


def test_write_whole_replaces(tmp_path):
    target = tmp_path / "file"
    write_whole(target, "one")
    with target.open() as reader:  # of the old file, whole to its end
        write_whole(target, b"tw\x00")
        assert reader.read() == "one"
    assert target.read_bytes() == b"tw\x00"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_content(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_whole(target, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"file could not be written: no space left on device\."):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_planted_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "target").symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "target", "new")
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / "target").read_text() == "new"
    assert not (tmp_path / "target").is_symlink()
    for name in (f".other.{os.getpid()}", ".other"):  # where a draft could be looked for
        (tmp_path / name).symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "other", "new")
    assert (tmp_path / "mine").read_text() == "precious"
    (tmp_path / "lines").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="lines could not be written"):
        append_line(tmp_path / "lines", "new")
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("write", [write_whole, append_line])
def test_a_pipe_or_a_device_is_neither_replaced_nor_waited_for(tmp_path, write):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        with pytest.raises(OutputError, match=f"{name} could not be written"):
            write(tmp_path / name, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "pipe"]


def test_two_threads_write_one_file(tmp_path):
    contents = [letter * 300_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: [write_whole(tmp_path / "one", content) for _ in range(10)], contents))
    assert (tmp_path / "one").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_long_name_is_written(tmp_path):
    write_whole(tmp_path / ("n" * 250), "new")
    assert (tmp_path / ("n" * 250)).read_text() == "new"


def test_a_line_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    append_line(tmp_path / "lines", "one")
    write, left = os.write, [5]

    def full(file, content):
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content[: left.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="lines could not be written: no space left on device"):
        append_line(tmp_path / "lines", "two and more")
    monkeypatch.undo()
    append_line(tmp_path / "lines", "three")
    assert (tmp_path / "lines").read_text() == "one\nthree\n"


def test_a_folder_has_one_writer_until_that_ends(tmp_path):
    holding = (
        f"from spikescope.files import FolderLock; lock = FolderLock({str(tmp_path)!r}); print(1, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    with pytest.raises(OutputError, match="is being written to by another run"):
        FolderLock(tmp_path)
    process.kill()
    process.communicate()
    lock = FolderLock(tmp_path)
    with pytest.raises(OutputError, match="is being written to by another run"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_a_file_is_opened_to_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(ValueError, match="is not a file"):
            open_regular(path)
