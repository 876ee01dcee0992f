"""Launches with code that is known, on a GPU that is not there: they are what Triton itself launches first."""

import json
import os
from pathlib import Path

import pytest
import torch

import fresh
from sample import sample
from spikescope.dynamics.triton.launch import BLOCK, Launcher

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]

TYPES = sample(["float16", "float32", "bfloat16", "float32"], "float16", "float32", "float16")
"""Of a tensor, one call after the other; the last one comes again to code that is there."""

SCRIPT = """
import json
import sys
import torch
import triton
from torch import nn
from bench.absent_gpu import absent_gpu
from spikescope import functional, layer, neuron
from spikescope.dynamics.triton.launch import Again, apart

seen, places = [], []
again = Again.__call__


def places_told(self, stream, tensors, *last):
    # whether a launch had of each tensor the place, of a row that of the row
    again(self, stream, tensors, *last)
    held, given = apart(tensors, self.rows), seen[-1][1]
    at = {place: held[each].data_ptr() for each, found in self.places for place in found}
    places.append(all(given[place] == found for place, found in at.items()) and bool(at))


Again.__call__ = places_told


def launched(name, arguments, types):
    seen.append([name, [str(held.dtype) if isinstance(held, torch.Tensor) else held for held in arguments]])


def call(net, x):
    functional.reset_net(net)
    seen.clear()
    torch.autograd.grad(net(x).sum(), x)
    return list(seen)


pair = functional.fuse_bn_neurons(nn.Sequential(layer.BatchNorm2d(4), neuron.LIFNode(backend="triton")), training=True)
cases = [
    (neuron.ParametricLIFNode(step_mode="m", backend="triton"), torch.rand(9, 2, 40)),
    (functional.set_step_mode(pair, "m") or pair, torch.rand(5, 2, 4, 3, 3)),
]
with absent_gpu(launched):
    for net, x in cases:
        print(json.dumps([call(net, x.requires_grad_()) for _ in range(4)]))
    print(json.dumps(places))
    told_of = []
    hook = lambda metadata: told_of.append(metadata.get()["name"])
    triton.knobs.runtime.launch_enter_hook.add(hook)
    print(json.dumps([[name for name, _ in call(*cases[1])], told_of]))
    triton.knobs.runtime.launch_enter_hook.remove(hook)
    buffer = torch.rand(9 * 80 + 1)
    print(json.dumps([call(cases[0][0], buffer[1:].view(9, 2, 40).requires_grad_()) for _ in range(1)]))

typed = []
pair[1].v_reset = None  # another kernel than before
net = nn.Sequential(neuron.IFNode(step_mode="m", backend="triton"))
with absent_gpu(lambda name, arguments, types: typed.append([name, types.get("X")])):
    for each, shape in ((net, (7, 2, 40)), (pair, (7, 2, 4, 3, 3))):
        for name in sys.argv[1:]:
            typed.clear()
            functional.reset_net(each)
            x = torch.rand(*shape).to(getattr(torch, name)).requires_grad_()
            torch.autograd.grad(each(x).sum(), x)
            print(json.dumps([name, *typed]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The launches of each call: by Triton, on the long way with code that is known, and on the short way."""
    cache = str(tmp_path_factory.mktemp("triton"))
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache}
    done = fresh.run("-c", SCRIPT, *TYPES, env=environment, cwd=ROOT, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_alike(first, later, known):
    """The numbers of the first launch and, where the code is known, an address where that has a tensor."""
    (name, arguments), (same, given) = first, later
    assert name == same
    for a, b in zip(arguments, given, strict=True):
        if not isinstance(a, str):
            assert a == b
        elif known:
            assert type(b) is int
            assert b > 1 << 20


@pytest.mark.parametrize("case", [0, 1], ids=["a neuron", "a normalisation and its neuron"])
def test_later_launches_are_the_first_with_addresses(case, told):
    first, *later = told[case]
    assert [name for name, _ in first] == (
        ["spikescope_forward", "spikescope_backward"]
        if case == 0
        else [f"spikescope_{name}" for name in ("moments", "settle", "forward", "backward", "settle_back", "backward")]
    )
    assert all(any(isinstance(held, str) for held in arguments) for _, arguments in first)
    for place, call in enumerate(later):
        for launch, again in zip(first, call, strict=True):
            assert_alike(launch, again, known=place > 0)  # the second call of a neuron prepares its short way


def test_each_argument_of_a_later_launch_lies_where_its_tensor_does(told):
    assert len(told[2]) >= 12
    assert all(told[2])


def test_who_asks_to_be_told_of_launches_is_told(told):
    launched, heard = told[3]
    assert heard == launched != []


def test_an_address_of_another_alignment_is_left_to_triton(told):
    ((forward, _),) = told[4]
    assert any(isinstance(held, str) for held in forward[1])


def test_code_is_of_the_type_of_its_tensors(told):
    """What was compiled for one type and ran on another read and wrote where there is no memory."""
    types = {"float16": "*fp16", "float32": "*fp32", "bfloat16": "*bf16"}
    assert len(told[5:]) == 2 * len(TYPES)
    for dtype, *launches in told[5:]:
        found = {kind for name, kind in launches if kind is not None}
        assert found == {types[dtype]}, launches
        assert len(launches) >= 2


def test_a_launch_that_comes_while_another_notes_its_code_has_all_arguments(monkeypatch):
    """Of another thread, that is: here it comes where the first one asks for what it has to note."""
    seen, x = [], torch.zeros(4)

    class Compiled:
        def __getitem__(self, grid):
            return lambda *given: seen.append(given)

    class Kernel:
        asked = 0

        @property
        def arg_names(self):
            self.asked += 1
            if self.asked == 1:
                launcher([x])
            return ["X", "K", "BLOCK"]

    monkeypatch.setattr("spikescope.dynamics.triton.launch.interpreted", lambda: False)
    monkeypatch.setattr("spikescope.dynamics.triton.launch.is_current", lambda device: True)
    monkeypatch.setattr(Launcher, "_by_triton", lambda self, arguments: Compiled())
    launcher = Launcher(Kernel(), x.device, 1, K=3)
    launcher([x]), launcher([x])
    assert set(seen) == {(x.data_ptr(), 3, BLOCK)}
