"""Many processes: in shards, on replicas, with one that dies, and started anew."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fresh
from ranks import in_two_ranks
from spikescope import functional, layer, monitor, neuron
from spikescope.train import shard

X = torch.rand(4, 6, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(layer.Conv2d(1, 4, 3, padding=1), neuron.ParametricLIFNode(v_threshold=0.2)),
        nn.Sequential(layer.Conv2d(4, 4, 3, padding=1), neuron.LIFNode(v_threshold=0.1)),
        layer.Flatten(),
        layer.Linear(256, 3),
    )
    functional.set_step_mode(net, "m")
    return net


def train(net, x, rounds=2):
    """The gradients of each round, where what one leaves is added to, and the counts of each neuron."""
    gradients = []
    with monitor.record(net, "count") as seen:
        for _ in range(rounds):
            functional.reset_net(net)
            net(x).square().mean().backward()
            held = [p.grad for p in net.parameters()]
            gradients.append([(g.full_tensor() if hasattr(g, "full_tensor") else g).clone() for g in held])
        functional.detach_net(net)
    return gradients, seen


def in_shards(rank):
    net = network()
    keys = list(net.state_dict())
    shard(net, [net[0], net[1]])
    assert list(net.state_dict()) == keys
    assert functional.lean(net) is net
    gradients, seen = train(net, X[:, 3 * rank : 3 * rank + 3])
    counts = {name: float(row.sum()) for name, row in monitor.sync(seen).items()}
    sharded = sum(hasattr(p, "full_tensor") for p in net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.step()
    return [[g.tolist() for g in held] for held in gradients], counts, sharded, net[0][1].w.item()


def test_in_shards_two_processes_train_as_one(tmp_path):
    net = network()
    gradients, seen = train(net, X)
    counts = {name: float(row.sum()) for name, row in seen.items()}
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    for found, counted, sharded, w in in_two_ranks(in_shards, tmp_path / "meeting"):
        assert counted == counts
        assert sharded == len(list(net.parameters())) - 1, "all but the single number"
        for one, other in zip(found, gradients, strict=True):
            for a, b in zip(one, other, strict=True):
                torch.testing.assert_close(torch.tensor(a), b, rtol=1e-5, atol=1e-6)
        assert w == pytest.approx(net[0][1].w.item(), abs=1e-6)
        assert gradients[0][2].item() != 0, "the single number learns"


def replicas(net, number):
    """What `torch.nn.parallel.replicate` makes, which needs GPUs: modules that share all but tensors and children."""
    modules = list(net.modules())
    places = {module: i for i, module in enumerate(modules)}
    made = []
    for _ in range(number):
        copies = [module._replicate_for_data_parallel() for module in modules]
        for module, twin in zip(modules, copies, strict=True):
            for name, child in module._modules.items():
                setattr(twin, name, copies[places[child]])
            for name, held in module._parameters.items():
                if held is not None:
                    setattr(twin, name, held.view_as(held))
            twin._buffers = dict(module._buffers)
        made.append(copies[0])
    return made


def test_replicas_have_states_of_their_own_and_a_monitor_counts_them_all():
    whole, net = network(), network()
    with monitor.record(whole, "count") as wanted:
        expected = whole(X)
        expected.square().mean().backward()
    found = [None, None]
    with monitor.record(net, "count") as seen, monitor.OutputMonitor(net, neuron.Neuron) as outputs:

        def run(i, twin):
            found[i] = twin(X[:, 3 * i : 3 * i + 3])

        threads = [threading.Thread(target=run, args=held) for held in enumerate(replicas(net, 2))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cat(found, 1).square().mean().backward()
    torch.testing.assert_close(torch.cat(found, 1), expected)
    assert net[0][1].v == 0.0, "the replicas have taken the state, not the network"
    for name in ("0.1", "1.1"):
        assert seen[name].sum() == wanted[name].sum()
        assert len(outputs[name]) == 2
    for a, b in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def arrays(place):
    generator = np.random.default_rng(0)
    y = np.arange(60) % 4
    x = generator.random((60, 1, 8, 8), dtype=np.float32) * 0.2
    x[np.arange(60), 0, y] += 0.8
    np.savez(place / "data.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


def dying(num_classes=4):
    """A network that draws, and whose second process dies once, in the second epoch."""
    net = nn.Sequential(
        layer.Flatten(),
        layer.Linear(64, 16),
        neuron.NoisyLIFNode(
            **{**neuron.NoisyLIFNode.example, "generator": torch.Generator().manual_seed(int(os.environ["RANK"]))}
        ),
        layer.Linear(16, num_classes),
    )
    calls = 0

    def die(module, args):
        nonlocal calls
        calls += module.training
        flag = Path(os.environ["DIES"])
        if calls == 4 and os.environ["RANK"] == "1" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    net.register_forward_pre_hook(die)
    return net


def torchrun(place, name, restarts):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command += ["-m", "spikescope", "train", "--model", "test_processes:dying", "--data", "npz"]
    command += ["--root", str(place / "data.npz"), "-T", "2", "--epochs", "3", "-b", "10", "--device", "cpu", "--quiet"]
    command += ["--save-every", "1", "--out", str(place / name)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "DIES": str(place / "died"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(not os.environ.get("SPIKESCOPE_TEST_ALL"), reason="takes a minute and more: make test-all")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_started_anew_by_torchrun_a_training_ends_as_if_nothing_had_happened(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    arrays(tmp_path)
    restarted = torchrun(tmp_path, "restarted", 3)
    assert restarted.returncode == 0, restarted.stderr[-3000:]
    assert (tmp_path / "died").exists()
    whole = torchrun(tmp_path, "whole", 0)
    assert whole.returncode == 0, whole.stderr[-3000:]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("restarted", "whole"))
    assert all(torch.equal(held, other[name]) for name, held in one.items())
    rows = [
        [json.loads(line)["test_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("restarted", "whole")
    ]
    assert rows[0] == rows[1]


def lonely(place, rank):
    """The second process goes away; what the first says, and after how many seconds."""
    from spikescope.train import joined_ranks

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(place)}
    start = time.monotonic()
    with joined_ranks("cpu", patience=30) as ranks:
        ranks.total(torch.ones(1))
        if rank == 1:
            os._exit(3)
        start = time.monotonic()
        ranks.total(torch.ones(1))
    raise AssertionError(f"heard nothing for {time.monotonic() - start} s")


def test_when_a_process_dies_the_other_ends_in_words(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    folders = [str(Path(__file__).parent), *sys.path]
    code = f"import sys; sys.path[:0] = {folders}; import test_processes as own; own.lonely(*map(int, sys.argv[1:]))"
    both = fresh.run_at_once(*(["-c", code, port, rank] for rank in (0, 1)))
    words = [done.stderr for done in both]
    assert both[1].returncode == 3
    assert "Process 0 of 2 has lost another one" in words[0], words[0]
    assert "--resume DIR" in words[0]
