"""Noise on the input: its place, its strength, and that it can be repeated."""

import copy
import pickle

import pytest
import torch
from torch import nn

from spikescope.neuron import LIFNode, NoisyLIFNode


class TestNoisy:
    @staticmethod
    def node(sigma=0.7, seed=7, **fields):
        return NoisyLIFNode(sigma, torch.Generator().manual_seed(seed), step_mode="m", **fields)

    @staticmethod
    def inputs():
        return torch.linspace(-1, 3, 6 * 2 * 9).reshape(6, 2, 9)

    @pytest.mark.parametrize("sigma", [0, 0.0, torch.tensor(0.0)])
    def test_without_noise_it_is_the_leaky_neuron(self, sigma):
        node, quiet = NoisyLIFNode(sigma, step_mode="m"), LIFNode(step_mode="m")
        assert torch.equal(node(self.inputs()), quiet(self.inputs()))
        assert torch.equal(node.v, quiet.v)

    def test_the_noise_is_on_the_input(self):
        generator = torch.Generator().manual_seed(7)
        x = self.inputs()
        noise = torch.stack([torch.randn(step.shape, generator=generator) for step in x])
        assert torch.equal(self.node()(x), LIFNode(step_mode="m")(x + 0.7 * noise))

    def test_its_strength(self):
        noise = self.node().drive(torch.zeros(4, 10_000))
        assert noise.std().item() == pytest.approx(0.7, rel=0.02)  # 3 standard errors are 1.1 %
        assert noise.mean().item() == pytest.approx(0.0, abs=0.011)

    def test_steps_and_runs_see_different_noise(self):
        node = self.node()
        first, second = node.drive(torch.zeros(2, 5)), node.drive(torch.zeros(2, 5))
        assert len({tuple(step.tolist()) for step in torch.cat([first, second])}) == 4

    @pytest.mark.parametrize("cut", [0, 1, 4])
    def test_a_run_may_be_cut_anywhere(self, cut):
        x, parts = self.inputs(), self.node()
        assert torch.equal(torch.cat([parts(x[:cut]), parts(x[cut:])]), self.node()(x))

    def test_single_steps_equal_the_sequence(self):
        x, single = self.inputs(), self.node()
        single.step_mode = "s"
        assert torch.equal(torch.stack([single(step) for step in x]), self.node()(x))

    def test_the_global_generator_serves_otherwise(self):
        def run():
            torch.manual_seed(4)
            return NoisyLIFNode(0.7, step_mode="m")(self.inputs())

        assert torch.equal(run(), run())

    def test_training_and_evaluation_are_alike(self):
        assert torch.equal(self.node().eval()(self.inputs()), self.node().train()(self.inputs()))

    def test_a_copy_goes_on_with_the_same_noise(self):
        node = self.node()
        node(self.inputs())
        twins = [copy.deepcopy(node), pickle.loads(pickle.dumps(node))]
        want = node(self.inputs())
        assert all(torch.equal(twin(self.inputs()), want) for twin in twins)

    def test_gradient_of_the_strength(self):
        node = self.node(nn.Parameter(torch.tensor(0.7)), v_threshold=100.0)
        node(torch.zeros(1, 5)).sum()
        noise = torch.randn(5, generator=torch.Generator().manual_seed(7))
        (got,) = torch.autograd.grad(node.v.sum(), node.sigma)
        assert got.item() == pytest.approx(noise.sum().item() / 2, abs=1e-6)

    def test_half_precision_comes_out_as_it_went_in(self):
        for sigma in (0.5, nn.Parameter(torch.full((9,), 0.5))):
            assert self.node(sigma)(self.inputs().half()).dtype == torch.float16

    def test_a_seed_is_no_generator(self):
        with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, but got 7.*manual_seed"):
            NoisyLIFNode(0.5, 7)
