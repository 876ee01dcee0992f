"""A function of C++ where there is one, and None where something else has to do."""

import ctypes

import pytest

from spikescope.toolchain import compiler

SOURCE = 'extern "C" long twice(long x) { return 2 * x; }'


def test_a_function_takes_the_types_that_were_said():
    twice = compiler.function(SOURCE, "twice", ctypes.c_long)
    assert twice(1 << 40) % (1 << 32) == 0
    with pytest.raises(ctypes.ArgumentError):
        twice("x")


def test_there_is_none_without_a_compiler_or_where_it_fails(monkeypatch):
    assert compiler.function("no C++", "twice") is None
    monkeypatch.setattr(compiler, "trouble", lambda: "there is no C++ compiler")
    assert compiler.function(SOURCE, "twice", ctypes.c_long) is None
