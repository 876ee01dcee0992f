"""A process that is forked for a program does what a fresh `python` would."""

import os
import signal
import subprocess
import sys

import pytest

import fresh

SEEN = """
import atexit, json, os, sys
atexit.register(print, "the end")
print(json.dumps([sys.argv, __name__, sys.stdin.read(), os.environ["HERE"], os.getcwd(), sorted(vars())]))
"""


@pytest.mark.parametrize(
    "last", ["", "sys.exit(3)", "sys.exit('words')", "1 / 0", "os._exit(4)", f"os.kill(os.getpid(), {signal.SIGKILL})"]
)
def test_it_sees_and_leaves_the_same(last, tmp_path):
    words, given = ("-c", SEEN + last, "a", "--b"), {"env": os.environ | {"HERE": "there"}, "cwd": tmp_path}
    pythons = subprocess.run(
        [sys.executable, *words], **given, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    ours = fresh.run(*words, **given)
    assert (ours.returncode, ours.stdout) == (pythons.returncode, pythons.stdout)
    assert ours.stderr.splitlines()[-1:] == pythons.stderr.splitlines()[-1:]


def test_a_module_has_its_name_and_arguments(tmp_path):
    (tmp_path / "tool.py").write_text("import sys\nprint(__name__, sys.argv)\n")
    pythons = subprocess.run(
        [sys.executable, "-m", "tool", "a"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert fresh.run("-m", "tool", "a", cwd=tmp_path, check=True).stdout == pythons.stdout


def test_programs_that_begin_at_once_run_beside_each_other():
    other = "import sys, time\nfrom pathlib import Path\nme, it = map(Path, sys.argv[1:])\nme.touch()\n"
    other += "while not it.exists():\n    time.sleep(0.01)\nprint(me.name)"
    with fresh.TemporaryDirectory() as folder:
        one, two = f"{folder}/one", f"{folder}/two"
        done = fresh.run_at_once(["-c", other, one, two], ["-c", other, two, one])
    assert [each.stdout for each in done] == ["one\n", "two\n"]


def test_what_fails_is_an_error_with_its_words():
    with pytest.raises(AssertionError, match="no data"):
        fresh.run("-c", "raise SystemExit('no data')", check=True)
