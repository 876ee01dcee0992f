"""A reward of the aliases acts on the change of the step before it, as SpikingJelly's does."""

import copy
import math

import pytest
import torch

from spikescope import compat, layer, learning, neuron
from spikescope.compat.ages import rewards

LINEAR = (lambda: layer.Linear(4, 3, bias=False), (2, 4))
CONV = (lambda: layer.Conv2d(1, 2, 3, stride=2, padding=1, bias=False), (2, 1, 5, 5))


def plus(weight):
    return 0.5 * weight


def minus(weight):
    return 1.0 - weight


def made(cls, synapse, mode="s"):
    extra = {"batch_size": 2} if cls.__name__ == "MSTDPLearner" else {"tau_trace": 5.0}
    return cls(mode, synapse=synapse, sn=neuron.IFNode(0.4, step_mode=mode), tau_pre=2.0, tau_post=3.0,
               f_pre=plus, f_post=minus, **extra)  # fmt: skip


def network(kind, mode="s"):
    torch.manual_seed(0)
    synapse = kind[0]()
    torch.nn.init.uniform_(synapse.weight)
    synapse.step_mode = mode
    return synapse, (torch.rand(7, *kind[1]) > 0.5).float()


def changes(learner, x_seq, rewards_):
    """What each step gives by its reward; the weights follow it."""
    found = []
    for x, reward in zip(x_seq, rewards_, strict=True):
        learner.sn(learner.synapse(x))
        found.append(learner.step(reward, on_grad=False))
        learner.synapse.weight.data += 0.1 * found[-1]
    return found


def test_a_batch_size_may_be_left_out():
    told = []
    for without in (False, True):
        synapse, x_seq = network(LINEAR)
        sn, given = neuron.IFNode(0.4), (2.0, 3.0, plus, minus)
        size = () if without else (2,)
        learner = rewards.MSTDPLearner("s", *size, synapse, sn, *given)
        told.append(changes(learner, x_seq, [torch.tensor([0.5, 2.0])] * len(x_seq)))
    assert torch.stack(told[0]).any()
    assert all(map(torch.equal, *told))
    by_name = rewards.MSTDPLearner("s", synapse=synapse, sn=sn, tau_pre=2.0, tau_post=3.0)
    sn(synapse(x_seq[0]))
    assert by_name.step(1.0, on_grad=False).shape == (3, 4)
    by_name.close()
    sn(synapse(x_seq[0]))
    assert by_name.step(1.0, on_grad=False) is None


def by_hand(synapse, x_seq, rewards_, tau_trace):
    """The rule in plain loops, for a Linear: each sample's eligibility of the step before, at the weights of then."""
    sn, w = neuron.IFNode(0.4), synapse.weight.detach().clone()
    pre, post, trace, found = 0.0, 0.0, 0.0, []
    eligibility = torch.zeros(x_seq.shape[1], *w.shape)
    for x, reward in zip(x_seq, rewards_, strict=True):
        y = sn(x @ w.T)
        if tau_trace is None:
            found.append((torch.as_tensor(reward).view(-1, 1, 1) * eligibility).sum(0))
        else:
            trace = trace * math.exp(-1 / tau_trace) + eligibility.sum(0) / tau_trace
            found.append(reward * trace)
        pre, post = pre * math.exp(-1 / 2.0) + x, post * math.exp(-1 / 3.0) + y
        eligibility = minus(w) * pre[:, None] * y[..., None] - plus(w) * post[..., None] * x[:, None]
        w += 0.1 * found[-1]
    return found


def rewards_of(cls):
    per_sample = cls is rewards.MSTDPLearner
    return [torch.tensor([1.0, -0.5]) * t if per_sample else float(t - 2) for t in range(7)]


RULES = [rewards.MSTDPLearner, rewards.MSTDPETLearner]
rules = pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)


@rules
def test_a_reward_acts_on_the_step_before(cls):
    synapse, x_seq = network(LINEAR)
    wanted = by_hand(synapse, x_seq, rewards_of(cls), None if cls is rewards.MSTDPLearner else 5.0)
    for got, want in zip(changes(made(cls, synapse), x_seq, rewards_of(cls)), wanted, strict=True):
        torch.testing.assert_close(got, want)
    assert not wanted[0].any()
    assert wanted[3].any()


@rules
@pytest.mark.parametrize("kind", [LINEAR, CONV], ids=["linear", "conv"])
def test_a_late_reward_gives_what_the_prompt_one_gives_a_step_earlier(cls, kind):
    (synapse, x_seq), (twin, _) = network(kind), network(kind)
    late, prompt = made(cls, synapse), made(getattr(learning, cls.__name__), twin)
    before = torch.zeros_like(synapse.weight)
    for x in x_seq:
        for learner in (late, prompt):
            learner.sn(learner.synapse(x))
        torch.testing.assert_close(late.step(1.0, on_grad=False), before)
        before = prompt.step(1.0, on_grad=False)
    assert before.any()


@rules
def test_a_sequence_is_its_steps_and_a_reset_forgets_the_last(cls):
    (synapse, x_seq), (twin, _) = network(LINEAR), network(LINEAR, "m")
    single, whole = made(cls, synapse), made(cls, twin, "m")
    for _ in range(2):
        for x in x_seq:
            single.sn(single.synapse(x))
            single.step(0.5)
        whole.sn(whole.synapse(x_seq))
        whole.step(0.5)
        torch.testing.assert_close(whole.synapse.weight.grad, single.synapse.weight.grad)
    for learner in (single, whole):
        learner.reset()
        learner.sn.reset()
    single.sn(single.synapse(x_seq[0]))
    assert not single.step(1.0, on_grad=False).any()


@rules
def test_the_kept_step_is_state(cls):
    synapse, x_seq = network(LINEAR)
    learner = made(cls, synapse)
    changes(learner, x_seq[:3], rewards_of(cls)[:3])
    held = copy.deepcopy(learner.before)
    learner.double()
    assert learner.before[0][0].dtype == torch.float64
    assert torch.equal(learner.before[0][0].float(), held[0][0])
    learner.reset()
    assert learner.before is None


@rules
def test_the_aliases_have_these_learners(cls):
    compat.install(force=True)
    try:
        from spikingjelly.activation_based import learning as theirs
    finally:
        compat.uninstall()
    assert getattr(theirs, cls.__name__) is cls


ORDERS = {
    "0.0.0.0.14": ("step_mode", "batch_size", "synapse", "sn", "tau_pre", "tau_post", "f_pre", "f_post"),
    "2.0": ("step_mode", "synapse", "sn", "tau_pre", "tau_post", "f_pre", "f_post"),
    "2.0, with its batch by name": ("step_mode", "synapse", "sn", "tau_pre", "tau_post", "f_pre", "f_post"),
}


@pytest.mark.parametrize("by_place", range(9))
@pytest.mark.parametrize("order", ORDERS)
def test_arguments_by_place_and_by_name_are_the_same_in_any_mixture(order, by_place):
    names, rule = ORDERS[order], rewards.MSTDPLearner
    synapse, sn = layer.Linear(3, 2), neuron.IFNode()
    given = {"step_mode": "m", "synapse": synapse, "sn": sn, "tau_pre": 2.0, "tau_post": 3.0}
    given |= {"f_pre": torch.zeros_like, "f_post": torch.ones_like, "batch_size": 4}
    named = {name: given[name] for name in names[by_place:]}
    if "by name" in order:
        named["batch_size"] = 4
    learner = rule(*(given[name] for name in names[:by_place]), **named)
    assert learner.synapse is synapse
    assert learner.any_batch == (order == "2.0")
    assert order == "2.0" or learner.batch_size == 4
    assert [getattr(learner, name) for name in ("step_mode", "tau_pre", "tau_post")] == ["m", 2.0, 3.0]
    assert (learner.f_pre, learner.f_post) == (torch.zeros_like, torch.ones_like)
