"""What the tests of a GPU share: a run with all that it gives, by a kernel and by the eager loop on one device."""

import os
from copy import deepcopy

import torch
from dynamics_cases import NEURONS, assert_equal, inputs, make, unround

from spikescope import neuron

SMALL = os.environ.get("SPIKESCOPE_REHEARSE") == "1"
EVERY = [neuron.LIFNode, neuron.AdaptiveLIFNode] if SMALL else NEURONS
DTYPES = [torch.float32] if SMALL else [torch.float32, torch.bfloat16, torch.float16]
VECTORS, ODD = (32, 13) if SMALL else (4096, 411)  # neurons: accesses of whole vectors, and none of them whole
GRADIENT = 1e-4  # relative: functions such as exp round otherwise, and sums come in another order


def result(node, x_seq, calls):
    """Outputs, potentials and last state of calls that go on from one another; the gradients of all that has one."""
    torch.manual_seed(1)  # of the noise, for a neuron that has it
    node.reset()
    x_seq = x_seq.detach().requires_grad_()
    outputs, potentials = [], []
    for _ in range(calls):
        outputs.append(node(x_seq))
        potentials += [node.v_seq] if node.store_v_seq else []
    state = {name: getattr(node, name) for name in type(node).State._fields}
    forward = {"output": torch.stack(outputs), **state} | ({"v_seq": torch.cat(potentials)} if potentials else {})
    weights = [inputs(*held.shape, seed=31 + i).to(held) for i, held in enumerate(forward.values())]
    loss = sum((held * weight).double().sum() for held, weight in zip(forward.values(), weights, strict=True))
    wanted = {"x": x_seq} | dict(node.named_parameters())
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return {name: held.detach() for name, held in forward.items()}, dict(zip(wanted, found, strict=True))


def both(cls, x_seq, learned=False, **options):
    """The results on the eager loop and as `'auto'` runs it, and whether that was a kernel with the very same bits."""
    results, exact, calls = [], False, 1 if "T" in cls.example else 2  # some neurons run so many steps and no more
    for backend in ("torch", "triton" if SMALL else "auto"):
        node = make(cls, backend, **deepcopy(options))
        if learned:
            unround(node, None if "inplane" in cls.arguments.parameters else ())
        node = node.to(x_seq.device)
        exact = SMALL or node.implementation(x_seq).backend == "triton"
        results.append(result(node, x_seq, calls))
    return results, exact


def compare(cls, x_seq, learned=False, **options):
    """Spikes, states and potentials bit for bit, gradients within rounding; gives whether a kernel ran."""
    ((want, want_gradients), (got, got_gradients)), ran = both(cls, x_seq, learned, **options)
    for name, held in want.items():
        assert_equal(got[name].cpu(), held.cpu(), f"{cls.__name__}: {name}")
    for name, held in want_gradients.items():
        wanted, found = held.double(), got_gradients[name].double()
        assert torch.equal(wanted.isfinite(), found.isfinite()), f"{cls.__name__}: the gradient of {name} is not finite"
        wanted, found = (each.nan_to_num(0, 0, 0) for each in (wanted, found))
        off = ((found - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()
        allowed = max(GRADIENT, 4 * torch.finfo(held.dtype).eps)
        assert off <= allowed, f"{cls.__name__}: the gradient of {name} is off by {off:.1e}"
    return ran
