"""What the registry tests share: the neurons, how to make one, and inputs that make it fire."""

from functools import cache

import torch
from torch import Tensor

from spikescope.neuron import PointwiseNeuron, registry
from spikescope.neuron.parallel import ParallelNeuron
from spikescope.neuron.readout import ReadOut

NEURONS = sorted(  # those that take a sequence; what is for single steps alone has tests of its own
    (c for c in registry.values() if c.__module__.startswith("spikescope.") and "m" in c.supported_step_modes),
    key=lambda cls: cls.__name__,
)
POINTWISE = [cls for cls in NEURONS if issubclass(cls, PointwiseNeuron)]
BOTH_MODES = [cls for cls in NEURONS if {"s", "m"} <= set(cls.supported_step_modes)]
WHOLE = [cls for cls in NEURONS if issubclass(cls, ParallelNeuron) and "T" in cls.fields]  # all T steps or none
ANY_LENGTH = [cls for cls in NEURONS if cls not in WHOLE]
READOUTS = [cls for cls in NEURONS if issubclass(cls, ReadOut)]


def make(cls, **fields):
    """A neuron of the class on the reference backend; the same one at every call, its random weights included."""
    torch.manual_seed(11)
    reference = {"backend": "torch"} if "torch" in getattr(cls, "supported_backends", ()) else {}
    return cls(**cls.example | reference | fields)


def steps(cls, wanted=7):
    """How many steps to run: those that the neuron was made for, if it was made for a number of steps."""
    return cls.example["T"] if cls in WHOLE else min(wanted, cls.example.get("T", wanted))


@cache
def strength(cls):
    """How strong an input must be for a neuron of this class to fire at some steps and be silent at others."""
    for factor in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        out = make(cls, step_mode="m")(factor * (torch.rand(steps(cls, 20), 64) - 0.1))
        if torch.equal(out, out.round()) and len(out.unique()) > 1:
            return factor
    return 4.0  # the output is no spikes


def sequence(cls, *shape, dtype=torch.float32, length=7):
    """A random input [T, *shape], with values of both signs."""
    factor = strength(cls)
    torch.manual_seed(5)
    return (factor * (torch.rand(steps(cls, length), *(shape or (3, 5))) - 0.1)).to(dtype)


def step_by_step(node, x_seq):
    """The result of single steps, as the multi-step call would give it."""
    node.step_mode = "s"
    outputs = [node(x) for x in x_seq]
    return outputs[-1] if isinstance(node, ReadOut) else torch.stack(outputs)


def joined(node, parts):
    """The result of consecutive multi-step calls, as one call would give it."""
    return parts[-1] if isinstance(node, ReadOut) else torch.cat(parts)


def one_sample(node, out, n):
    """The part of a result that belongs to sample `n`."""
    return out[n] if isinstance(node, ReadOut) else out[:, n]


def tensors(node):
    """The state of a node as tensors, by name."""
    return {name: held for name, held in node.named_memories() if isinstance(held, Tensor)}


def assert_same_state(got, want):
    got, want = tensors(got), tensors(want)
    assert got.keys() == want.keys()
    for name, held in want.items():
        torch.testing.assert_close(got[name], held, rtol=0, atol=0, msg=lambda m, name=name: f"{name}: {m}")
