"""Kernels that came from elsewhere: by whom they are taken, when they are refused, and that no compiler is asked."""

import os
import warnings
from contextlib import suppress

import pytest

from spikescope.toolchain import carried, compiler
from spikescope.toolchain.carried import LEVELS, carried_name, carries, levels, open_carried
from spikescope.toolchain.compiler import CompileError, is_kept, load, ordered

pytestmark = pytest.mark.skipif(not levels(), reason="kernels are built for x86-64-v3 and above")


def source(number):
    return f'extern "C" int answer() {{ return {number}; }}'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels, made by this machine, that is used here; and a cache that stays empty."""
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "kernels"
    monkeypatch.setenv("SPIKESCOPE_KERNELS", str(place))
    with ordered(place, levels()[0]) as names:
        assert load(source(52)).answer() == 52
        assert load(source(52)).answer() == 52
    assert names == [carried_name(text, levels()[0]) for text in (compiler.PROBE, source(52))]
    carried._warn_once.cache_clear()
    return place


@pytest.fixture
def no_compiler(monkeypatch, folder):
    monkeypatch.setattr(compiler, "command", tuple)
    monkeypatch.setattr(compiler, "_failed", {})
    compiler._trouble.cache_clear()
    yield
    compiler._trouble.cache_clear()


def test_a_kernel_that_came_along_is_run_without_a_compiler_and_without_a_cache(folder, no_compiler, tmp_path):
    assert carries(source(52))
    assert is_kept(source(52))
    assert compiler.trouble() == ""
    assert load(source(52)).answer() == 52
    assert not (tmp_path / "cache").exists()
    assert not is_kept(source(53))
    with pytest.raises(CompileError, match=f"there is no C.. compiler, and the kernel is not in {folder}"):
        load(source(53))


def test_others_may_read_and_run_the_kernels_and_not_change_them(folder):
    held = [folder, *folder.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in held} == {0o755}


def test_a_kernel_of_a_lower_level_is_taken_where_there_is_none_of_a_higher_one(folder, monkeypatch):
    if len(levels()) < 2:
        pytest.skip("this processor reaches one level alone")
    with ordered(folder, levels()[1]):
        load(source(54))
    assert open_carried(source(54)).answer() == 54
    monkeypatch.setattr(carried, "levels", lambda: ())
    assert not carries(source(54))


def test_levels_are_by_what_the_processor_can_do(monkeypatch):
    for able, reached in ((LEVELS["x86-64-v4"], 2), (LEVELS["x86-64-v3"], 1), (LEVELS["x86-64-v3"] - {"fma"}, 0)):
        monkeypatch.setattr(carried, "processor", lambda able=able: "flags : sse2 " + " ".join(able))
        levels.cache_clear()
        assert levels() == tuple(LEVELS)[2 - reached :]
    monkeypatch.undo()
    levels.cache_clear()


WEAK = {
    "a file written by the group": ("file", 0o775, ""),
    "a folder of a level": ("level", 0o777, "can be written to by others"),
    "the folder of all": ("all", 0o777, "can be written to by others"),
}


@pytest.mark.parametrize("name", WEAK)
def test_what_others_may_change_is_not_run(folder, name):
    which, mode, told = WEAK[name]
    level = folder / levels()[0]
    {"file": level / f"{carried_name(source(52), levels()[0])}.so", "level": level, "all": folder}[which].chmod(mode)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert open_carried(source(52)) is None
        assert open_carried(source(52)) is None
    assert [told in str(one.message) for one in seen] == [True] * bool(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_what_belongs_to_another_user_is_not_run(folder):
    path = folder / levels()[0] / f"{carried_name(source(52), levels()[0])}.so"
    os.chown(path, 65534, 65534)
    assert open_carried(source(52)) is None


@pytest.mark.parametrize(
    "damage", [lambda held: held[:-70], lambda held: held.replace(b"answer", b"answes"), lambda _: b""]
)
def test_a_damaged_kernel_is_not_run(folder, damage):
    path = folder / levels()[0] / f"{carried_name(source(52), levels()[0])}.so"
    held = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(held))
    path.chmod(0o755)
    assert open_carried(source(52)) is None
    assert load(source(52)).answer() == 52  # the compiler makes another


def test_one_that_this_system_cannot_load_is_compiled_anew(folder, monkeypatch):
    def refused(folder, name):
        raise OSError("version `GLIBC_2.99' not found")

    monkeypatch.setattr(carried, "open_library", refused)
    assert load(source(52)).answer() == 52


def test_words_for_a_folder_that_is_not_there_and_for_a_level_that_is_not_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKESCOPE_KERNELS", f"{tmp_path / 'nowhere'}:")
    carried._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="SPIKESCOPE_KERNELS names .*nowhere, which is not a folder"):
        assert not carries(source(52))
    with pytest.raises(ValueError, match="but got 'x86-64-v9'"), ordered(tmp_path, "x86-64-v9"):
        pass


def test_a_kernel_that_failed_is_told_at_the_end_though_whoever_asked_went_on_without_it(tmp_path):
    names = []

    def build():
        with ordered(tmp_path / "kernels", levels()[0]) as made:
            with suppress(CompileError):
                load("no program")
            load(source(55))
            names.extend(made)

    with pytest.raises(CompileError, match="no program"):
        build()
    assert names == [carried_name(text, levels()[0]) for text in (compiler.PROBE, source(55))]


def test_a_folder_that_cannot_even_be_looked_for_is_told(monkeypatch):
    monkeypatch.setenv("SPIKESCOPE_KERNELS", 300 * "a")
    carried._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="which is not a folder, or not to be seen by this user"):
        assert not carries(source(52))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user meanwhile")
@pytest.mark.parametrize("name", ["the folder of all", "a folder of a level"])
def test_a_folder_that_is_closed_to_this_user_is_told(folder, name):
    modes = {above: above.stat().st_mode for above in folder.parents if above.stat().st_uid == 0}
    for above, mode in modes.items():
        above.chmod(mode | 0o011)
    (folder if name == "the folder of all" else folder / levels()[0]).chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.warns(RuntimeWarning, match=f"The kernels in {folder}.* are not used: permission denied"):
            assert not carries(source(52))
    finally:
        os.seteuid(0)
        for above, mode in modes.items():
            above.chmod(mode)
