"""A monitor of one's own, and records that are a list like any other."""

import copy
import io
import pickle
import random

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import neuron
from spikescope.monitor import AttributeMonitor, BaseMonitor, OutputMonitor
from spikescope.recording.records import Moment, Records


class Means(BaseMonitor):
    """As code for the documented interface writes it."""

    def __init__(self, net):
        super().__init__()
        for name, module in net.named_modules():
            if isinstance(module, neuron.BaseNode):
                self.monitored_layers.append(name)
                self.name_records_index[name] = []
                self.hooks.append(module.register_forward_hook(self.hook_of(name)))

    def hook_of(self, name):
        def hook(module, args, output):
            if self.is_enable():
                self.name_records_index[name].append(len(self.records))
                self.records.append((name, output.mean().item()))

        return hook


def test_a_monitor_of_ones_own():
    net = spiking_net()
    monitor = Means(net)
    net(sequence())
    monitor.disable()
    net(sequence())
    monitor.enable()
    net(sequence())
    assert [name for name, _ in monitor.records] == ["1", "3", "1", "3"]
    assert [name for name, _ in monitor["3"]] == ["3", "3"]
    assert monitor.name_records_index == {"1": [0, 2], "3": [1, 3]}
    assert (len(monitor), monitor[1], len(monitor[:2])) == (4, monitor["3"][0], 2)
    with pytest.raises(KeyError, match="'2' is not monitored; there is '1', '3'"):
        monitor["2"]
    monitor.records.clear()
    assert monitor["1"] == []
    net(sequence())
    assert [name for name, _ in monitor["3"]] == ["3"]
    monitor.clear_recorded_data()
    assert (monitor.records, monitor["1"]) == ([], [])
    monitor.remove_hooks()
    monitor.close()
    net(sequence())
    assert monitor.records == []


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))])
def test_a_copy_of_it_keeps_the_records_alone(twin):
    net = spiking_net()
    with Means(net) as monitor:
        net(sequence())
        other = twin(monitor)
        net(sequence())
    assert [name for name, _ in other["1"]] == ["1"]
    assert (len(monitor.records), len(other.records), other.is_enable()) == (4, 2, False)


def _pop_first(records, rng):
    records.pop(0)


def _pop_last(records, rng):
    records.pop()


def _delete(records, rng):
    del records[rng.randrange(len(records))]


def _delete_slice(records, rng):
    del records[rng.randrange(len(records)) :: 2]


def _append(records, rng):
    records.append(("", rng.random()))


def _extend(records, rng):
    records += [("", rng.random()), ("", rng.random())]


def _insert(records, rng):
    records.insert(rng.randrange(len(records)), ("", rng.random()))


def _assign(records, rng):
    records[rng.randrange(len(records))] = ("", rng.random())


def _assign_slice(records, rng):
    records[1:3] = [("", rng.random())]


def _reverse(records, rng):
    records.reverse()


def _sort(records, rng):
    records.sort(key=lambda held: held[1], reverse=True)


def _remove(records, rng):
    records.remove(records[rng.randrange(len(records))])


CHANGES = [_pop_first, _pop_last, _delete, _delete_slice, _append, _extend, _insert, _assign, _assign_slice]
CHANGES += [_reverse, _sort, _remove]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("own", [False, True], ids=["with moments", "by names"])
def test_whatever_is_done_to_the_list_the_names_stay_right(seed, own):
    rng = random.Random(seed)
    records, plain = Records(), []
    for i in range(12):
        name = rng.choice("ab")
        if own:
            records.by_name.setdefault(name, []).append(len(records))
            records.append((name, i))
        else:
            records.keep((name, i), Moment(name, i, 0, None, None, None))
        plain.append((name, i))
    for _ in range(12):
        change, same = rng.choice(CHANGES), rng.random()
        if len(plain) < 3:
            break
        change(records, random.Random(same))
        change(plain, random.Random(same))
        assert records == plain
        for name in "ab":
            here = [records[i] for i in records.by_name.get(name, [])] if own else records.of(name)
            assert here == [held for held in plain if held[0] == name]
    assert records.nbytes == 128 * len(records)


def test_the_records_of_a_recorder_can_be_shortened_extended_and_replaced():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron, lambda y: 1) as monitor:  # the same object again and again
        net(sequence()), net(sequence())
        assert isinstance(monitor.records, list)
        assert monitor.name_records_index == {"1": [0, 2], "3": [1, 3]}
        monitor.records.pop(0)
        assert (monitor["1"], monitor["3"]) == ([1], [1, 1])
        monitor.records += ["mine"]
        assert (monitor.records, monitor.moments[-1]) == ([1, 1, 1, "mine"], None)
        assert monitor["3"] == [1, 1]
        monitor.records = [5]
        net(sequence())
        assert (monitor.records, monitor["3"]) == ([5, 1, 1], [1])
        del monitor.records[:]
        assert (monitor.records, monitor["1"]) == ([], [])


def test_records_are_saved_as_a_list_and_load_as_they_are():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        net(sequence())
    for twin in (loaded(monitor.records), copy.deepcopy(monitor.records), copy.copy(monitor.records)):
        assert type(twin) is list
        assert torch.equal(twin[0], monitor[0])
    assert not loaded(monitor.records)[0].requires_grad


def loaded(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


def test_names_are_those_of_named_modules_and_found_without_a_wrapper():
    net = nn.DataParallel(spiking_net())
    with OutputMonitor(net, neuron.Neuron) as monitor, OutputMonitor(net, "1") as chosen, OutputMonitor(net) as whole:
        net(sequence())
    assert monitor.monitored_layers == ["module.1", "module.3"]
    assert torch.equal(monitor["1"][0], monitor["module.1"][0])
    assert chosen.monitored_layers == ["module.1"]
    assert whole.monitored_layers == [""]
    with pytest.raises(KeyError, match=r"'5' is not monitored; there is 'module\.1', 'module\.3'"):
        monitor["5"]


class Lazy(nn.Module):
    def forward(self, x):
        self.made = x + 1
        return x


def test_an_attribute_that_forward_makes_first():
    net = Lazy()
    with AttributeMonitor("made", False, net) as after, AttributeMonitor("made", True, net) as before:
        net(torch.zeros(1)), net(torch.ones(1))
    assert after.records == [1.0, 2.0]
    assert before.records == [1.0]  # there was none before the first call


def test_an_attribute_that_never_comes_is_told_by_reading():
    net = spiking_net()
    with AttributeMonitor("nope", False, net, nn.Linear) as monitor:
        with pytest.warns(RuntimeWarning, match="no attribute 'nope'"):
            net(sequence())
        with pytest.raises(AttributeError, match="nope"):
            _ = monitor.records


def test_a_shape_is_kept_as_one():
    net = spiking_net()
    with OutputMonitor(net, neuron.IFNode, lambda y: (y.shape, (y.shape,))) as monitor:
        net(sequence())
    assert [type(monitor[0][0]), type(monitor[0][1][0])] == [torch.Size] * 2
