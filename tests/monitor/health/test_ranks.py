"""What two processes have seen, joined, is what one process would have seen."""

from importlib import import_module
from unittest import mock

import pytest
import torch
from health_cases import if_node
from health_modes import STALE
from health_networks import BROKEN, N, perceptron, scene, spikes, train, watched
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ranks import error_of, in_two_ranks
from sample import sample
from spikescope import monitor
from spikescope.monitor.health.watch import watcher
from spikescope.monitor.health.watch.nonfinite import Place
from spikescope.monitor.health.watch.watcher import Watcher

IN_FRONT = {"images repeated along the second axis", "recordings with the batch in front"}
"""Of these the batch is the first axis, which a process takes for time."""
SENSITIVE = {"Adam with steps far too large"}
"""In these the last bit of a gradient grows from step to step, and two halves round otherwise than a whole."""
NETWORKS = BROKEN | STALE
SPLIT = [name for name in NETWORKS if name not in IN_FRONT | SENSITIVE]
SPLIT = sample(SPLIT, *SPLIT[::3])


def made(name):
    torch.manual_seed(0)
    return NETWORKS[name][2]()


def told(watch):
    return [(held.layer, held.kind, held.number) for held in watch.everything]


def half(held, rank):
    """This rank's samples, and its copy of the network where it is trained."""
    held.x = held.x[:, : N // 2] if rank == 0 else held.x[:, N // 2 :]
    if held.run is train:
        held.net = DistributedDataParallel(held.net)
    return held


def every_network(rank):
    found = {}
    for name in SPLIT:
        watch = watched(half(made(name), rank))
        own = told(watch)
        joined = monitor.sync(watch)
        assert told(watch) == own
        found[name] = told(joined), joined.table()
    lonely = scene(perceptron(), spikes())
    with monitor.health(lonely.net) as watch:
        if rank == 1:
            lonely.run(lonely)
    alone = told(monitor.sync(watch)), told(watch), monitor.sync(watch).ran
    nobody = monitor.sync(monitor.health(perceptron()))
    other = monitor.health(perceptron(), silent=0.5 if rank else 0.4)
    settings = error_of(lambda: monitor.sync(other))
    networks = error_of(lambda: monitor.sync(monitor.health(perceptron(2 + rank))))
    with monitor.health(perceptron()) as ended:
        if rank == 1:
            ended._seen.origin._probes[0].fail(ValueError("too much"))
            ended._seen.net(spikes())
    lost = [held.evidence.words for held in monitor.sync(ended).everything if held.kind == "not watched"]
    with mock.patch.object(import_module("spikescope.monitor.sync"), "judged", side_effect=ValueError("broken")):
        judge = error_of(lambda: monitor.sync(ended))
    return found, alone, nobody.table(), settings, networks, lost, judge


@pytest.mark.filterwarnings("ignore:The probe of")
def test_two_processes_find_what_one_does_with_all_samples(tmp_path):
    first, second = in_two_ranks(every_network, tmp_path / "meeting")
    assert first[0] == second[0], "all ranks tell the same"
    differ = {}
    for name, (rows, _) in first[0].items():
        wanted = told(watched(made(name)))
        alike = [row[:2] for row in rows] == [row[:2] for row in wanted]
        if not alike or [row[2] for row in rows] != pytest.approx([row[2] for row in wanted], rel=1e-4, nan_ok=True):
            differ[name] = rows, wanted
    assert differ == {}
    assert "at step 3, sample 2, neuron 1, on rank 0" in first[0]["a NaN in the data"][1]
    for rank, (_, (joined, own, ran), nobody, settings, networks, lost, judge) in enumerate((first, second)):
        assert ran
        assert joined == second[1][1]
        assert (joined == own) == (rank == 1) or not joined
        assert nobody == "Nothing was seen: run the network while health watches it."
        assert "Only rank 0 has: health with Limits(silent=0.4" in settings
        assert "only rank 1 has: a weight '4.weight'" in networks
        assert lost == ["on rank 1, ValueError: too much"]
        assert judge == "sync: rank 1, which judges for all, could not: ValueError: broken"


RULES = {
    "either": ([torch.tensor([True, False]), None, torch.tensor([False, False])], torch.tensor([True, False])),
    "first": ([None, [], [3], [4]], [3]),
    "least": ([2, None, 1], 1),
    "longest": ([[1.0, 5.0], None, [2.0, 3.0, 4.0]], [2.0, 5.0, 4.0]),
    "most": ([2, None, 3], 3),
    "total": ([[1, 2], None, [3, 4]], [4, 6]),
    "union": ([{1}, {2}, set()], {1, 2}),
}
"""What processes hold, by rank, and what they hold together, in whatever order they are asked."""


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_what_any_process_has(name):
    parts, wanted = RULES[name]
    rule = getattr(watcher, name)
    orders = [parts] if name == "first" else [parts, parts[::-1]]
    for held in orders:
        found = rule(held)
        assert torch.equal(found, wanted) if isinstance(wanted, torch.Tensor) else found == wanted
    assert watcher.by_name(rule)([{"a": part} for part in parts]).keys() == {"a"}


def test_the_first_place_of_all_processes_tells_its_rank():
    late, soon = (4, Place(step=0, sample=1, neuron=2)), (3, Place(step=5, sample=6, neuron=7))
    assert watcher.earliest([late, None, soon]) == (3, soon[1]._replace(rank=2))
    assert watcher.earliest([None, None]) is None
    assert set(watcher.__all__) - {"Rule", "Watcher", "by_name", "earliest"} == set(RULES)


def watchers(seen):
    """All watchers of a health, those inside others among them."""
    todo = [seen.origin, seen.inputs, seen.weights, seen.arrival]
    while todo:
        one = todo.pop()
        yield one
        for held in vars(one).values():
            todo += [held] if isinstance(held, Watcher) else []
            todo += [part for part in held.values() if isinstance(part, Watcher)] if isinstance(held, dict) else []


def test_every_attribute_of_every_watcher_has_a_rule_or_stays():
    seen = monitor.health(torch.nn.Sequential(if_node()))._seen
    kinds = set()
    for one in watchers(seen):
        kinds.add(type(one))
        joins = set(one.joins) - {"learns"} | ({"_learns"} & set(vars(one)))
        assert set(vars(one)) == joins | one.stays, type(one).__name__
        assert set(one.told()) == set(one.joins)
    assert kinds == set(Watcher.__subclasses__())


def test_a_copy_and_one_process_alone_say_so(monkeypatch):
    watch = monitor.health(perceptron())
    with pytest.raises(RuntimeError, match="init_process_group first"):
        monitor.sync(watch)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    with pytest.raises(TypeError, match="give the one that watches"):
        monitor.sync(watch.joined([], [], False))
