"""Every product that PyTorch has is counted, whichever operation computes it and in whichever mode."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikescope import layer, monitor, neuron

N, L, E, OUT = 2, 5, 6, 4  # samples, tokens, features, outputs


class Products(nn.Module):
    """A function of the input with weights."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.rand(shape))

    def forward(self, x):
        return self.function(x, self.weight)


def row_by_row(function):
    return lambda x, weight: torch.stack([function(row, weight) for row in x])


VECTORS = {
    "mv": (row_by_row(lambda x, w: torch.mv(w, x)), (OUT, E), OUT * E),
    "addmv": (row_by_row(lambda x, w: torch.addmv(w[:, 0], w, x)), (OUT, E), OUT * E),
    "dot": (row_by_row(torch.dot), (E,), E),
    "vdot": (row_by_row(torch.vdot), (E,), E),
    "linear": (F.linear, (OUT, E), OUT * E),
    "einsum": (lambda x, w: torch.einsum("nf,of->no", x, w), (OUT, E), OUT * E),
    "addbmm": (lambda x, w: torch.addbmm(w[:1], x[None], w.t()[None]), (E, E), E * E),
    "baddbmm": (lambda x, w: torch.baddbmm(w[None, :1], x[None], w.t()[None]), (E, E), E * E),
}


def modes():
    return {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("name", VECTORS)
def test_a_product_of_vectors_is_so_many_macs_or_an_addition_for_each_spike_and_synapse(name, mode):
    function, shape, each = VECTORS[name]
    net = Products(function, *shape)
    spikes = (torch.rand(N, E) < 0.5).float()
    spikes[0, 0] = 1.0
    with modes()[mode]():
        (real,) = monitor.operations(net, torch.rand(N, E), samples=N)
        (row,) = monitor.operations(net, spikes, samples=N)
    assert (real.dense, real.macs, real.acs) == (each, each, 0)
    assert (row.dense, row.macs, row.acs) == (each, 0, spikes.sum().item() * each / E / N)


def test_a_bilinear_form_is_linear_in_the_products_of_its_inputs():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.form = nn.Bilinear(E, E, OUT)

        def forward(self, x):
            return self.form(x, x)

    spikes = (torch.rand(N, E) < 0.5).float()
    (real,) = monitor.operations(Both(), torch.rand(N, E), samples=N)
    (row,) = monitor.operations(Both(), spikes, samples=N)
    assert (real.dense, real.macs, real.acs) == (OUT * E * E, OUT * E * E, 0)
    assert (row.macs, row.acs) == (0, (spikes.sum(1) ** 2).sum().item() * OUT / N)


PROJECTIONS, PRODUCTS = 4 * L * E * E, 2 * L * L * E  # of q, k, v and the output; of q with k, and of that with v
INSIDE = 2 * L * E * OUT


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(E, 2, batch_first=True)
        self.options = options

    def forward(self, x):
        return self.inner(x, x, x, **self.options)[0]


ATTENTION = {
    "function": (lambda: Products(lambda x, w: F.scaled_dot_product_attention(x, x, x), 1), PRODUCTS),
    "layer": (Attention, PROJECTIONS + PRODUCTS),
    "layer without weights": (lambda: Attention(need_weights=False), PROJECTIONS + PRODUCTS),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(E, 2, dim_feedforward=OUT, batch_first=True),
        PROJECTIONS + PRODUCTS + INSIDE,
    ),
}


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_of_pytorch_is_the_products_that_it_is_made_of(name, mode):
    make, wanted = ATTENTION[name]
    net = make()
    fast = torch.backends.mha.get_fastpath_enabled()
    flags = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    with modes()[mode]():
        work = monitor.operations(net, torch.rand(N, L, E), samples=N)
    assert sum(row.dense for row in work) == wanted
    assert sum(row.macs for row in work) == wanted
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()) == flags


def test_the_energy_of_a_network_is_the_same_in_inference_mode():
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3), neuron.LIFNode(v_threshold=0.2), layer.Flatten(), layer.Linear(64, 3), neuron.IFNode()
    )
    x = torch.rand(N, 2, 6, 6)
    wanted = monitor.energy(net, x)
    with torch.inference_mode():
        assert monitor.energy(net, x).rows() == wanted.rows()
    assert wanted.sum("operations") > 0
