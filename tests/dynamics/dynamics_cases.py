"""What the tests of the kernels share: neurons with learnable fields, a run with all its gradients, and tolerances."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikescope.dynamics.graphs.program import program
from spikescope.neuron import PointwiseNeuron, registry
from spikescope.neuron.readout import ReadOut
from spikescope.surrogate import registry as surrogates

NEURONS = sorted(
    (
        cls
        for cls in registry.values()
        if issubclass(cls, PointwiseNeuron)
        and cls.__module__.startswith("spikescope.")
        and "m" in cls.supported_step_modes
    ),
    key=lambda cls: cls.__name__,
)
SURROGATES = sorted((cls for cls in surrogates.values() if cls.pointwise), key=lambda cls: cls.__name__)

TOLERANCE = 256
"""Of the largest value of a tensor, in units of the rounding of its dtype.

Where a function (exp, tanh, a sum in another order) rounds otherwise than in PyTorch, a factor of one step is off by a
few units; a gradient is a sum over the steps of products of such factors, at most a few dozen operations a step over
the few steps by which a reset lets a gradient come back.
"""


class Result(NamedTuple):
    """Everything that a run gives: forwards and backwards."""

    forward: dict[str, Tensor]
    gradients: dict[str, Tensor]


def unround(node: Any, shape: tuple[int, ...] | None) -> None:
    """Turn all numbers of the equations into Parameters of the shape (None: as they are), with values not round."""
    for part in (node, *(getattr(node, name) for name in type(node).parts)):
        if isinstance(part, PointwiseNeuron) or type(part).has_primitive():
            for name in type(part).dynamic:
                held = getattr(part, name)
                if held is not None:
                    start = torch.as_tensor(held).detach() * 1.0137 + 0.0173
                    setattr(part, name, nn.Parameter(start.expand(start.shape if shape is None else shape).clone()))


def make(cls: type[Any], backend: str, fields: dict[str, Any] | None = None, **options: Any) -> Any:
    """A neuron on one backend; the same one at every call."""
    return cls(**cls.example | (fields or {}), step_mode="m", backend=backend, **options)


def inputs(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 3) -> Tensor:
    """A random input with values of both signs, so strong that neurons fire at some steps and not at others."""
    generator = torch.Generator().manual_seed(seed)
    return (2.3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.41).to(dtype)


def start(node: Any, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Give the node a random state that requires a gradient."""
    real = torch.float64 if dtype is torch.float64 else torch.float32
    state = []
    for i, name in enumerate(type(node).State._fields):
        held = (inputs(*shape, dtype=real, seed=7 + i) / 5).requires_grad_()
        setattr(node, name, held)
        state.append(held)
    return state


def run(node: Any, x_seq: Tensor, given: bool = False, calls: int = 1) -> Result:
    """Output, state and potentials; and the gradients of a random sum of them by all that could have one.

    `given` starts from a random state. The sequence is cut into `calls` calls, the state going from one to the next.
    """
    torch.manual_seed(1)  # of the noise, for a neuron that has it
    x_seq = x_seq.detach().requires_grad_()
    node.reset()
    state = start(node, x_seq.shape[1:], x_seq.dtype) if given else []
    outputs, potentials = [], []
    for part in torch.tensor_split(x_seq, calls) if calls > 1 else [x_seq]:
        outputs.append(node(part))
        potentials += [node.v_seq] if node.store_v_seq else []
    forward = {"output": torch.stack(outputs) if isinstance(node, ReadOut) else torch.cat(outputs)}
    forward |= {name: getattr(node, name) for name in type(node).State._fields}
    forward |= {"v_seq": torch.cat(potentials)} if potentials else {}
    loss = sum((held.double() * inputs(*held.shape, dtype=torch.float64, seed=31)).sum() for held in forward.values())
    wanted = {"x": x_seq} | {f"start {i}": held for i, held in enumerate(state)} | dict(node.named_parameters())
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return Result({name: held.detach() for name, held in forward.items()}, dict(zip(wanted, found, strict=True)))


def exactness(node: Any, dtype: torch.dtype) -> tuple[bool, bool]:
    """Whether the forward and the backward graph of the node have exact operations only."""
    definition = node._definition(node.params())
    made = program(definition.key)
    real = torch.float64 if dtype is torch.float64 else torch.float32
    forward = made.inexact(real, "triton" if node.backend == "triton" else "cpp") is None
    return forward, forward and made.backward(real, made.differentiable).exact


def assert_equal(got: Tensor, want: Tensor, name: str) -> None:
    """Bit for bit, the sign of zero apart."""
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, msg=lambda text: f"{name}: {text}")


def assert_close(got: Tensor, want: Tensor, name: str, size: Tensor | None = None) -> None:
    """Within the tolerance; `size` is the sum of the magnitudes where the tensor is a sum that may cancel."""
    largest = (want if size is None else size).abs().max().item() if want.numel() else 0.0
    atol = TOLERANCE * torch.finfo(torch.promote_types(want.dtype, torch.float32)).eps * largest
    atol += torch.finfo(want.dtype).eps * largest if want.element_size() < 4 else 0.0
    torch.testing.assert_close(got, want, rtol=0, atol=atol, equal_nan=True, msg=lambda text: f"{name}: {text}")


def assert_same(node: Any, got: Result, want: Result, exact: bool = True) -> None:
    """Two runs of the same neuron on two backends."""
    dtype = want.gradients["x"].dtype
    forward, backward = exactness(node, dtype)
    for name, held in want.forward.items():
        (assert_equal if exact and forward else assert_close)(got.forward[name], held, name)
    sums_alike = "v_seq" not in want.forward  # else autograd adds three gradients of the potential in another order
    for name, held in want.gradients.items():
        same = exact and backward and sums_alike and not name.startswith(("surrogate_function.",)) and name[0] in "xs"
        (assert_equal if same else assert_close)(got.gradients[name], held, f"gradient of {name}")


def parity(
    cls: type[Any],
    x_seq: Tensor,
    shape: tuple[int, ...] | None = None,
    fields: Any = None,
    given: bool = True,
    calls: int = 1,
    backend: str = "cpp",
    **options: Any,
) -> Result:
    """Compare a backend with the eager loop, with Parameters of the shape for fields if there is one."""
    results = []
    for name in ("torch", backend):
        more = fields() if fields else {}
        if "inplane" in cls.arguments.parameters and shape:
            more |= {"inplane": shape}
        node = make(cls, name, more, **options)
        if shape is not None:
            unround(node, shape if "inplane" not in more else None)
        results.append(run(node, x_seq, given, calls))
    assert_same(node, results[1], results[0])
    return results[1]
