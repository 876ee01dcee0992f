"""Compiling kernels: the cache on disk, broken and forbidden folders, no compiler, many processes, fork and spawn."""

import ctypes
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from dynamics_cases import assert_equal, inputs, make

import fresh
from spikescope.dynamics.cpp import native
from spikescope.neuron import LIFNode
from spikescope.toolchain import compiler
from spikescope.toolchain.compiler import CompileError, load


def source(number):
    return f'extern "C" int answer() {{ return {number}; }}'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a list of what is built."""
    folder = tmp_path / "kernels"
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(folder))
    built, build = [], compiler._build

    def counted(*args):
        built.append(args)
        return build(*args)

    monkeypatch.setattr(compiler, "_build", counted)
    return folder, built


@pytest.fixture
def another_compiler(monkeypatch):
    """Call it with environment variables; what was found of the compiler is forgotten before and after."""
    cached = (compiler.command, compiler._trouble, compiler._version, compiler._identity, compiler._own_flags)
    monkeypatch.setattr(compiler, "_failed", {})

    def use(**variables):
        for name, held in variables.items():
            monkeypatch.delenv(name, raising=False) if held is None else monkeypatch.setenv(name, held)
        for function in cached:
            function.cache_clear()

    yield use
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


def test_a_kernel_is_compiled_once_and_lies_alone_in_a_folder_of_the_user(cache):
    folder, built = cache
    assert load(source(37)).answer() == load(source(37)).answer() == 37
    assert len(built) == 1
    assert load(source(38)).answer() == 38
    assert len(built) == 2
    assert sorted(path.suffix for path in folder.iterdir()) == [".so", ".so"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_many_threads_compile_it_once(cache):
    _, built = cache
    with ThreadPoolExecutor(8) as pool:
        assert [library.answer() for library in pool.map(load, [source(39)] * 8)] == [39] * 8
    assert len(built) == 1


@pytest.mark.parametrize("keep", [0, 10, 4000])
def test_a_file_that_was_cut_off_is_built_again(cache, keep):
    folder, built = cache
    load(source(40 + keep))
    path = next(folder.iterdir())
    path.with_suffix(".new").write_bytes(path.read_bytes()[:keep])  # the loaded one stays as it is
    os.replace(path.with_suffix(".new"), path)
    assert load(source(40 + keep)).answer() == 40 + keep
    assert len(built) == 2


def test_a_file_that_cannot_be_loaded_is_built_elsewhere(cache, monkeypatch):
    folder, built = cache
    load(source(41))
    real = ctypes.CDLL

    def refused(name):
        if os.path.realpath(name).startswith(str(folder)):
            raise OSError("failed to map segment from shared object")
        return real(name)

    monkeypatch.setattr(ctypes, "CDLL", refused)
    assert load(source(41)).answer() == 41
    assert len(built) == 2


def test_an_impossible_cache_folder_is_replaced_by_one_of_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="file is not a folder"):
        assert load(source(42)).answer() == 42
    assert (tmp_path / "file").read_text() == "in the way"
    monkeypatch.setenv("SPIKESCOPE_CACHE", "/proc/nowhere")
    assert load(source(43)).answer() == 43


def test_the_place_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("SPIKESCOPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.cache_folder() == tmp_path / "spikescope"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiler.cache_folder() == tmp_path / ".cache" / "spikescope"


def test_the_words_of_the_compiler(cache):
    folder, _ = cache
    with pytest.raises(CompileError, match="there_is_no_such_name"):
        load('extern "C" int answer() { return there_is_no_such_name; }')
    assert list(folder.iterdir()) == []


CALLING = """
extern "C" void call(void (*given)(long)) {
#pragma omp parallel for
  for (long i = 0; i < 8; i++) given(i);
}
"""


def test_a_kernel_is_ready_for_no_exception(cache):
    folder, _ = cache
    seen, given = [], ctypes.CFUNCTYPE(None, ctypes.c_long)
    load(CALLING).call(given(seen.append))
    assert sorted(seen) == [*range(8)]
    (built,) = folder.glob("*.so")
    assert b"personality" not in built.read_bytes()


def test_no_compiler_is_one_warning_with_the_cure_and_the_eager_loop(another_compiler, tmp_path):
    x_seq = inputs(5, 37)
    want = make(LIFNode, "torch")(x_seq)
    another_compiler(PATH=str(tmp_path), CXX=None, CC=None)
    with pytest.warns(
        RuntimeWarning, match=r"Install g\+\+ or clang\+\+ .* or name one in the environment variable CXX"
    ):
        y = make(LIFNode, "auto")(x_seq)
    assert_equal(y, want, "output")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node = make(LIFNode, "auto")
        assert node.implementation(x_seq) == ("torch", "there is no C++ compiler; the warning named the cure")
        assert_equal(node(x_seq), want, "output")
        with pytest.raises(RuntimeError, match=r"LIFNode cannot run on the backend 'cpp': there is no C\+\+ compiler"):
            make(LIFNode, "cpp")(x_seq)


def test_the_compiler_is_that_of_the_environment(another_compiler, tmp_path):
    chosen = compiler.command()[0]
    wrapper = tmp_path / "my-compiler"
    wrapper.write_text(f'#!/bin/sh\nexec {chosen} "$@"\n')
    wrapper.chmod(0o755)
    before = compiler._identity()
    another_compiler(CXX=str(wrapper))
    assert compiler.command()[0] == str(wrapper)
    assert compiler._identity() != before


def test_a_compiler_that_does_not_know_the_flags_of_gcc(another_compiler, tmp_path):
    wrapper = tmp_path / "clang-like"
    wrapper.write_text(
        f"""#!/bin/sh
case " $* " in
*" --version "*) echo clang version 18.1.8; exit ;;
*" -fno-thread-jumps "*) echo "error: unknown argument: '-fno-thread-jumps'" >&2; exit 1 ;;
esac
exec {compiler.command()[0]} "$@"
"""
    )
    wrapper.chmod(0o755)
    another_compiler(CXX=str(wrapper))
    assert load(source(45)).answer() == 45


RUN = """
import sys
import torch
from spikescope.toolchain import compiler
from spikescope.neuron import LIFNode
built, build = [], compiler._build
compiler._build = lambda *args: built.append(args) or build(*args)
torch.manual_seed(0)
x = torch.rand(5, 64, requires_grad=True)
y = LIFNode(step_mode="m", backend="cpp")(2 * x)
y.sum().backward()
print(len(built), y.sum().item(), x.grad.sum().item())
"""


def test_processes_share_the_cache(tmp_path):
    environment = os.environ | {"SPIKESCOPE_CACHE": str(tmp_path / "shared")}

    first = [done.stdout.split() for done in fresh.run_at_once(["-c", RUN], ["-c", RUN], env=environment)]
    later = fresh.run("-c", RUN, env=environment).stdout.split()
    assert later[0] == "0"
    assert first[0][1:] == first[1][1:] == later[1:]
    assert float(later[1]) > 0
    assert sorted(path.suffix for path in (tmp_path / "shared").glob("*.so")) == [".so"] * 3


CHILDREN = """
import multiprocessing
import os
import sys
import torch
from spikescope.dynamics.cpp import native
from spikescope.neuron import LIFNode

torch.set_num_threads(4)
x_seq = torch.linspace(-1, 3, 4 * 40_000).reshape(4, 40_000)  # large enough for several threads
ones = torch.ones_like(x_seq)


def work(queue):  # no large operation of PyTorch, which itself hangs in a fork
    x = x_seq.detach().requires_grad_()
    y = LIFNode(step_mode="m", backend="cpp")(x)
    (grad,) = torch.autograd.grad(y, x, ones)
    queue.put((y[:, ::1000].detach().tolist(), grad[:, ::1000].tolist()))


if __name__ == "__main__":
    results = []
    for method in (None, "fork", "spawn"):
        context = multiprocessing.get_context(method or "fork")
        queue = context.SimpleQueue()
        if method is None:
            work(queue)  # the parent's threads are up before it forks
        else:
            process = context.Process(target=work, args=(queue,))
            process.start()
            process.join(30)
            if process.is_alive():
                process.kill()
                sys.exit(f"{method}: the child hangs")
        results.append(queue.get())
    assert results[0][0][3][39] == 1.0
    assert results[0] == results[1] == results[2], results
    assert not native._forked
    print("done")
"""


def test_forked_and_spawned_children(tmp_path):
    path = tmp_path / "children.py"
    path.write_text(CHILDREN)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.strip() == "done", done.stderr[-3000:]


def test_small_runs_take_one_thread():
    assert native.threads_for(native._SMALL - 1) == 1


def test_a_backend_of_another_device_says_where_it_runs(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(RuntimeError, match="'triton': its kernels run on a GPU, and the input is on the device 'cpu'"):
        LIFNode(step_mode="m", backend="triton")(torch.zeros(2, 2, 2))


def test_a_disk_that_is_full_when_the_kernel_is_moved_there_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(tmp_path))
    move = os.replace

    def full(source, target):
        if str(target).startswith(str(tmp_path)):
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr(os, "replace", full)
    library = load('extern "C" int answer() { return 42; }')
    assert library.answer() == 42
    assert list(tmp_path.iterdir()) == []
