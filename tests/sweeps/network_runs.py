"""What a random network gives over the calls of its case, and what monitors on it see, as one flat dictionary."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from random_networks import Case
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikescope import functional, monitor, neuron

Results = dict[str, Any]
Run = Callable[[Tensor], Tensor]


def weighed(y: Tensor, seed: int) -> Tensor:
    """A sum of weights that are not drawn, for what draws under `vmap` draws otherwise."""
    weights = torch.arange(y.numel(), dtype=torch.float64).add(seed).mul(1.7).cos().view(y.shape)
    return (y.double() * weights).sum()


def gone_through(case: Case, net: nn.Module, run: Run) -> Results:
    """All calls of the case one after the other, a backward pass at the end, and everything that comes of it."""
    found: Results = {}
    loss, leaves = torch.zeros((), dtype=torch.float64), []
    for number, call in enumerate(case.calls):
        if call.between == "reset":
            functional.reset_net(net)
        elif call.between == "detach":
            functional.detach_net(net)
        x = call.x.clone().requires_grad_()
        torch.manual_seed(number)  # of dropout and noise
        y = torch.stack([run(step) for step in x]) if case.single else run(x)
        leaves.append(x)
        found[f"output {number}"] = y.detach().clone()
        found |= {f"memory {number} {name}": held for name, held in memories(net).items()}
        loss = loss + weighed(y, number)
    if loss.requires_grad:
        loss.backward()
    found |= {f"gradient of x {number}": x.grad for number, x in enumerate(leaves)}
    found |= {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
    found |= {f"buffer {name}": held.clone() for name, held in net.named_buffers()}
    return found


def memories(net: nn.Module) -> Results:
    """The states, and the potentials that are stored, detached."""
    held = {f"{path}.{name}": value for path, row in functional.get_state(net).items() for name, value in row.items()}
    flat = pytree.tree_flatten_with_path(held)[0]
    return {pytree.keystr(path): leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for path, leaf in flat}


def plainly(case: Case) -> Results:
    net = stepped(case)
    return gone_through(case, net, net)


def stepped(case: Case) -> nn.Module:
    net = copy.deepcopy(case.net)
    if case.single:
        functional.set_step_mode(net, "s")
    return net


def seen(net: nn.Module, rng: random.Random, stack: ExitStack, single: bool = False) -> Callable[[], Results]:
    """Monitors on the network, and what they have seen."""
    held = {
        "outputs": lambda: monitor.OutputMonitor(net, neuron.Neuron),
        "inputs": lambda: monitor.InputMonitor(net, neuron.Neuron),
        "gradients": lambda: monitor.GradOutputMonitor(net, neuron.Neuron),
        "input gradients": lambda: monitor.GradInputMonitor(net, neuron.Neuron),
        "reduced": lambda: monitor.record(net, ["rate", "silent share", "count"]),
        "potentials": lambda: monitor.record(net, "moments", neuron.PointwiseNeuron, "v"),
        "squares": lambda: monitor.record(net, "gradient norm", signal="grad_output"),
    }
    if not any(isinstance(module, neuron.PointwiseNeuron) for module in net.modules()):
        del held["potentials"]
    if single:  # in the eager loop an output that depends on nothing has no gradient, but for what is recorded
        held = {name: make for name, make in held.items() if "gradient" not in name}
    held = {name: held[name]() for name in rng.sample(sorted(held), 3)}
    for one in held.values():
        stack.enter_context(one)

    def read() -> Results:
        found: Results = {}
        for name, one in held.items():
            if isinstance(one, monitor.Recording):
                try:
                    found |= {f"{name} {path}": value for path, value in one.to_dict().items()}
                except ValueError as error:  # counts of what is no spike
                    found[name] = str(error)[:40]
            else:
                found |= {f"{name} {path}": list(one[path]) for path in dict.fromkeys(one.monitored_layers)}
        leaves = pytree.tree_flatten_with_path(found)[0]
        return {pytree.keystr(path).replace("_orig_mod.", ""): leaf for path, leaf in leaves}

    return read


def spiking(net: nn.Module) -> bool:
    return any(isinstance(module, neuron.Neuron) for module in net.modules())


def draws(net: nn.Module, x: Tensor) -> bool:
    """Whether a call draws at random."""
    before = torch.get_rng_state()
    copy.deepcopy(net)(x)
    return not torch.equal(before, torch.get_rng_state())


def learns(case: Case) -> bool:
    """Whether the output depends on the input in a graph."""
    x = case.calls[0].x.clone().requires_grad_()
    return bool(stepped(case)(x[0] if case.single else x).requires_grad)
