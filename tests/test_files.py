"""Output folders are claimed in words, files are written whole."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from spikescope.files import OutputError, claim_folder, write_whole


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
