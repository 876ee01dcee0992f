"""The twin without spikes of every family of networks becomes one of spikes, or is refused by name."""

from __future__ import annotations

import pytest
import torch

from spikescope import ann2snn, models

IN_THE_WAY = {  # of families whose blocks multiply activations, or have a rule of learning of their own
    "masnn": r"step_mode=.s. is not supported by .*MultiDimensionalAttention",
    "maxformer": "SpikingSelfAttention is neither",
    "qkformer": "QKAttention is neither",
    "spikformer": "SpikingSelfAttention is neither",
    "spike_driven_transformer": "_PooledAttention is neither",
    "spiking_vggws_ottt": "OTTTSequential is neither",
}
CASES = {
    "sew_resnet18": {},
    "spiking_resnet18": {},
    "ms_resnet18": {},
    "max_resnet18": {},
    "att_ms_resnet18": {"base_channels": 8},
    "maxformer_10_384": {"depths": (1, 1, 1), "embed_dims": 64},
    "CIFAR10Net": {"channels": 4, "hidden": 8},
    "spikformer_cifar10dvs": {},
    "qkformer_2_256_dvs": {},
    "sdt_2_256_dvs": {},
    "ottt_spiking_vggws": {},
    "spiking_vgg11_bn": None,  # whose linear layers have 120 million weights
}


def test_every_family_has_a_case():
    assert {models.VARIANTS[name].family for name in CASES} == {row.family for row in models.VARIANTS.values()}


@pytest.mark.parametrize("name", [name for name, arguments in CASES.items() if arguments is not None])
def test_the_twin_converts_or_is_refused_by_name(name):
    net = models.create(name, neuron=models.without_spikes, **CASES[name])
    channels = models.VARIANTS[name].image[0]
    side = 32 if models.VARIANTS[name].image[1] <= 64 or "resnet" in name else 64
    x = torch.rand(1, channels, side, side)
    words = IN_THE_WAY.get(models.VARIANTS[name].family)
    if words is not None:
        with pytest.raises(ValueError, match=words):
            ann2snn.Converter(x)(net)
        return
    snn = ann2snn.Converter(x)(net)
    assert sum(isinstance(held, ann2snn.ScaledNeuron) for held in snn.modules()) > 3
    held = ann2snn.compare(net, snn, x, steps=2)
    assert all(layer.clipped < 0.5 for layer in held.values())


def test_a_cnf_that_multiplies_is_refused():
    net = models.create("sew_resnet18", neuron=models.without_spikes, cnf="IAND")
    with pytest.raises(ValueError, match="product"):
        ann2snn.Converter(torch.rand(1, 3, 32, 32))(net)
