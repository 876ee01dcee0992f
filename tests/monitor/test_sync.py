"""Results over two processes, against one process that saw all samples."""

import pytest
import torch
from torch import distributed

from monitor_cases import sequence, spiking_net
from ranks import error_of, in_two_ranks
from spikescope import functional, monitor, neuron
from spikescope.monitor import reduce

REDUCERS = {
    "rate": "rate",
    "count": reduce.Count(),
    "silent": "silent share",
    "extent": reduce.MinMax,
    "moments": reduce.Moments,
    "isi": reduce.InterSpikeInterval,
    "course": reduce.RateOverTime,
    "packed": reduce.Packed,
}


def run(net, x):
    with torch.no_grad():
        net(x)
    functional.reset_net(net)


def alike(found, wanted):
    """Equal but for the order in which real numbers were added."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(alike(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


def both_ranks(rank):
    net, x = spiking_net(), sequence(4, 3)
    with monitor.record(net, REDUCERS) as both, monitor.record(net, REDUCERS) as alone:
        run(net, x[:, :1] if rank == 0 else x[:, 1:])
        alone.close()
    with monitor.record(net, REDUCERS) as lonely:
        if rank == 1:
            run(net, x)
    calls = []
    for name in ("all_reduce", "all_gather_object"):
        real = getattr(distributed, name)
        setattr(distributed, name, lambda *args, real=real, name=name, **kw: (calls.append(name), real(*args, **kw)))
    own = both.to_dict()
    found = monitor.sync(both)
    number = list(calls)
    again = both.to_dict() == own
    other = monitor.record(net, "rate" if rank == 0 else "silent share", neuron.IFNode)
    differs = error_of(lambda: monitor.sync(other))
    other.close()
    nothing = monitor.sync(monitor.record(net, "rate"))
    return found.to_dict(), monitor.sync(lonely).to_dict(), number, again, differs, len(nothing)


def test_two_ranks_see_what_one_process_would_have(tmp_path):
    net = spiking_net()
    with monitor.record(net, REDUCERS) as whole:
        run(net, sequence(4, 3))
    wanted = whole.to_dict()
    ranks = in_two_ranks(both_ranks, tmp_path / "meeting")
    for rank, (found, lonely, number, again, differs, nothing) in enumerate(ranks):
        for name, row in wanted.items():
            for label, value in row.items():
                assert alike(found[name][label], value), (rank, name, label)
                assert alike(lonely[name][label], value), (rank, name, label)
        assert number == ["all_gather_object", *["all_reduce"] * 3, "all_gather_object"], "one, then at most four"
        assert again
        assert "Only rank 0 has: rate of '1' by Rate" in differs
        assert "only rank 1 has: silent share of '1'" in differs
        assert nothing == 0


def test_without_a_process_group_it_says_so():
    with pytest.raises(RuntimeError, match="init_process_group first"):
        monitor.sync(monitor.record(spiking_net(), "rate"))
