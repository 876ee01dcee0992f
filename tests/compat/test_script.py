"""`python -m spikescope.compat`: a script sees what it would see under `python`."""

import subprocess
import sys
from pathlib import Path

import pytest

import fresh


def run(*arguments, cwd, flags=()):
    command = [sys.executable, *flags, "-m", "spikescope.compat", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=120)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


SURROUNDINGS = """
import json, sys
import beside  # from the folder of the script, not from where it is started
if __name__ == "__main__":
    main = sys.modules["__main__"]
    json.dump([sys.argv, __file__, sys.path[0], main.__dict__ is globals(), __spec__, beside.here,
               "torch" in sys.modules], sys.stdout)
"""


def test_a_script_has_the_surroundings_that_python_gives(tmp_path):
    script = write(tmp_path / "code" / "show.py", SURROUNDINGS)
    write(tmp_path / "code" / "beside.py", "here = 'beside'\n")
    arguments = ["code/show.py", "--epochs", "3", "-m", "--help"]
    ours = run(*arguments, cwd=tmp_path)
    pythons = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ours.stdout == pythons.stdout != ""
    assert str(script.parent) in ours.stdout
    assert (ours.returncode, ours.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("import sys\nsys.exit(7)", 7, ""),
        ("raise SystemExit('no data')", 1, "no data\n"),
        ("def inner():\n    1 / 0\n\ninner()\n", 1, None),
        ("x = (\n", 1, None),
        ("import missing_package\n", 1, None),
        ("raise KeyboardInterrupt\n", 130, None),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('why') from error\n", 1, None),
    ],
)
def test_exit_status_and_traceback_are_those_of_python(tmp_path, text, status, told):
    write(tmp_path / "fails.py", text)
    ours = run("fails.py", cwd=tmp_path)
    pythons = subprocess.run([sys.executable, "fails.py"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ours.returncode == status
    assert ours.stderr == (pythons.stderr if told is None else told)
    assert told is not None or "fails.py" in ours.stderr


def test_help_and_refusals_come_without_torch(tmp_path):
    shown = run("--help", cwd=tmp_path, flags=("-X", "importtime"))
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: python -m spikescope.compat [-h] [--force] (script.py | -m module)")
    assert "| torch" not in shown.stderr
    for arguments, text in (
        ([], "a script is wanted"),
        (["-m"], "a module is wanted after -m"),
        (["--fast", "x.py"], "there is no option --fast"),
        (["absent.py"], "absent.py cannot be read: no such file or directory"),
    ):
        refused = run(*arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_module_runs_as_with_python_m(tmp_path):
    write(tmp_path / "tool" / "__init__.py", "")
    write(tmp_path / "tool" / "__main__.py", "import sys\nprint(__name__, __package__, sys.argv)\nsys.exit(5)\n")
    ours = run("-m", "tool", "a", "-b", cwd=tmp_path)
    pythons = subprocess.run(
        [sys.executable, "-m", "tool", "a", "-b"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (ours.returncode, ours.stdout) == (pythons.returncode, pythons.stdout)
    assert ours.returncode == 5


PRESENT = """
import pickle, sys
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import encoding, functional, layer, monitor, neuron, surrogate


class Net(nn.Module):
    def __init__(self, T):
        super().__init__()
        self.T = T
        self.body = nn.Sequential(
            layer.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(4),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(4 * 4 * 4, 10, bias=False),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
        )
        functional.set_step_mode(self, step_mode="m")

    def forward(self, x):
        return self.body(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)).mean(0)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = Net(T=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
    watched = monitor.OutputMonitor(net, neuron.LIFNode)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), F.one_hot(y, 10).float())
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    watched.remove_hooks()
    right = (net(x).argmax(1) == y).float().mean().item()
    functional.reset_net(net)
    twin = pickle.loads(pickle.dumps(net))
    encoder = encoding.PoissonEncoder()
    print(len(watched.records), right > 0.5, type(twin).__module__, set(encoder(x).unique().tolist()) <= {0.0, 1.0})


if __name__ == "__main__":
    main()
"""

EARLIER = """
import torch
import torch.nn as nn
from spikingjelly.clock_driven import encoding, functional, layer, neuron, surrogate
from spikingjelly.clock_driven.monitor import Monitor
from spikingjelly.cext import neuron as cext_neuron

torch.manual_seed(0)
torch.set_num_threads(1)
T, N = 6, 5

# single steps, a loop over time
net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False), neuron.LIFNode(tau=2.0))
encoder = encoding.PoissonEncoder()
watcher = Monitor(net, device="cpu", backend="torch")
watcher.enable()
image = torch.rand(N, 1, 4, 4)
counter = 0
for t in range(T):
    counter = counter + net(encoder(image).float() * 3)
watcher.disable()
print(tuple(counter.shape), len(watcher.s["2"]), 0 <= float(watcher.get_avg_firing_rate()) <= 1)
functional.reset_net(net)

# whole sequences
net = nn.Sequential(
    layer.SeqToANNContainer(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)),
    neuron.MultiStepIFNode(surrogate_function=surrogate.ATan(), backend="torch"),
    layer.SeqToANNContainer(nn.AvgPool2d(2, 2), nn.Flatten()),
    layer.MultiStepDropout(0.5),
    layer.SeqToANNContainer(nn.Linear(8, 10)),
    neuron.MultiStepLIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
)
out = net(image.unsqueeze(0).repeat(T, 1, 1, 1, 1))
out.mean().backward()
print(tuple(out.shape), tuple(net[1].v_seq.shape), net[0][0].weight.grad is not None)
functional.reset_net(net)

single = nn.Sequential(nn.Linear(16, 3), neuron.IFNode())
print(tuple(functional.multi_step_forward(torch.rand(T, N, 16), single).shape))
print(tuple(functional.seq_to_ann_forward(torch.rand(T, N, 16), nn.Linear(16, 3)).shape))
print(tuple(cext_neuron.MultiStepLIFNode(tau=3.0, alpha=2.0)(torch.rand(T, N)).shape))
"""


def test_scripts_of_both_interfaces_run_as_they_are(tmp_path):
    done = fresh.run("-m", "spikescope.compat", write(tmp_path / "present.py", PRESENT), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["30", "True", "__main__", "True"]
    done = fresh.run("-m", "spikescope.compat", write(tmp_path / "earlier.py", EARLIER), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (note,) = done.stderr.splitlines()  # of the default that was another in the first age
    assert "surrogate_function is Sigmoid(alpha=4.0) where none is given" in note
    assert done.stdout.splitlines() == [
        "(5, 10) 6 True",
        "(6, 5, 10) (6, 5, 2, 4, 4) True",
        "(6, 5, 3)",
        "(6, 5, 3)",
        "(6, 5)",
    ]


def test_the_package_beside_the_script_is_kept_unless_forced(tmp_path):
    write(tmp_path / "code" / "spikingjelly" / "__init__.py", "name = 'the real one'\n")
    write(tmp_path / "code" / "ask.py", "import spikingjelly\nprint(getattr(spikingjelly, 'name', 'an alias'))\n")
    kept = run("code/ask.py", cwd=tmp_path)
    assert kept.stdout == "the real one\n"
    assert kept.stderr.startswith(f"spikescope.compat: The package spikingjelly is installed ({tmp_path}")
    assert "--force" in kept.stderr
    forced = run("--force", "code/ask.py", cwd=tmp_path)
    assert (forced.stdout, forced.stderr) == ("an alias\n", "")


def test_an_import_of_one_module_is_enough(tmp_path):
    text = (
        "import spikescope.compat.spikingjelly\n"
        "from spikingjelly.activation_based import neuron\n"
        "from spikingjelly.activation_based.neuron import IFNode\n"
        "import spikingjelly.activation_based.functional as functional\n"
        "print(IFNode is neuron.IFNode, functional.reset_net.__module__.startswith('spikescope'))\n"
        "from spikingjelly.activation_based import recurrent\n"
    )
    path = write(tmp_path / "one.py", text)
    done = fresh.run("-c", f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")
    assert done.stdout == "True True\n"
    assert done.returncode == 1
    assert "There is no spikingjelly.activation_based.recurrent among the aliases of spikescope" in done.stderr
    assert Path(path).name in done.stderr
