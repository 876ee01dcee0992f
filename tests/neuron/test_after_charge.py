"""Firing and reset by one kernel, of a neuron that charges by a hook: what the stages give, whatever somebody edits."""

import copy
import pickle
from functools import partial

import pytest
import torch
from neuron_cases import POINTWISE, make, sequence
from torch import nn

from spikescope import functional, surrogate
from spikescope.neuron import IFNode, LIFNode
from spikescope.neuron.stages import StagedNeuron

SURROGATES = [cls for _, cls in sorted(surrogate.registry.items()) if cls.__module__.startswith("spikescope.")]
STAGED = [cls for cls in POINTWISE if issubclass(cls, StagedNeuron)]


def charging(base):
    """A subclass that charges by a hook, as its base does."""

    class Hooked(base, abstract=True):  # in no registry, which tests elsewhere go through
        def neuronal_charge(self, x):
            super().neuronal_charge(x)

    Hooked.abstract = False
    return Hooked


class Charging(LIFNode, abstract=True):
    def neuronal_charge(self, x):
        self.v = self.v + (x - self.v) / self.tau


Charging.abstract = False


def goes_by_kernel(node):
    known = node.__dict__.get("_after_charge")
    return known is not None and known.node is not None and any(known.node._short.runs.values())


def course(node, x_seq, edit=lambda node, step: None):
    """Outputs, last potential and gradient of the input of single steps, between which somebody edits the node."""
    x_seq, outputs = x_seq.clone().requires_grad_(), []
    for step, x in enumerate(x_seq):
        edit(node, step)
        outputs.append(node(x))
    y = torch.stack(outputs)
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)
    learned = list(node.parameters())
    grads = torch.autograd.grad((y * weights).sum() + node.v.square().sum(), [x_seq, *learned])
    return y.detach(), node.v.detach(), grads


def assert_same(got, want):
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    for one, other in zip(got[2], want[2], strict=True):
        torch.testing.assert_close(one, other)


def both(make, x_seq, edit=lambda node, step: None):
    """Check that the kernel and the stages give the same, and return the neuron that had the kernel."""
    fast, slow = make(backend="auto"), make(backend="torch")
    assert_same(course(fast, x_seq, edit), course(slow, x_seq, edit))
    assert not goes_by_kernel(slow)
    return fast


def drive(*shape, dtype=torch.float32):
    torch.manual_seed(3)
    return 3 * torch.rand(7, *(shape or (4, 5)), dtype=dtype) - 0.5


@pytest.mark.parametrize("made", [cls for cls in SURROGATES if cls is not surrogate.PoissonPass])  # which draws
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
def test_every_surrogate_and_reset(made, v_reset):
    fused = IFNode(surrogate_function=made(**made.example)).implementation(drive()[0]).backend == "cpp"

    def charging(**fields):
        return Charging(surrogate_function=made(**made.example), v_reset=v_reset, v_threshold=0.75, **fields)

    for detach_reset in (False, True):
        assert goes_by_kernel(both(partial(charging, detach_reset=detach_reset), drive())) == fused


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_precision(dtype):
    assert goes_by_kernel(both(Charging, drive(dtype=dtype)))


@pytest.mark.parametrize("cls", STAGED)
def test_every_neuron_in_stages(cls):
    hooked, x_seq = charging(cls), sequence(cls)
    for step_mode in ("s", "m"):
        run = both_modes if step_mode == "m" else course
        got, want = run(make(hooked, backend="auto"), x_seq), run(make(cls), x_seq)
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])


def both_modes(node, x_seq):
    node.step_mode = "m"
    with torch.no_grad():
        return node(x_seq), node.v


def test_a_sequence_goes_by_the_kernel_and_records_its_potentials():
    fast, slow = (Charging(backend=backend, step_mode="m", store_v_seq=True) for backend in ("auto", "torch"))
    assert torch.equal(fast(drive()), slow(drive()))
    assert torch.equal(fast.v_seq, slow.v_seq)
    assert goes_by_kernel(fast)


def test_odd_memory():
    odd = drive(4, 5).transpose(1, 2), drive(4, 1).expand(7, 4, 5), drive(0, 3), drive(1), drive(8, 6)[..., ::2]
    for x_seq in odd:
        both(Charging, x_seq)


EDITS = {
    "a threshold": lambda node, step: setattr(node, "v_threshold", 0.5 if step > 3 else 1.0),
    "a threshold at every step": lambda node, step: setattr(node, "v_threshold", 0.5 + step / 8),
    "a reset": lambda node, step: setattr(node, "v_reset", None if step > 3 else 0.0),
    "what is cut": lambda node, step: setattr(node, "detach_reset", step > 3),
    "a slope": lambda node, step: setattr(node.surrogate_function, "alpha", 2.0 if step > 3 else 4.0),
    "a surrogate": lambda node, step: step == 4 and setattr(node, "surrogate_function", surrogate.ATan()),
    "its primitive": lambda node, step: setattr(node.surrogate_function, "spiking", step < 4),
    "a whole number": lambda node, step: setattr(node, "v_threshold", 1),
    "a tensor with axes": lambda node, step: step == 4 and setattr(node, "v_threshold", torch.linspace(0.5, 1.5, 5)),
    "a tensor with more axes": lambda node, step: (
        node.reset() if step else setattr(node, "v_threshold", torch.linspace(0.5, 1.0, 2).reshape(2, 1, 1))
    ),
    "a tensor in place": lambda node, step: node.v_threshold.fill_(0.5 + step / 8),
    "none": lambda node, step: setattr(node, "v_threshold", float("inf")),
    "no number": lambda node, step: setattr(node, "v_threshold", float("nan")),
    "a hook": lambda node, step: step == 4 and node.surrogate_function.register_forward_hook(lambda m, a, y: y / 2),
    "a spike": lambda node, step: step == 4 and setattr(node, "neuronal_fire", lambda: (node.v > 0.5).to(node.v)),
    "a potential": lambda node, step: setattr(node, "v", 0.25 if step == 4 else node.v),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_somebody_edits_between_steps_counts(name):
    fields = {"v_threshold": torch.tensor(1.0)} if name == "a tensor in place" else {}
    fast, slow = (Charging(backend=backend, v_reset=0.0, **fields) for backend in ("auto", "torch"))
    for node in (fast, slow):
        node.v_threshold = copy.deepcopy(node.v_threshold)
    with torch.no_grad():
        for step, x in enumerate(drive()):
            for node in (fast, slow):
                EDITS[name](node, step)
            y, want = fast(x), slow(x)
            assert torch.equal(y, want), step
            assert torch.equal(fast.v, slow.v), step


def test_a_threshold_that_learns_has_its_gradient():
    def learning(**fields):
        node = Charging(**fields)
        node.v_threshold = nn.Parameter(torch.tensor(0.75))
        return node

    assert goes_by_kernel(both(learning, drive()))


def test_a_formula_of_ones_own_is_not_passed_over():
    class Twice(Charging, abstract=True):
        @classmethod
        def emit(cls, p, s):
            return 2 * super().emit(p, s)

        def neuronal_charge(self, x):
            self.v = self.v + x

    Twice.abstract = False
    node = Twice(backend="auto")
    outputs = torch.stack([node(x) for x in drive()])
    assert set(outputs.unique().tolist()) == {0.0, 2.0}
    assert not goes_by_kernel(node)


def test_a_hook_may_change_what_it_holds_in_place():
    class Collecting(IFNode, abstract=True):
        def neuronal_charge(self, x):
            self.v += x
            self.v.clamp_(max=2.0)

    Collecting.abstract = False
    outputs = []
    for backend in ("auto", "torch"):
        node = Collecting(backend=backend)
        x_seq = drive().requires_grad_()
        y = torch.stack([node(x) for x in x_seq])
        outputs.append((y, node.v, *torch.autograd.grad(y.square().sum(), x_seq)))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other)


def test_copies_and_pickles_run_on():
    for again in (copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))):
        node, x_seq = Charging(), drive()
        with torch.no_grad():
            for x in x_seq[:4]:
                node(x)
            other = again(node)
            for x in x_seq[4:]:
                assert torch.equal(node(x), other(x))


def test_a_second_derivative_and_a_transform_see_the_stages():
    x_seq = drive(dtype=torch.float64)
    found = []
    for backend in ("auto", "torch"):
        node = Charging(backend=backend)
        for x in x_seq[:3]:
            node(x)
        functional.reset_net(node)
        x = x_seq[:2].clone().requires_grad_()
        (grad,) = torch.autograd.grad((node(x[0]) + node(x[1])).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), x)[0])
    torch.testing.assert_close(*found)
    node = Charging(backend="auto")
    for x in x_seq:
        node(x)

    def fired(x):
        functional.reset_net(node)
        return node(x) + node(x)

    want = torch.stack([fired(x) for x in x_seq[0]])
    assert torch.equal(torch.func.vmap(fired)(x_seq[0]), want)


def test_checkpoints_run_the_same_way_again():
    node, x = Charging(backend="auto"), drive()[0].requires_grad_()

    def run(x):
        functional.reset_net(node)
        return node(x) + node(x)

    want = torch.autograd.grad(run(x).sum(), x)
    for _ in range(3):
        for reentrant in (False, True):
            y = torch.utils.checkpoint.checkpoint(run, x, use_reentrant=reentrant)
            (got,) = torch.autograd.grad(y.sum(), x) if not reentrant else (gradient(y, x),)
            torch.testing.assert_close(got, want[0])


def gradient(y, x):
    x.grad = None
    y.sum().backward()
    return x.grad
