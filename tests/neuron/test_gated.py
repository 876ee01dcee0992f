"""The gated neuron: its equation, its gates, and its count of steps."""

import copy
import pickle

import numpy as np
import pytest
import torch
from equation_cases import assert_follows, heaviside, sigmoid, trace
from torch import nn
from torch.func import functional_call

from spikescope.errors import ShapeError, StateError
from spikescope.neuron import GatedLIFNode, LIFNode
from spikescope.surrogate import Sigmoid


class TestGated:
    @staticmethod
    def set(node, **gates):
        for name, held in gates.items():
            nn.init.constant_(getattr(node, name), held)
        return node

    def test_formula(self):
        node = self.set(GatedLIFNode(5, None, 0.04, 0.3, 0.35, 0.6, 0.45), alpha=0.3, beta=-0.4, gamma=0.8)
        with torch.no_grad():
            node.conduct.copy_(torch.linspace(-1, 1, 5))
        numbers = {name: sigmoid(held.item()) for name, held in node.named_parameters() if not held.ndim}
        conduct = iter([sigmoid(held) for held in node.conduct.tolist()])

        def step(x, u, s):
            alpha, beta, gamma = numbers["alpha"], numbers["beta"], numbers["gamma"]
            current = x * (1 - beta * (1 - next(conduct)))
            before = (1 - alpha * (1 - numbers["tau"])) * u
            u_new = before - (1 - alpha) * numbers["linear_decay"] + current
            u_new -= before * gamma * s + (1 - gamma) * numbers["v_subreset"] * s
            s = heaviside(u_new - numbers["v_threshold"])
            return s, u_new, s

        assert_follows(node, step, [0.0, 0.0])

    def test_initial_numbers(self):
        node = GatedLIFNode(4, init_tau=0.3, init_v_threshold=0.6)
        wanted = {"tau": 0.3, "v_threshold": 0.6, "v_subreset": 0.6, "linear_decay": 0.075}
        assert {n: torch.sigmoid(getattr(node, n)).item() for n in wanted} == pytest.approx(wanted, abs=1e-7)
        assert torch.sigmoid(node.conduct).tolist() == [0.5] * 4

    def test_with_the_gates_at_their_ends_it_is_a_leaky_neuron(self):
        node = self.set(GatedLIFNode(5, init_tau=0.5), alpha=60.0, beta=-60.0, gamma=60.0)
        other = LIFNode(tau=2.0, decay_input=False, v_threshold=0.5)
        inputs = (0.3, 0.3, -0.1, 0.45, 0.2)
        assert torch.equal(trace(node, inputs)[0], trace(other, inputs)[0])

    def test_gradient_of_the_leak(self):
        node = self.set(GatedLIFNode(2, init_tau=0.3), alpha=0.4, gamma=-0.2)
        node.v, node.spike = torch.tensor([[0.7]]), torch.tensor([[1.0]])
        node(torch.zeros(1, 1, 1))
        torch.autograd.backward(node.v)
        assert node.tau.grad.item() == pytest.approx(
            sigmoid(0.4) * 0.3 * 0.7 * (1 - sigmoid(-0.2)) * 0.7, abs=1e-7
        )  # alpha * d tau * (1 - gamma) * U

    def test_gradients_of_all_numbers(self):
        node = GatedLIFNode(3, surrogate_function=Sigmoid(spiking=False)).double()
        names = [name for name, _ in node.named_parameters()]
        assert set(names) >= {"alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset", "conduct"}
        x = torch.tensor([[0.8], [-0.3], [1.1]], dtype=torch.float64)

        def run(*values):
            node.reset()
            return functional_call(node, dict(zip(names, values, strict=True)), (x,))

        torch.autograd.gradcheck(run, [held.detach().clone().requires_grad_() for held in node.parameters()])

    @pytest.mark.parametrize("cut", [1, 2, 4])
    def test_a_run_may_be_cut_anywhere(self, cut):
        torch.manual_seed(3)
        x = 2 * torch.rand(5, 2, 3)
        whole, parts = (GatedLIFNode(5, init_conduct=0.3) for _ in range(2))
        for node in (whole, parts):
            with torch.no_grad():
                node.conduct.copy_(torch.linspace(-2, 2, 5))
        wanted = whole(x)
        assert torch.equal(torch.cat([parts(x[:cut]), parts(x[cut:])]), wanted)
        assert torch.equal(parts.v, whole.v)
        parts.reset()
        parts.step_mode = "s"
        assert torch.equal(torch.stack([parts(step) for step in x]), wanted)

    def test_more_steps_than_it_has_are_refused(self):
        node = GatedLIFNode(3)
        node(torch.ones(2, 1))
        with pytest.raises(StateError, match=r"T=3 steps; it has run 2 .* cannot run 2 more.*reset_net\(net\).*T=4"):
            node(torch.ones(2, 1))
        node(torch.ones(1, 1))  # the refused call has not been counted
        node.reset()
        node(torch.ones(3, 1))

    def test_a_copy_goes_on_at_the_same_step(self):
        node = GatedLIFNode(3)
        node(torch.ones(2, 1))
        for twin in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
            assert twin.t == 2
            assert torch.equal(twin(torch.ones(1, 1)), copy.deepcopy(node)(torch.ones(1, 1)))

    def test_channels_have_numbers_of_their_own(self):
        node = GatedLIFNode(2, inplane=3)
        assert {tuple(held.shape) for held in node.parameters()} == {(3, 1, 1), (2, 3, 1, 1)}
        with torch.no_grad():
            node.conduct[:, 1] = 40.0  # no loss of input in the second channel
        node(torch.ones(2, 4, 3, 2, 2)).sum().backward()
        v = node.v.detach()
        assert torch.equal(v[:, 0], v[:, 2])
        assert (v[:, 1] > v[:, 0]).all()
        assert node.tau.grad.shape == (3, 1, 1)

    @pytest.mark.parametrize("assign", [False, True])
    def test_files_of_channels_without_places_are_taken(self, assign):
        """SpikingJelly 2.0 has [C] and [T, C] of channels."""
        made, node = GatedLIFNode(4, inplane=3), torch.nn.Sequential(GatedLIFNode(4, inplane=np.int64(3)))
        with torch.no_grad():
            for held in made.parameters():
                held.normal_()
        flat = {f"0.{name}": held.detach().flatten(-3) for name, held in made.named_parameters()}
        assert {tuple(held.shape) for held in flat.values()} == {(3,), (4, 3)}
        node.load_state_dict(flat, assign=assign)
        for (name, held), (_, wanted) in zip(node[0].named_parameters(), made.named_parameters(), strict=True):
            assert torch.equal(held, wanted), name
        assert torch.equal(node(torch.ones(4, 2, 3, 2, 2)), made(torch.ones(4, 2, 3, 2, 2)))
        with pytest.raises(RuntimeError, match="size mismatch for alpha"):
            GatedLIFNode(4, inplane=2).load_state_dict(made.state_dict())
        with pytest.raises(RuntimeError, match=r"size mismatch for 0\.alpha"):
            node.load_state_dict(flat | {"0.alpha": torch.ones(2)})

    def test_the_potential_has_two_names(self):
        node = GatedLIFNode(2)
        assert node.u == node.v == 0.0
        node(torch.ones(1, 4))
        assert torch.equal(node.u, node.v)
        node.reset()
        other = GatedLIFNode(2)
        node.u, other.v = torch.full((4,), 0.3), torch.full((4,), 0.3)
        assert node.v is node.u
        x = torch.full((1, 4), 0.4)
        assert torch.equal(node(x), other(x))
        assert torch.equal(node.u, other.v)
        node.reset()
        assert node.u == 0.0

    def test_a_shape_of_numbers(self):
        node = GatedLIFNode(2, inplane=(3,))
        assert node(torch.ones(2, 4, 3)).shape == (2, 4, 3)

    def test_other_channels_are_refused(self):
        with pytest.raises(ShapeError, match=r"alpha has the shape \[3, 1, 1\].*\[N=4, 5, 2, 2\]"):
            GatedLIFNode(2, inplane=3)(torch.ones(2, 4, 5, 2, 2))

    @pytest.mark.parametrize("inplane", [0, -1, True, 2.0, (3, 0)])
    def test_channels_are_a_number_or_a_shape(self, inplane):
        with pytest.raises(ValueError, match="inplane must be None, a number of channels or a shape"):
            GatedLIFNode(2, inplane=inplane)

    def test_half_precision_comes_out_as_it_went_in(self):
        node = GatedLIFNode(2)
        assert node(torch.ones(2, 3, dtype=torch.float16)).dtype == torch.float16
        assert node.v.dtype == torch.float32
