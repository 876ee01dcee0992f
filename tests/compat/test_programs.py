"""Programs of the kinds that are published, run by the aliases, give the numbers that SpikingJelly gave.

`make programs` runs them beside the real package, all of them by all its ages, and stores the numbers compared here.
"""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import fresh
from sample import sample
from spikescope import compat, neuron, surrogate
from spikescope.neuron import IFNode

HERE = Path(__file__).parent / "programs"
sys.path.insert(0, str(HERE))
import runner  # noqa: E402

sys.path.remove(str(HERE))
STORED = json.loads((HERE / "expected.json").read_text())
ALONE = [name for name in runner.names() if runner.said(name, "RANKS") is None]
BY_KERNEL = ("dvs_frames", "fashion_sequences", "sew_resnet", "qcfs_conversion")

WANDERS = 0.02
"""What a few steps of training make of gradients that a kernel rounds otherwise, relative."""

ELSEWHERE = 0.1
"""What they make of a processor or a PyTorch whose sums are rounded otherwise, so that a spike may flip."""


@contextmanager
def aliases():
    known = [(registry, dict(registry)) for registry in (neuron.registry, surrogate.registry)]
    compat.install(force=True)
    try:
        yield
    finally:
        compat.uninstall()
        for registry, held in known:
            registry.clear()  # of what the program defined
            registry.update(held)


def check(name, got, tolerance):
    """The bits where the arithmetic is that of the stored numbers; elsewhere losses, which a flipped spike moves."""
    wanted = STORED["programs"][name]
    assert got.keys() == wanted.keys()
    if runner.probe() == STORED["probe"]:
        assert runner.differences(name, got, wanted, tolerance) == []
        return
    for key in [key for key in wanted if key.startswith("losses")]:
        assert runner.compared(got[key], wanted[key], ELSEWHERE) is None, key


def test_every_program_has_its_numbers_learns_and_is_not_silent():
    assert sorted(STORED["programs"]) == runner.names()
    assert len(runner.names()) >= 20
    for name in runner.names():
        assert set(runner.said(name, "AGES")) <= {"0.0.0.0.12", "0.0.0.0.14", "2.0.0"}
        losses = [value for key, value in STORED["programs"][name].items() if key.startswith("losses")]
        assert losses, name
        assert all(len(set(held)) > 2 for held in losses), name
        assert len(set(map(tuple, losses))) == len(losses), name
        firsts = [value for key, value in STORED["programs"][name].items() if key.startswith("first")]
        assert all(held["sum"] if isinstance(held, dict) else len(set(runner.flat(held))) > 1 for held in firsts), name


@pytest.mark.parametrize("name", ALONE)
def test_the_eager_loop_gives_the_stored_numbers(name):
    with aliases(), runner.eager():
        check(name, runner.run(name), None)


@pytest.mark.parametrize("name", BY_KERNEL)
def test_kernels_give_the_same_spikes(name):
    with aliases():
        check(name, runner.run(name), WANDERS)


RANKED = ["spikescope.compat", "--force", str(HERE / "runner.py"), "two_ranks"]
A_RANK = """
import os, runpy, sys
os.environ["RANK"] = os.environ["LOCAL_RANK"] = sys.argv.pop(1)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def by_torchrun():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", *RANKED]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def as_by_torchrun():
    """The same two processes, which begin quicker: that a training runs under torchrun is tested in tests/train."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    first, second = fresh.run_at_once(
        *(["-c", A_RANK, rank, *RANKED] for rank in range(2)), env={**os.environ, **meeting}
    )
    assert second.returncode == 0, second.stderr[-3000:]
    return first


@pytest.mark.parametrize("begin", sample([by_torchrun, as_by_torchrun], as_by_torchrun))
def test_two_ranks(begin):
    ran = begin()
    assert ran.returncode == 0, ran.stderr[-3000:]
    got = json.loads(ran.stdout.strip().splitlines()[-1])
    assert got["same on all"] is True
    check("two_ranks", got, WANDERS)


@pytest.mark.parametrize(
    ("got", "why"),
    [
        ({"losses": [1.0, 2.0]}, None),
        ({"losses": [1.0, 2.0 + 1e-6]}, "losses: off by"),
        ({"losses": [1.0]}, "losses: .* for"),
        ({"losses": [1.0, float("nan")]}, "losses: off by nan"),
        ({"losses": {"shape": [2], "sum": 3.0, "sha256": "0"}}, "losses: .* for"),
        ({"loss": [1.0, 2.0]}, "not in both"),
    ],
)
def test_what_counts_as_another_result(got, why):
    found = runner.differences("dqn", got, {"losses": [1.0, 2.0]})
    assert found == [] if why is None else re.search(why, found[-1])


def test_a_wrong_equation_is_seen(monkeypatch):
    charge = IFNode.charge
    monkeypatch.setattr(IFNode, "charge", staticmethod(lambda p, s, x: charge(p, s, x * 1.000001)))
    with aliases(), runner.eager():
        got = runner.run("sew_resnet")
    assert runner.differences("sew_resnet", got, STORED["programs"]["sew_resnet"])
