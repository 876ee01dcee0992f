"""Bases of SpikingJelly 2.0 for neurons of one's own: a neuron written again by its hooks gives the same numbers."""

import copy

import pytest
import torch

pytestmark = pytest.mark.usefixtures("aliases")

CURRENT = {"c_decay": 0.25, "v_decay": 0.5}
NOISE = {"is_training": True, "T": 4, "sigma_init": 0.5, "beta": 1.0}
FIRE = {"v_threshold": 0.75, "v_reset": 0.25}
FAMILIES = {
    "ILCBaseNode": ("ILCCUBALIFNode", (2, 3), FIRE),
    "NoisyBaseNode": ("NoisyCUBALIFNode", (6,), {**NOISE, **FIRE}),
    "NoisyILCBaseNode": ("NoisyILCCUBALIFNode", (2, 3), {**NOISE, **FIRE}),
}


def by_hooks(base):
    """The current-based neuron of a family, written as a user of that family writes one."""

    class Written(base):
        def __init__(self, *args, c_decay=0.25, v_decay=0.5, **kwargs):
            super().__init__(*args, **kwargs)
            self.c_decay, self.v_decay = c_decay, v_decay

        def init_tensor(self, data):
            self.c = torch.zeros_like(data)
            self.v = torch.full_like(data, self.v_reset)

        def neuronal_charge(self, x):
            self.c = self.c_decay * self.c + x
            self.v = self.v_decay * self.v + self.c

    return Written


@pytest.mark.parametrize("base", FAMILIES)
def test_a_neuron_written_by_hooks_is_that_of_the_family(base):
    from spikingjelly.activation_based import neuron, surrogate

    name, sizes, given = FAMILIES[base]
    results = []
    for cls in (getattr(neuron, name), by_hooks(getattr(neuron, base))):
        torch.manual_seed(0)
        node = cls(*sizes, **CURRENT, **given, surrogate_function=surrogate.Sigmoid())
        assert (node.v_threshold, node.v_reset, node.surrogate_function.alpha) == (0.75, 0.25, 4.0)
        if "Noisy" in base:
            node.load_colored_noise(torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(1)))
        x_seq = (2 * torch.rand(4, 2, 6, generator=torch.Generator().manual_seed(2))).requires_grad_()
        y = copy.deepcopy(node)(x_seq)
        (grad,) = torch.autograd.grad(y.square().sum(), x_seq)
        node.v_threshold = 1e9
        assert not node(x_seq).gt(100).any()
        results.append((y, grad, sorted(node.state_dict())))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


@pytest.mark.parametrize("base", FAMILIES)
def test_a_threshold_that_is_assigned_is_that_of_the_neuron(base):
    from spikingjelly.activation_based import neuron

    name, sizes, given = FAMILIES[base]
    node = getattr(neuron, name)(*sizes, **{**given, **({"is_training": False} if "T" in given else {})})
    node.v_threshold = 1e9
    assert not node(torch.rand(4, 2, 6)).any()


@pytest.mark.parametrize("base", FAMILIES)
def test_a_base_without_a_hook_is_refused_in_words(base):
    from spikingjelly.activation_based import neuron

    _, sizes, given = FAMILIES[base]
    with pytest.raises(TypeError, match=rf"{base} is the base of a family of neurons; .* neuronal_charge\(self, x\)"):
        getattr(neuron, base)(*sizes, **given)


@pytest.mark.parametrize("decode", ["max-mem", "max-abs-mem", "mean-mem", "last_mem", None])
@pytest.mark.parametrize("noisy", [False, True])
def test_a_read_out_written_by_its_hook_is_that_of_the_family(noisy, decode):
    from spikingjelly.activation_based import neuron

    bases = [neuron.NonSpikingBaseNode, neuron.NonSpikingIFNode]
    if noisy:
        bases = [neuron.NoisyNonSpikingBaseNode, neuron.NoisyNonSpikingIFNode]

    class Summing(bases[0]):
        def neuronal_charge(self, x):
            self.v = self.v + x

    given = (6, True, 4, 0.5, 1.0, decode) if noisy else (decode,)
    x_seq = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    results = []
    for cls in (Summing, bases[1]):
        node = cls(*given)
        if noisy:
            node.load_colored_noise(torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)))
        y = node(x_seq)
        assert isinstance(y, list) == (decode is None)
        y = torch.stack(y) if decode is None else y
        results.append((y, torch.autograd.grad(y.square().sum(), x_seq)[0]))
        assert isinstance(node, bases[0])
    torch.testing.assert_close(*results)
    assert issubclass(neuron.NonSpikingLIFNode, neuron.NonSpikingBaseNode)
    assert not isinstance(neuron.LIFNode(), neuron.NonSpikingBaseNode)
    with pytest.raises(TypeError, match="is the base of a family of neurons"):
        bases[0](*given)
    with pytest.raises(ValueError, match="decode must be one of"):
        Summing(*given[:-1], "least")
