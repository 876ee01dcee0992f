"""Programs of tests in processes of their own, forked from one that has imported torch, which takes longer than most.

They are what a fresh `python` runs, up to its end, but for three things. What torch reads when it is imported is the
environment of the first call; the order of a set of strings is the same in all of them; and torch is in `sys.modules`.
What is about those takes a `subprocess`.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory


@cache
def _server():
    command = [sys.executable, str(Path(__file__).with_name("fresh_server.py"))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_at_once(*programs, env=None, cwd=None):
    """What becomes of each list of arguments, `["-c", text, ...]` or `["-m", module, ...]`, in its own process."""
    with TemporaryDirectory() as folder:
        asked = {"folder": folder, "env": dict(env or os.environ), "cwd": str(cwd or Path.cwd())}
        asked["programs"] = [[str(word) for word in program] for program in programs]
        print(json.dumps(asked), file=_server().stdin, flush=True)
        codes = json.loads(_server().stdout.readline())
        told = [
            [Path(folder, f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(codes))
        ]
    return [CompletedProcess(words, code, *texts) for words, code, texts in zip(programs, codes, told, strict=True)]


def run(*words, env=None, cwd=None, check=False):
    """As `run_at_once` for one program; with `check` an error where it fails."""
    (done,) = run_at_once(words, env=env, cwd=cwd)
    assert not check or not done.returncode, done.stderr
    return done
