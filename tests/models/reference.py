"""What the real package makes of the same networks: writes `reference.json` and `snas_net.json`, or compares with it.

`python tests/models/reference.py --write` or `--compare`, with SpikingJelly 2.0.0 and what it imports on the path.
torchvision, of which it takes one function that downloads, need not be there.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import types
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from model_cases import IN_DOUBLE, REFERENCE, beginnings, exact, input_of, norms, size_of, structure
from snas_cases import CASES, SNAS, told_of

from spikescope import functional, models, neuron
from spikescope.models.table import VARIANTS

STORED = Path(__file__).with_name("reference.json")
NEEDS_NEURON = ("sew_resnet", "spiking_resnet", "spiking_vgg", "parametric_lif_net")


class _Absent(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _WithoutTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Absent(spec.name)

    def exec_module(self, module):
        module.__path__ = []


def theirs(name):
    """The function of the real package, or None."""
    home = importlib.import_module(f"spikingjelly.activation_based.model.{VARIANTS[name].family}")
    return getattr(home, name, None)


def options(name, neurons, given):
    """The arguments of a network in one of the two packages."""
    made = {key: held for key, held in given.items() if key != "neuron"}
    if VARIANTS[name].family in NEEDS_NEURON:
        made["spiking_neuron"] = getattr(neurons, given.get("neuron", "IFNode"))
    if VARIANTS[name].family == "sew_resnet":
        made.setdefault("cnf", "ADD")
    return made


def row(name, neurons):
    """What is kept of a network."""
    with torch.device("meta"):
        net = theirs(name)(**options(name, neurons, {}))
    made = {"parameters": sum(held.numel() for held in net.parameters()), **structure(net)}
    if name in REFERENCE:
        torch.manual_seed(0)
        net = theirs(name)(**options(name, neurons, REFERENCE[name]))
        made["beginnings"] = beginnings(net)
        made["norms"] = norms(net)
        made["outputs"] = outputs(exact(net), name, importlib.import_module("spikingjelly.activation_based.functional"))
    return made


def outputs(net, name, package):
    """The outputs for what `input_of` gives."""
    package.set_step_mode(net, "m")
    dtype = torch.float64 if VARIANTS[name].family in IN_DOUBLE else torch.float32
    with torch.no_grad():
        return net.to(dtype)(input_of(name, REFERENCE[name]).to(dtype)).tolist()


def compare(name, neurons, package):
    """Outputs, losses and gradients in training with equal seeds, on this machine, bit for bit."""
    given = REFERENCE[name]
    shape = (given.get("T", 2), 2, VARIANTS[name].image[0], *size_of(VARIANTS[name]))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    results = []
    for build, kinds, functions in ((theirs(name), neurons, package), (getattr(models, name), neuron, functional)):
        torch.manual_seed(0)
        net = build(**options(name, kinds, given))
        functions.set_step_mode(net, "m")
        y = net(3 * x)
        y.square().mean().backward()
        results.append((y.detach(), {key: held.grad for key, held in net.named_parameters()}))
    (y, grads), (our_y, our_grads) = results
    scale = max(held.abs().max() for held in grads.values())
    off = max((held - our_grads[key]).abs().max() / scale for key, held in grads.items())
    same = torch.equal(y, our_y)
    print(f"{name:<26} outputs {'equal' if same else 'DIFFER'}, gradients within {off:.1e} of the largest")
    return same and off < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--compare", action="store_true")
    asked = parser.parse_args()
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, _WithoutTorchvision())
    warnings.simplefilter("ignore")
    neurons = importlib.import_module("spikingjelly.activation_based.neuron")
    package = importlib.import_module("spikingjelly.activation_based.functional")
    if asked.write:
        rows = {name: row(name, neurons) for name in VARIANTS if theirs(name) is not None}
        lines = (f"{json.dumps(name)}: {json.dumps(held)}" for name, held in rows.items())
        STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        home = importlib.import_module("spikingjelly.activation_based.model.snas_net")
        lines = [f"{json.dumps(name)}: {json.dumps(told_of(home.SNASNet, name))}" for name in CASES]
        SNAS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    if asked.compare:
        equal = [compare(name, neurons, package) for name in REFERENCE]
        sys.exit(not all(equal))


if __name__ == "__main__":
    main()
