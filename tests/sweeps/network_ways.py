"""The ways of running a random network: each gives what came of it, and what should have come of it."""

from __future__ import annotations

import copy
import io
import pickle
import random
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack

import torch
from network_runs import Results, draws, gone_through, learns, plainly, seen, spiking, stepped, weighed
from random_networks import Case, Twice, has_single_steps
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from spikescope import functional, layer, monitor, neuron, open_recording

Way = Callable[[Case, random.Random], tuple[Results, Results]]


def averages(net: nn.Module) -> bool:
    """Whether a normalisation reads the number of its batches, which PyTorch compiles with a break alone."""
    return any(getattr(module, "momentum", 0.0) is None for module in net.modules())


def compiled(backend: str) -> Way:
    def way(case: Case, rng: random.Random) -> tuple[Results, Results]:
        watched = rng.random() < 0.4 and spiking(case.net)
        options = {
            "backend": backend,
            "fullgraph": rng.random() < 0.7 and not averages(case.net),
            "dynamic": rng.choice((None, None, True)),
        }
        inside = not case.single and rng.random() < 0.3  # the reset is part of what is compiled
        both, choice = [], rng.random()
        for make in (lambda f: f, lambda f: torch.compile(f, **options)):
            torch.compiler.reset()
            net = stepped(case)
            with ExitStack() as stack:
                read = seen(net, random.Random(choice), stack, case.single) if watched else dict
                if inside:

                    def run(x: Tensor, net: nn.Module = net) -> Tensor:
                        functional.reset_net(net)
                        return net(x)

                    found = gone_through(case, net, make(run))
                else:
                    found = gone_through(case, net, make(net))
                both.append(found | read())
        return both[1], both[0]

    return way


def monitored(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """With monitors and without; what they see is that of the eager loop."""
    if not spiking(case.net):
        return {}, {}
    want = plainly(case)
    found, choice = [], rng.random()
    for backend in ("auto", "torch"):
        net = stepped(case)
        if backend == "torch":
            functional.set_backend(net, "torch")
        with ExitStack() as stack:
            read = seen(net, random.Random(choice), stack, case.single)
            got = gone_through(case, net, net)
            found.append((got, read()))
    return found[0][0] | found[0][1], want | found[1][1]


def eager_loop(case: Case, rng: random.Random) -> tuple[Results, Results]:
    net = stepped(case)
    functional.set_backend(net, "torch")
    return plainly(case), gone_through(case, net, net)


def single_steps(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """Cut into single steps and whole: not where it draws, normalises over time, or takes turns at one state."""
    over_time = case.training and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in case.net.modules())
    if (
        over_time
        or any(isinstance(m, Twice) for m in case.net.modules())
        or not has_single_steps(case.net)
        or draws(case.net, case.calls[0].x)
    ):
        return {}, {}
    # MaskedPSN keeps its inputs from one single step to the next, and of a whole sequence nothing
    apart = {path for path, module in case.net.named_modules() if isinstance(module, neuron.MaskedPSN)}
    unlike = lambda name: "v_seq" in name or any(f"'{path}." in name for path in apart)  # noqa: E731
    both = [plainly(case._replace(single=single)) for single in (True, False)]
    cut, whole = ({name: held for name, held in found.items() if not unlike(name)} for found in both)
    return cut, whole


def copied(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """A copy in mid-sequence goes on as the network itself."""
    how = rng.choice(("deepcopy", "pickle", "torch.save", "state"))
    net = stepped(case)
    *before, last = case.calls
    for number, call in enumerate(before):
        if call.between == "reset":
            functional.reset_net(net)
        torch.manual_seed(number)
        with torch.no_grad():
            [net(step) for step in call.x] if case.single else net(call.x)
    functional.detach_net(net)
    if how == "deepcopy":
        twin = copy.deepcopy(net)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(net))
    elif how == "torch.save":
        held = io.BytesIO()
        torch.save(net, held)
        twin = torch.load(io.BytesIO(held.getvalue()), weights_only=False)
    else:
        twin = stepped(case)
        twin.load_state_dict(net.state_dict())
        functional.set_state(twin, functional.get_state(net))
    if last.between == "reset":
        functional.reset_net(twin)
        functional.reset_net(net)
    rest = case._replace(calls=[last._replace(between="")])
    return gone_through(rest, twin, twin), gone_through(rest, net, net)


def segmented(case: Case, rng: random.Random) -> tuple[Results, Results]:
    net = stepped(case)
    inner = list(net)
    if inner and rng.random() < 0.5:  # a segment each

        def run(x: Tensor) -> Tensor:
            for module in net:
                x = functional.checkpoint(module, x)
            return x
    else:
        run = lambda x: functional.checkpoint(net, x)  # noqa: E731
    return gone_through(case, net, run), plainly(case)


def torch_segmented(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """PyTorch's own checkpoints around a function that resets; alone they are right, or refused in words."""
    if not learns(case):
        return {}, {}
    reentrant, resets = rng.random() < 0.5, rng.random() < 0.7 and not case.single
    both = []
    for plain in (False, True):
        net = stepped(case)

        def function(x: Tensor, net: nn.Module = net) -> Tensor:
            if resets:
                functional.reset_net(net)
            return net(x)

        run = function if plain else lambda x, f=function: torch_checkpoint(f, x, use_reentrant=reentrant)
        found = gone_through(case, net, run)
        found = {k: v for k, v in found.items() if not k.startswith("buffer")}  # a norm counts twice, as PyTorch's do
        both.append(found)
    return both[0], both[1]


def leaner(case: Case, rng: random.Random) -> tuple[Results, Results]:
    net = functional.lean(stepped(case))
    return gone_through(case, net, net), plainly(case)


def streamed(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """Single steps in a closed loop."""
    if not case.single:
        return {}, {}
    found = []
    for how in (True, False):
        net = stepped(case)
        run = functional.stream(net).step if how else net
        with torch.no_grad():
            found.append({k: v for k, v in gone_through(case, net, run).items() if "gradient" not in k})
    return found[0], found[1]


def recorded(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """What lies on disk is what monitors in memory hold."""
    if not any(isinstance(module, neuron.PointwiseNeuron) for module in case.net.modules()):
        return {}, {}
    till = next((i for i, call in enumerate(case.calls) if call.between == "reset"), len(case.calls))
    case = case._replace(calls=case.calls[:till])  # a backward pass a run
    net, signals = stepped(case), ["spike", "v", "output", "input", "grad_output"]
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = monitor.OutputMonitor, monitor.InputMonitor, monitor.GradOutputMonitor
        held = {name: make(net, neuron.PointwiseNeuron) for name, make in zip(signals[2:], made, strict=True)}
        held["spike"] = held["output"]
        with ExitStack() as stack:
            stack.enter_context(
                monitor.record(net, dict.fromkeys(signals, neuron.PointwiseNeuron), to=f"{place}/run.spk")
            )
            for one in held.values():
                stack.enter_context(one)
            gone_through(case, net, net)
        read = open_recording(f"{place}/run.spk")
        got, want = {}, {}
        for name, one in held.items():
            for path in dict.fromkeys(one.monitored_layers):
                values = one[path][::-1] if name == "grad_output" else one[path]
                if values and (name != "grad_output" or len(values) == len(held["output"][path])):
                    want[f"{name} {path}"] = torch.cat([value.detach().flatten() for value in values])
                    blocks = [block.values for block in read[path][name].blocks()]
                    dense = [torch.as_tensor(b.dense() if hasattr(b, "dense") else b).flatten() for b in blocks]
                    got[f"{name} {path}"] = torch.cat(dense)
    return got, want


def unused(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """Gradients of single steps, of which the loss sees some, against those of a sequence; on disk and in memory."""
    x = case.calls[0].x
    chosen = sorted(rng.sample(range(len(x)), rng.randint(1, len(x))))
    # calls in another order, all steps as samples, and a first output without a graph, whose gradient is not known
    others = (Twice, layer.StepModeContainer, neuron.ResonateAndFireNode)
    if any(isinstance(module, others) for module in case.net.modules()):
        return {}, {}
    if not has_single_steps(case.net) or not learns(case) or draws(case.net, x) or not spiking(case.net):
        return {}, {}
    both = []
    for single in (True, False):
        net = stepped(case._replace(single=single)).eval()  # a normalisation would see other batches
        with tempfile.TemporaryDirectory() as place:
            with (
                monitor.record(net, ["gradient norm", "raw"], neuron.Neuron, signal="grad_output") as held,
                monitor.record(net, "grad_output", neuron.Neuron, to=f"{place}/run.spk"),
            ):
                leaf = x.clone().requires_grad_()
                y = [net(step) for step in leaf] if single else net(leaf)
                loss = sum(weighed(y[i], i) for i in chosen)
                if not (isinstance(loss, Tensor) and loss.requires_grad):
                    return {}, {}
                loss.backward()
            disk = open_recording(f"{place}/run.spk")
            rows = {name: row["grad_output"] for name, row in disk.items() if row["grad_output"].runs}
            found: Results = {f"disk of {name}": row.read(0).clone() for name, row in rows.items()}
        found |= {f"{label} of {name}": value.to(x) for name, row in held.items() for label, value in row.items()}
        both.append(found)
    steps, whole = both
    whole = {name: held for name, held in whole.items() if name in steps or held.any()}  # where nothing came at all
    return steps, whole


def transformed(case: Case, rng: random.Random) -> tuple[Results, Results]:
    """Gradients of each sample by vmap and grad, against a loop over the samples, which would draw otherwise."""
    net, x = stepped(case._replace(single=False)).eval(), case.calls[0].x
    if not learns(case) or draws(net, x):
        return {}, {}
    weights = {name: p.detach() for name, p in net.named_parameters()}
    held = dict(net.named_buffers())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        functional.reset_net(net)
        return weighed(functional_call(net, (weights, held), (x.unsqueeze(1),)), 3)

    of_weights, of_x = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 1))(weights, x)
    rows = []
    for sample in x.unbind(1):
        net.zero_grad()
        functional.reset_net(net)
        leaf = sample.clone().requires_grad_()
        weighed(net(leaf.unsqueeze(1)), 3).backward()
        leaves = {"x": leaf} | dict(net.named_parameters())
        rows.append({name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in leaves.items()})
    got = {f"gradient of {name}": value for name, value in ({"x": of_x} | of_weights).items()}
    return got, {f"gradient of {name}": torch.stack([row[name] for row in rows]) for name in rows[0]}


def exported(case: Case, rng: random.Random) -> tuple[Results, Results]:
    net, x = stepped(case).eval(), case.calls[0].x
    x = x[0] if case.single else x
    if draws(net, x):
        return {}, {}
    with torch.no_grad():
        program = torch.export.export(stepped(case).eval(), (x,), strict=rng.random() < 0.5).module()
        got, want = {"output": program(x), "again": program(2 * x)}, {"output": net(x)}
        functional.reset_net(net)
        return got, want | {"again": net(2 * x)}


WAYS: dict[str, Way] = {
    "eager": compiled("eager"),
    "aot_eager": compiled("aot_eager"),
    "inductor": compiled("inductor"),
    "monitored": monitored,
    "loop": eager_loop,
    "steps": single_steps,
    "copied": copied,
    "segmented": segmented,
    "torch_segmented": torch_segmented,
    "lean": leaner,
    "stream": streamed,
    "recorded": recorded,
    "unused": unused,
    "transformed": transformed,
    "exported": exported,
}
