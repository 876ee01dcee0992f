"""The cache of kernels as an attacker, a bad disk and a killed process see it."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from spikescope.toolchain import cache, compiler
from spikescope.toolchain.cache import distrust, drafted, kernel_folder, open_library, private_folder
from spikescope.toolchain.compiler import load

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
NOBODY = 65534


def source(number):
    return f'extern "C" int answer() {{ return {number}; }}'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache with one kernel, and nothing remembered of warnings."""
    place = tmp_path / "above" / "kernels"
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(place))
    cache._warn_once.cache_clear()
    return place


def only(folder):
    (path,) = folder.iterdir()
    return path


def put(path, content):
    """Replace a file, not what is in it: this process has loaded that."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.chmod(0o700)
    new.replace(path)


def give_away(path):
    os.chown(path, NOBODY, NOBODY)


def as_link(path):
    moved = path.with_name("moved")
    path.rename(moved)
    path.symlink_to(moved)


def as_fifo(path):
    path.rename(path.with_name("moved"))
    os.mkfifo(path)


WEAK = {
    "of another user": give_away,
    "written by the group": lambda path: path.chmod(0o770),
    "written by all": lambda path: path.chmod(0o707),
    "written by all, sticky": lambda path: path.chmod(0o1777),
    "a link": as_link,
    "a fifo": as_fifo,
}
CASES = [pytest.param(change, marks=[root] if change is give_away else [], id=name) for name, change in WEAK.items()]


@pytest.mark.parametrize("change", CASES)
def test_a_folder_that_others_may_change_is_not_used_and_told_once(folder, change, monkeypatch):
    load(source(1))
    change(folder)
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    with pytest.warns(RuntimeWarning, match="The folder of compiled kernels, .*kernels, is not used") as told:
        answers = [load(source(number)).answer() for number in (1, 2)]
    assert answers == [1, 2]
    assert len(told) == 1
    assert kernel_folder() == private_folder()
    assert (sorted(folder.iterdir()) if folder.is_dir() else []) == held


@pytest.mark.parametrize(
    "change", [case for case in CASES if case.id not in ("a link", "written by all, sticky", "a fifo")]
)
def test_a_folder_below_one_that_others_may_change_is_not_used(folder, change):
    load(source(3))
    change(folder.parent)
    with pytest.warns(RuntimeWarning, match=f"is not used: {folder.parent} "):
        assert load(source(3)).answer() == 3


def test_a_way_through_links_of_the_user_is_followed_and_looked_at(folder, tmp_path, monkeypatch):
    load(source(4))
    (tmp_path / "link").symlink_to("above")
    (tmp_path / "other").symlink_to(tmp_path / "link" / ".." / "link")
    assert distrust(tmp_path / "other" / "kernels") == ""
    folder.parent.chmod(0o777)
    assert "can be written to by others" in distrust(tmp_path / "other" / "kernels")
    folder.parent.chmod(0o1777)  # sticky: what is in it can be replaced by its owner alone
    assert distrust(tmp_path / "other" / "kernels") == ""
    (tmp_path / "round").symlink_to("round")
    assert "too many" in distrust(tmp_path / "round" / "kernels")


@root
def test_a_link_of_another_user_is_not_followed(folder, tmp_path):
    load(source(5))
    link = tmp_path / "link"
    link.symlink_to("above")
    os.lchown(link, NOBODY, NOBODY)
    assert distrust(link / "kernels") == f"the link {link} belongs to the user {NOBODY}"


@pytest.mark.parametrize("change", [case for case in CASES if case.id != "written by all, sticky"])
def test_a_file_that_others_may_change_is_built_anew(folder, change, tmp_path):
    load(source(6))
    path = only(folder)
    change(path)
    assert open_library(folder, path.stem) is None
    assert load(source(6)).answer() == 6
    held = path.lstat()
    assert (held.st_uid, held.st_mode & 0o777) == (os.geteuid(), 0o700)


def test_files_are_not_written_by_others_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        load(source(7))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder, only(folder))] == [0o700] * 3


def test_damage_anywhere_is_found(folder):
    load(source(8))
    path = only(folder)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 997), *range(len(whole) - 200, len(whole), 7)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        put(path, damaged)
        assert open_library(folder, path.stem) is None, place
    for damaged in (whole + b"\0", whole[:-1], whole[1:], b"", bytes(len(whole))):
        put(path, damaged)
        assert open_library(folder, path.stem) is None
    put(path, whole)
    assert open_library(folder, path.stem).answer() == 8


def test_a_kernel_under_the_name_of_another_is_not_loaded(folder):
    load(source(9))
    first = only(folder)
    load(source(10))
    (second,) = set(folder.iterdir()) - {first}
    os.replace(first, second)
    assert open_library(folder, second.stem) is None
    assert load(source(10)).answer() == 10


def test_a_damaged_kernel_is_built_anew_by_the_next_process(folder):
    run = [
        sys.executable,
        "-c",
        f"from spikescope.toolchain.compiler import load; print(load({source(11)!r}).answer())",
    ]
    for _ in range(2):
        assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "11\n"
        path = only(folder)
        whole = bytearray(path.read_bytes())
        whole[5000] ^= 4
        path.write_bytes(whole)


def test_many_kernels_through_one_number_of_an_open_folder_stay_apart(folder):
    libraries = [load(source(number)) for number in range(20, 30)]
    assert [library.answer() for library in libraries] == list(range(20, 30))
    again = [open_library(folder, path.stem) for path in folder.iterdir()]
    assert sorted(library.answer() for library in again) == list(range(20, 30))


def test_the_draft_of_a_dead_process_goes_and_that_of_a_living_one_stays(folder):
    load(source(30))
    working = "import sys, time; from pathlib import Path; from spikescope.toolchain.cache import drafted\n"
    working += f"with drafted(Path({str(folder)!r})) as draft:\n    print(draft, flush=True); time.sleep(60)"
    processes = [subprocess.Popen([sys.executable, "-c", working], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, living = (Path(process.stdout.readline().strip()) for process in processes)
    assert dead.is_dir()
    processes[0].kill()
    processes[0].wait()
    (dead / "inside").mkdir()
    load(source(31))
    left = {path for path in folder.iterdir() if path.suffix != ".so"}
    processes[1].kill()
    for process in processes:
        process.wait()
        process.stdout.close()
    assert left == {living}
    with drafted(folder) as draft:
        assert {path for path in folder.iterdir() if path.suffix != ".so"} == {draft}
    assert len(list(folder.iterdir())) == 2


def test_without_locks_a_draft_is_old_before_it_goes(folder, monkeypatch):
    load(source(32))
    monkeypatch.setattr(cache, "_locked", lambda opened: None)
    young, old = folder / "draft-young", folder / "draft-old"
    for draft in (young, old):
        draft.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    load(source(33))
    assert [path for path in folder.iterdir() if path.suffix != ".so"] == [young]


@root
def test_a_sweep_leaves_alone_what_is_not_ours(folder, tmp_path):
    load(source(34))
    theirs, link = folder / "draft-theirs", folder / "draft-link"
    theirs.mkdir()
    give_away(theirs)
    (tmp_path / "mine").mkdir()
    link.symlink_to(tmp_path / "mine")
    load(source(35))
    assert theirs.is_dir()
    assert link.is_symlink()
    assert (tmp_path / "mine").is_dir()


def test_a_folder_that_can_be_read_alone_gives_its_kernels_and_takes_no_others(folder, monkeypatch):
    load(source(36))
    name, built, real = only(folder).stem, [], cache._new_draft

    def read_only(parent, prefix):
        if Path(parent) == folder:
            raise OSError(30, "Read-only file system")
        return real(parent, prefix)

    monkeypatch.setattr(cache, "_new_draft", read_only)
    monkeypatch.setattr(compiler, "_build", lambda *args, build=compiler._build: built.append(args[2]) or build(*args))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(source(36)).answer() == 36
        assert built == []
        assert load(source(37)).answer() == 37
    assert built == [folder, private_folder()]
    assert only(folder).stem == name


def test_no_safe_place_at_all_is_said(folder, monkeypatch):
    monkeypatch.setattr(compiler, "distrust", lambda place: f"{place} is a trap")
    monkeypatch.setattr(compiler, "_failed", {})
    with pytest.raises(compiler.CompileError, match=r"no safe place for a kernel: .* is a trap"):
        load(source(38))
