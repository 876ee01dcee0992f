import gc
import logging
import os
import sys

os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported: its kernels run on the CPU
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of processes takes longer than the graphs of tests
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # the processor's instructions are used without trying each

import pytest
import torch
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings

from interpreter import quicken
from logs import Caught
from registries import apart
from sample import WHOLE, covering
from workers import send_less

torch.set_num_threads(1)  # the test workers share the cores; no result depends on it
logging.getLogger().addHandler(logging.NullHandler())  # else Python prints what is logged and nobody takes

settings.register_profile(
    "suite",
    deadline=None,  # of a machine under load
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 if WHOLE else 40,
)
settings.load_profile("suite")

collect_ignore_glob = [
    "sweeps/[!t]*.py",
    "sweeps/triton_*.py",
    "compat/[acp]*/*.py",
    "models/reference.py",
]  # programs, not tests


def pytest_collection(session):
    gc.disable()  # nothing of what is collected becomes garbage
    send_less(session.config)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Examples stand in the docstrings of the package; those of tests need not be searched for any."""
    return [held for held in (yield) if not isinstance(held, DoctestModule)]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    with apart():  # what a module of tests defines
        return (yield)


@pytest.fixture(autouse=True)
def registries_as_before():
    with apart():
        yield


@pytest.fixture
def caplog():
    """What is logged meanwhile."""
    held = Caught()
    logging.getLogger().addHandler(held)
    yield held
    logging.getLogger().removeHandler(held)


def spare():
    """Whoever collects garbage from now on, a test or what it tests, need not go through all that there is now."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish():
    quicken()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)  # to look through all there is at every few steps of a compiler is a tenth of it
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    done = yield
    if nextitem is None or nextitem.path != item.path:
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # the graphs of a file are of no use to the next
        spare()
    return done


def pytest_unconfigure():
    gc.unfreeze()  # else what the interpreter does not collect at its end is called leaked


def pytest_addoption(parser):
    parser.addoption("--sample", action="store_true", help="of crossed parameters, each value once or more often")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if placed := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"Two processes name this test differently, by where an object lies: {placed[0]}")
    if config.getoption("sample") and not WHOLE:
        kept = set(covering(items))
        left_out = [item for item in items if item not in kept]
        config.hook.pytest_deselected(items=left_out)
        files = {}
        for item in items:
            if item in kept:
                files.setdefault(item.nodeid.partition("::")[0], []).append(item)
        items[:] = [item for file in reversed(files.values()) for item in file]  # the doctests, which are short, end
