"""The arguments of each neuron: their order, and the numbers that are refused."""

from inspect import signature

import pytest
import torch

from spikescope.neuron import (
    AdaptBaseNode,
    AdaptiveLIFNode,
    ComplementaryLIFNode,
    CUBALIFNode,
    EIFNode,
    GatedLIFNode,
    HalfThresholdIFNode,
    ILIFNode,
    IzhikevichNode,
    KLIFNode,
    LIAFNode,
    LIFNode,
    NoisyLIFNode,
    OTTTLIFNode,
    QIFNode,
    ResonateAndFireNode,
    SLTTLIFNode,
    TernaryIFNode,
    TernaryLIFNode,
)


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (QIFNode, "tau v_c a0 v_threshold v_rest v_reset surrogate_function detach_reset"),
        (EIFNode, "tau delta_T theta_rh v_threshold v_rest v_reset surrogate_function detach_reset"),
        (IzhikevichNode, "tau v_c a0 v_threshold v_reset v_rest w_rest tau_w a b surrogate_function detach_reset"),
        (AdaptBaseNode, "v_threshold v_reset v_rest w_rest tau_w a b surrogate_function detach_reset"),
        (KLIFNode, "scale_reset tau decay_input v_threshold v_reset surrogate_function detach_reset"),
        (LIAFNode, "act threshold_related tau decay_input v_threshold v_reset surrogate_function detach_reset"),
        (CUBALIFNode, "c_decay v_decay v_threshold v_reset surrogate_function"),
        (ComplementaryLIFNode, "tau v_threshold surrogate_function"),
        (ILIFNode, "tau v_threshold surrogate_function detach_reset"),
        (OTTTLIFNode, "tau decay_input v_threshold v_reset surrogate_function detach_reset step_mode"),
        (SLTTLIFNode, "tau decay_input v_threshold v_reset surrogate_function detach_reset step_mode"),
        (TernaryIFNode, "v_threshold v_reset surrogate_function detach_reset"),
        (TernaryLIFNode, "tau decay_input v_threshold v_reset surrogate_function detach_reset"),
        (HalfThresholdIFNode, "v_threshold surrogate_function detach_reset"),
        (ResonateAndFireNode, "b omega dt v_threshold v_reset surrogate_function detach_reset"),
        (
            GatedLIFNode,
            "T inplane init_linear_decay init_v_subreset init_tau init_v_threshold init_conduct surrogate_function",
        ),
    ],
)
def test_arguments_come_in_the_order_that_users_know(cls, names):
    assert list(signature(cls).parameters)[: len(names.split())] == names.split()


@pytest.mark.parametrize(
    ("cls", "fields", "text"),
    [
        (QIFNode, {"tau": 1.0}, "tau must be above 1.0"),
        (QIFNode, {"a0": 0.0}, "a0 must be above 0.0"),
        (EIFNode, {"tau": 0.5}, "tau must be above 1.0"),
        (EIFNode, {"delta_T": 0}, "delta_T must be above 0.0"),
        (KLIFNode, {"tau": 1.0}, "tau must be above 1.0"),
        (IzhikevichNode, {"tau_w": 0.0}, "tau_w must be above 0.0"),
        (IzhikevichNode, {"a0": -1.0}, "a0 must be above 0.0"),
        (AdaptiveLIFNode, {"tau": 1.0}, "tau must be above 1.0"),
        (ComplementaryLIFNode, {"tau": 1.0}, "tau must be above 1.0"),
        (CUBALIFNode, {"c_decay": 1.1}, "c_decay must be at most 1.0"),
        (CUBALIFNode, {"v_decay": -0.1}, "v_decay must be at least 0.0"),
        (ILIFNode, {"v_threshold": 0.0}, "v_threshold must be above 0.0"),
        (TernaryIFNode, {"v_threshold": -1.0}, "v_threshold must be above 0.0"),
        (TernaryLIFNode, {"v_threshold": 0.0}, "v_threshold must be above 0.0"),
        (HalfThresholdIFNode, {"v_threshold": torch.tensor([1.0, 0.0])}, "v_threshold must be above 0.0"),
        (ResonateAndFireNode, {"b": 0.0}, "b must be below 0.0"),
        (ResonateAndFireNode, {"omega": 0.0}, "omega must be above 0.0"),
        (ResonateAndFireNode, {"dt": -1.0}, "dt must be above 0.0"),
        (NoisyLIFNode, {"sigma": -0.1}, "sigma must be at least 0.0"),
        (GatedLIFNode, {"T": 0}, "T must be at least 1"),
        (GatedLIFNode, {"T": 2, "init_tau": 1.0}, "init_tau is kept as a sigmoid and must be above 0 and below 1"),
        (GatedLIFNode, {"T": 2, "init_v_subreset": 0.0}, "init_v_subreset is kept as a sigmoid"),
    ],
)
def test_numbers_out_of_bounds_are_refused(cls, fields, text):
    with pytest.raises(ValueError, match=text):
        cls(**fields)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"beta": 0.9}, r"tau = 1 / \(1 - beta\)"),
        ({"surrogate_function": "atan"}, r"Give the module itself: surrogate\.ATan\(\)\.$"),
        ({"surrogate_function": "super_spike"}, r"surrogate\.SuperSpike\(\)"),
        ({"surrogate_function": "nothing"}, r"but got 'nothing'\.$"),
    ],
)
def test_words_of_others_lead_to_what_is_here(options, text):
    with pytest.raises(TypeError, match=text):
        LIFNode(**options)


def test_an_initial_number_must_be_one():
    with pytest.raises(TypeError, match=r"init_conduct must be a number, but got '0\.5'"):
        GatedLIFNode(2, init_conduct="0.5")
