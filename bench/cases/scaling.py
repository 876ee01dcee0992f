"""Training in several processes: against as many that know nothing of each other, and against one with all samples.

Each process has a core (or a GPU) and trains blocks of Conv2d-BatchNorm2d-LIF on samples of its own, with the
statistics of its own batch. In every round they take a step apart and a step in DistributedDataParallel; what that
takes longer is what the sums of gradients cost. Bytes are counted where they are handed to the process group.
"""

from __future__ import annotations

import json
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from spikescope import functional, layer, monitor, neuron
from spikescope.train import shard

from ..harness import Agreement, Options, Row, subprocess_json, versus

__all__ = ["rows", "together"]

CLOSE = 1e-5  # relative difference of gradients: sums in another order
BETWEEN = 500  # steps from one sync of a recording to the next


def rows(options: Options) -> Iterator[Row]:
    """Two processes on two cores, with gloo."""
    if (os.cpu_count() or 1) < 2:
        yield Row("scaling", "conv SNN", "step of two processes", "ms", None, note="needs two cores")
        return
    channels, batch, rounds = options.size(64, 8), options.size(8, 2), options.size(25, 3)
    found = subprocess_json("bench.cases.scaling", *map(str, (2, channels, batch, rounds)))
    case = f"3 x conv {channels}, T=4, 16x16, {batch} samples a process"
    off = found["gradients"]
    alike = Agreement(off <= CLOSE, f"gradients differ by {off:.0e}")
    counts = Agreement(found["counts"], "counts equal" if found["counts"] else "other counts")
    times = {"ours": found["together"], "2 independent processes": found["apart"]}
    note = "the ratio is the efficiency, of which .9 are wanted"
    yield from versus("scaling", case, "step in DDP", "ms", times, {"2 independent processes": alike}, note)
    times = {"ours": found["together"], "1 process, all samples": found["alone"]}
    yield from versus("scaling", case, "step in DDP", "ms", times, {"1 process, all samples": alike})
    sent = {"ours": found["watching"] / BETWEEN / 1e3, "gradients": found["sent"] / 1e3}
    note = f"rate and silent share by monitor.sync every {BETWEEN} steps: {found['watching'] / 1e3:.1f} kB; "
    note += f"{100 * sent['ours'] / sent['gradients']:.3f} % of the gradients, of which 1 are allowed"
    yield from versus("scaling", case, "sent by a process in a step, monitors", "kB", sent, {"gradients": counts}, note)


def together(ranks: int, device: str, *sizes: int) -> dict[str, Any]:
    """What `ranks` processes have found, the slowest of them where they differ; each has a GPU if `device` is cuda."""
    with tempfile.TemporaryDirectory() as place:
        multiprocessing.spawn(_rank, (ranks, device, place, *sizes), nprocs=ranks)
        found: dict[str, Any] = json.loads((Path(place) / "found.json").read_text())
        return found


def _rank(rank: int, ranks: int, kind: str, place: str, channels: int, batch: int, rounds: int) -> None:
    torch.set_num_threads(1)
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    distributed.init_process_group(backend, f"file://{place}/meeting", world_size=ranks, rank=rank)
    torch.manual_seed(1)
    x = torch.rand(4, ranks * batch, 3, 16, 16, device=device)
    own = x[:, rank * batch : (rank + 1) * batch].contiguous()
    found = {**_agreement(channels, own, device), **_bytes(channels, own, device)}
    single, joined = _network(channels, device), _joined(channels, device)
    taken: dict[str, list[float]] = {"apart": [], "together": [], "alone": []}
    for _ in range(rounds + 2):
        for name, net, samples in (("apart", single, own), ("together", joined, own), ("alone", single, x)):
            distributed.barrier()
            if name != "alone" or rank == 0:
                taken[name].append(_seconds(net, samples))
    distributed.barrier()
    own_times = [statistics.median(taken[name][2:]) if taken[name] else 0.0 for name in taken]
    times = torch.tensor(own_times, device=device)
    distributed.all_reduce(times, distributed.ReduceOp.MAX)
    found |= dict(zip(taken, [1e3 * held for held in times.tolist()], strict=True))
    if rank == 0:
        (Path(place) / "found.json").write_text(json.dumps(found))
    distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # DDP keeps the group beyond its end, and a thread of that may abort an interpreter that shuts down


def _network(channels: int, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for block in range(3):
        parts += [layer.Conv2d(channels if block else 3, channels, 3, padding=1, bias=False)]
        parts += [layer.BatchNorm2d(channels), neuron.LIFNode()]
    net = nn.Sequential(*parts, layer.AdaptiveAvgPool2d(4), layer.Flatten(), layer.Linear(16 * channels, 10))
    functional.set_step_mode(net, "m")
    return net.to(device)


def _joined(channels: int, device: torch.device) -> DistributedDataParallel:
    return DistributedDataParallel(_network(channels, device), [device] if device.type == "cuda" else None)


def _step(net: nn.Module, x: Tensor) -> None:
    functional.reset_net(net)
    net.zero_grad(set_to_none=True)
    net(x).mean(0).square().mean().backward()


def _seconds(net: nn.Module, x: Tensor) -> float:
    begin = time.perf_counter()
    _step(net, x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _agreement(channels: int, x: Tensor, device: torch.device) -> dict[str, Any]:
    """How far gradients in DDP and in shards are from the mean of those apart, and whether the counts are the sums."""
    single, joined, sharded = _network(channels, device), _joined(channels, device), _network(channels, device)
    wanted, counted = _watched(single, x)
    for held in (*wanted, *counted):
        distributed.all_reduce(held)
    wanted = [held / distributed.get_world_size() for held in wanted]
    options = {}
    if device.type == "cpu":
        options = {"mesh": distributed.init_device_mesh("cpu", (distributed.get_world_size(),))}
    shard(sharded, **options)
    found: dict[str, Any] = {"counts": True}
    for name, net in (("gradients", joined), ("gradients in shards", sharded)):
        grads, counts = _watched(net, x, everywhere=True)
        found[name] = _off(grads, wanted)
        found["counts"] &= all(torch.equal(a, b) for a, b in zip(counts, counted, strict=True))
    return found


def _off(grads: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative difference; it is no number where one of them is none."""
    return float(torch.stack([(a - b).norm() / b.norm() for a, b in zip(grads, wanted, strict=True)]).max())


def _watched(net: nn.Module, x: Tensor, everywhere: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of a step, and the counts of spikes, of all processes where these are asked for."""
    with monitor.record(net, "count") as seen:
        _step(net, x)
    results = monitor.sync(seen) if everywhere else seen
    held = [p.grad for p in net.parameters()]
    gradients = [g.full_tensor() if hasattr(g, "full_tensor") else g.clone() for g in held if g is not None]
    return gradients, [torch.as_tensor(row).to(x.device, torch.float64) for row in results.values()]


def _bytes(channels: int, x: Tensor, device: torch.device) -> dict[str, Any]:
    """Bytes that a process hands to the group for the gradients of a step, and for the sync of a recording."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    net, sent = _joined(channels, device), [0]

    def counted(group: Any, bucket: Any) -> Any:
        sent[0] += bucket.buffer().nbytes
        return allreduce_hook(group, bucket)

    counted.__annotations__.clear()  # PyTorch takes the class itself or none, not its name
    net.register_comm_hook(None, counted)
    with monitor.record(net, ["rate", "silent share"]) as seen:
        _step(net, x)
    with _counting() as handed:
        monitor.sync(seen)
    return {"sent": sent[0], "watching": sum(handed)}


@contextmanager
def _counting() -> Iterator[list[int]]:
    """The bytes of all that is handed to the group in the block."""
    handed: list[int] = []

    def watched(collective: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            handed.append(size(*args))
            return collective(*args, **kwargs)

        return call

    reduce = watched(distributed.all_reduce, lambda x, *others: x.nbytes)
    gather = watched(distributed.all_gather_object, lambda out, held, *others: len(pickle.dumps(held)))
    with (
        mock.patch.object(distributed, "all_reduce", reduce),
        mock.patch.object(distributed, "all_gather_object", gather),
    ):
        yield handed


if __name__ == "__main__":
    ranks, *sizes = map(int, sys.argv[1:])
    print(json.dumps(together(ranks, "cpu", *sizes)))
