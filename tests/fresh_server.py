"""The process from which `fresh` forks: it imports torch, and then begins one program after another."""

import json
import os
import runpy
import signal
import sys
from types import ModuleType

import torch  # noqa: F401

PATIENCE = 300
"""Seconds that a program may take."""


def become(words, number, asked):
    """What the interpreter does with its arguments, in a process whose output goes to files."""
    signal.alarm(PATIENCE)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(asked["folder"], f"{number}.{name}"), os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    kind, what, *arguments = words
    sys.path[0] = "" if kind == "-c" else asked["cwd"]
    if kind == "-m":
        sys.argv[:] = ["-m", *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = ["-c", *arguments]
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__annotations__ = {}
        exec(compile(what, "<string>", "exec"), vars(main))


def serve():
    """In a process that is to become a program its words, its number and all that was asked; else None at the end."""
    for line in sys.stdin:
        asked, running = json.loads(line), []
        for number, words in enumerate(asked["programs"]):
            if not (process := os.fork()):
                return words, number, asked
            running.append(process)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in running]), flush=True)
    return None


if __name__ == "__main__" and (given := serve()):
    become(*given)
