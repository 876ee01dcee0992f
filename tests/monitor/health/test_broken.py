"""Every broken network is told by its cause first, sound ones have none, and no advice makes anything worse."""

import pytest
import torch
from health_modes import SETTLED, STALE
from health_networks import BROKEN, changed, watched
from health_rates import BY_HAND, FAR_TOO_HIGH, GOOD
from health_sound import SOUND

from spikescope import functional
from spikescope.monitor.health.registry import causes

BROKEN = BROKEN | FAR_TOO_HIGH | STALE
SOUND = SOUND | GOOD | SETTLED


def made(build):
    torch.manual_seed(0)
    return build()


def excess(finding):
    """How far beyond its threshold a finding is."""
    return abs(finding.number - finding.threshold)


def reset_before_each_call(held):
    held.net.register_forward_pre_hook(lambda net, given: functional.reset_net(net))


@pytest.mark.parametrize("name", BROKEN)
def test_the_cause_comes_first_and_its_advice_makes_nothing_worse(name):
    layer, kind, build = BROKEN[name]
    watch = watched(made(build))
    first = watch.findings[0]
    assert first.kind == kind
    assert layer in (None, first.layer)
    assert first.line
    assert first.advice
    assert first.evidence.words
    assert kind in watch.table()

    held = made(build)
    if first.line.startswith("functional.reset_net"):
        reset_before_each_call(held)
    changed(held, first.line)
    after = watched(held)
    same = [found for found in after.everything if (found.layer, found.kind) == (first.layer, first.kind)]
    if not first.line.startswith(("#", "print")):
        assert not same or excess(same[0]) < excess(first)
    known = causes()
    worst = min((known[found.kind].rank // 10 for found in after.findings), default=99)
    assert worst >= known[kind].rank // 10


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a loss of the last step alone", "# let the loss see every step: y.mean(0), not y[-1]"),
        ("a read-out of the last step", "net[3].decode = 'mean-mem'"),
        ("a read-out of the largest step", "net[3].decode = 'mean-mem'"),
        (
            "a read-out of all steps behind a layer that forgets",
            "# between net[1] and net[4]: no neuron has a tau; look for what weighs the steps, or cuts the state",
        ),
        ("a read-out of all steps behind neurons that forget", "# between net[1] and net[6]: raise tau"),
    ],
)
def test_what_helps_an_early_step_depends_on_who_reads_the_network(name, line):
    first = watched(made(BROKEN[name][2])).findings[0]
    assert (first.kind, first.line) == ("vanishing gradient in time", line)


def test_every_kind_has_a_network_that_is_broken_so():
    listed = {kind for _, kind, _ in BROKEN.values()}
    assert len(BROKEN) >= 25
    assert set(causes()) - listed == {"not watched"}  # which is of a monitor, not of a network


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_network(name):
    watch = watched(made(SOUND[name]))
    assert [(found.layer, found.kind) for found in watch.findings] == []
    assert watch.table().startswith("No findings.")


@pytest.mark.parametrize("name", BY_HAND)
def test_what_a_hand_does_to_a_weight_is_no_learning_rate(name):
    watch = watched(made(BY_HAND[name]))
    assert "learning rate too high" not in [found.kind for found in watch.everything]
    assert not [text for text in watch.unjudged if "learning rate" in text]  # updates were seen
