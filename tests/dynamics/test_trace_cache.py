"""Traces on disk: a new process does not trace again, and what a trace depends on is part of its name."""

import json
import sys

import pytest
import torch
from dynamics_cases import NEURONS, make

import fresh
from spikescope.dynamics.graphs import program, trace_cache
from spikescope.dynamics.graphs.graph import Graph, Node
from spikescope.dynamics.graphs.trace_cache import Memory, recall, remember
from spikescope.neuron import IFNode, LIFNode
from spikescope.surrogate import ATan
from spikescope.toolchain import notes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKESCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def key_of(node):
    return node._definition(node.params()).key


def told(graph):
    """A graph with numbers in place of nodes."""
    place = {node: i for i, node in enumerate((*graph.inputs, *graph.nodes))}

    def numbered(held):
        return repr([f"node {place[part]}" if isinstance(part, Node) else part for part in held])

    nodes = [(node.name, node.target, numbered(node.args), node.kwargs, node.dtype, node.shape) for node in place]
    return nodes, numbered(graph.outputs)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_a_trace_comes_back_as_it_was(cls):
    made = program.Program(key_of(make(cls, "auto")))
    for body in (made.forward(torch.float32), made.backward(torch.float32, made.differentiable)):
        name = made.memory.name("a test", len(body.outputs))
        assert name is not None
        remember(name, body.traced)
        found = recall(name)
        assert found is not None
        assert told(found.graph) == told(body.traced.graph)
        assert found.alike is body.traced.alike


def test_a_second_program_traces_nothing(monkeypatch):
    key = key_of(LIFNode())
    first = program.Program(key).backward(torch.float32, ())
    monkeypatch.setattr(program, "_apart", lambda *args: pytest.fail("it was traced again"))
    again = program.Program(key).backward(torch.float32, ())
    assert told(again.traced.graph) == told(first.traced.graph)
    assert again.constants.values() is not first.constants.values()
    assert list(again.constants.values()) == list(first.constants.values())


def names(node):
    return Memory(key_of(node)).name("forward")


def test_what_a_trace_depends_on_is_part_of_its_name(monkeypatch):
    plain = names(LIFNode())
    assert plain == names(LIFNode(tau=3.0))  # a number is no part of a trace
    others = [names(held) for held in (IFNode(), LIFNode(detach_reset=True), LIFNode(v_reset=None))]
    others += [names(LIFNode(surrogate_function=ATan())), names(LIFNode(tau=torch.tensor(3.0)))]
    assert len({plain, *others}) == 6
    monkeypatch.setattr(torch, "__version__", "2.13.1")
    trace_cache._surroundings.cache_clear()
    try:
        assert names(LIFNode()) not in (plain, None)
    finally:
        monkeypatch.undo()
        trace_cache._surroundings.cache_clear()


def test_a_function_put_in_the_place_of_another_is_seen(monkeypatch):
    plain = names(LIFNode())
    with monkeypatch.context() as changed:
        changed.setattr(LIFNode, "charge", staticmethod(vars(IFNode)["charge"].__func__))
        assert names(LIFNode()) not in (plain, None)
    with monkeypatch.context() as changed:
        changed.setattr(LIFNode, "charge", staticmethod(lambda p, s, x: x))
        assert names(LIFNode()) is None
    assert names(LIFNode()) == plain


def test_what_the_compiler_of_pytorch_leaves_in_a_module_changes_nothing(monkeypatch):
    before = names(LIFNode())
    resumed = eval("lambda: 0", {"__builtins__": {}})  # of no module, as the continuations that Dynamo makes
    monkeypatch.setattr(sys.modules[LIFNode.__module__], "__resume_at_30_2", resumed, raising=False)
    assert resumed.__module__ is None
    assert names(LIFNode()) == before


def test_a_class_from_elsewhere_is_not_remembered():
    class Mine(LIFNode):
        pass

    assert names(Mine()) is None
    assert recall(None) is None


def test_an_operation_of_another_library_is_not_written_down():
    x = Node("x")
    foreign = Graph((x,), (Node("y", torch.ops.prims.sin.default, (x,)),), ())
    assert trace_cache._encoded(foreign, True) is None
    odd = Graph((x,), (Node("y", torch.ops.aten.sin.default, (x, object())),), ())
    assert trace_cache._encoded(odd, True) is None


def test_a_damaged_note_is_traced_anew(cache):
    name = "0" * 32
    notes.write_note(name, b"[]")
    assert notes.note(name) == b"[]"
    path = cache.with_name(f"{cache.name}.notes") / f"{name}.note"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"[]", b"{}"))
    assert notes.note(name) is None
    path.write_bytes(content)
    path.chmod(0o722)
    assert notes.note(name) is None


PROGRAM = """
import json, sys
import torch
from spikescope import neuron
from spikescope.dynamics.graphs import program
from spikescope.toolchain import compiler

traced, apart, ran, run = [], program._apart, [], compiler.run
program._apart = lambda trace, *args: traced.append(trace.__name__) or apart(trace, *args)
compiler.run = lambda words, *args: ran.append(words[1:2]) or run(words, *args)
node = neuron.LIFNode(step_mode="m")
x = torch.linspace(-1, 3, 24).reshape(4, 6).requires_grad_()
y = node(x)
y.sum().backward()
print(json.dumps([traced, len(ran), y.tolist(), x.grad.tolist()]))
"""


def test_a_new_process_neither_traces_nor_asks_the_compiler(cache):
    found = [json.loads(fresh.run("-c", PROGRAM, check=True).stdout) for _ in range(2)]
    assert found[0][0] == ["trace_forward", "trace_backward"]
    assert found[0][1] > 0
    assert found[1][:2] == [[], 0]
    assert found[1][2:] == found[0][2:]


@pytest.mark.parametrize("name", [".", "..", "/", "kernels", "kernels/"])
def test_notes_lie_beside_the_kernels_whatever_the_folder_is_called(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SPIKESCOPE_CACHE", name)
    kernels = (tmp_path / "here" / name).resolve()
    assert notes._folder() == kernels.parent / f"{kernels.name}.notes"


UNREADABLE = {
    "no text": b"\xff",
    "no JSON": b"[[],",
    "another length": b"[]",
    "a number": b"5",
    "too deep": b"[" * 100_000,
    "no dtype": b'[[["x", {"dtype": "no_such_dtype"}, [1]]], [], [], true]',
    "no operation": b'[[], [["y", "aten.no_such.default", [], {}, {"dtype": "float32"}, [1]]], [], true]',
    "no node": b'[[], [], [{"node": 7}], true]',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_note_that_nobody_can_read_is_as_none(name):
    notes.write_note("a note", UNREADABLE[name])
    assert notes.note("a note") == UNREADABLE[name]
    assert recall("a note") is None
