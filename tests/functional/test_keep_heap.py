"""A heap that is kept: no page faults where the same is allocated again, in the library and in the commands."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import fresh
from spikescope import functional
from spikescope.cli.main import main
from spikescope.toolchain import compiler, heap

STEPS = """
import resource, sys, threading
import torch
from spikescope import functional
from spikescope.toolchain import heap

if sys.argv[1] == "kept":
    assert functional.keep_heap()

def step():
    held = [torch.ones(1 << size) for size in (16, 20, 22, 24)]  # the last takes more than a heap of a thread holds

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def rounds():
    print(min(faults() for _ in range(4)))  # until the heap is as large as it gets

rounds()
if sys.argv[1] == "kept":
    thread = threading.Thread(target=rounds)
    thread.start()
    thread.join()
"""

glibc = pytest.mark.skipif(heap._c_library() is None, reason="another C library than that of GNU")


def faults(how):
    done = fresh.run("-c", STEPS, how, check=True)
    return [int(line) for line in done.stdout.split()]


@glibc
def test_what_a_step_frees_is_there_for_the_next():
    alone, in_thread = faults("kept")
    assert alone < 100
    assert in_thread < 100
    assert faults("as it is")[0] > 10_000  # what there is to save


APART = """
import ctypes, sys
from spikescope.toolchain import heap

class Told(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks more".split()] + [
        (name, ctypes.c_size_t) for name in "fsmblks uordblks fordblks keepcost".split()
    ]

library = ctypes.CDLL(None)
library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
library.mallinfo2.restype = Told
if sys.argv[1] == "shown":
    heap.show_a_large_block()
before = library.mallinfo2().hblks
assert library.malloc(20 << 20)
print(library.mallinfo2().hblks - before)
"""


def is_mapped_apart(how, **said):
    """Whether a block of 20 MB is asked of the system for itself, and given back to it when it is freed; in a process
    that nobody has forked, whose heap has learned nothing yet.
    """
    command = [sys.executable, "-c", APART, how]
    env = {name: held for name, held in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    done = subprocess.run(command, check=True, env=env | said, capture_output=True, text=True)
    return done.stdout == "1\n"


counts = pytest.mark.skipif(
    heap._c_library() is None or not hasattr(heap._c_library(), "mallinfo2"), reason="a library that does not count"
)


@counts
def test_a_heap_that_was_shown_a_large_block_gives_less_back():
    assert is_mapped_apart("as it is")
    assert not is_mapped_apart("shown")


@counts
def test_what_was_said_of_the_heap_holds():
    assert is_mapped_apart("shown", MALLOC_MMAP_THRESHOLD_="131072")


def test_it_is_shown_before_a_kernel_is_there(monkeypatch):
    done = []
    monkeypatch.setattr(compiler, "show_a_large_block", lambda: done.append("shown"))
    monkeypatch.setattr(compiler, "open_carried", lambda source: done.append("opened") or done)
    compiler.load("a kernel")
    assert done == ["shown", "opened"]


def test_another_library_is_told_nothing(monkeypatch):
    monkeypatch.setattr(heap, "_c_library", lambda: None)
    assert functional.keep_heap() is False


def test_a_library_that_refuses_is_said_to(monkeypatch):
    class Refusing:
        asked = 0

        def mallopt(self, name, value):
            self.asked += 1
            return 0 if name == heap.TRIM_THRESHOLD else 1

    library = Refusing()
    monkeypatch.setattr(heap, "_c_library", lambda: library)
    assert functional.keep_heap() is False
    assert library.asked == 4


OTHER = """
#include <stddef.h>
void *__libc_malloc(size_t);
void *malloc(size_t size) { return __libc_malloc(size); }
"""


@glibc
@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler of C")
def test_an_allocator_that_stands_before_the_library_is_seen(tmp_path):
    """That library takes the settings and answers that it has, though nobody asks it for memory."""
    text, built = tmp_path / "other.c", tmp_path / "other.so"
    text.write_text(OTHER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", built, text], check=True)
    told = f"import runpy; print(runpy.run_path({heap.__file__!r})['keep_heap']())"
    for preload, wanted in ((None, "True"), (built, "False")):
        env = os.environ if preload is None else os.environ | {"LD_PRELOAD": str(preload)}
        done = subprocess.run([sys.executable, "-c", told], check=True, env=env, capture_output=True, text=True)
        assert done.stdout.strip() == wanted


def test_musl_is_told_nothing(monkeypatch):
    """It has a malloc as well, and neither a version nor settings."""
    monkeypatch.setattr(heap.sys, "platform", "linux")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: SimpleNamespace(malloc=None, dladdr=None))
    assert functional.keep_heap() is False


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_it_is_for_linux(system, monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", system)
    assert functional.keep_heap() is False


@pytest.mark.parametrize(
    "command",
    [
        "train --resume NOWHERE",
        "bench-model spikescope.train:digits_network --image 1 8 8 -T 2 -b 2 --seconds 0.01",
    ],
    ids=lambda command: command.split()[0],
)
def test_commands_that_train_keep_theirs(command, monkeypatch, tmp_path, capsys):
    kept = []
    monkeypatch.setattr(functional, "keep_heap", lambda: kept.append(torch) or True)
    code = main([word.replace("NOWHERE", str(tmp_path / "none")) for word in command.split()])
    assert len(kept) == 1
    if command.startswith("bench-model"):
        assert code == 0
        assert "keeps the memory that it frees" in capsys.readouterr().out
