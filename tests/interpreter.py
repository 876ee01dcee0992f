"""Triton's interpreter without what it does again and again.

It puts functions of its own into the language when a kernel begins, and once more at every call of a function inside,
which finds them there: that is a fifth of the time of kernels that are made of many functions.
"""

import inspect
import sys
from functools import cache


def quicken():
    """Whatever runs in the interpreter from now on is prepared once a launch.

    Nothing where it is not in use, or prepares in another way, as that of another version may.
    """
    interpreter = sys.modules.get("triton.runtime.interpreter")
    if not (hasattr(interpreter, "_patch_lang") and hasattr(interpreter, "GridExecutor")):
        return
    launch, prepare, prepared = interpreter.GridExecutor.__call__, interpreter._patch_lang, set()

    @cache
    def languages(function):
        held = (value for value in function.__globals__.values() if inspect.ismodule(value))
        return frozenset(module.__name__ for module in held if module.__name__.startswith("triton.language"))

    def prepare_once(function):
        if languages(function) in prepared:
            return None
        prepared.add(languages(function))
        return prepare(function)

    def launch_anew(*args, **kwargs):
        prepared.clear()
        return launch(*args, **kwargs)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = prepare_once, launch_anew
