"""Learning rules against their formulas, written out connection by connection."""

import copy
import gc
import inspect
import itertools
import math
import pickle
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sample import WHOLE, sample
from spikescope import functional, layer, learning, neuron
from spikescope.errors import ShapeError


class Given(nn.Module):
    """Stands for a neuron: gives out the spikes that it was told, whatever comes in."""

    def __init__(self, spikes):
        super().__init__()
        self.spikes = iter(spikes)

    def forward(self, x):
        return next(self.spikes)


def joins(synapse, before, after):
    """For each weight the pairs of places that it joins, by counting."""
    if isinstance(synapse, nn.Linear):
        for o, i in itertools.product(range(after[0]), range(before[0])):
            yield (o, i), (i,), (o,)
        return
    per_group = synapse.in_channels // synapse.groups
    kernel = synapse.kernel_size
    for o, c, *k in itertools.product(range(after[0]), range(per_group), *map(range, kernel)):
        for place in itertools.product(*map(range, after[1:])):
            source = [
                p * s - pad + q * d
                for p, s, pad, q, d in zip(place, synapse.stride, synapse.padding, k, synapse.dilation, strict=True)
            ]
            if all(0 <= at < size for at, size in zip(source, before[1:], strict=True)):
                channel = c + per_group * (o // (synapse.out_channels // synapse.groups))
                yield (o, c, *k), (channel, *source), (o, *place)


def by_hand(synapse, into, out, decays, rewards, f_pre, f_post):
    """The change of every step; `rewards` is [N]."""
    pre, post = torch.zeros_like(into[0]), torch.zeros_like(out[0])
    changes = []
    for x, y in zip(into, out, strict=True):
        pre, post = pre * decays[0] + x, post * decays[1] + y
        change = torch.zeros_like(synapse.weight.detach())
        for w, i, o in joins(synapse, x.shape[1:], y.shape[1:]):
            value = synapse.weight.detach()[w]
            for n, reward in enumerate(rewards):
                up, down = pre[(n, *i)] * y[(n, *o)], post[(n, *o)] * x[(n, *i)]
                change[w] += reward * (f_post(value) * up - f_pre(value) * down)
        changes.append(change)
    return changes


SYNAPSES = {
    "linear": (lambda: layer.Linear(3, 2), (3,)),
    "conv1d": (lambda: layer.Conv1d(2, 2, 3, stride=2, padding=1), (2, 5)),
    "conv2d": (lambda: layer.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(0, 1), dilation=(1, 2), groups=2), (2, 4, 5)),
}


def case(name, steps=3):
    torch.manual_seed(2)
    make, shape = SYNAPSES[name]
    synapse = make().double()
    into = [(torch.rand(2, *shape) > 0.5).double() for _ in range(steps)]
    size = synapse(into[0]).shape
    return synapse, into, [(torch.rand(size) > 0.5).double() for _ in range(steps)]


def run(synapse, sn, into):
    for x in into:
        sn(synapse(x))


def f_pre(w):
    return 0.5 + w * w


def f_post(w):
    return 1 - w


@pytest.mark.parametrize("name", SYNAPSES)
def test_stdp_is_the_formula(name):
    synapse, into, out = case(name)
    sn = Given(out)
    learner = learning.STDPLearner("s", synapse, sn, 2.0, 5.0, f_pre, f_post)
    run(synapse, sn, into)
    want = sum(by_hand(synapse, into, out, (1 - 1 / 2, 1 - 1 / 5), (1.0, 1.0), f_pre, f_post))
    torch.testing.assert_close(learner.step(on_grad=False, scale=0.5), 0.5 * want)
    assert learner.step(on_grad=False) is None  # nothing was seen since


@pytest.mark.parametrize("name", SYNAPSES)
def test_mstdp_weighs_each_sample_by_its_reward(name):
    synapse, into, out = case(name)
    sn, rewards = Given(out), torch.tensor([1.5, -0.5], dtype=torch.float64)
    learner = learning.MSTDPLearner("s", 2, synapse, sn, 2.0, 5.0, f_pre, f_post)
    run(synapse, sn, into)
    want = sum(by_hand(synapse, into, out, (math.exp(-1 / 2), math.exp(-1 / 5)), rewards, f_pre, f_post))
    torch.testing.assert_close(learner.step(rewards, on_grad=False), want)


@pytest.mark.parametrize("name", SYNAPSES)
def test_mstdpet_remembers_what_was_before_the_reward(name):
    synapse, into, out = case(name)
    sn = Given(out)
    learner = learning.MSTDPETLearner("s", synapse, sn, 2.0, 5.0, 3.0, f_pre, f_post)
    z, want = 0.0, []
    rewards = (0.0, 0.0, 2.0)
    for change, reward in zip(
        by_hand(synapse, into, out, (math.exp(-1 / 2), math.exp(-1 / 5)), (1.0, 1.0), f_pre, f_post),
        rewards,
        strict=True,
    ):
        z = z * math.exp(-1 / 3) + change / 3
        want.append(reward * z)
    for x, reward, change in zip(into, rewards, want, strict=True):
        run(synapse, sn, [x])
        torch.testing.assert_close(learner.step(reward, on_grad=False), change)


@pytest.mark.parametrize("name", SYNAPSES)
def test_mstdpet_learns_from_steps_at_once_what_it_learns_from_one_after_the_other(name):
    found = []
    for at_once in (False, True):
        synapse, into, out = case(name)
        sn = Given([*out, *out])
        learner = learning.MSTDPETLearner("s", synapse, sn, 2.0, 5.0, 3.0, f_pre, f_post)
        changes = []
        for _ in range(2):  # the second time with traces from the first
            for x in into:
                run(synapse, sn, [x])
                changes += [] if at_once else [learner.step(-1.5, on_grad=False)]
            changes += [learner.step(-1.5, on_grad=False)] if at_once else []
        found.append((sum(changes), learner.trace_e))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_sequences_are_their_steps():
    synapse, into, out = case("conv2d")
    sn = Given(out)
    single = learning.STDPLearner("s", synapse, sn, 2.0, 5.0)
    run(synapse, sn, into)
    want = single.step(on_grad=False)
    single.disable()
    synapse.step_mode = "m"
    sn = Given([torch.stack(out)])
    learner = learning.STDPLearner("m", synapse, sn, 2.0, 5.0)
    sn(synapse(torch.stack(into)))
    torch.testing.assert_close(learner.step(on_grad=False), want)


@pytest.mark.parametrize(("synapse", "shape"), [(nn.Linear(3, 2), (3,)), (nn.Conv1d(2, 2, 3), (2, 5))])
def test_a_sample_without_batch_is_a_batch_of_one(synapse, shape):
    torch.manual_seed(0)
    into = (torch.rand(4, 1, *shape) > 0.5).float()
    out = (torch.rand(4, *synapse(into[0]).shape) > 0.5).float()
    changes = []
    for x_seq, y_seq in ((into, out), (into.squeeze(1), out.squeeze(1))):
        sn = Given(y_seq)
        learner = learning.STDPLearner("s", synapse, sn, 2.0, 5.0, f_pre, f_post)
        run(synapse, sn, x_seq)
        changes.append(learner.step(on_grad=False))
        learner.disable()
    torch.testing.assert_close(*changes)
    assert changes[0].abs().sum() > 0


def test_an_optimizer_goes_along_the_change():
    synapse, into, out = case("linear")
    sn = Given(out)
    learner = learning.STDPLearner("s", synapse, sn, 2.0, 5.0)
    before = synapse.weight.detach().clone()
    run(synapse, sn, into[:1])
    assert learner.step() is None
    first = -synapse.weight.grad.clone()
    run(synapse, sn, into[1:])
    learner.step()
    assert synapse.bias.grad is None
    torch.optim.SGD([synapse.weight], lr=1.0).step()
    want = sum(by_hand(nn_with(synapse, before), into, out, (1 / 2, 4 / 5), (1.0, 1.0), lambda w: w, lambda w: w))
    torch.testing.assert_close(synapse.weight.detach() - before, want)
    assert not torch.equal(first, want)


def nn_with(synapse, weight):
    """A synapse of the same kind with another weight."""
    other = nn.Linear(synapse.in_features, synapse.out_features).double()
    other.weight.data.copy_(weight)
    return other


def test_disabled_it_sees_nothing_and_reset_forgets():
    synapse, into, out = case("linear")
    sn = Given(out)
    learner = learning.STDPLearner("s", synapse, sn, 2.0, 5.0)
    learner.disable()
    run(synapse, sn, into[:1])
    assert learner.step(on_grad=False) is None
    learner.enable()
    run(synapse, sn, into[1:2])
    functional.reset_net(learner)
    assert learner.step(on_grad=False) is None
    run(synapse, sn, into[2:])
    torch.testing.assert_close(
        learner.step(on_grad=False),
        by_hand(synapse, into[2:], out[2:], (1 / 2, 4 / 5), (1.0, 1.0), lambda w: w, lambda w: w)[0],
    )


def test_a_learner_owns_neither_layer_nor_neuron():
    synapse, sn = nn.Linear(2, 2), neuron.IFNode()
    learner = learning.STDPLearner("s", synapse, sn, 2.0, 2.0)
    assert not list(learner.parameters())
    sn(synapse(torch.ones(1, 2)))
    functional.reset_net(learner)
    assert isinstance(sn.v, Tensor)
    assert "synapse=Linear, sn=IFNode, tau_pre=2.0" in repr(learner)


LONG = {
    "STDP, linear": ("linear", learning.STDPLearner, {}, ()),
    "STDP, conv1d": ("conv1d", learning.STDPLearner, {}, ()),
    "STDP, conv2d": ("conv2d", learning.STDPLearner, {}, ()),
    "MSTDP": ("linear", learning.MSTDPLearner, {"batch_size": 2}, (0.1,)),
    "MSTDPET": ("linear", learning.MSTDPETLearner, {"tau_trace": 5.0}, (0.1,)),
}


@pytest.mark.parametrize("rule", LONG)
def test_a_time_constant_may_be_read_and_edited(rule):
    name, cls, options, reward = LONG[rule]
    make, shape = SYNAPSES[name]
    names = [field for field in ("tau_pre", "tau_post", "tau_trace") if field in inspect.signature(cls).parameters]
    x = [(torch.rand(2, *shape) > 0.5).float() for _ in range(6)]

    def change(given, edited):
        torch.manual_seed(0)
        synapse, sn = make(), neuron.IFNode(v_threshold=0.1)
        nn.init.constant_(synapse.weight, 0.2)
        learner = cls("s", synapse=synapse, sn=sn, **options | given)
        for field, tau in edited.items():
            setattr(learner, field, tau)
        assert all(getattr(learner, field) == tau for field, tau in (given | edited).items())
        assert ", ".join(f"{field}={tau}" for field, tau in (given | edited).items()) in repr(learner)
        run(synapse, sn, x)
        with pytest.raises(ValueError, match=rf"{cls.__name__}: tau_pre must be finite and at least 1 step, but got 0"):
            learner.tau_pre = 0.0
        return learner.step(*reward, on_grad=False)

    before, after = dict.fromkeys(names, 2.0), dict.fromkeys(names, 5.0)
    assert torch.equal(change(before, after), change(after, {}))
    assert not torch.equal(change(before, after), change(before, {}))


def held():
    """Tensors that live, memory of the process in MB, and bytes of Python's objects where they are traced."""
    gc.collect()
    tensors = sum(issubclass(type(found), Tensor) for found in gc.get_objects())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return tensors, pages * resource.getpagesize() / 2**20, tracemalloc.get_traced_memory()[0]


UNTRACED = 7_500 if WHOLE else 500


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("rule", sample(LONG, "STDP, conv2d", "MSTDPET"))
def test_memory_is_flat_over_thousands_of_steps(rule):
    name, cls, options, reward = LONG[rule]
    make, shape = SYNAPSES[name]
    synapse, sn = make(), neuron.LIFNode(v_threshold=0.1, step_mode="m")
    nn.init.constant_(synapse.weight, 0.2)  # it fires, whatever was drawn before
    synapse.step_mode = "m"
    learner = cls("m", synapse=synapse, sn=sn, tau_pre=2.0, tau_post=2.0, **options)

    def run(steps):
        for _ in range(steps // 20):
            x_seq = (torch.rand(20, 2, *shape) > 0.5).float()
            sn(synapse(x_seq))  # with gradients on, so that a graph could be kept
            sn.detach()
            learner.step(*reward, scale=1e-4)

    run(500)
    tensors, megabytes, _ = held()
    run(UNTRACED)
    tracemalloc.start()
    run(500)
    *_, traced = held()
    run(1000)
    tensors_after, megabytes_after, traced_after = held()
    tracemalloc.stop()
    assert tensors_after <= tensors
    assert traced_after - traced < 32_000  # a step leaves less than the smallest object
    assert megabytes_after - megabytes < 4
    assert all(trace.grad_fn is None and not trace.requires_grad for trace in learner.memories())
    assert synapse.weight.grad.grad_fn is None
    assert synapse.weight.grad.abs().sum() > 0


def test_half_precision_keeps_wide_traces():
    synapse, sn = nn.Linear(2, 2).bfloat16(), neuron.IFNode()
    learner = learning.STDPLearner("s", synapse, sn, 3.0, 3.0)
    run(synapse, sn, [torch.ones(1, 2, dtype=torch.bfloat16)])
    learner.step()
    assert learner.trace_pre.dtype is torch.float32
    assert synapse.weight.grad.dtype is torch.bfloat16


def test_refusals_in_words():
    synapse, sn = nn.Linear(2, 2), neuron.IFNode()
    with pytest.raises(TypeError, match="Linear, Conv1d or Conv2d, but synapse is Conv3d"):
        learning.STDPLearner("s", nn.Conv3d(1, 1, 1), sn, 2.0, 2.0)
    with pytest.raises(ValueError, match=r"tau_post must be finite and at least 1 step, but got 0\.5"):
        learning.STDPLearner("s", synapse, sn, 2.0, 0.5)
    with pytest.raises(ValueError, match="step_mode must be one of 's', 'm'"):
        learning.STDPLearner("x", synapse, sn, 2.0, 2.0)
    learner = learning.MSTDPLearner("s", 3, synapse, sn, 2.0, 2.0)
    run(synapse, sn, [torch.ones(2, 2)])
    with pytest.raises(ShapeError, match=r"batch_size is 3, but the neuron gave out \[N=2, 2\]"):
        learner.step(1.0)
    learner.batch_size = 2
    learner.reset()
    run(synapse, sn, [torch.ones(2, 2)])
    with pytest.raises(ShapeError, match=r"one per sample, \[2\], but got \[3\]"):
        learner.step(torch.ones(3))
    learner.reset()
    synapse(torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="saw 1 calls of the synapse and 0 of the neuron"):
        learner.step(1.0)
    with pytest.raises(ShapeError, match="one reward for the whole batch"):
        learning.MSTDPETLearner("s", synapse, sn, 2.0, 2.0, 2.0).step(torch.ones(2))


@pytest.mark.parametrize(("mode", "other"), [("s", "m"), ("m", "s")])
def test_a_learner_of_another_step_mode_is_refused_in_words(mode, other):
    synapse, node = layer.Linear(3, 2, step_mode=other), neuron.IFNode(step_mode=other)
    learner = learning.STDPLearner(mode, synapse, node, 2.0, 2.0)
    node(synapse(torch.ones(4, 3) if other == "s" else torch.ones(5, 4, 3)))
    with pytest.raises(ValueError, match=f"has step_mode='{mode}', but the Linear that it observes has '{other}'"):
        learner.step()


RULES = {
    "STDP": lambda synapse, sn: learning.STDPLearner("s", synapse, sn, 2.0, 3.0),
    "MSTDP": lambda synapse, sn: learning.MSTDPLearner("s", 2, synapse, sn, 2.0, 3.0),
    "MSTDPET": lambda synapse, sn: learning.MSTDPETLearner("s", synapse, sn, 2.0, 3.0, 4.0),
}


def learned(rule, synapse=None, steps=3, **options):
    """What a rule makes of a few steps."""
    synapse, sn = synapse or whole(), neuron.IFNode(v_threshold=0.3)
    learner = RULES[rule](synapse, sn)
    for _ in range(steps):
        sn(synapse(torch.ones(2, 3)))
    given = () if rule == "STDP" else (options.pop("reward", 0.5),)
    return learner.step(*given, **options)


def whole():
    synapse = nn.Linear(3, 2, bias=False)
    nn.init.constant_(synapse.weight, 0.2)
    return synapse


@pytest.mark.parametrize("rule", RULES)
def test_in_inference_mode_it_learns_what_it_learns_elsewhere(rule):
    synapse = whole()
    wanted = learned(rule, on_grad=False)
    with torch.inference_mode():
        assert torch.equal(learned(rule, on_grad=False), wanted)
        learned(rule, synapse)
    assert wanted.abs().sum() > 0
    assert torch.equal(-synapse.weight.grad, wanted)
    torch.optim.SGD(synapse.parameters(), 1.0).step()
    synapse(torch.ones(1, 3)).sum().backward()


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("rule", RULES)
def test_a_gradient_that_no_optimizer_would_see_is_refused(rule, norm):
    with pytest.raises(RuntimeError, match="computed from other parameters, as by weight_norm"):
        learned(rule, norm(whole()))
    torch.testing.assert_close(learned(rule, norm(whole()), on_grad=False), learned(rule, on_grad=False))


@pytest.mark.parametrize("rule", ["MSTDP", "MSTDPET"])
@pytest.mark.parametrize(
    "reward", [math.nan, math.inf, torch.tensor(math.nan), [1.0, 2.0], None, "1", 1j, torch.tensor([1j, 1j])]
)
def test_a_reward_that_is_no_number_is_refused(rule, reward):
    with pytest.raises(
        (TypeError, ValueError), match=r"Learner: reward must be (a real number or a tensor of them|finite), but got"
    ):
        learned(rule, reward=reward)


def copied_by_pickle(*parts):
    return pickle.loads(pickle.dumps(parts))


def copied(*parts):
    return copy.deepcopy(parts)


@pytest.mark.parametrize("by", [copied, copied_by_pickle])
@pytest.mark.parametrize("rule", RULES)
def test_a_copy_learns_from_the_copies_of_the_layers_and_goes_on_from_the_same_past(rule, by):
    synapse, sn = whole(), neuron.IFNode(v_threshold=0.3)
    learner = RULES[rule](synapse, sn)
    given = () if rule == "STDP" else (0.5,)
    run(synapse, sn, [torch.ones(2, 3)])
    learner.step(*given, on_grad=False)
    run(synapse, sn, [torch.ones(2, 3)])  # is seen, and not learned from yet
    twin = by(synapse, sn, learner)
    assert twin[2].synapse is twin[0]
    assert twin[2].sn is twin[1]
    for held in ((synapse, sn), twin[:2]):
        run(*held, [torch.ones(2, 3)])
    wanted = learner.step(*given, on_grad=False)
    assert wanted.abs().sum() > 0
    assert torch.equal(twin[2].step(*given, on_grad=False), wanted)
    learner.disable()
    assert not by(learner)[0].in_spike_monitor.is_enable()


def test_a_copy_inside_of_the_layer_that_it_observes_is_refused_in_words():
    synapse = whole()
    synapse.learner = RULES["STDP"](synapse, neuron.IFNode())
    with pytest.raises(TypeError, match="cannot be copied or unpickled as a part of the Linear that it observes"):
        copy.deepcopy(synapse)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("given", [math.nan, math.inf, 1j, torch.tensor(1j), None, "1"])
def test_a_scale_that_is_no_number_is_refused_and_what_was_seen_is_kept(rule, given):
    synapse, sn = whole(), neuron.IFNode(v_threshold=0.3)
    learner = RULES[rule](synapse, sn)
    run(synapse, sn, [torch.ones(2, 3)])
    reward = () if rule == "STDP" else (0.5,)
    with pytest.raises((TypeError, ValueError), match=r"Learner: scale must be (a real number|finite)"):
        learner.step(*reward, scale=given)
    assert learner.step(*reward, on_grad=False) is not None


@pytest.mark.parametrize("given", [0.5, "s", None])
@pytest.mark.parametrize("rule", RULES)
def test_a_number_in_the_place_of_on_grad_is_refused(rule, given):
    with pytest.raises(TypeError, match="Learner: on_grad must be True or False, but got"):
        learned(rule, on_grad=given)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tau_pre": True}, "tau_pre must be finite and at least 1 step, but got True"),
        ({"tau_post": "2"}, "tau_post must be finite and at least 1 step, but got '2'"),
        ({"tau_pre": None}, "tau_pre must be finite and at least 1 step, but got None"),
        ({"f_pre": 1.0}, r"f_pre must be a function of the weight, but got 1\.0"),
        ({"f_post": None}, "f_post must be a function of the weight, but got None"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number of at least 1, but got 2\.5"),
    ],
)
def test_what_a_learner_is_made_with_is_checked_when_it_is_made(options, text):
    given = {"batch_size": 2, "tau_pre": 2.0, "tau_post": 2.0} | options
    with pytest.raises((TypeError, ValueError), match=f"^MSTDPLearner: {text}"):
        learning.MSTDPLearner("s", synapse=whole(), sn=neuron.IFNode(), **given)
