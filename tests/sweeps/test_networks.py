"""A sample of the random networks of `fuzz_networks`, and whether it would see a wrong one."""

import fuzz_networks
import pytest
import torch
from fuzz_networks import WAYS, main, sweep, unlike
from network_runs import plainly
from random_networks import NODES, draw
from torch._inductor import config as inductor

from spikescope import layer, surrogate

pytestmark = pytest.mark.filterwarnings("ignore")  # of networks that nobody would build
QUICK = [name for name in WAYS if name not in ("eager", "aot_eager", "inductor", "exported")]


@pytest.mark.parametrize(("seeds", "ways"), [(range(47, 50), QUICK), (range(46, 48), ["eager", "exported"])])
def test_a_sample_of_networks(seeds, ways):
    with inductor.patch(fallback_random=True):
        counts, bad = sweep(seeds, ways)
    assert not bad
    assert all(counts[f"{name} same"] for name in ways)


def test_a_number_is_one_network_and_any_neuron_surrogate_or_layer_may_be_in_it():
    first, again = draw(3), draw(3)
    assert str(first.net) == str(again.net)
    assert all(torch.equal(a.x, b.x) and a.between == b.between for a, b in zip(first.calls, again.calls, strict=True))
    drawn = {type(module).__name__ for seed in range(24) for module in draw(seed).net.modules()}
    for registry in (NODES, surrogate.registry, layer.registry):
        assert len(drawn & set(registry)) > len(registry) / 6


def test_a_way_that_forgets_a_state_is_seen(monkeypatch, capsys):
    seed = next(seed for seed in range(100) if any(call.between == "detach" for call in draw(seed).calls))
    monkeypatch.setattr("sys.argv", ["fuzz_networks.py", "1", "--seed", str(seed), "--way", "loop", "--show"])
    monkeypatch.setattr(fuzz_networks.logging, "disable", lambda level: None)
    assert main() == 0
    monkeypatch.setitem(WAYS, "loop", lambda case, rng: (plainly(case), forgetful(case)))
    assert main() == 1
    assert f"fuzz_networks.py 1 --seed {seed} --way loop" in capsys.readouterr().out


def forgetful(case):
    return plainly(case._replace(calls=[call._replace(between="reset") for call in case.calls]))


@pytest.mark.parametrize(
    ("got", "want", "why"),
    [
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0]), "NaN in 1 places for 0"),
        (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 2.0]), "off by"),
        (torch.tensor([1.0, 2.01]), torch.tensor([1.0, 2.0]), "off by"),
        (torch.tensor([1.0]), torch.tensor([1.0, 2.0]), "[1] for "),
        (torch.zeros(2), None, "Tensor for NoneType"),
        (1.0, 2.0, "1.0 for 2.0"),
        (float("nan"), float("nan"), None),
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]), None),
        (torch.tensor([1.0, 2.0001]), torch.tensor([1.0, 2.0]), None),
    ],
)
def test_what_counts_as_another_result(got, want, why):
    found = unlike(got, want)
    assert found is why if why is None else why in found
    assert unlike(torch.zeros(2), None, none_is_zero=True) is None
    assert unlike(None, torch.ones(2), none_is_zero=True) is not None
