"""The equations of each neuron, against scalar loops written from the papers' formulas, and gradients by hand."""

import cmath
import math

import pytest
import torch
from equation_cases import INPUTS, RESETS, assert_follows, grad, heaviside, leak, one_step, reset, sigmoid, slope
from torch import nn

from spikescope.neuron import (
    AdaptBaseNode,
    AdaptiveLIFNode,
    ComplementaryLIFNode,
    CUBALIFNode,
    EIFNode,
    HalfThresholdIFNode,
    ILIFNode,
    IzhikevichNode,
    KLIFNode,
    LIAFNode,
    QIFNode,
    ResonateAndFireNode,
    TernaryIFNode,
    TernaryLIFNode,
)
from spikescope.surrogate import MultiLevelSpikeCount, Sigmoid


class TestQIF:
    @RESETS
    def test_formula(self, v_reset):
        def step(x, v):
            h = v + (x + 1.3 * (v - 0.07) * (v - 0.61)) / 1.7
            s = heaviside(h - 0.9)
            return s, reset(h, s, 0.9, v_reset)

        node = QIFNode(1.7, 0.61, 1.3, 0.9, 0.07, v_reset)
        assert_follows(node, step, [v_reset or 0.0])

    def test_rest_and_critical_potential_are_fixed_points(self):
        node = QIFNode(v_rest=0.25, v_c=0.75)
        for held in (0.25, 0.75):
            node.v = torch.tensor([held])
            node(torch.zeros(1))
            assert node.v.item() == held


class TestEIF:
    @RESETS
    def test_formula(self, v_reset):
        def step(x, v):
            h = v + (x - (v - 0.07) + 0.6 * math.exp((v - 0.55) / 0.6)) / 1.7
            s = heaviside(h - 0.95)
            return s, reset(h, s, 0.95, v_reset)

        node = EIFNode(1.7, 0.6, 0.55, 0.95, 0.07, v_reset)
        assert_follows(node, step, [v_reset or 0.0])


class TestKLIF:
    @RESETS
    @pytest.mark.parametrize("scale_reset", [False, True])
    @pytest.mark.parametrize("decay_input", [False, True])
    def test_formula(self, scale_reset, decay_input, v_reset):
        k = 1.25

        def step(x, v):
            f = max(0.0, k * leak(v, x, 1.7, decay_input, v_reset or 0.0))
            s = heaviside(f - 0.9)
            if not scale_reset:
                return s, reset(f, s, 0.9, v_reset)
            if v_reset is None:
                return s, (f - s * 0.9) / k
            return s, f / k * (1 - s) + v_reset * s

        node = KLIFNode(scale_reset, 1.7, decay_input, 0.9, v_reset)
        nn.init.constant_(node.k, k)
        assert_follows(node, step, [v_reset or 0.0], (0.73, 1.91, -2.9, 2.37, 0.3))

    @pytest.mark.parametrize("scale_reset", [False, True])
    def test_gradient_of_k(self, scale_reset):
        node = KLIFNode(scale_reset, v_reset=None, v_threshold=0.7)
        k = nn.init.constant_(node.k, 1.5)
        spike, v, _ = one_step(node, 1.2)
        h, g = 0.6, slope(1.5 * 0.6 - 0.7)
        assert grad(spike, k) == pytest.approx(g * h, abs=1e-7)
        expected = 0.7 / 1.5**2 - g * h * 0.7 / 1.5 if scale_reset else h - g * h * 0.7
        assert grad(v, k) == pytest.approx(expected, abs=1e-6)

    def test_below_zero_k_learns_nothing(self):
        node = KLIFNode()
        spike, v, _ = one_step(node, -1.2)
        assert grad(spike, node.k) == grad(v, node.k) == 0


class TestLIAF:
    @RESETS
    @pytest.mark.parametrize("threshold_related", [False, True])
    def test_formula(self, threshold_related, v_reset):
        def step(x, v):
            h = leak(v, x, 1.7, True, v_reset or 0.0)
            s = heaviside(h - 0.9)
            return math.tanh(h - 0.9 * threshold_related), reset(h, s, 0.9, v_reset)

        node = LIAFNode(torch.tanh, threshold_related, 1.7, True, 0.9, v_reset)
        assert_follows(node, step, [v_reset or 0.0])

    def test_the_output_has_the_gradient_of_the_function_alone(self):
        y, v, x = one_step(LIAFNode(torch.tanh, False, v_reset=None), 1.2)
        assert grad(y, x) == pytest.approx((1 - math.tanh(0.6) ** 2) / 2, abs=1e-12)
        assert grad(v, x) == pytest.approx((1 - slope(0.6 - 1)) / 2, abs=1e-12)

    def test_the_function_may_be_a_module(self):
        node = LIAFNode(nn.PReLU(init=0.5), threshold_related=False)
        assert node(torch.tensor([-2.0])).item() == -0.5  # H = -1
        assert dict(node.named_parameters()).keys() == {"act.weight"}

    def test_the_weights_of_a_module_are_followed_and_learned(self):
        node = LIAFNode(act := nn.Linear(1, 1, bias=False), threshold_related=False, step_mode="m", v_threshold=9.0)
        x = torch.tensor([[1.0], [1.0]])  # H = 0.5, 0.75
        for weight in (2.0, 4.0):
            nn.init.constant_(act.weight, weight)
            node.reset()
            y = node(x)
            assert y.flatten().tolist() == [0.5 * weight, 0.75 * weight]
        y.sum().backward()
        assert act.weight.grad.item() == 1.25
        node.reset()
        assert "function of PyTorch" in node.implementation(x).reason

    def test_the_function_must_be_one(self):
        with pytest.raises(TypeError, match=r"act must be a pointwise function of a tensor, .* got 'relu'"):
            LIAFNode("relu", threshold_related=False)


class TestAdaptation:
    @RESETS
    def test_adaptive_lif(self, v_reset):
        def step(x, v, w):
            h = v + (x - (v - 0.11) - w) / 1.7
            w = w + (0.3 * (h - 0.11) - w) / 2.9
            s = heaviside(h - 0.9)
            return s, reset(h, s, 0.9, v_reset), w + 0.4 * s

        node = AdaptiveLIFNode(1.7, v_threshold=0.9, v_reset=v_reset, v_rest=0.11, w_rest=0.05, tau_w=2.9, a=0.3, b=0.4)
        assert_follows(node, step, [v_reset or 0.0, 0.05])

    @RESETS
    def test_izhikevich(self, v_reset):
        def step(x, v, w):
            h = v + (x + 1.3 * (v + 0.09) * (v - 0.61) - w) / 1.7
            w = w + (0.3 * (h + 0.09) - w) / 2.9
            s = heaviside(h - 0.9)
            return s, reset(h, s, 0.9, v_reset), w + 0.4 * s

        node = IzhikevichNode(1.7, 0.61, 1.3, 0.9, v_reset, -0.09, 0.05, 2.9, 0.3, 0.4)
        assert_follows(node, step, [v_reset or 0.0, 0.05])

    @pytest.mark.parametrize("detach_reset", [False, True])
    def test_detach_reset_leaves_the_gradient_of_the_jump(self, detach_reset):
        _, v, x = one_step(node := AdaptiveLIFNode(b=0.4, v_reset=None, detach_reset=detach_reset), 1.8)
        g = slope(0.9 - 1)
        assert grad(node.w, x) == pytest.approx(0.4 * g / 2, abs=1e-12)
        assert grad(v, x) == pytest.approx(0.5 if detach_reset else (1 - g) / 2, abs=1e-12)

    def test_reset_gives_the_resting_values_back(self):
        node = AdaptiveLIFNode(v_reset=-0.2, w_rest=0.3)
        node(torch.ones(3))
        node.reset()
        assert (node.v, node.w) == (-0.2, 0.3)

    def test_the_base_is_no_neuron(self):
        with pytest.raises(TypeError, match="AdaptBaseNode is the base of a family"):
            AdaptBaseNode()


class TestComplementary:
    def test_formula(self):
        def step(x, u, m):
            u = (1 - 1 / 1.7) * u + x
            s = heaviside(u - 0.9)
            m = m * sigmoid(u / 1.7) + s
            return s, u - s * (0.9 + sigmoid(m)), m

        assert_follows(ComplementaryLIFNode(1.7, 0.9), step, [0.0, 0.0])

    @pytest.mark.parametrize("detach_reset", [False, True])
    def test_gradient_of_the_reset(self, detach_reset):
        _, v, x = one_step(ComplementaryLIFNode(surrogate_function=Sigmoid(), detach_reset=detach_reset), 1.2)
        g, deepening = slope(0.2), sigmoid(1) * (1 - sigmoid(1))  # M = S = 1
        through_spike = 0 if detach_reset else g * (1 + sigmoid(1))
        assert grad(v, x) == pytest.approx(1 - through_spike - g * deepening, abs=1e-12)

    def test_it_has_no_hard_reset(self):
        node = ComplementaryLIFNode()
        with pytest.raises(ValueError, match=r"v_reset must be one of None, but got 0\.0"):
            node.v_reset = 0.0


class TestCUBA:
    @RESETS
    def test_formula(self, v_reset):
        def step(x, v, c):
            c = 0.4 * c + x
            h = 0.7 * v + c
            s = heaviside(h - 1.6)
            return s, reset(h, s, 1.6, v_reset), c

        assert_follows(CUBALIFNode(0.4, 0.7, 1.6, v_reset), step, [v_reset or 0.0, 0.0])

    def test_the_current_keeps_its_gradient_through_a_reset(self):
        node = CUBALIFNode(detach_reset=True, step_mode="m", surrogate_function=Sigmoid())
        x = torch.tensor([[2.0], [0.0]], dtype=torch.float64, requires_grad=True)
        node(x)
        torch.autograd.backward(node.c)
        assert x.grad.flatten().tolist() == [0.5, 1.0]


class TestInteger:
    @pytest.mark.parametrize("levels", [2, 4])
    def test_formula(self, levels):
        def step(x, v):
            h = (1 - 1 / 1.7) * v + x
            s = float(round(min(max(h / 0.8, 0.0), levels)))
            return s, h - s * 0.8

        node = ILIFNode(1.7, 0.8, MultiLevelSpikeCount(levels))
        assert_follows(node, step, [0.0], (0.73, 1.91, -0.42, 4.37, 0.58))

    def test_it_counts_to_four_by_itself(self):
        assert ILIFNode()(torch.tensor([9.0, 2.4])).tolist() == [4, 2]
        assert ILIFNode().tau == 4 / 3

    @pytest.mark.parametrize("detach_reset", [False, True])
    def test_gradient(self, detach_reset):
        def at(x):
            spike, v, leaf = one_step(ILIFNode(v_threshold=0.8, detach_reset=detach_reset), x)
            return grad(spike, leaf), grad(v, leaf)

        assert at(1.9) == pytest.approx((1 / 0.8, 1.0 if detach_reset else 0.0), abs=1e-12)
        assert at(5.0) == at(-1.0) == (0, 1)


class TestTernary:
    INPUTS = (0.73, 1.91, -0.42, -2.37, -0.58)

    @staticmethod
    def fire(h, threshold, v_reset):
        s = 1.0 if h >= threshold else -1.0 if h <= -threshold else 0.0
        return s, reset(h, s, threshold, v_reset)

    @RESETS
    def test_integrate(self, v_reset):
        node = TernaryIFNode(0.9, v_reset)
        assert_follows(node, lambda x, v: self.fire(v + x, 0.9, v_reset), [v_reset or 0.0], self.INPUTS)

    @RESETS
    @pytest.mark.parametrize("decay_input", [False, True])
    def test_leaky(self, decay_input, v_reset):
        def step(x, v):
            return self.fire(leak(v, x, 1.2, decay_input, v_reset or 0.0), 0.9, v_reset)

        node = TernaryLIFNode(1.2, decay_input, 0.9, v_reset)
        assert_follows(node, step, [v_reset or 0.0], self.INPUTS)

    def test_a_potential_equal_to_the_threshold_fires(self):
        assert TernaryIFNode(v_threshold=0.5)(torch.tensor([-0.5, 0.0, 0.5])).tolist() == [-1, 0, 1]

    def test_it_is_odd(self):
        torch.manual_seed(2)
        x = 2 * torch.randn(6, 7)
        there, back = (TernaryLIFNode(v_reset=None, step_mode="m") for _ in range(2))
        assert torch.equal(there(x), -back(-x))

    @pytest.mark.parametrize("detach_reset", [False, True])
    @pytest.mark.parametrize("h", [0.4, 1.3, -1.3])
    def test_gradient(self, h, detach_reset):
        spike, v, x = one_step(TernaryIFNode(v_reset=0.2, detach_reset=detach_reset), h - 0.2)
        up, down = slope(h - 1), slope(-h - 1)
        assert grad(spike, x) == pytest.approx(up + down, abs=1e-12)
        through_spike = 0 if detach_reset else (0.2 - h) * (up - down)
        assert grad(v, x) == pytest.approx((1 - (abs(h) >= 1)) + through_spike, abs=1e-12)


class TestHalfThreshold:
    def test_formula(self):
        def step(x, v):
            s = heaviside(v + x - 0.9)
            return s, v + x - s * 0.9

        assert_follows(HalfThresholdIFNode(0.9), step, [0.45])

    @pytest.mark.parametrize("x", [0.0, 0.06, 0.19, 0.5, 0.8125, 1.0])
    def test_the_count_is_rounded_to_the_nearest(self, x):
        node = HalfThresholdIFNode(step_mode="m")
        count = node(torch.full((8, 1), x, dtype=torch.float64)).sum().item()
        assert count == math.floor(8 * x + 0.5)

    def test_it_starts_again_at_half(self):
        node = HalfThresholdIFNode(v_threshold=3.0)
        node(torch.ones(2))
        node.reset()
        assert node.v == 1.5
        node.v_threshold = 5.0
        assert node.v == 2.5

    def test_a_threshold_per_channel(self):
        node = HalfThresholdIFNode(nn.Parameter(torch.tensor([1.0, 3.0])))
        node(torch.full((1, 2), 0.25))
        assert node.v.tolist() == [[0.75, 1.75]]
        node.v.sum().backward()
        want = [0.5 - slope(-0.25) * -0.5, 0.5 - 3 * slope(-1.25) * -0.5]  # d(V0 + x - S Vth), d(H - Vth) = -1/2
        assert node.v_threshold.grad.tolist() == pytest.approx(want, abs=1e-6)


class TestResonate:
    @RESETS
    def test_formula(self, v_reset):
        def step(x, v, u):
            z = cmath.exp(complex(-0.15, 1.1) * 0.8) * complex(u, v) + x
            s = heaviside(z.imag - 0.9)
            return s, reset(z.imag, s, 0.9, v_reset), z.real

        node = ResonateAndFireNode(-0.15, 1.1, 0.8, 0.9, v_reset)
        assert_follows(node, step, [v_reset or 0.0, 0.0])

    def test_it_answers_to_its_own_frequency(self):
        def peak(omega):
            x = torch.cos(omega * torch.arange(60, dtype=torch.float64)).unsqueeze(1)
            node = ResonateAndFireNode(b=-0.1, omega=0.7, v_threshold=1e9, step_mode="m", store_v_seq=True)
            node(x)
            return node.v_seq.abs().max().item()

        assert peak(0.7) > 2 * max(peak(0.2), peak(1.5))

    @pytest.mark.parametrize("name", ["b", "omega", "dt"])
    def test_learned_numbers_are_the_same_numbers(self, name):
        def end(held):
            numbers = {"b": -0.15, "omega": 1.1, "dt": 0.8} | {name: held}
            node = ResonateAndFireNode(**numbers, v_threshold=50.0, step_mode="m")
            node(torch.tensor(INPUTS, dtype=torch.float64).unsqueeze(1))
            return node.v.sum()

        value = {"b": -0.15, "omega": 1.1, "dt": 0.8}[name]
        leaf = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        assert end(leaf).item() == pytest.approx(end(value).item(), abs=1e-12)
        difference = (end(value + 1e-6) - end(value - 1e-6)).item() / 2e-6
        assert torch.autograd.grad(end(leaf), leaf)[0].item() == pytest.approx(difference, abs=1e-7)
