import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported: its kernels run on the CPU

import pytest
import torch

from registries import apart

torch.set_num_threads(1)  # the test workers share the cores; no result depends on it

collect_ignore_glob = ["sweeps/[!t]*.py", "compat/[acp]*/*.py", "models/reference.py"]  # programs, not tests


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    with apart():  # what a module of tests defines
        return (yield)


@pytest.fixture(autouse=True)
def registries_as_before():
    with apart():
        yield
